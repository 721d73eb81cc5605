"""What a person sees of a run, and where it is drawn."""

from __future__ import annotations

import errno
import io
import os
import pty
import re
import sys
import threading
from dataclasses import replace

import pytest

from onotrain.cli import display, terminal
from onotrain.cli.display import Bar, Lines, Warnings, duration
from onotrain.cli.epochs import EpochLines, header
from onotrain.training.observers import RunStart, StepEnd

RECORD = {
    "epoch": 3,
    "steps": 30,
    "train_seconds": 0.123,
    "samples_per_second": 12345.4,
    "learning_rate": 1e-3,
    "train_loss": 0.12341,
    "train_accuracy": 0.9632,
    "validation_loss": 0.1402,
    "validation_accuracy": 0.961,
    "validation_top_5": 0.99,
}
START = RunStart(
    output="runs/x-1",
    epochs=40,
    samples=1438,
    validation_samples=359,
    batch_size=32,
    steps_per_epoch=45,
    ranks=2,
    nodes=1,
    strategy="allreduce",
    method="allreduce",
    parameters=4810,
    network="64-64-10",
    first_epoch=0,
    first_step=0,
)


def step(number: int, loss: float = 0.5) -> StepEnd:
    return StepEnd((number - 1) // 45, number, 32, loss, 0.75, 1e-3, 1.0)


def test_an_epoch_is_one_line() -> None:
    assert EpochLines(40)(RECORD) == (
        "epoch  3/40  loss 0.12341  acc 0.96320  val loss 0.14020  val acc 0.96100  val top_5 0.99000  lr 0.001  "
        "12,345 samples/s  0.12 s"
    )


@pytest.mark.parametrize("columns", [60, 80, 105, 200])
def test_an_epoch_fits_the_terminal_and_says_what_does_not(columns: int) -> None:
    lines = EpochLines(40, columns, "validation_loss")
    first = lines(RECORD).splitlines()
    assert max(map(len, first)) <= columns
    assert first[-1].startswith("epoch  3/40    loss 0.12341") and "val loss 0.14020" in first[-1]
    said = " ".join(" ".join(first[:-1]).split())
    for name, text in {
        "samples/s": "12,345",
        "seconds": "0.12 s",
        "val acc": "0.96100",
        "val top_5": "0.99000",
    }.items():
        assert (name in said) == (text not in first[-1])
    assert ("too narrow" in said) == (columns < 130)
    (again,) = lines(RECORD | {"train_loss": 1.5e-7}).splitlines()  # it is said once
    assert "loss 1.5000e-07" in again and len(again) <= columns


def test_the_best_epochs_are_marked() -> None:
    lines = EpochLines(3, None, "validation_loss")
    shown = [lines(RECORD | {"epoch": epoch, "best": epoch == 2}) for epoch in (1, 2, 3)]
    assert [line[:14] for line in shown] == ["epoch 1/3    l", "epoch 2/3 *  l", "epoch 3/3    l"]
    text = header(replace(START, watched="validation_loss"), 80)
    assert "* marks the best epoch so far" in text and "validation_loss" in text
    assert "*" not in header(START)


def test_notes_of_the_header_are_wrapped_with_an_indent() -> None:
    lines = header(replace(START, notes=("target: price " + "(the last column of many) " * 5,)), 60).splitlines()
    assert max(map(len, lines)) <= 60
    begin = next(number for number, line in enumerate(lines) if line.startswith("  note"))
    assert all(line.startswith(" " * 12 + "(") or line.startswith(" " * 12) for line in lines[begin + 1 : begin + 3])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0.00 s"), (0.124, "0.12 s"), (9.14, "9.1 s"), (189, "3:09 min"), (7389, "2:03:09 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines() as lines:
        lines.started(START)
        lines.stepped(step(1))
        lines.epoch_ended(RECORD)
        lines.noted("4 ranks fight")
    out, err = capsys.readouterr()
    for fact in ("64-64-10, 4,810 parameters", "1,438 samples", "359", "2 ranks on 1 node", "allreduce", "runs/x-1"):
        assert fact in out
    assert out.splitlines()[-1] == EpochLines(40)(RECORD)
    assert err == "onotrain: 4 ranks fight\n"


def test_quiet_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Warnings() as warnings:
        warnings.started(START)
        warnings.epoch_ended(RECORD)
        warnings.noted("careful")
    assert capsys.readouterr() == ("", "onotrain: careful\n")


def test_a_warning_comes_whole_and_behind_what_was_printed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher forwards the two streams as they are written: what waits in a buffer would come too late."""
    written: list[str] = []

    class Raw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            written.append(bytes(data).decode())  # type: ignore[call-overload]
            return len(written[-1])

    for name, lines in (("stdout", False), ("stderr", True)):
        stream = io.TextIOWrapper(io.BufferedWriter(Raw()), encoding="utf-8", line_buffering=lines)
        monkeypatch.setattr(sys, name, stream)
    print("done: 3 steps")
    display.warn("slow")
    print("next", flush=True)
    assert written == ["done: 3 steps\n", "onotrain: slow\n", "next\n"]


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        monkeypatch.setattr(display, "perf_counter", lambda: self.seconds)


def test_the_bar_shows_means_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    bar, clock = Bar(100), Clock(monkeypatch)
    with bar:
        bar.started(START)
        for number, loss in ((1, 1.0), (2, 2.0)):
            clock.seconds += 1.0
            bar.stepped(step(number, loss=loss))
        drawn = sys.stdout.getvalue()
        bar.epoch_ended(RECORD)
        clock.seconds += 1.0
        bar.stepped(step(46, loss=4.0))
    shown = sys.stdout.getvalue()
    assert "loss 1.5000" in drawn and "acc 0.75000" in drawn and "samples/s" in drawn and " left" in drawn
    assert "epoch  1/40" in drawn
    assert "loss 4.0000" in shown.removeprefix(drawn)  # the mean of one epoch alone
    assert "\x1b[?25l" not in shown  # the cursor stays: a killed job could not bring it back


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_the_bar_breaks_no_number(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    bar, clock = Bar(columns), Clock(monkeypatch)
    with bar:
        bar.started(START)
        clock.seconds += 1.0
        bar.stepped(step(1, loss=1.23456))
        drawn = sys.stdout.getvalue()
    last = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", drawn).split("\r")[-1].splitlines()[-1]
    assert len(last.rstrip()) <= columns and "\u2026" not in last
    assert "loss 1.2346" in last and ("acc 0.75000" in last) == (columns >= 80)


def test_the_bar_is_drawn_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not again before its time, however many steps there are."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    Clock(monkeypatch)
    with Bar(100) as bar:
        assert isinstance(bar, Bar)
        bar.started(START)
        bar.stepped(step(1))
        before = sys.stdout.getvalue()
        for number in range(2, 40):
            bar.stepped(step(number))
        assert sys.stdout.getvalue() == before


def test_output_that_takes_no_more_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with terminal.open_output(write, closefd=True) as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        for display in (Lines(), Bar(80)):
            with display:
                display.started(START)
                display.stepped(step(1))
                display.epoch_ended(RECORD)
        assert terminal.lost_output() is None  # the reader did not want more
    with open("/dev/full", "w") as file, terminal.open_output(file.fileno()) as full:
        monkeypatch.setattr(sys, "stdout", full)
        print("more than there is room for")
        lost = terminal.lost_output()
        assert lost is not None and lost.errno == errno.ENOSPC


def test_output_that_must_not_be_waited_for_is_waited_for() -> None:
    """Another process with the same terminal or pipe may have made it so; all of the text arrives."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    text = "".join(f"{number}\n" for number in range(100_000))
    arrived: list[str] = []
    with os.fdopen(read) as reader:
        thread = threading.Thread(target=lambda: arrived.append(reader.read()))
        with terminal.open_output(write, closefd=True) as stream:
            thread.start()
            stream.write(text)
        thread.join(timeout=60)
    assert arrived == [text]


def test_no_terminal_no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.terminal_columns() is None  # pytest captures the output


@pytest.mark.parametrize(
    ("term", "rank", "found"), [("xterm", None, True), ("dumb", None, False), ("xterm", "0", False)]
)
def test_a_pseudo_terminal_under_a_launcher_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, term: str, rank: str | None, found: bool
) -> None:
    main, secondary = pty.openpty()
    with os.fdopen(main, "rb"), os.fdopen(secondary, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setenv("TERM", term)
        if rank is not None:  # also the only rank of mpirun -n 1
            monkeypatch.setenv("OMPI_COMM_WORLD_RANK", rank)
        # What the launcher, our parent here, writes to is a file or a pipe.
        monkeypatch.setattr(os, "readlink", lambda path: "pipe:[1]")
        assert (terminal.terminal_columns() is not None) == found
