"""What a run goes on with after ranks have died: the state that the survivors agree on, and the data in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from onotrain.errors import LostRankError, on_all_ranks
from onotrain.parallel.collectives import move_vector
from onotrain.parallel.world import Comm, World
from onotrain.strategies.replica import Committed, Replica
from onotrain.training.run_data import RunData
from onotrain.training.run_position import Progress


class Offer(NamedTuple):
    """What a rank can give."""

    #: How far the run had come when its state was committed.
    progress: Progress | None
    #: None: others have it.
    state: Committed | None
    data: RunData
    #: Name of the strategy.
    strategy: str


@dataclass(frozen=True)
class Legacy:
    """State after the last step that was committed, on one of the survivors."""

    progress: Progress
    data: RunData
    #: Rank that gives the state.
    source: int
    #: This rank's.
    state: Committed | None

    @classmethod
    def of(cls, world: World, offer: Offer | None) -> Legacy | None:
        """Agree on where to go on; None if a rank has not come to make steps, so that the run begins again.

        *Collective* over the survivors.

        Raises
        ------
        LostRankError
            No survivor has the whole state.
        """
        state = None if offer is None else offer.state
        offers: list[tuple[bool, int, Progress | None]] = world.comm.allgather(
            (offer is not None, -1 if state is None else state.steps, None if offer is None else offer.progress)
        )
        if offer is None or not all(trains for trains, _, _ in offers):
            return None
        steps = max(steps for _, steps, _ in offers)
        found = [each for _, _, each in offers if each is not None and each.steps == steps]
        if steps < 0 or not found:
            raise on_all_ranks(
                LostRankError(
                    "the whole state is gone with the ranks that have died",
                    hint="go on from the last checkpoint, as onotrain launch does; a parameter server needs rank 0",
                )
            )
        source = next(rank for rank, (_, reached, _) in enumerate(offers) if reached == steps)
        notes = world.comm.bcast(None if state is None else state.notes, root=source)
        newest = max(found, key=lambda each: each.epoch)
        return cls(replace(newest, strategy={offer.strategy: notes}), offer.data, source, state)

    def move(self, comm: Comm, replica: Replica) -> None:
        """Copy the state to the replica of rank 0.  *Collective*."""
        own = {} if self.state is None else self.state.vectors
        targets = replica.vectors()
        for name in comm.bcast(list(own), root=self.source):
            if self.source == 0 == comm.rank:
                targets[name][:] = own[name]
            elif self.source > 0 and comm.rank in (0, self.source):
                move_vector(comm, targets[name] if comm.rank == 0 else own[name], self.source, 0)
