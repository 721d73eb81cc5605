"""The run directory: one job at a time, and files that survive it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from onotrain.errors import CheckpointError, DataError, ResourceError, UsageError
from onotrain.runs.checkpoint_encoder import encode
from onotrain.runs.checkpoint_format import Checkpoint
from onotrain.runs.lock import RunLock
from onotrain.runs.run_directory import RunDirectory, find_checkpoint
from onotrain.runs.run_files import kind_of_path

pytestmark = pytest.mark.timeout(60)


def create(path: Path) -> RunDirectory:
    return RunDirectory.create(path, config_yaml="training: {epochs: 1}\n", environment={"host": "é"})


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    with create(tmp_path / "a" / "run") as run:
        yield run


# Beginning and going on ----------------------------------------------------------------------------------------------


def test_a_new_run_has_its_files(run: RunDirectory) -> None:
    assert sorted(os.listdir(run.path)) == ["checkpoints", "config.yaml", "environment.json", "run.lock"]
    assert run.config_yaml() == "training: {epochs: 1}\n"
    assert run.environment() == {"host": "é"}
    assert run.summary() is None and run.epochs.rows() == [] and run.recovered_from is None
    assert kind_of_path(run.path) == "run"


def test_an_empty_directory_and_a_beginning_that_was_killed_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    RunLock(tmp_path / "run").release()
    (tmp_path / "run" / "environment.json").write_text("{")
    (tmp_path / "run" / ".config.yaml.host.1.tmp").write_text("tr")
    create(tmp_path / "run").close()


def test_event_files_are_a_runs_own(tmp_path: Path) -> None:
    """They alone are nothing to lose, and `overwrite` removes them, but nothing that a link leads to."""
    events = tmp_path / "run" / "tensorboard"
    create(tmp_path / "run").close()
    events.mkdir()
    (events / "events.out.tfevents.1.host").touch()
    create(tmp_path / "run").close()
    overwrite(tmp_path / "run")
    assert not events.exists()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "events.out.tfevents.1.host").touch()
    events.symlink_to(tmp_path / "others")
    overwrite(tmp_path / "run")
    assert (tmp_path / "others" / "events.out.tfevents.1.host").exists()


def test_a_trace_goes_with_its_run(tmp_path: Path) -> None:
    create(tmp_path).close()
    (tmp_path / "trace.json.gz").touch()
    create(tmp_path).close()
    overwrite(tmp_path)
    assert not (tmp_path / "trace.json.gz").exists()


def overwrite(path: Path) -> None:
    RunDirectory.create(path, config_yaml="{}", environment={}, overwrite=True).close()


@pytest.mark.parametrize("name", ["thesis.tex", "config.yaml", "checkpoints", "environment.json"])
def test_a_directory_of_somebody_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="not empty and not a run") as caught:
        create(tmp_path)
    assert name in caught.value.message and "--output" in (caught.value.hint or "") and caught.value.exit_code == 2
    assert os.listdir(tmp_path) == [name]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        create(tmp_path / "file")


def test_a_run_that_has_trained_nothing_yet_may_begin_again(run: RunDirectory) -> None:
    """Its data were refused, say; the corrected command must not meet what the first one left."""
    run.close()
    again = create(run.path)
    with pytest.raises(UsageError, match="in use"):
        create(run.path)
    again.store().save(b"x", 1)
    again.close()
    with pytest.raises(UsageError, match="holds a run already"):
        create(run.path)


def test_a_run_that_exists_is_refused_with_a_hint(run: RunDirectory) -> None:
    run.epochs.append({"epoch": 1}, durable=True)
    run.close()
    with pytest.raises(UsageError, match="holds a run already") as caught:
        create(run.path)
    assert "--resume" in (caught.value.hint or "")
    run.write_summary({})
    with pytest.raises(UsageError, match="holds a finished run already"):
        create(run.path)


@pytest.mark.parametrize("begin", [RunDirectory.open, RunDirectory.resume])
def test_no_run_is_a_usage_error(tmp_path: Path, begin: type) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="expected one with config.yaml"):
            begin(path)
    assert os.listdir(tmp_path) == []


def test_a_run_can_be_read_while_it_is_written(run: RunDirectory) -> None:
    run.epochs.append({"epoch": 1}, durable=True)
    assert RunDirectory.open(run.path).epochs.rows() == [{"epoch": 1}]


def test_a_disk_that_cannot_be_written_is_a_resource_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        with pytest.raises(ResourceError, match="Read-only file system") as caught:
            create(tmp_path / "run")
    assert caught.value.exit_code == 6
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refused)
        with pytest.raises(ResourceError, match="Read-only file system"):
            create(tmp_path / "other")
    create(tmp_path / "run").close()


# The lock ------------------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from onotrain.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@contextmanager
def holder(path: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """Run another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
    )
    assert process.stdin and process.stdout
    try:
        assert select.select([process.stdout], [], [], 50)[0] and process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=50)
        process.stdout.close()


