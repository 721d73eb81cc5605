"""Ranks that go on in the same job after others have died: user-level failure mitigation (ULFM) of MPI.

An operation of MPI that needs a rank that is gone ends with an error, and so does a wait in memory that the node shares
(`onotrain.parallel.failure_detector`).  Whoever learns of a loss so revokes all of its communicators, so that nobody
waits for it in them, and all survivors meet in shrinking the communicator that the job began with.

Bland et al., "Post-failure recovery of MPI communication capability", Int. J. High Perform. Comput. Appl. 27 (2013).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

from onotrain.errors import LostRankError, PlatformError, on_all_ranks
from onotrain.parallel import guard, launcher
from onotrain.parallel.living import dead
from onotrain.parallel.pulse import State
from onotrain.parallel.world import World, start_mpi

#: By then the runtime has told every rank that another one has died [s].
_NOTICED_S = 5.0
#: The same, where the error does not say itself that it is about ranks [s].
_SOON_S = 0.2
#: By then all survivors have met: one that reads or computes comes when it is through [s].
_MET_S = 600.0
_LOOK_S = 0.001


def require(world: World) -> None:
    """Refuse a job whose survivors could not go on.  *Collective* in effect: the same on all ranks.

    Raises
    ------
    PlatformError
        The launcher ends the job with its first rank, or MPI does not tell who has died.
    """
    if world.size == 1:
        return
    if not launcher.survives_ranks() or not start_mpi().get_vendor()[0].startswith("Open MPI"):
        raise on_all_ranks(
            PlatformError(
                "fault_tolerance: shrink needs an MPI whose ranks outlive others, which this job does not have",
                hint="with Open MPI 5: mpirun --with-ft ulfm (onotrain launch gives it); with another MPI: leave the "
                "option out, and use onotrain launch, which goes on from the last checkpoint",
            )
        )


class Survival:
    """The ranks of a job, of which some may die.

    ::

        all ranks    work in the world of now, until they are through or fail
                     agree whether all are through: then that is the end
        survivors    shrink the communicator that the job began with, connect, and begin again

    Parameters
    ----------
    world
        All of them.
    ranks_per_node
        As of `World.connect`.
    """

    def __init__(self, world: World, ranks_per_node: int | None) -> None:
        self._first, self._ranks_per_node = world.comm, ranks_per_node
        #: The world of now, how many ranks it was to have, and where they agree.
        self.world, self._size, self._joint = world, world.size, world.comm

    @property
    def lost(self) -> list[int]:
        """Ranks that have died, as they were counted when the job began."""
        return [] if self.world.comm is self._first else dead(self._first)

    def all_through(self, error: Exception | None) -> bool:
        """Return whether all ranks are through, which this one is without an error.

        *Collective*: where one has died, others may have all that they need, and must not end before they are asked.

        Raises
        ------
        Exception
            `error`, if it does not come from a death.
        """
        if error is not None:
            if self.world.pulse.has(State.FAILED):
                sleep(_NOTICED_S)  # that rank ends the job
            self._await_notice(error)
            self.world.pulse.leave(State.GIVEN_UP)
            self.world.revoke()
        return self._agree(through=error is None)

    def _agree(self, *, through: bool) -> bool:
        with _bounded():
            try:
                return bool(self._joint.Agree(int(through)))
            except start_mpi().Exception:  # on all ranks: another one has died
                return False

    def shrink(self) -> None:
        """Leave dead ranks behind.  *Collective* over the survivors."""
        while True:
            with _bounded():
                self._joint = self._first.Shrink()  # MPI_Comm_ishrink of Open MPI 5.0 crashes where this returns
            self._size = self._joint.size
            try:
                self.world = World.connect(self._joint, self._ranks_per_node)
            except Exception as error:  # noqa: BLE001 - see `_await_notice`
                self._await_notice(error)  # another one has died meanwhile
                self._joint.Revoke()
                self._agree(through=False)  # with those that are connected, and will fail
            else:
                return

    def _await_notice(self, error: Exception) -> None:
        """Wait until MPI knows of a loss, which what comes of any collective operation may be due to; else raise."""
        if getattr(error, "agreed", False):  # with all
            raise error
        tells = isinstance(error, (LostRankError, start_mpi().Exception))
        end, alone = monotonic() + (_NOTICED_S if tells else _SOON_S), start_mpi().COMM_SELF
        while self._first.Get_failed().Get_size() <= self._first.size - self._size:
            if monotonic() > end:
                self.world.pulse.leave(State.FAILED)
                raise error
            alone.Iprobe()  # news are taken in by any call that could wait
            sleep(_LOOK_S)


@contextmanager
def _bounded() -> Iterator[None]:
    """End this rank if the survivors do not meet in this block: nothing else would end the wait."""
    late = threading.Timer(_MET_S, _end_alone)
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


def _end_alone() -> None:
    """End this rank, and by its death those that wait for it."""
    guard.say_now("the survivors of a rank that is gone do not meet\n  hint: go on from the last checkpoint")
    guard.end_now(LostRankError.exit_code)
