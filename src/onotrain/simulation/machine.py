"""Nodes, their links and their speeds.

A node has one full-duplex link to a switch that never is the limit (a star), or to the switch of its group; between
groups there is as much bandwidth as a matrix says.  Messages are cut into packets, whose headers take `HEADERS` of the
bandwidth, and travel while they are sent: what goes through several links takes as long as the narrowest of them.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from onotrain.config.cluster import Cluster
from onotrain.seeds import generator
from onotrain.simulation.costs import Costs

#: What is sent for a byte, with headers of Ethernet, IP and TCP of packets of 1,500 bytes.
HEADERS = 1.045
#: How many times as long messages take of which each node sends and gets several at the same time: flows share links
#: unevenly, and acknowledgements wait behind data.  Measured with 3 hosts at 100 Mbit/s, where it is 1.12 to 1.25.
TWO_WAY = 1.2
_MEGABIT = 1e6 / 8.0


class Machine:
    """A cluster with some ranks on it.

    Parameters
    ----------
    cluster
        What it is like.
    ranks
        Their number; node after node is filled.
    costs
        What a rank needs to compute.
    seed
        Of all that is random.
    """

    def __init__(self, cluster: Cluster, ranks: int, costs: Costs, seed: int = 0) -> None:
        self.cluster, self.ranks, self.costs, self._seed = cluster, ranks, costs, seed
        self.ranks_per_node = min(cluster.ranks_per_node, ranks)
        #: Of each rank.
        self.node_of = np.arange(ranks) // cluster.ranks_per_node
        self.nodes = int(self.node_of[-1]) + 1
        self.latency = cluster.latency_us * 1e-6
        self._groups = np.arange(self.nodes) // cluster.groups.nodes if cluster.groups else np.zeros(self.nodes, int)

    @cached_property
    def factors(self) -> np.ndarray:
        """How many times as long each rank computes as one that nothing slows down, float64."""
        nodes = np.ones(self.nodes)
        order = generator(self._seed, "simulation/slower").permutation(self.nodes)
        begin = 0.0
        for slower in self.cluster.slower:
            end = begin + slower.share * self.nodes
            nodes[order[round(begin) : round(end)]] = slower.factor
            begin = end
        factors = nodes[self.node_of]
        for slow in self.cluster.slow_ranks:
            factors[slow.rank : slow.rank + 1] *= slow.factor
        return factors

    def computing(self, first: int, rows: np.ndarray, steps: int, epoch: int) -> np.ndarray:
        """Return how long ranks compute in each step of an epoch, without the update ``(steps, ranks)`` [s], float64.

        Parameters
        ----------
        first
            The first of the ranks.
        rows
            Of each of them.
        steps
            Of the epoch.
        epoch
            From 0, with the seed the key of all that is random.
        """
        draw, shape = generator(self._seed, f"simulation/{epoch}"), (steps, len(rows))
        found = np.empty(shape)
        found[:] = self.factors[first : first + len(rows)] * self.costs.of_rows(rows)
        if self.cluster.jitter:
            found *= 1.0 + self.cluster.jitter * draw.standard_exponential(shape, np.float32)
        if self.cluster.stragglers is not None:
            slow = draw.random(shape, np.float32) < self.cluster.stragglers.probability
            found[slow] *= self.cluster.stragglers.factor
        return found

    def crowding(self, ranks: int) -> float:
        """Return how many times as long the slowest of so many ranks takes that compute at the same time.

        A step is too short for ranks to be moved: those of the fullest core share it to the end.
        """
        return 1.0 if self.cluster.cores is None else float(-(-ranks // self.cluster.cores))

    def link(self, nbytes: float) -> float:
        """Return how long the link of a node takes to carry bytes in one direction [s]."""
        if self.cluster.bandwidth_mbit is None:
            return 0.0
        return nbytes * HEADERS / (self.cluster.bandwidth_mbit * _MEGABIT)

    def between(self, source: int, target: int, nbytes: float) -> float:
        """Return how long it takes to carry bytes from one group of nodes to another [s]."""
        rate = None if self.cluster.groups is None else self.cluster.groups.between(source, target)
        return 0.0 if rate is None else nbytes * HEADERS / (rate * _MEGABIT)

    def group_of(self, node: int) -> int:
        """Return the group of a node."""
        return int(self._groups[node])

    @cached_property
    def _sizes(self) -> np.ndarray:
        """Nodes of each group."""
        return np.bincount(self._groups)

    def all_to_all(self, nbytes: float) -> float:
        """Return how long it takes that each node sends bytes to each other one [s]."""
        if self.nodes == 1:
            return 0.0
        seconds = TWO_WAY * self.link((self.nodes - 1) * nbytes)
        if self.cluster.groups is not None:
            for source, here in enumerate(self._sizes):
                for target, there in enumerate(self._sizes):
                    pairs = here * (there - (source == target))
                    seconds = max(seconds, self.between(source, target, pairs * nbytes))
        return seconds + self.latency

    def pairwise(self, nbytes: float) -> float:
        """Return how long it takes that each node exchanges bytes with another one, of whatever group [s]."""
        if self.nodes == 1:
            return 0.0
        seconds, groups = TWO_WAY * self.link(nbytes), range(len(self._sizes))
        for source in groups if self.cluster.groups is not None else ():
            crossed = (self.between(source, target, self._sizes[source] * nbytes) for target in groups)
            seconds = max(seconds, *crossed)
        return seconds + self.latency
