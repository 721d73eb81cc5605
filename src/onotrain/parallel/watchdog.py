"""Notices a rank that makes no progress, by a thread of every rank, and ends the job with its name.

No call of MPI comes back from a wait for such a rank, and no launcher sees it: it has not ended.  A thread of each rank
says every second that its process lives, and looks where its main thread stands: whether that waits for others, and
whether it makes progress.  The first rank of the node that lives judges all of them.

* *Stopped* is a process that gives no sign of life, and uses no processor time.
* *Stuck* is a rank that waits for nobody and makes no progress.  In training, progress is a step made, or data read.
  Elsewhere, and in the first step, whose time nobody knows, it is to compute, to read or to write.
* *Gone* is a process that has ended while others train, if the launcher does not end the job for that.
* *Waiting for each other* are ranks that all wait: for a rank of another node, or in collectives that do not match.

A process that was stopped itself, as with the whole job, judges nobody before it has looked for as long as others may
be silent.  No thread but the main one speaks MPI.
"""

from __future__ import annotations

import faulthandler
import linecache
import sys
import threading
from pathlib import Path
from time import monotonic_ns, process_time_ns, sleep, thread_time_ns
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from onotrain.errors import HangError, LostRankError
from onotrain.parallel import guard
from onotrain.parallel.failure_detector import process_fields
from onotrain.parallel.neighbours import Neighbours
from onotrain.parallel.pulse import Field, Phase, Pulse, State

if TYPE_CHECKING:
    from onotrain.parallel.world import World

#: The launcher ends a job by then that has lost a process, if it does so at all [s].
_GONE_S = 5.0
#: Longest time between two looks [s].
_LOOK_S = 1.0
#: A step may take so many times as long as the longest one before.
_LONGEST_STEPS = 4
#: Ranks that all wait may wait so many times as long: they may wait for a rank of another node, which is named there.
_ALL_WAIT = 3
#: The same for a node that gives no sign of life: its own ranks know more of each other.
_SILENT_NODE = 2
#: How long ranks have to write their stacks down before the job ends [s].
_WRITE_S = 3.0
#: Processor time of a process that is stopped.
STOPPED = -1
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
    outlives_ranks
        Whether the others go on when a rank dies, which is then no reason to end the job.
    """

    def __init__(self, world: World, seconds: float | None, *, outlives_ranks: bool = False) -> None:
        self._pulse = world.pulse
        watches = seconds is not None and world.size > 1
        self._neighbours = Neighbours(world) if watches and world.nodes > 1 else None
        self._judge: Judge | None = None
        if watches and seconds is not None:
            self._judge = Judge(world.pulse, seconds, self._neighbours, outlives_ranks=outlives_ranks)
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
        """Stop watching this rank."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._pulse.leave(State.LEFT)
            if self._neighbours is not None:
                self._neighbours.close()

    def _watch(self, main: _Self, judge: Judge) -> None:
        read_sources()
        while not self._over.wait(judge.interval):
            self._observe(main)
            now = monotonic_ns()
            found, code = judge.look(now), HangError.exit_code
            if not found and (found := judge.gone(now)):
                code = LostRankError.exit_code
            if found and not self._pulse.exit_code:
                self._pulse.end(code)
                self._end(found)
            elif self._neighbours is not None and self._neighbours.over and not self._pulse.exit_code:
                self._pulse.end(HangError.exit_code)
                self._end(None)
            elif self._pulse.exit_code:
                self._end(None)

    def _observe(self, main: _Self) -> None:
        """Write down whether this rank waits, and whether it makes progress."""
        own, now = self._pulse.own, monotonic_ns()
        waits, (computes, reads) = bool(own[Field.SAYS_WAITS]) or main.waits(), main.works()
        if waits:
            # A rank that is seen to wait at each look may have made many steps in between.
            own[Field.WAITS] = max(int(own[Field.WAITS]) or now, int(own[Field.PROGRESS]))
            return
        # A step may take long because its data do; what else a rank does in training is not known to bring it on.
        steps = own[Field.PHASE] == Phase.TRAINING and own[Field.LONGEST]
        if reads or (computes and not steps) or own[Field.WAITS]:
            own[Field.PROGRESS] = now
        own[Field.WAITS] = 0

    def _end(self, message: str | None) -> None:
        """Write down where this rank stands, and end it; the rank that has a message prints it."""
        if message:
            where = f"; stacks are in {self.directory}" if self.directory is not None else ""
            guard.say_now(f"{message}{where}")
            if self._neighbours is not None:
                self._neighbours.end()
        # By a thread of its own: the disk may be what all wait for.
        threading.Thread(target=self._write_stacks, daemon=True).start()
        end = monotonic_ns() + int(_WRITE_S * _NS)
        alone = message is not None and self._neighbours is None  # nobody sees how far other nodes are
        while monotonic_ns() < end and not (alone and (self._pulse.lines[:, Field.STATE] != State.WATCHED).all()):
            sleep(0.05)
        guard.end_now(self._pulse.exit_code)

    def _write_stacks(self) -> None:
        rank = self._pulse.members[self._pulse.index].process.rank
        try:
            if self.directory is None:
                raise FileNotFoundError
            self.directory.mkdir(exist_ok=True)
            with (self.directory / f"rank-{rank}.txt").open("w") as file:
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError:  # such as on a node that does not see the run directory
            faulthandler.dump_traceback(2, all_threads=True)
        self._pulse.leave(State.ENDS)


