"""Notices a rank that has stopped getting on, by a thread of every rank, and ends the job with its name.

No call of MPI comes back from a wait for such a rank, and no launcher sees it: it has not ended.  A thread of each rank
says every second that its process lives, and looks where its main thread stands: whether that waits for others, and
whether it gets on.  The first rank of the node that lives judges all of them.

* *Stopped* is a process that gives no sign of life, and uses no processor time.
* *Stuck* is a rank that waits for nobody and does not get on.  In training, a rank gets on with every step.  Elsewhere,
  and in the first step, whose time nobody knows, a rank gets on as long as it computes, reads or writes.
* *Waiting for each other* are ranks that all wait: for a rank of another node, or in collectives that do not match.

A process that was stopped itself, as with the whole job, judges nobody before it has looked for as long as others may
be silent.  No thread but the main one speaks MPI.
"""

from __future__ import annotations

import faulthandler
import linecache
import os
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import monotonic_ns, process_time_ns, sleep, thread_time_ns
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from onotrain.errors import HangError
from onotrain.parallel import guard
from onotrain.parallel.neighbours import Neighbours
from onotrain.parallel.pulse import Field, Phase, Pulse

if TYPE_CHECKING:
    from onotrain.parallel.world import World

#: Longest time between two looks [s].
_LOOK_S = 1.0
#: A step may take so many times as long as the longest one before.
_LONGEST_STEPS = 4
#: Ranks that all wait may wait so many times as long: they may wait for a rank of another node, which is named there.
_ALL_WAIT = 2
#: How long ranks have to write their stacks down before the job ends [s].
_WRITE_S = 3.0
#: Bytes between two looks that are more than what it takes to look.
_LEAST_BYTES = 4096
_NS = 1_000_000_000


