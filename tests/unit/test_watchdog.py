"""Whom the watchdog of a node finds, by what ranks say of themselves, and what it sees of a thread."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onotrain.parallel import watchdog
from onotrain.parallel.failure_detector import Process
from onotrain.parallel.pulse import Field, Member, Phase, Pulse, State
from onotrain.parallel.watchdog import Judge, _Self

NS = 1_000_000_000
LIMIT_S = 10


class Node:
    """Ranks that a test lets live and get on, before the judge of one of them looks."""

    def __init__(self, ranks: int, judge: int = 0, neighbours: Any = None) -> None:
        self.pulse = Pulse()
        self.pulse.members = [Member(Process(rank, 10_000_000 + rank, None), "here") for rank in range(ranks)]
        self.pulse.lines = np.zeros((ranks, len(Field)), np.int64)
        self.pulse.index, self.pulse.own = judge, self.pulse.lines[judge]
        self.pulse.lines[:, Field.PHASE] = Phase.TRAINING
        self.now = time.monotonic_ns()
        self.pulse.lines[:, [Field.ALIVE, Field.PROGRESS]] = self.now
        self.judge = Judge(self.pulse, LIMIT_S, neighbours)

    def pass_by(self, seconds: float, *, silent: tuple[int, ...] = (), works: tuple[int, ...] = ()) -> str:
        """Let time go by, in which all but the silent ranks live, and some get on; return what is said at the end."""
        said = ""
        for _ in range(int(seconds)):
            self.now += NS
            for rank in range(len(self.pulse.lines)):
                if rank not in silent:
                    self.pulse.lines[rank, Field.ALIVE] = self.now
                if rank in works:
                    self.pulse.lines[rank, Field.PROGRESS] = self.now
            said = self.judge.look(self.now)
        return said


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent processes are stopped, as the kernel says."""
    monkeypatch.setattr(watchdog, "processor_time", lambda pid: watchdog.STOPPED if pid > 10**6 else seen_time(pid))


seen_time = watchdog.processor_time


def test_nobody_is_named_as_long_as_all_get_on() -> None:
    assert Node(3).pass_by(100, works=(0, 1, 2)) == ""


def test_a_rank_that_gives_no_sign_of_life_is_named_and_those_who_wait_for_it_are_not() -> None:
    node = Node(3)
    node.pulse.lines[[0, 2], Field.WAITS] = 1
    assert node.pass_by(LIMIT_S, silent=(1,)) == ""
    said = node.pass_by(2, silent=(1,))
    assert said == "rank 1 (process 10000001 on here) has given no sign of life for 12 s (training, after step 0)"


def test_a_rank_that_does_not_get_on_is_named_and_those_who_wait_for_it_are_not() -> None:
    node = Node(4)
    node.pulse.lines[:, Field.STEP] = 7
    node.pulse.lines[[0, 1, 3], Field.WAITS] = 1
    said = node.pass_by(LIMIT_S + 1)
    assert said == "rank 2 (process 10000002 on here) has made no progress for 11 s (training, after step 7)"


def test_a_step_may_take_four_times_as_long_as_the_longest() -> None:
    node = Node(2)
    node.pulse.lines[:, Field.LONGEST] = 8 * NS
    assert node.pass_by(32) == ""
    assert "rank 0" in node.pass_by(1)


def test_ranks_that_all_wait_are_given_three_times_the_time() -> None:
    node = Node(2)
    node.pulse.lines[:, Field.WAITS] = node.now
    assert node.pass_by(3 * LIMIT_S) == ""
    assert node.pass_by(1).startswith("all ranks on here wait for each other or for another node: rank 0")


def test_ranks_wait_for_another_node_as_long_as_one_gets_on_there() -> None:
    """As servers do for workers that make steps of their own, for an epoch if they are asked to."""
    others = SimpleNamespace(beat=lambda progress: None, silent=lambda now, limit: [], progress=0)
    node = Node(2, neighbours=others)
    node.pulse.lines[:, Field.WAITS] = node.now
    for _ in range(10):
        others.progress = node.now
        assert node.pass_by(LIMIT_S) == ""
    said = node.pass_by(3 * LIMIT_S + 2)
    assert said.startswith("all ranks on here wait for each other or for another node: rank 0 (process ")