class Judge:
    """Finds the ranks of a node that make no progress.

    Parameters
    ----------
    pulse
        Of the node; this rank's line says at each look that it lives.
    seconds
        How long a rank may be silent.
    neighbours
        The other nodes, if there are any.
    """

    def __init__(
        self, pulse: Pulse, seconds: float, neighbours: Neighbours | None = None, *, outlives_ranks: bool = False
    ) -> None:
        self._neighbours, self._outlives_ranks = neighbours, outlives_ranks
        self._pulse, self._limit = pulse, int(seconds * _NS)
        #: Time between two looks [s].
        self.interval = min(_LOOK_S, seconds / 10)
        self._looked = self._since = monotonic_ns()
        #: Processor time of each rank that was silent when it was last looked at, and since when it is that.
        self._used: dict[int, tuple[int, int]] = {}
        #: The next rank of the node, which is this one's to look at, and since when it is gone; None: it is not, or was
        #: never seen from here.
        self._next = (pulse.index + 1) % len(pulse.lines)
        self._gone_since: int | None = None
        self._sees_next = len(pulse.members) > 1 and pulse.members[self._next].process.alive

    def look(self, now: int) -> str:
        """Return what is wrong at a time [ns], if this rank is the one to say it; else nothing."""
        if now - self._looked > self._limit // 2:
            self._since = now
        self._looked = now
        pulse, lines = self._pulse, self._pulse.lines
        pulse.own[Field.ALIVE] = now
        if self._neighbours is not None:
            self._neighbours.beat(int(lines[:, Field.PROGRESS].max()))
        watched = [index for index in range(len(lines)) if lines[index, Field.STATE] != State.LEFT]
        silent = [index for index in watched if now - lines[index, Field.ALIVE] > self._limit]
        lives = [index for index in watched if index not in silent]
        if not lives or lives[0] != pulse.index or now - self._since < self._limit:
            return ""
        stopped = [index for index in silent if self._idle(index, now)]
        stuck = [index for index in lives if not lines[index, Field.WAITS] and self._late(index, now)]
        if stopped or stuck:
            return "; ".join(
                [self._of(index, now, Field.ALIVE, "has given no sign of life") for index in stopped]
                + [self._of(index, now, Field.PROGRESS, "has made no progress") for index in stuck]
            )
        if silent or not all(self._waits(index, now, 1) for index in lives):
            return ""
        # Nobody here is to blame.  The others know more of their own ranks, and are given time to say so.
        if self._neighbours is not None and (nodes := self._neighbours.silent(now, _SILENT_NODE * self._limit)):
            return "; ".join(nodes)
        if self._neighbours is not None and now - self._neighbours.progress < _ALL_WAIT * self._limit:
            return ""  # another node is at work, such as on its own steps between two pushes
        if all(self._waits(index, now, _ALL_WAIT) for index in lives):
            return f"all ranks on {pulse.members[0].host} wait for each other or for another node: " + "; ".join(
                self._of(index, now, Field.WAITS, "has waited") for index in lives
            )
        return ""

    def gone(self, now: int) -> str:
        """Return which process of the node has ended that was to go on; empty: none.

        Where ranks outlive others, MPI wakes those that wait for a rank that has died; not for one that has ended by
        itself, so that one may be gone for which this rank still waits.
        """
        states, own = self._pulse.lines[:, Field.STATE], self._pulse.own
        gone = self._sees_next and not self._pulse.members[self._next].process.alive
        waits = own[Field.WAITS] and now - own[Field.WAITS] > _GONE_S * _NS
        watched = own[Field.STATE] == states[self._next] == State.WATCHED
        if not (gone and watched) or (self._outlives_ranks and not waits):
            self._gone_since = None
            return ""
        self._gone_since = self._gone_since or now
        if now - self._gone_since < _GONE_S * _NS:
            return ""
        return f"{self._pulse.members[self._next]} is gone ({self._place(self._next)})"

    def _late(self, index: int, now: int) -> bool:
        """Return whether a rank has made no progress for longer than it may."""
        line = self._pulse.lines[index]
        # While the job was stopped as a whole, nobody could.
        idle = now - max(int(line[Field.PROGRESS]), self._since)
        return bool(idle > max(self._limit, _LONGEST_STEPS * line[Field.LONGEST]))

    def _waits(self, index: int, now: int, times: int) -> bool:
        """Return whether a rank has waited for longer than another one may make no progress."""
        line = self._pulse.lines[index]
        longest = max(self._limit, _LONGEST_STEPS * line[Field.LONGEST])
        return bool(line[Field.WAITS]) and bool(now - max(int(line[Field.WAITS]), self._since) > times * longest)

    def _idle(self, index: int, now: int) -> bool:
        """Return whether a silent process has used no processor time: its main thread may keep the watchdog out."""
        used = processor_time(self._pulse.members[index].process.pid)
        if used is None:  # such as in another container
            return bool(now - self._pulse.lines[index, Field.ALIVE] > 2 * self._limit)
        before, since = self._used.get(index, (-1, now))
        if used not in (before, STOPPED):
            self._used[index] = used, now
            return False
        return used == STOPPED or now - since > min(self._limit, 5 * _NS)

    def _of(self, index: int, now: int, field: Field, what: str) -> str:
        line = self._pulse.lines[index]
        return f"{self._pulse.members[index]} {what} for {(now - line[field]) / _NS:.0f} s ({self._place(index)})"

    def _place(self, index: int) -> str:
        line = self._pulse.lines[index]
        return f"{Phase(line[Field.PHASE]).words}, after step {line[Field.STEP]}"


