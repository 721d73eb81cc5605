"""A run as it is watched, from files alone: what is read of them, which state is seen, and how it is drawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onotrain.errors import UsageError
from onotrain.runs import live, lock
from onotrain.runs.live import Request
from onotrain.runs.run_directory import RunDirectory
from onotrain.text import width_of
from onotrain.watching import watched
from onotrain.watching.drawing import draw, plain
from onotrain.watching.tail import Tail, Thinned
from onotrain.watching.view import View
from onotrain.watching.watched import WatchedRun

CONFIG = """\
data: {train: digits}
model: {layers: [{dense: 10}]}
loss: cross_entropy
training: {epochs: 4}
"""
START = {
    "step": 0, "first_step": 0, "epochs": 4, "samples": 100, "batch_size": 10, "steps_per_epoch": 10, "ranks": 4,
    "nodes": 1, "strategy": "strategy_switch", "method": "strategy_switch", "parameters": 10, "network": "8x8-10",
}  # fmt: skip


def record(epoch: int, ranks: int = 4, **others: Any) -> dict[str, Any]:
    """Return the record of an epoch in which the last rank computed twice as long as the others."""
    compute = [1.0] * (ranks - 1) + [2.0]
    return {
        "epoch": epoch, "steps": 10 * epoch, "train_seconds": 3.0, "wall_seconds": 4.0 * epoch, "ranks": ranks,
        "samples_per_second": 33.0, "learning_rate": 0.1, "train_loss": 2.0 / epoch, "validation_loss": 3.0 / epoch,
        "nodes": 1, "strategy": "strategy_switch", "phase": "synchronous", "servers": 0, "workers": ranks,
        "ranks_seconds": {"compute": compute, "wait": [0.5] * ranks, "communication": [0.25] * ranks}, **others,
    }  # fmt: skip


def progress(step: int, **others: Any) -> dict[str, Any]:
    ranks = {"rank": [0, 1], "step": [step] * 2, "phase": ["training"] * 2, "idle_seconds": [0.1, 0.1],
             "waits_seconds": [0.0, 0.0]}  # fmt: skip
    return {
        "host": "node7", "phase": "training", "epoch": 1 + step // 10, "epochs": 4, "step": step, "first_step": 0,
        "total_steps": 40, "wall_seconds": 12.0, "seconds_left": 9.0, "ranks": ranks, **others,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    """Give a run that this process holds, as a job does."""
    with RunDirectory.create(tmp_path / "run", config_yaml=CONFIG, environment={}) as held:
        yield held


def seen(run: RunDirectory) -> View:
    return WatchedRun(run.path).look()


# Files that grow ------------------------------------------------------------------------------------------------------


class Rows:
    """Takes the rows of a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, list[Any]()
        self.tail = Tail(path, self._take, self.rows.clear)

    def _take(self, row: dict[str, Any]) -> None:
        if "a" not in row:
            raise ValueError("no a")
        self.rows.append(row["a"])

    def look(self) -> list[Any]:
        self.tail.look()
        return self.rows


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path / "rows.jsonl")


def test_rows_are_taken_as_they_come(rows: Rows) -> None:
    assert rows.look() == [] and not rows.tail.look()
    with rows.path.open("a") as file:
        for text, known in (('{"a": 1}\n', [1]), ('{"a": ', [1]), ("2", [1]), ('}\n{"a": 3}\n{"', [1, 2, 3])):
            file.write(text)
            file.flush()
            assert rows.look() == known
    assert not rows.tail.look() and rows.tail.damaged == 0


@pytest.mark.parametrize("new", ['{"a": 9}\n', '{"a": 8}\n{"a": 9}\n', '{"a": 8}\n{"a": 9}\n{"a": 9}\n', ""])
def test_another_file_in_its_place_is_noticed(rows: Rows, new: str) -> None:
    """Be it shorter, as long, or longer, and whatever its time and its inode are."""
    rows.path.write_text('{"a": 1}\n{"a": 2}\n')
    assert rows.look() == [1, 2]
    times = os.stat(rows.path).st_mtime_ns
    rows.path.write_text(new)
    os.utime(rows.path, ns=(times, times))
    assert rows.look() == [json.loads(line)["a"] for line in new.splitlines()]