class Watchdog:
    """Watches the ranks of a node, and the other nodes, as long as it is entered, by a thread.

    Parameters
    ----------
    world
        *Collective*.
    seconds
        How long a rank may be silent; None: nobody watches, nor is a process watched that is alone.
    """

    def __init__(self, world: World, seconds: float | None) -> None:
        self._pulse, self._seconds = world.pulse, seconds
        watches = seconds is not None and world.size > 1
        self._neighbours = Neighbours(world) if watches and world.nodes > 1 else None
        self._judge = Judge(world.pulse, seconds, self._neighbours) if watches and seconds is not None else None
        #: Where stacks are written, once there is a run directory.
        self.directory: Path | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._judge is not None:
            arguments = _Self(threading.get_ident()), self._judge
            self._thread = threading.Thread(target=self._watch, args=arguments, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; with an error, which may be this rank's alone, go on until the job ends."""
        if self._thread is not None and (error is None or getattr(error, "agreed", False)):
            self._over.set()
            self._thread.join()
            if self._neighbours is not None:
                self._neighbours.close()

    def _watch(self, main: _Self, judge: Judge) -> None:
        while not self._over.wait(judge.interval):
            own = self._pulse.own
            own[Field.WAITS] = own[Field.SAYS_WAITS] or main.waits()
            if main.works() and not own[Field.WAITS] and (own[Field.PHASE] != Phase.TRAINING or not own[Field.LONGEST]):
                own[Field.PROGRESS] = monotonic_ns()
            found = judge.look(monotonic_ns())
            if found and not self._pulse.message:
                self._pulse.tell(found)
                self._end(found)
            elif self._pulse.message:
                self._end(None)

    def _end(self, message: str | None) -> None:
        """Write down where this rank stands, and end it; the rank that has a message prints it, when all have."""
        self._write_stacks()
        self._pulse.own[Field.HAS_WRITTEN] = 1
        end = monotonic_ns() + int(_WRITE_S * _NS)
        while monotonic_ns() < end and not (message and self._pulse.lines[:, Field.HAS_WRITTEN].all()):
            sleep(0.05)
        if message:
            where = f"; where all ranks stood: {self.directory}" if self.directory is not None else ""
            guard.end_now(f"{message}{where}", HangError.exit_code)
        os._exit(HangError.exit_code)

    def _write_stacks(self) -> None:
        rank = self._pulse.members[self._pulse.index].process.rank
        try:
            if self.directory is None:
                raise FileNotFoundError
            self.directory.mkdir(exist_ok=True)
            with (self.directory / f"rank-{rank}.txt").open("w") as file:
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError:  # such as on a node that does not see the run directory
            faulthandler.dump_traceback(sys.stderr, all_threads=True)


class Judge:
    """Finds the ranks of a node that do not get on.

    Parameters
    ----------
    pulse
        Of the node; this rank's line says at each look that it lives.
    seconds
        How long a rank may be silent.
    neighbours
        The other nodes, if there are any.
    """

    def __init__(self, pulse: Pulse, seconds: float, neighbours: Neighbours | None = None) -> None:
        self._neighbours = neighbours
        self._pulse, self._limit = pulse, int(seconds * _NS)
        #: Time between two looks [s].
        self.interval = min(_LOOK_S, seconds / 10)
        self._looked = self._since = monotonic_ns()
        #: Processor time of each rank that was silent when it was last looked at, and since when it is that.
        self._used: dict[int, tuple[int, int]] = {}

    def look(self, now: int) -> str:
        """Return what is wrong at a time [ns], if this rank is the one to say it; else nothing."""
        if now - self._looked > self._limit // 2:
            self._since = now
        self._looked = now
        pulse, lines = self._pulse, self._pulse.lines
        pulse.own[Field.ALIVE] = now
        if self._neighbours is not None:
            self._neighbours.beat()
        silent = [index for index in range(len(lines)) if now - lines[index, Field.ALIVE] > self._limit]
        first = next(index for index in range(len(lines)) if index not in silent)
        if first != pulse.index or now - self._since < self._limit:
            return ""
        stopped = [index for index in silent if self._idle(index, now)]
        lives = [index for index in range(len(lines)) if index not in silent]
        stuck = [index for index in lives if not lines[index, Field.WAITS] and self._late(index, now, 1)]
        if stopped or stuck:
            return "; ".join(
                [self._of(index, now, Field.ALIVE, "gives no sign of life") for index in stopped]
                + [self._of(index, now, Field.PROGRESS, "does not get on") for index in stuck]
            )
        if self._neighbours is not None and (nodes := self._neighbours.silent(now, self._limit)):
            return "; ".join(nodes)
        if all(lines[index, Field.WAITS] and self._late(index, now, _ALL_WAIT) for index in range(len(lines))):
            return (
                f"all ranks of {pulse.members[0].host} wait, for each other or for a rank of another node: "
                + "; ".join(self._of(index, now, Field.PROGRESS, "waits") for index in lives)
            )
        return ""

    def _late(self, index: int, now: int, times: int) -> bool:
        line = self._pulse.lines[index]
        return bool(now - line[Field.PROGRESS] > times * max(self._limit, _LONGEST_STEPS * line[Field.LONGEST]))

    def _idle(self, index: int, now: int) -> bool:
        """Return whether a silent process has used no processor time: its main thread may keep the watchdog out."""
        used = processor_time(self._pulse.members[index].process.pid)
        before, since = self._used.get(index, (-1, now))
        if used is not None and used != before:
            self._used[index] = used, now
            return False
        return used is None or now - since > min(self._limit, 5 * _NS)

    def _of(self, index: int, now: int, field: Field, what: str) -> str:
        line = self._pulse.lines[index]
        return (
            f"{self._pulse.members[index]} {what} for {(now - line[field]) / _NS:.0f} s, "
            f"{Phase(line[Field.PHASE]).words}, after step {line[Field.STEP]}"
        )


class _Self:
    """What a thread sees of the rest of its process.

    Parameters
    ----------
    ident
        Of the thread that speaks MPI.
    """

    def __init__(self, ident: int) -> None:
        self._ident = ident
        self._looked, self._used, self._bytes = monotonic_ns(), 0, 0

    def works(self) -> bool:
        """Return whether other threads than this one have computed, read or written since the last look."""
        now, used, transferred = monotonic_ns(), process_time_ns() - thread_time_ns(), bytes_transferred()
        works = used - self._used > (now - self._looked) // 20 or transferred - self._bytes > _LEAST_BYTES
        self._looked, self._used, self._bytes = now, used, transferred
        return works

    def waits(self) -> bool:
        """Return whether the process is in an operation of MPI."""
        frame = sys._current_frames().get(self._ident)
        return frame is not None and _plain(called(frame)) in _operations()


def processor_time(pid: int) -> int | None:
    """Return what a process has used [clock ticks]; None if it cannot be seen, or was stopped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "TtZX" else int(fields[10]) + int(fields[11])


def bytes_transferred() -> int:
    """Return how many bytes this process has read and written in all; 0 if the kernel does not say."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines[:2])


def called(frame: FrameType) -> str:
    """Return the last name of what a frame calls at the moment, such as ``bcast`` of ``self.comm.bcast(x)``."""
    first, last, begin, end = tuple(frame.f_code.co_positions())[frame.f_lasti // 2]
    if first is None or begin is None:
        return ""
    line = linecache.getline(frame.f_code.co_filename, first).encode()
    text = line[begin : end if first == last else None]
    return text.decode(errors="replace").partition("(")[0].rpartition(".")[2].strip()


@cache
def _operations() -> frozenset[str]:
    """Return the names of MPI's operations, as `_plain` has them."""
    from mpi4py import MPI

    classes: Sequence[type] = (MPI.Comm, MPI.Intracomm, MPI.Request, MPI.Message, MPI.Win)
    return frozenset(_plain(name) for kind in classes for name in dir(kind) if not name.startswith("_"))


def _plain(name: str) -> str:
    """Return a name without what differs from place to place: ``Waitall`` is kept as ``_wait_all``."""
    return name.replace("_", "").lower()