class _Self:
    """What a thread sees of the rest of its process.

    Parameters
    ----------
    ident
        Of the thread that speaks MPI.
    """

    def __init__(self, ident: int) -> None:
        self._ident = ident
        self._looked, self._used, self._bytes, self._read = monotonic_ns(), 0, 0, 0

    def works(self) -> tuple[bool, bool]:
        """Return whether other threads than this one have computed or written since the last look, and whether read."""
        now, used, (read, written) = monotonic_ns(), process_time_ns() - thread_time_ns(), bytes_transferred()
        computes = used - self._used > (now - self._looked) // 20 or written - self._bytes > _LEAST_BYTES
        reads = read - self._read > _LEAST_BYTES
        self._looked, self._used, self._bytes, self._read = now, used, written, read
        return computes, reads

    def waits(self) -> bool:
        """Return whether the process is in an operation of MPI."""
        frame = sys._current_frames().get(self._ident)
        name = None if frame is None else called(frame)
        return name is None or _plain(name) in OPERATIONS


def processor_time(pid: int) -> int | None:
    """Return what a process has used [clock ticks]; None if it cannot be seen, `STOPPED` if it is stopped."""
    found = process_fields(pid)
    if found is None:
        return None
    state, *fields = found
    return STOPPED if state in "TtZX" else int(fields[10]) + int(fields[11])


def bytes_transferred() -> tuple[int, int]:
    """Return how many bytes this process has read and written in all; zeros if the kernel does not say."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    read, written = (int(line.split()[1]) for line in lines[:2])
    return read, written


def read_sources() -> None:
    """Read the sources that `called` looks into, while the disk that they are on still answers."""
    for name, module in list(sys.modules.items()):
        if name.startswith("onotrain."):
            linecache.getlines(getattr(module, "__file__", None) or "")


def called(frame: FrameType) -> str | None:
    """Return the last name of what a frame calls at the moment, such as ``bcast`` of ``self.comm.bcast(x)``.

    None if Python does not say where in its source a frame is, or the source is not there.
    """
    first, last, begin, end = tuple(frame.f_code.co_positions())[frame.f_lasti // 2]
    if first is None or last is None or begin is None or end is None:
        return None
    lines = [linecache.getline(frame.f_code.co_filename, number).encode() for number in range(first, last + 1)]
    if not lines[0]:
        return None
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][begin:]
    text, depth = b"".join(lines).decode(errors="replace").rstrip(), 0
    for at in range(len(text) - 1, -1, -1):  # from the last parenthesis to the one that it closes
        depth += {")": 1, "(": -1}.get(text[at], 0)
        if depth == 0:
            return text[:at].rpartition(".")[2].strip()
    return ""


#: Operations of MPI that wait for other ranks, as `_plain` has them.
OPERATIONS = frozenset((
    "barrier", "bcast", "gather", "gatherv", "allgather", "allgatherv", "scatter", "scatterv", "reduce", "allreduce",
    "reducescatter", "reducescatterblock", "alltoall", "alltoallv", "scan", "exscan", "send", "ssend", "recv",
    "sendrecv", "probe", "mprobe", "wait", "waitall", "waitany", "waitsome", "test", "testall", "testany", "testsome",
    "iprobe", "improbe", "split", "splittype", "dup", "create", "free", "allocateshared", "fence",
))  # fmt: skip


def _plain(name: str) -> str:
    """Return a name without what differs from place to place: ``Waitall`` is kept as ``_wait_all``."""
    return name.replace("_", "").lower()