def test_a_file_that_is_cut_to_its_beginning_and_one_that_is_gone(rows: Rows) -> None:
    """As of a run that is resumed, and of one that is overwritten."""
    rows.path.write_text('{"a": 1}\n{"a": 2}\n')
    assert rows.look() == [1, 2]
    rows.path.write_text('{"a": 1}\n')
    assert rows.look() == [1]
    rows.path.unlink()
    assert rows.look() == []


def test_damaged_lines_are_counted_and_passed_over(rows: Rows) -> None:
    rows.path.write_text('{"a": 1}\nnonsense\n[]\n{"b": 1}\n\x00\n{"a": 2}\n')
    assert rows.look() == [1, 2] and rows.tail.damaged == 4


def test_a_line_without_end_takes_no_memory(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onotrain.watching.tail._LONGEST_LINE_BYTES", 100)
    rows.path.write_text("x" * 1000 + '\n{"a": 1}\n')
    assert rows.look() == [1] and rows.tail.damaged >= 1


def test_what_is_no_file_is_said(rows: Rows) -> None:
    rows.path.mkdir()
    assert rows.look() == [] and "rows.jsonl" in rows.tail.problem


def test_curves_are_thinned_evenly_and_end_where_they_end() -> None:
    curve = Thinned(8)
    for x in range(1001):
        curve.add(x, -x)
    xs = [x for x, _ in curve.points]
    assert len(xs) <= 17 and xs[0] == 0 and xs[-1] == 1000 and len(set(map(int.__sub__, xs[1:-1], xs[:-2]))) == 1


# States ---------------------------------------------------------------------------------------------------------------


def test_what_is_no_run(tmp_path: Path, run: RunDirectory) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="expected one with config.yaml"):
            WatchedRun(path)


def test_a_run_before_its_first_step(run: RunDirectory) -> None:
    live.write_progress(run.path, {"host": "node7", "phase": "reading data"})
    view = seen(run)
    assert (view.state, view.words, view.fraction, view.curves) == ("running", "reading data", None, [])


def test_a_run_that_goes_on(run: RunDirectory) -> None:
    live.add_event(run.path, "started", **START)
    for epoch in (1, 2):
        run.epochs.append(record(epoch), durable=False)
    run.steps.append(
        {"epoch": 1, "step": 5, "samples": 50, "train_loss": 4.0, "learning_rate": 0.1, "train_seconds": 1.0,
         "wall_seconds": 1.0}, durable=False,
    )  # fmt: skip
    live.write_progress(run.path, progress(25))
    watcher = WatchedRun(run.path)
    view = watcher.look()
    assert (view.state, view.words, view.epoch, view.epochs) == ("running", "training", 3, 4)
    assert (view.step, view.steps, view.fraction, view.seconds_left) == (25, 40, 0.625, 9.0)
    (loss,) = view.curves
    assert (loss.title, loss.train, loss.validation) == ("loss", [(5, 4.0)], [(10, 3.0), (20, 1.5)])
    assert view.ranks is not None and view.ranks.roles == "all 4 ranks compute and reduce (synchronous)"
    assert view.ranks.slowest.startswith("rank 3 computes the longest, 2.0000 s")
    run.epochs.append(record(3, servers=1, workers=3, phase="server", staleness={"mean": 0.5, "max": 2}), durable=False)
    view = watcher.look()
    assert view.ranks is not None and view.ranks.roles == "server: rank 0, workers: ranks 1-3"
    assert view.staleness is not None and view.staleness.max == 2
    assert [row.role for row in view.ranks.rows] == ["server", "worker", "worker", "worker"]


