"""What a case is: rows that are measured together, pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from peer_programs import Peer, Peers
from peers.training import Training
from processes import pinned
from programs import Ours
from rows import Outcome, Reading, Row, Side

#: Of the comparison: ranks, and threads of a peer.
CORES = 2
#: Unit of the sides of most rows.
EPOCH = "s an epoch"


@dataclass(frozen=True)
class Pair:
    """The programs of one pair of readings, the seed of all trainings in it, and whether it is a mere trial.

    Peers of the names in `without` are not timed again.
    """

    ours: Ours
    peers: Peers
    seed: int
    quick: bool
    without: frozenset[str] = frozenset()

    def of(self, training: Training) -> Training:
        """Return a training as this pair has it."""
        epochs = 2 * training.together if self.quick else training.epochs
        return replace(training, seed=self.seed, epochs=epochs)

    def train(self, training: Training, ranks: int, settings: Mapping[str, Any] | None = None) -> Outcome:
        """Return what our training comes to on as many cores."""
        with pinned(ranks):
            return self.ours.outcome(self.of(training), ranks, settings)

    def peers_train(self, peers: Sequence[Peer], training: Training, cores: int) -> dict[str, Side]:
        """Return what the training of each peer comes to."""
        with pinned(cores):
            return {peer.name: self.peers.train(peer, self.of(training), cores) for peer in self.timed(peers)}

    def timed(self, peers: Sequence[Peer]) -> list[Peer]:
        """Return those of the peers that are to be timed in this pair."""
        return [peer for peer in peers if peer.name not in self.without]


@dataclass(frozen=True)
class Case:
    """What is measured together; `measure` returns a reading for each of the rows."""

    rows: tuple[Row, ...]
    measure: Callable[[Pair], Mapping[str, Reading]]