def test_a_run_in_use_is_refused_by_name_of_its_user(run: RunDirectory) -> None:
    run.close()
    with holder(run.path, SLURM_JOB_ID="4711") as process:
        for begin in (RunDirectory.resume, RunLock):
            with pytest.raises(UsageError, match="in use") as caught:
                begin(run.path)
            assert f"process {process.pid} on host {socket.gethostname()}, Slurm job 4711" in caught.value.message
            assert caught.value.hint
    with RunDirectory.resume(run.path) as resumed:
        assert resumed.recovered_from is None  # it was given back


def test_two_beginners_of_one_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with holder(tmp_path / "run"), pytest.raises(UsageError, match="in use"):
        create(tmp_path / "run")


def test_the_lock_of_a_killed_process_is_recovered(run: RunDirectory) -> None:
    run.close()
    with holder(run.path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=50)
    with RunDirectory.resume(run.path) as resumed:
        assert f"process {process.pid}" in (resumed.recovered_from or "")


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_locks_in_the_file_system_the_content_decides(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.close()
    lock_file = run.path / "run.lock"
    with holder(run.path) as process:
        content = json.loads(lock_file.read_text())
        without_locks(monkeypatch)
        with pytest.raises(UsageError, match=f"process {process.pid}"):
            RunLock(run.path)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=50)
    lock = RunLock(run.path)  # the process is gone
    assert lock.recovered_from
    lock.release()
    # Its number may belong to another process by now, which started later.
    lock_file.write_text(json.dumps(content | {"pid": os.getpid()}))
    RunLock(run.path).release()
    # Of another host nothing is known, unless Slurm has put the same job here.
    lock_file.write_text(json.dumps(content | {"host": "elsewhere", "job": "12"}))
    with pytest.raises(UsageError, match="elsewhere") as caught:
        RunLock(run.path)
    assert f"remove {lock_file}" in (caught.value.hint or "")
    RunLock(run.path, owner_died=True).release()
    lock_file.write_text(json.dumps(content | {"host": "elsewhere", "job": "12"}))
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    RunLock(run.path).release()


def test_a_lock_that_is_held_is_held_whatever_others_say_of_the_owner(run: RunDirectory) -> None:
    with pytest.raises(UsageError, match="in use"):
        RunLock(run.path, owner_died=True)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\0\0"])
def test_a_lock_file_with_nonsense_does_not_lock(run: RunDirectory, content: str) -> None:
    run.close()
    (run.path / "run.lock").write_text(content)
    RunDirectory.resume(run.path).close()


