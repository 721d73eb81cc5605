"""How long a strategy's epochs take on a machine that need not exist.

`onotrain plan` and `onotrain simulate` ask.  Each strategy says it beside its implementation, in the same terms: who
waits for whom, what is sent, and who updates what.  Left out, as small against these or unknown beforehand: what
overlap of messages with computing gains within a step (2 to 12 % of the exchange at 1 Gbit/s, nothing at 100 Mbit/s),
barriers and statistics of a node, validation, and checkpoints, which a thread writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from onotrain.simulation.epoch import Epoch
from onotrain.simulation.machine import Machine
from onotrain.strategies.balance import apportion
from onotrain.strategies.codecs import Part, without_feedback
from onotrain.strategies.memory import Job

#: Vectors that an update of Adam reads and writes: what passing through memory takes follows from its time.
_UPDATE_VECTORS = 7
#: Of the fastest rank; the others' weights are in proportion.
_FULL = 2**20


class Timing(ABC):
    """Epochs of one training.

    Parameters
    ----------
    job
        As the first rank sees it.
    machine
        Where it takes place.
    samples
        Of an epoch.
    servers
        Ranks, the first ones, that compute no gradients.
    """

    def __init__(self, job: Job, machine: Machine, samples: int, servers: int = 0) -> None:
        self.job, self.machine, self.samples, self.servers = job, machine, samples, servers
        self.workers = machine.ranks - servers
        #: Of an epoch; and the last one may be of fewer samples.
        self.steps = -(-samples // job.samples)
        self.vector = job.vector
        self.update = machine.costs.update
        #: Of messages with all parameters or gradients, as they are sent [bytes].
        self.message = self._coded_bytes()

    @abstractmethod
    def epoch(self, number: int) -> Epoch:
        """Return what epoch `number`, from 0, comes to."""

    def computing(self, number: int) -> np.ndarray:
        """Return what each worker computes in each step of an epoch, updates left out ``(steps, workers)`` [s].

        As if no core were shared.
        """
        rows = self._rows(self.job.samples)
        found = self.machine.computing(self.servers, rows, self.steps, number)
        left = self.samples - (self.steps - 1) * self.job.samples
        if left < self.job.samples:
            full, last = (self.machine.costs.of_rows(each) for each in (rows, self._rows(left)))
            found[-1] *= np.divide(last, full, out=np.zeros(len(rows)), where=full > 0)
        return found

    def _rows(self, batch: int) -> np.ndarray:
        """Return the rows of a batch that each worker computes."""
        if self.job.context.make_balance is None:
            return np.diff(batch * np.arange(self.workers + 1) // self.workers)
        factors = self.machine.factors[self.servers :]
        return np.array(apportion(batch, [max(1, round(_FULL * factors.min() / factor)) for factor in factors]))

    def parts(self) -> Iterable[slice]:
        """Return the ranges of the flat vector that a codec encodes by themselves; as here, all of it at once."""
        return [slice(0, self.job.context.layout.size)]

    def _coded_bytes(self) -> int:
        context = self.job.context
        if context.codec is None:
            return self.vector
        coded = (Part.of(context.layout, part) for part in self.parts())
        return sum(without_feedback(context.codec, part, context.seed).sent_bytes for part in coded)

    def memory_seconds(self, nbytes: float) -> float:
        """Return how long it takes to read or write bytes of memory once [s]."""
        return self.update / _UPDATE_VECTORS * nbytes / self.vector

    def sum_over_ranks(self, nbytes: float) -> float:
        """Return how long an MPI_Allreduce over all ranks takes: halving and doubling [s].

        Rabenseifner's algorithm, which MPI libraries choose for long vectors: `2 (1 - 1/n)` of the vector; of ranks
        that are no power of two, some first hand theirs to a neighbour, and get the sum in the end, each a whole
        vector.  Short vectors are sent whole in each of the rounds.  Thakur et al., IJHPCA 19(1), 2005.
        """
        machine, ranks = self.machine, self.machine.ranks
        if ranks == 1:
            return 0.0
        through_memory = 3 * self.memory_seconds(2 * nbytes * (ranks - 1) / ranks)
        if machine.nodes == 1:
            return through_memory
        alone = machine.ranks_per_node == 1
        rounds = machine.nodes.bit_length() - 1 if alone else (machine.nodes - 1).bit_length()
        handed = 2 * machine.pairwise(nbytes) if alone and machine.nodes != 1 << rounds else 0.0
        halves = (nbytes / 2**number for number in range(1, rounds + 1))
        long = 2 * sum(machine.pairwise(half) for half in halves)
        short = rounds * machine.pairwise(nbytes * machine.ranks_per_node)
        return through_memory + handed + min(long, short)

    def sum_over_nodes(self, nbytes: float) -> float:
        """Return how long the sum of a vector over nodes takes, each of which sums one part of it [s].

        As of `onotrain.parallel.exchange.Sum`: of two nodes each sums everything, in one round.
        """
        nodes = self.machine.nodes
        if nodes <= 2:  # noqa: PLR2004
            return self.machine.all_to_all(nbytes)
        return 2 * self.machine.all_to_all(nbytes / nodes)


def bytes_of_sum(nbytes: float, peers: int) -> float:
    """Return what each of some peers sends to sum a vector of so many bytes: see `onotrain.parallel.exchange`."""
    return nbytes if peers == 2 else 2 * nbytes * (peers - 1) / peers  # noqa: PLR2004


def by_node(values: np.ndarray, machine: Machine) -> np.ndarray:
    """Return the largest of some values of all ranks, in the last dimension, over each node."""
    return np.maximum.reduceat(values, np.arange(0, machine.ranks, machine.ranks_per_node), axis=-1)
