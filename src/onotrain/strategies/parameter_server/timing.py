"""How long epochs with a parameter server take: `onotrain.strategies.timing`.

Servers are the first ranks, so those of a node share its link.  All have the same load, and one stands for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np

from onotrain import _kernels
from onotrain.simulation.epoch import Epoch
from onotrain.simulation.machine import Machine
from onotrain.strategies.memory import Job
from onotrain.strategies.timing import Timing, bytes_of_sum

#: Kinds of staleness that are told apart.
_STALENESS = 4096


class ServerTiming(Timing):
    """Workers push, servers take pushes one after the other, update, and reply."""

    def __init__(self, job: Job, machine: Machine, samples: int) -> None:
        options = job.context.options
        super().__init__(job, machine, samples, options.servers)
        self._options = options
        self._every = self.steps if options.push_every == "epoch" else options.push_every
        self._node = machine.node_of[self.servers :]
        serving = machine.node_of[self.servers - 1] + 1
        self._local = self._node < serving
        #: Servers of the busiest node, and the part of a vector that its link carries for each push or reply.
        self._share = min(self.servers, machine.ranks_per_node) / self.servers
        self._link, self._server_link = machine.link(self.message), machine.link(self.message * self._share)
        costs = machine.costs
        #: Of a server: it reads a push, adds it, and writes a reply; and its update, which workers make themselves if
        #: they push what their own steps have changed.
        self._handling = (costs.decode + costs.encode + 3 * self.memory_seconds(self.vector)) / self.servers
        self._updating = 0.0 if options.local_steps else self.update / self.servers
        self._staleness = np.zeros(_STALENESS, np.int64)

    def epoch(self, number: int) -> Epoch:
        """Return what epoch `number` comes to."""
        local_update = self.update if self._options.local_steps else 0.0
        computing = self.computing(number) + local_update + self.machine.costs.encode / self._every
        pushes = np.add.reduceat(computing, np.arange(0, self.steps, self._every), axis=0)
        if self._options.bulk_synchronous:
            return self._together(pushes)
        return self._apart(pushes)

    def parts(self) -> Iterable[slice]:
        """Return the ranges of the servers."""
        servers = self.job.context.options.servers
        return (self.job.context.layout.shard(server, servers) for server in range(servers))

    def _together(self, computing: np.ndarray) -> Epoch:
        """Return an epoch in which an update is made of the pushes of all workers."""
        remote, machine, crowd = ~self._local, self.machine, self.machine.crowding(self.workers)
        serving = self.workers * self._handling + self._updating
        behind = self._server_link * np.arange(remote.sum(), 0, -1)
        replied = self._server_link * remote.sum() + machine.latency  # to all at once: they end together
        begin, now, held = np.zeros(self.workers), 0.0, np.zeros(self.workers)
        for seconds in computing * crowd:
            ready = begin + seconds
            arrives = np.sort(ready[remote]) + behind + machine.latency if remote.any() else ready
            now = float(max(arrives.max(), ready.max())) + serving
            held += ready.max() - ready
            begin = np.full(self.workers, now)
            begin[remote] += replied
        fresh = np.zeros(_STALENESS, np.int64)
        fresh[0] = computing.size
        self._staleness += fresh
        facts = self._report(fresh)
        seconds, busy = now + self._synchronisation(), len(computing) * serving
        return self._of(seconds, (computing * crowd).sum(axis=0), busy, held, len(computing), facts)

    def _apart(self, computing: np.ndarray) -> Epoch:
        """Return an epoch in which each push is an update by itself."""
        machine, options, workers = self.machine, self._options, self.workers
        before = self._staleness.copy()
        (compute, held, end), serving = np.zeros((3, workers)), self._handling + self._updating
        groups = np.array([machine.group_of(node) for node in self._node])
        kinds = range(int(groups.max()) + 1)
        through = np.array(
            [[machine.between(group, 0, self.message) for group in kinds],
             [machine.between(0, group, self.message) for group in kinds]]
        )  # fmt: skip
        bound = -1 if options.staleness == "unbounded" else options.staleness - options.overlap
        now = _pushes_class()(
            np.ascontiguousarray(computing), self._first_starts(), self._node, groups, self._local.astype(np.uint8),
            machine.nodes, through, self._link, self._server_link, serving, machine.latency, bound,
            options.overlap, float(machine.cluster.cores or 0), compute, held, end, self._staleness,
        ).run()  # fmt: skip
        facts = self._report(self._staleness - before)
        seconds = max(now, float(end.max())) + self._synchronisation()
        return self._of(seconds, compute, computing.size * serving, held, len(computing), facts)

    def _first_starts(self) -> np.ndarray:
        """Return when each worker begins an epoch, after the first one [s].

        Parameters come by a tree, node after node, and workers drift from then on: they are half a message apart.
        """
        rounds = np.floor(np.log2(np.arange(self.machine.nodes) + 1.0))
        order = np.cumsum(np.diff(self._node, prepend=-1) > 0) - 1
        return rounds[order] * self.machine.link(self.vector) / 2

    def _report(self, found: np.ndarray) -> dict[str, Any]:
        """Return how stale the pushes of an epoch were, as a server reports it."""
        gradients = int(found.sum())
        report = {
            "gradients": gradients, "mean": float((found * np.arange(_STALENESS)).sum() / gradients),
            "max": int(np.flatnonzero(found)[-1]), "histogram": _trimmed(found),
            "run_histogram": _trimmed(self._staleness),
        }  # fmt: skip
        return {"staleness": report}

    @property
    def _averaged(self) -> int:
        """Vectors of the optimiser's state whose mean all workers take at a synchronisation point."""
        return len(self.job.context.optimizer.state_names) if self._options.local_steps and self.workers > 1 else 0

    def _synchronisation(self) -> float:
        """Return how long servers take to send all ranks their ranges, by trees, and workers to average state [s]."""
        seconds = self._averaged * self.sum_over_ranks(self.vector)
        if self.machine.nodes > 1:
            rounds = int(self.machine.nodes - 1).bit_length()
            seconds += rounds * (self.machine.latency + self.machine.link(self.vector))
        return seconds

    def _of(
        self, seconds: float, compute: np.ndarray, busy: float, held: np.ndarray, pushes: int, facts: dict[str, Any]
    ) -> Epoch:  # fmt: skip
        """Return the epoch of all ranks, servers and workers; the last push of each has no reply."""
        zeros, ranks = np.zeros(self.servers), self.machine.ranks
        compute = np.concatenate([np.full(self.servers, min(seconds, busy)), compute])
        wait = np.minimum(np.concatenate([zeros, held]), seconds - compute)
        wait[: self.servers] = seconds - compute[: self.servers]
        raw, sent = np.zeros((2, ranks), np.int64)
        remote, averaged = int((~self._local).sum()), self._averaged * bytes_of_sum(self.vector, self.workers)
        for array, nbytes in ((raw, self.vector), (sent, self.message)):
            array[self.servers :] = np.where(self._local, 0, pushes * nbytes) + round(averaged)
            array[: self.servers] = round((pushes - 1) * remote * nbytes / self.servers)
        return Epoch(seconds, compute, wait, seconds - compute - wait, raw, sent, self.servers, facts)


def _trimmed(histogram: np.ndarray) -> list[int]:
    """Return a histogram without the zeros at its end."""
    kinds: list[int] = histogram[: int(np.flatnonzero(histogram)[-1]) + 1].tolist()
    return kinds


def _pushes_class() -> Any:
    """Return what takes the events: compiled, or the reference implementation."""
    reference = _kernels.path() == "reference"
    return import_module(f"onotrain._kernels.{'reference_pushes' if reference else 'pushes'}").Pushes