def test_one_rank_judges_and_when_it_is_stopped_the_next_does() -> None:
    node = Node(3, judge=1)
    assert node.pass_by(LIMIT_S, silent=(0,), works=(1, 2)) == ""
    assert "rank 0 (process 10000000 on here) has given no sign of life" in node.pass_by(1, silent=(0,), works=(1, 2))
    other = Node(3, judge=2)
    assert other.pass_by(LIMIT_S + 5, silent=(0,), works=(1, 2)) == ""


def test_a_job_that_was_stopped_as_a_whole_goes_on() -> None:
    node = Node(2)
    node.now += 1000 * NS
    node.pulse.lines[1, Field.ALIVE] = node.now - 900 * NS  # it has not looked yet
    assert node.judge.look(node.now) == ""
    assert node.pass_by(LIMIT_S - 1, works=(0, 1)) == ""
    assert node.pass_by(100, works=(0, 1)) == ""


def test_a_silent_process_that_computes_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that keeps Python's lock keeps the watchdog out."""
    node, ticks = Node(2), iter(range(1000))
    monkeypatch.setattr(watchdog, "processor_time", lambda pid: next(ticks))
    assert node.pass_by(LIMIT_S * 3, silent=(1,), works=(0,)) == ""
    monkeypatch.setattr(watchdog, "processor_time", lambda pid: 1000)
    assert "no sign of life" in node.pass_by(LIMIT_S, silent=(1,), works=(0,))


def test_ranks_that_have_left_are_not_missed() -> None:
    node = Node(3, judge=1)
    node.pulse.lines[[0, 2], Field.STATE] = State.LEFT
    assert node.pass_by(100, silent=(0, 2), works=(1,)) == ""


def test_a_rank_that_waits_at_each_look_has_made_steps_in_between() -> None:
    """As one does that spends nearly all of its time in MPI."""
    pulse = Pulse()
    dog = watchdog.Watchdog(SimpleNamespace(pulse=pulse, size=1, nodes=1), 1.0)  # type: ignore[arg-type]
    main: Any = SimpleNamespace(waits=lambda: True, works=lambda: (False, False))
    dog._observe(main)
    since = int(pulse.own[Field.WAITS])
    dog._observe(main)
    assert pulse.own[Field.WAITS] == since > 0
    pulse.made(1)
    dog._observe(main)
    assert pulse.own[Field.WAITS] == pulse.own[Field.PROGRESS] > since


def test_time_that_the_job_was_stopped_is_nobodys_fault() -> None:
    node = Node(2)
    node.pulse.lines[:, Field.LONGEST] = 5 * NS  # a step of 20 s is allowed
    node.pass_by(15)
    node.now += 3600 * NS
    node.pulse.lines[:, Field.ALIVE] = node.now
    assert node.judge.look(node.now) == ""
    assert node.pass_by(19) == ""
    assert "has made no progress" in node.pass_by(2)


def test_a_rank_that_waited_long_has_made_progress_when_its_wait_is_over() -> None:
    world: Any = SimpleNamespace(pulse=Pulse(), size=1, nodes=1)
    dog, pulse = watchdog.Watchdog(world, None), world.pulse
    pulse.enter(Phase.TRAINING)
    pulse.own[[Field.PROGRESS, Field.LONGEST]] = [1, 1]
    main: Any = SimpleNamespace(waits=lambda: True, works=lambda: (False, False))
    dog._observe(main)
    since = int(pulse.own[Field.WAITS])
    dog._observe(main)
    assert since > 0 and pulse.own[Field.WAITS] == since and pulse.own[Field.PROGRESS] == 1
    main.waits = lambda: False
    dog._observe(main)
    assert pulse.own[Field.WAITS] == 0 and pulse.own[Field.PROGRESS] > since
    pulse.own[Field.PROGRESS] = 1
    main.works = lambda: (True, False)
    dog._observe(main)
    assert pulse.own[Field.PROGRESS] == 1  # computing alone is no progress of a training
    main.works = lambda: (False, True)
    dog._observe(main)
    assert pulse.own[Field.PROGRESS] > 1


