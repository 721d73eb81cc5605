"""Who is how far: the workers' clocks, the parameters that each computes with, and how stale their gradients are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onotrain.strategies.parameter_server.staleness import Clocks, Staleness


class WorkerLedger:
    """What a server knows of its workers.

    A version of the parameters is the number of updates in them.

    Parameters
    ----------
    workers
        Their number.
    bound
        Largest lead over the slowest worker [steps] that one may go on with; None for no bound.
    overlap
        Whether a worker begins its next batch before it has the reply to a push.
    """

    def __init__(self, workers: int, bound: int | None, *, overlap: bool) -> None:
        self._clocks = Clocks(workers, bound)
        self._clocks.release()
        self._staleness, self._overlap = Staleness(), overlap
        #: Versions that each worker computes with, and was sent last.
        self._used_versions, self._sent_versions = [0] * workers, [0] * workers
        #: How far each worker was ahead of the slowest in the epoch, at most [steps].
        self._leads = [0] * workers
        #: Number of the batch before all workers' first steps.
        self._batches_before = 0

    def begin(self, batch: int, version: int) -> None:
        """Note that all workers have the same parameters, and push `batch` next."""
        self._batches_before = batch - 1 - self._clocks.steps[0]
        for versions in (self._used_versions, self._sent_versions):
            versions[:] = [version] * len(versions)

    def push(self, worker: int, batch: int, version: int) -> int:
        """Note a push of `worker` to a server with parameters of `version`; return its staleness [updates].

        Raises
        ------
        RuntimeError
            It is not the worker's next batch, or the worker was not released.
        """
        self._clocks.advance(worker)
        steps = self._clocks.steps
        if batch != self._batches_before + steps[worker]:
            raise RuntimeError(f"worker {worker} pushed batch {batch} after {steps[worker] - 1} steps")
        lead = steps[worker] - min(steps)
        if lead > self._leads[worker]:
            self._leads[worker] = lead
        staleness = version - self._used_versions[worker]
        self._staleness.add(staleness)
        return staleness

    def release(self, version: int) -> list[int]:
        """Let all waiting workers go on that may, with parameters of `version`; return them in ascending order."""
        released = self._clocks.release()
        for worker in released:
            # With overlap it has begun its next batch before this reply.
            self._used_versions[worker] = self._sent_versions[worker] if self._overlap else version
            self._sent_versions[worker] = version
        return released

    def complete(self, batch: int) -> bool:
        """Return whether all workers have pushed `batch`."""
        return self._batches_before + min(self._clocks.steps) >= batch

    def batch_ahead(self) -> int:
        """Return the batch after the last one that any worker has pushed."""
        return self._batches_before + max(self._clocks.steps) + 1

    def report(self) -> dict[str, Any]:
        """Return staleness [updates] in the epoch and in the run, the workers' clocks and leads [steps]."""
        histogram = self._staleness.state()["epoch"]
        found: dict[str, Any] = {
            "staleness": {
                **self._staleness.take_epoch(),
                "histogram": histogram,
                "run_histogram": self._staleness.counts.tolist(),
            },
            "worker_steps": list(self._clocks.steps),
            "worker_leads": self._leads,
        }
        self._leads = [0] * len(self._leads)
        return found

    def notes(self) -> dict[str, Any]:
        """Return how stale gradients were."""
        return {"staleness": self._staleness.state()}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Count on from there."""
        if "staleness" in notes:
            self._staleness.restore(notes["staleness"])
