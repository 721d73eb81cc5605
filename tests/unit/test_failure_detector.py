"""A rank that has ended is noticed where this package waits for it: what is watched, when it is said, and by whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onotrain._kernels.sync import barrier

from onotrain.errors import PlatformError
from onotrain.parallel import failure_detector
from onotrain.parallel.failure_detector import GRACE_S, INTERVAL_S, FailureDetector

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(failure_detector, "monotonic", clock)
    return clock


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(SLEEP, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        yield process
        process.kill()


def detector(rank: int, *others: tuple[int, int, str | None]) -> FailureDetector:
    """Return that of `rank`, on a machine with `others`: rank, process and start of each."""

    def allgather(mine: Any) -> list[Any]:
        return [mine, *(failure_detector.Process(*other) for other in others)]

    return FailureDetector(SimpleNamespace(rank=rank, size=1 + len(others)), SimpleNamespace(allgather=allgather))


def of(rank: int, process: subprocess.Popen[str]) -> tuple[int, int, str | None]:
    return rank, process.pid, failure_detector.start_time(process.pid)


@pytest.mark.parametrize("reaped", [False, True], ids=["zombie", "reaped"])
def test_a_rank_that_has_died_is_named(clock: Clock, child: subprocess.Popen[str], reaped: bool) -> None:
    """Nobody may reap it: the launcher is dead, and a container's first process is no init."""
    failures = detector(0, of(1, child))
    failures.check()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    if reaped:
        child.wait()
    clock.now += INTERVAL_S
    failures.check()  # the launcher has time to end the job
    clock.now += GRACE_S
    with pytest.raises(PlatformError, match=rf"^rank 1 \(process {child.pid}\) is gone\n  hint: ") as caught:
        failures.check()
    assert not caught.value.agreed


def test_the_first_rank_that_lives_says_it_first(clock: Clock, child: subprocess.Popen[str]) -> None:
    alive = (0, os.getppid(), failure_detector.start_time(os.getppid()))
    first, second = detector(1, of(3, child)), detector(2, alive, of(3, child))
    child.kill()
    child.wait()
    for failures in (first, second):
        failures.check()
    clock.now += GRACE_S
    with pytest.raises(PlatformError, match="rank 3"):
        first.check()
    second.check()
    clock.now += GRACE_S
    with pytest.raises(PlatformError, match="rank 3"):
        second.check()


def test_a_process_of_the_same_number_is_not_the_rank(
    clock: Clock, child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = detector(0, of(1, child))
    monkeypatch.setattr(failure_detector, "start_time", lambda pid: "later")
    failures.check()
    clock.now += GRACE_S
    with pytest.raises(PlatformError, match="rank 1"):
        failures.check()


def test_a_rank_that_was_never_seen_is_not_watched(clock: Clock, child: subprocess.Popen[str]) -> None:
    """In another container its number is nobody's, or another process's."""
    for invisible in ((1, child.pid, "1"), (1, 2**22 + 1, "77"), (1, child.pid, None)):
        failures = detector(0, invisible)
        for _ in range(3):
            failures.check()
            clock.now += GRACE_S


@pytest.mark.parametrize("named", [True, False], ids=["known by its name", "the parent"])
def test_a_rank_whose_launcher_is_gone(
    clock: Clock, child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    found = failure_detector.Process(*of(0, child)) if named else None
    monkeypatch.setattr(failure_detector, "find_launcher", lambda: found)
    monkeypatch.setattr(os, "getppid", lambda: 1 if named else child.pid)  # a wrapper may end before its command
    failures, alone = detector(0, (1, 1, None)), FailureDetector()
    failures.check()
    child.kill()
    clock.now += INTERVAL_S
    child.wait()
    failures.check()
    clock.now += GRACE_S
    with pytest.raises(PlatformError, match="the launcher that started this rank is gone"):
        failures.check()
    for _ in range(2):
        alone.check()  # a shell may end before the only process that it has started
        clock.now += GRACE_S


def test_a_launcher_out_of_sight_is_not_watched(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the parent may be nobody: 0."""
    monkeypatch.setattr(failure_detector, "find_launcher", lambda: None)
    monkeypatch.setattr(os, "getppid", lambda: 0)
    failures = detector(0, (1, 1, None))
    for _ in range(2):
        failures.check()
        clock.now += GRACE_S


def test_looks_are_seldom(clock: Clock, child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    failures, looks = detector(0, of(1, child)), []
    start = failure_detector.start_time
    monkeypatch.setattr(failure_detector, "start_time", lambda pid: looks.append(pid) or start(pid))
    for _ in range(1000):
        failures.check()
        clock.now += INTERVAL_S / 100
    assert looks.count(child.pid) == 10


def test_a_barrier_calls_while_it_waits() -> None:
    """What is raised ends the wait for a rank that never comes."""
    calls = []

    def waiting() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise PlatformError("gone")

    with pytest.raises(PlatformError, match="gone"):
        barrier(np.zeros(16, np.int64), 2, 100, waiting, np.zeros(1), np.zeros(1, np.int64))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_handlers_of_signals_run_while_a_barrier_waits(number: signal.Signals) -> None:
    def handler(number: int, frame: object) -> None:
        raise InterruptedError(number)

    previous = signal.signal(number, handler)
    try:
        with pytest.raises(InterruptedError):
            barrier(
                np.zeros(16, np.int64), 2, 0, lambda: os.kill(os.getpid(), number), np.zeros(1), np.zeros(1, np.int64)
            )
    finally:
        signal.signal(number, previous)
