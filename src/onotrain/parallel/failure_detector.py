"""Notices that another process of the job on this machine has ended, where this package itself waits for it.

A launcher usually ends a job that has lost a process.  It cannot when it has been killed itself, and then a rank that
looks at shared memory, or polls for messages, would wait for ever: no call of MPI fails that it does not make.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from onotrain.errors import EXIT_INTERRUPTED, LostRankError
from onotrain.parallel import launcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

#: Time between two looks; one look reads a file for each rank of the machine, about 20 us [s].
INTERVAL_S = 0.25
#: How long a process has been gone before this rank ends the job: the launcher, if there is one, does it first [s].
GRACE_S = 3.0
#: The same under a launcher that ends no job for that.  Longer than a barrier waits between two looks: what a process
#: has written before it ended has been seen then.
PROMPT_INTERVAL_S, PROMPT_GRACE_S = 0.05, 0.05

_HINT = "find out what killed it (out of memory? see dmesg), and go on from the last checkpoint"


@dataclass(frozen=True)
class Process:
    """A rank's process on this machine."""

    rank: int
    pid: int
    #: Tells it from a later process of the same number [clock ticks since the machine started].
    start: str | None

    @property
    def alive(self) -> bool:
        """Whether it is still there."""
        return self.start is not None and start_time(self.pid) == self.start


def start_time(pid: int) -> str | None:
    """Return when a process started; None if it has ended, or cannot be seen from here."""
    state, *fields = process_fields(pid) or ["X"]
    return None if state in ("Z", "X") else fields[18]


def process_fields(pid: int) -> list[str] | None:
    """Return what the kernel says of a process, from its state on (proc_pid_stat(5)); None if it cannot be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the program's name in front may hold anything


#: Programs that start ranks on a host: of MPI libraries, and of a batch system.
MPI_LAUNCHERS = ("prterun", "prted", "prte", "mpirun", "mpiexec", "orted", "hydra_pmi_proxy")
_LAUNCHERS = (*MPI_LAUNCHERS, "slurmstepd")


def find_launcher(names: tuple[str, ...] = _LAUNCHERS) -> Process | None:
    """Return the launcher of this process: there may be wrappers between them; None if none is known by its name."""
    pid = os.getppid()
    while pid > 1:
        try:
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None
        if name in names:
            return Process(0, pid, start_time(pid))
        pid = int((process_fields(pid) or ["", "0"])[1])
    return None


def launcher_or_parent() -> Process:
    """Return the launcher of this process, or, if none is known by its name, the parent."""
    return find_launcher() or Process(0, os.getppid(), start_time(os.getppid()))


def end_with_launcher() -> None:
    """End this process when its launcher ends, which does not do so itself where ranks outlive others."""
    found = find_launcher()

    def watch(process: Process) -> None:
        while process.alive:
            sleep(INTERVAL_S)
        os._exit(EXIT_INTERRUPTED)

    if found is not None:
        threading.Thread(target=watch, args=(found,), name="launcher", daemon=True).start()


class FailureDetector:
    """Looks whether the ranks of this machine, and the launcher that started this one, are alive.

    Parameters
    ----------
    comm, machine
        All ranks, and those of them that run on this machine.  *Collective*.  None: there is nobody to watch.
    given_up
        Returns whether a rank of the node has given the job up.
    """

    def __init__(
        self,
        comm: MPI.Comm | None = None,
        machine: MPI.Comm | None = None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._rank, self._given_up = 0, given_up
        self._launcher: Process | None = None
        self._interval, self._grace = INTERVAL_S, GRACE_S
        if launcher.survives_ranks():
            self._interval, self._grace = PROMPT_INTERVAL_S, PROMPT_GRACE_S
        self._others: list[Process] = []
        self._due, self._since, self._warned = 0.0, float("inf"), False
        if comm is not None and machine is not None and comm.size > 1:
            found = launcher_or_parent()
            self._rank, self._launcher = comm.rank, found if found.alive else None  # it may be out of sight, too
            mine = Process(comm.rank, os.getpid(), start_time(os.getpid()))
            # Ranks in other containers may be invisible: those that are seen now are watched.
            self._others = [other for other in machine.allgather(mine) if other != mine and other.alive]

    def check(self) -> None:
        """Raise if a process is gone; cheap enough for every turn of a loop that waits.

        Raises
        ------
        LostRankError
            A process has been gone for `GRACE_S`, for longer where a rank before this one can say so; or a rank has
            given the job up.
        """
        now = monotonic()
        if now < self._due:
            return
        self._due = now + self._interval
        if self._given_up():
            if self._warned:
                raise LostRankError("a rank is gone", hint=_HINT)
            self._warned = True  # who waits looks once more first: the rank that is gone may have let it go on
            return
        gone = [other for other in self._others if not other.alive]
        orphaned = self._launcher is not None and not self._launcher.alive
        if not gone and not orphaned:
            return
        self._since = min(self._since, now)
        is_first = all(other in gone for other in self._others if other.rank < self._rank)
        if now - self._since >= (self._grace if is_first else max(GRACE_S, 2 * self._grace)):
            raise LostRankError(_message(gone), hint=_HINT)


def _message(gone: list[Process]) -> str:
    if not gone:
        return "the launcher that started this rank is gone"
    names = ", ".join(f"{other.rank} (process {other.pid})" for other in gone)
    return f"rank {names} is gone" if len(gone) == 1 else f"ranks {names} are gone"