def test_other_errors_of_the_lock_are_resource_errors(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    run.close()

    def flock(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ResourceError, match="lock the run"):
        RunLock(run.path)
    assert set(os.listdir("/proc/self/fd")) == before


# Files ---------------------------------------------------------------------------------------------------------------


def test_metrics_are_rows_of_valid_json(run: RunDirectory) -> None:
    first = {"epoch": 1, "loss": np.float32(0.5), "r2": float("nan"), "ranks": [np.int64(2), (float("inf"),)]}
    run.epochs.append(first, durable=True)
    run.epochs.append({"epoch": 2, "confusion": np.eye(2, dtype=np.int64)}, durable=True)
    assert run.epochs.rows() == [
        {"epoch": 1, "loss": 0.5, "r2": None, "ranks": [2, [None]]},
        {"epoch": 2, "confusion": [[1, 0], [0, 1]]},
    ]
    for line in (run.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_torn_last_line_is_ignored_and_dropped_by_resume(run: RunDirectory) -> None:
    run.epochs.append({"epoch": 1}, durable=True)
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"epoch": 2, "lo')
    assert run.epochs.rows() == [{"epoch": 1}]
    run.close()
    with RunDirectory.resume(run.path) as resumed:
        resumed.epochs.append({"epoch": 2}, durable=True)
        assert resumed.epochs.rows() == [{"epoch": 1}, {"epoch": 2}]


def test_rows_of_epochs_that_are_done_again_go(run: RunDirectory) -> None:
    run.forget(0, 0)
    assert not (run.path / "metrics.jsonl").exists()
    for epoch in range(1, 6):
        run.epochs.append({"epoch": epoch}, durable=True)
    run.forget(after_epoch=3, after_step=0)
    assert [row["epoch"] for row in run.epochs.rows()] == [1, 2, 3]
    run.epochs.append({"epoch": 4}, durable=True)
    assert [row["epoch"] for row in run.epochs.rows()] == [1, 2, 3, 4]


def test_a_line_in_the_middle_that_is_no_row_is_named(run: RunDirectory) -> None:
    (run.path / "metrics.jsonl").write_text('{"epoch": 1}\nnonsense\n{"epoch": 2}\n')
    with pytest.raises(DataError, match="metrics.jsonl:2: not a JSON object"):
        run.epochs.rows()


def test_a_row_that_does_not_fit_on_the_disk_leaves_the_file_as_it_was(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.epochs.append({"epoch": 1}, durable=True)
    real = os.write

    def write(descriptor: int, data: memoryview) -> int:
        if len(data) < 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:5])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(ResourceError, match="No space left"):
            run.epochs.append({"epoch": 2, "loss": 0.25}, durable=True)
    assert (run.path / "metrics.jsonl").read_bytes() == b'{"epoch": 1}\n'


def test_summary_and_environment_are_replaced(run: RunDirectory) -> None:
    run.write_summary({"epochs": 5, "loss": float("inf")})
    assert run.summary() == {"epochs": 5, "loss": None}
    run.write_environment({"host": "other"})
    assert run.environment() == {"host": "other"}
    (run.path / "summary.json").write_text("[")
    with pytest.raises(DataError, match="summary.json: not a JSON object"):
        run.summary()


# Checkpoints ---------------------------------------------------------------------------------------------------------


def save(run: RunDirectory, step: int, *, best: bool = False) -> Path:
    return run.store().save(encode(Checkpoint({}, {"step": step})), step, best=best)


def test_the_checkpoint_that_is_meant_is_found(run: RunDirectory) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        run.checkpoint()
    save(run, 1)
    assert run.checkpoint("best").checkpoint.metadata == {"step": 1}  # none was the best: the newest
    save(run, 2, best=True)
    last = save(run, 3)
    assert run.checkpoint().checkpoint.metadata == {"step": 2}
    assert run.checkpoint("latest").path == last
    assert find_checkpoint(run.path).checkpoint.metadata == {"step": 2}
    assert find_checkpoint(str(run.path), "latest").checkpoint.metadata == {"step": 3}
    assert find_checkpoint(last).checkpoint.metadata == {"step": 3}
    assert kind_of_path(last) == "checkpoint"


def test_what_is_neither_run_nor_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a project's own")
    assert kind_of_path(tmp_path) is None and kind_of_path(tmp_path / "missing") is None
    with pytest.raises(UsageError, match="no such run directory"):
        find_checkpoint(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="not an onotrain checkpoint"):
        find_checkpoint(tmp_path / "config.yaml")


def test_a_name_that_the_system_does_not_take(tmp_path: Path) -> None:
    """Not a bug of ours, so no traceback."""
    path = tmp_path / ("a" * 300)
    for look in (create, kind_of_path, RunDirectory.open):
        with pytest.raises(ResourceError, match="File name too long"):
            look(path)