def test_a_switch_is_seen_before_the_epoch_that_follows_it_has_ended(run: RunDirectory) -> None:
    run.epochs.append(record(1, switch={"to": "server", "reason": "as configured"}), durable=False)
    view = seen(run)
    assert view.switches == [(10, "server")]
    assert view.ranks is not None and view.ranks.roles == "parameter server from this epoch on"


def test_a_rank_that_keeps_others_waiting_is_named(run: RunDirectory) -> None:
    ranks = {"rank": [0, 1], "step": [7, 7], "phase": ["training"] * 2, "idle_seconds": [40.0, 40.0],
             "waits_seconds": [39.0, 0.0]}  # fmt: skip
    live.add_event(run.path, "started", **START)
    live.write_progress(run.path, progress(7, ranks=ranks))
    found = seen(run).ranks
    assert found is not None and found.now == ["rank 1 has made no progress for 40 s (after step 7)"]


def test_silence_is_noticed_by_the_watcher_s_own_clock(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock is years ahead or behind is as alive as another one, once its file is seen to change."""
    now = [1000.0]
    monkeypatch.setattr(watched, "monotonic", lambda: now[0])
    write = lambda step, year: (run.path / "progress.json").write_text(  # noqa: E731
        json.dumps({**progress(step), "time": f"{year}-01-01T00:00:00+00:00"})
    )
    write(1, 2099)
    watcher = WatchedRun(run.path)
    assert watcher.look().state == "running"
    write(2, 1999)
    now[0] += 100
    assert watcher.look().state == "running"
    now[0] += 20
    view = watcher.look()
    assert (view.state, view.hears) == ("silent", True) and "for 20 s" in view.words


HOLDER = """\
import sys, time
from pathlib import Path
from onotrain.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(100)
"""


def test_a_run_whose_process_was_killed_has_died(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    run.close()
    run.store().save(b"x", 20)
    live.write_progress(run.path, progress(25))
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    watcher = WatchedRun(run.path)
    assert watcher.look().state == "running"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    monkeypatch.setattr(watched, "DEAD_S", 0.0)
    view = watcher.look()
    assert view.state == "died" and f"process {holder.pid} on host" in view.words
    assert "goes on from step 20 with --resume" in view.notes and not view.hears
    monkeypatch.setattr(lock.socket, "gethostname", lambda: "login1")  # from where nobody sees the process
    assert watcher.look().state == "running"


@pytest.mark.parametrize(
    ("event", "facts", "state", "words"),
    [
        ("ended", {"step": 40, "finished": True, "stopped_early": False}, "finished", "all epochs are done"),
        ("ended", {"step": 30, "finished": True, "stopped_early": True}, "finished", "stopped early"),
        ("ended", {"step": 30, "finished": False, "stopped_by": "me"}, "ended", "by me"),
        ("ended", {"step": 30, "finished": False}, "ended", "at training.max_steps"),
        ("stopped", {"exit_code": 75, "message": "on request"}, "stopped", "on request (exit code 75)"),
        ("failed", {"exit_code": 5, "message": "diverged"}, "failed", "diverged (exit code 5)"),
    ],
)
def test_how_a_run_has_ended(run: RunDirectory, event: str, facts: dict[str, Any], state: str, words: str) -> None:
    run.close()
    assert seen(run).state == "idle"
    live.add_event(run.path, "started", **START)
    live.add_event(run.path, event, **facts)
    view = seen(run)
    assert (view.state, view.words) == (state, words)
    with RunDirectory.resume(run.path):
        assert seen(run).state == "running"


def test_a_run_of_an_older_version() -> None:
    view = WatchedRun(Path(__file__).resolve().parents[1] / "data" / "run-v1").look()
    assert view.state in ("ended", "finished") and view.epochs == 4 and view.curves and view.events == []


def test_strange_values_are_passed_over(run: RunDirectory) -> None:
    """They may be a stranger's, and nothing of them ends the dashboard."""
    run.epochs.append(record(1), durable=False)
    (run.path / "events.jsonl").write_text(
        '{"time": 1}\n{"time": "x", "event": "saved", "step": -1}\n{"time": "never", "event": "\\u001b[31m"}\n'
        '{"time": "x", "event": "started", "ranks": "many"}\n'
    )
    for text in ("{", "[]", '{"time": 1}', '{"time": "x", "host": "h", "phase": "p", "ranks": {"rank": 1}}'):
        (run.path / "progress.json").write_text(text)
        view = seen(run)
        assert view.epoch == 1 and "events.jsonl: 3 lines cannot be used" in view.notes
    text = plain(draw(view, 80))
    assert "\\x1b[31m" in text and "\x1b" not in text


# Requests -------------------------------------------------------------------------------------------------------------


def test_a_request_goes_its_whole_length(run: RunDirectory) -> None:
    watcher = WatchedRun(run.path)
    watcher.look()
    watcher.ask(Request.SAVE)
    assert watcher.look().requests == {"save": "asked, not heard yet"}
    assert set(live.hear(run.path)) == {Request.SAVE} and live.hear(run.path) == {}
    live.add_event(run.path, "asked", request="save", host="login1")
    assert watcher.look().requests == {"save": "heard"}
    live.add_event(run.path, "saved", step=7, best=False)
    assert watcher.look().requests == {"save": "saved"}
    run.close()
    with pytest.raises(UsageError, match="nobody would hear it"):
        watcher.ask(Request.STOP)


def test_a_request_that_a_run_did_not_hear_is_taken_back(run: RunDirectory) -> None:
    watcher = WatchedRun(run.path)
    watcher.look()
    watcher.ask(Request.STOP)
    run.close()
    assert watcher.look().requests == {"stop": "the run ended without hearing it"}
    assert not live.asked(run.path, Request.STOP)


def test_requests_to_who_had_the_run_before_are_dropped(run: RunDirectory) -> None:
    run.close()
    live.ask(run.path, Request.STOP)
    with RunDirectory.resume(run.path):
        assert live.hear(run.path) == {}
    live.ask(run.path, Request.STOP)
    live.add_event(run.path, "noted", message="old")
    with RunDirectory.create(run.path, config_yaml=CONFIG, environment={}, overwrite=True):
        assert live.hear(run.path) == {} and not (run.path / "events.jsonl").exists()


# Lines ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [20, 40, 80, 119, 120, 200])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_lines_fit_their_width(run: RunDirectory, columns: int, ascii_only: bool) -> None:
    live.add_event(run.path, "started", **{**START, "method": "日本" * 40})
    live.add_event(run.path, "noted", message="word " * 60 + "x" * 300)
    for epoch in range(1, 4):
        shown = {"validation_accuracy": 0.1 * epoch, "validation_r2": -1e-7 * epoch, "warnings": ["too long " * 20]}
        others = {"switch": {"to": "server"}} if epoch == 2 else {}
        run.epochs.append(record(epoch, **shown, **others, staleness={"histogram": [1] * 20}), durable=False)
    live.write_progress(run.path, progress(25))
    lines = plain(draw(seen(run), columns, ascii_only=ascii_only)).splitlines()
    assert max(map(width_of, lines)) <= columns
    text = "\n".join(lines)
    assert "running" in text and "loss" in text and "4 ranks" in text and "staleness" in text
    if ascii_only:
        assert text.replace("日", "").replace("本", "").isascii()


def test_of_a_thousand_ranks_the_slowest_are_shown(run: RunDirectory) -> None:
    run.epochs.append(record(1, ranks=1000), durable=False)
    text = plain(draw(seen(run), 80))
    assert "1,000 ranks" in text and "999 computes" in text and "the 8 that computed the longest, of 1,000" in text
    assert len(text.splitlines()) < 50