def start() -> Any:
    """Stands for a call within the expression of another."""
    return _Comm(threading.Event())


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("start().probe(max(1, 2), [str(3)])", "probe"),
        ("start().probe(\n    (1, 2),\n)", "probe"),
        ("max(start().probe(1), 2)", "probe"),
    ],
)
def test_the_name_of_a_call_is_found_in_any_expression(tmp_path: Path, expression: str, name: str) -> None:
    names: list[str | None] = []

    class Probed:
        def probe(self, *_: object) -> int:
            import sys

            names.append(watchdog.called(sys._getframe(1)))
            return 1

    path = tmp_path / "code.py"
    path.write_text(expression + "\n")
    exec(compile(path.read_text(), str(path), "exec"), {"start": Probed})
    assert names == [name]
    path.unlink()
    names.clear()
    exec(compile(expression, str(tmp_path / "no such file.py"), "exec"), {"start": Probed})
    assert names == [None]


def test_a_silent_process_that_nobody_sees_is_given_twice_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container of its own: its main thread may keep the watchdog out."""
    monkeypatch.setattr(watchdog, "processor_time", lambda pid: None)
    node = Node(2)
    assert node.pass_by(2 * LIMIT_S, silent=(1,), works=(0,)) == ""
    assert "no sign of life" in node.pass_by(1, silent=(1,), works=(0,))


def test_marks_of_steps_keep_the_longest() -> None:
    pulse = Pulse()
    pulse.enter(Phase.TRAINING)
    pulse.made(1)
    assert pulse.own[Field.LONGEST] == 0  # the first one prepares the others
    time.sleep(0.02)
    pulse.made(2)
    assert 0.02 * NS <= pulse.own[Field.LONGEST] < NS
    pulse.enter(Phase.EVALUATION)
    longest = int(pulse.own[Field.LONGEST])
    time.sleep(0.05)
    pulse.made(3)
    assert pulse.own[Field.LONGEST] == longest and pulse.own[Field.PHASE] == Phase.TRAINING


def test_an_exit_code_ends_the_node() -> None:
    pulse = Pulse()
    assert pulse.exit_code == 0
    pulse.end(124)
    assert pulse.exit_code == 124


class _Comm:
    """Stands for a communicator: what counts is the name of the operation."""

    def __init__(self, over: threading.Event) -> None:
        self.bcast = over.wait

    def work(self, over: threading.Event) -> None:
        while not over.is_set():
            sum(range(1000))


@pytest.mark.parametrize(("waits", "works"), [(True, False), (False, True)])
def test_a_thread_is_seen_waiting_or_working(waits: bool, works: bool) -> None:
    over, begun = threading.Event(), threading.Event()
    comm = _Comm(over)

    def body() -> None:
        begun.set()
        if waits:
            comm.bcast(
                60,
            )
        else:
            comm.work(over)

    thread = threading.Thread(target=body)
    thread.start()
    begun.wait()
    try:
        seen = _Self(thread.ident or 0)
        seen.works()
        time.sleep(0.3)
        assert seen.works()[0] == works
        assert waits_as_seen(seen) == waits
    finally:
        over.set()
        thread.join()


def waits_as_seen(seen: _Self) -> bool:
    """Look past the frame of `Event.wait`, which C stands for in MPI."""
    import sys

    frame = sys._current_frames()[seen._ident]
    while frame is not None and frame.f_code.co_filename != __file__:
        frame = frame.f_back  # type: ignore[assignment]
    return watchdog._plain(watchdog.called(frame) or "") in watchdog.OPERATIONS


def test_bytes_and_processor_time_are_those_of_the_process() -> None:
    read, written = watchdog.bytes_transferred()
    with open("/dev/null", "wb") as out, open("/dev/zero", "rb") as zeros:
        out.write(zeros.read(100_000))
    assert watchdog.bytes_transferred()[0] >= read + 100_000
    assert watchdog.bytes_transferred()[1] >= written + 100_000
    assert (watchdog.processor_time(os.getpid()) or 0) > 0
    assert seen_time(2**22 + 1) is None


def test_alone_nobody_watches() -> None:
    for pulse, size, seconds in ((Pulse(), 1, 0.01), (Pulse(), 2, None)):
        world: Any = SimpleNamespace(pulse=pulse, size=size, nodes=1)
        with watchdog.Watchdog(world, seconds) as off:
            assert off._thread is None
