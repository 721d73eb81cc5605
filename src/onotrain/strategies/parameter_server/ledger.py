"""Who is how far: the workers' clocks, the parameters that each computes with, and how stale their gradients are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onotrain.strategies.parameter_server.staleness import Clocks, Staleness


class WorkerLedger:
    """What a server knows of its workers.

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
        self.clocks = Clocks(workers, bound)
        self.clocks.release()
        self._staleness, self._overlap = Staleness(), overlap
        #: Updates made; None until a step or a checkpoint has told how many there were before.
        self.updates: int | None = None
        #: Number of updates in the parameters that each worker computes with, and in those that it was sent last.
        self._used, self._sent = [0] * workers, [0] * workers
        #: How far each worker was ahead of the slowest in the epoch, at most [steps].
        self._leads = [0] * workers
        #: Samples of the run whose gradients were too stale to be used.
        self.dropped_samples = 0

    def pushed(self, worker: int) -> int:
        """Take in a push of `worker`; return its staleness [updates]."""
        self.clocks.advance(worker)
        steps = self.clocks.steps
        self._leads[worker] = max(self._leads[worker], steps[worker] - min(steps))
        staleness = self.updates_made - self._used[worker]
        self._staleness.add(staleness)
        return staleness

    @property
    def updates_made(self) -> int:
        """Updates made, 0 as long as nobody has told."""
        return self.updates or 0

    def released(self) -> list[int]:
        """Let all waiting workers go on that may; return them in ascending order."""
        going = self.clocks.release()
        for worker in going:
            # With overlap it has begun its next batch before this reply.
            self._used[worker] = self._sent[worker] if self._overlap else self.updates_made
            self._sent[worker] = self.updates_made
        return going

    def synchronized(self) -> None:
        """Note that all workers have the parameters of now."""
        for versions in (self._used, self._sent):
            versions[:] = [self.updates_made] * len(versions)

    def report(self) -> dict[str, Any]:
        """Return staleness [updates] in the epoch and in the run, the workers' clocks and leads [steps], and drops."""
        histogram = self._staleness.state()["epoch"]
        found: dict[str, Any] = {
            "staleness": {
                **self._staleness.take_epoch(),
                "histogram": histogram,
                "run_histogram": self._staleness.counts.tolist(),
            },
            "worker_steps": self.clocks.steps,
            "worker_leads": self._leads,
        }
        if self.dropped_samples:
            found["dropped_samples"] = self.dropped_samples
        self._leads = [0] * len(self._leads)
        return found

    def notes(self) -> dict[str, Any]:
        """Return how many updates there were and how stale."""
        updates = {} if self.updates is None else {"updates": self.updates}
        return updates | {"staleness": self._staleness.state()}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Count on from there."""
        if "updates" in notes:
            self.updates = notes["updates"]
            self.synchronized()
        if "staleness" in notes:
            self._staleness.restore(notes["staleness"])
