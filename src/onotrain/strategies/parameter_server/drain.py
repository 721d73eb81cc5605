"""How all ranks come to rest for a reason that nobody knew beforehand: a request to stop, or numbers not finite.

Workers are at different batches, so "after this one" is another batch for each of them.  Rank 0 names a *stop batch*,
one that no worker has left behind, and says so in every reply::

    any rank        is asked to stop, or has numbers that are not finite: says so in its next push
    server          says so to the others when all workers have pushed that batch
    rank 0          stop batch = the first that no worker can have pushed without hearing of it
    reply to push   stop batch, so that each worker hears of it before it pushes it
    all ranks       push, or serve, the stop batch; then synchronise

A synchronous server has replied to nobody when all have pushed a batch: that one is the stop batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onotrain.strategies.parameter_server.messages import FINDINGS
from onotrain.strategies.parameter_server.roles import Roles
from onotrain.strategies.statistics import StepStatistics, vectors


class Drain:
    """What one server knows of reasons to stop, and of the stop batch.

    Parameters
    ----------
    roles
        Of the job's ranks; this one is a server.
    overlap
        Whether a worker has begun its next batch before the reply that says the stop batch.
    """

    def __init__(self, roles: Roles, *, overlap: bool) -> None:
        self._roles, self._several, self._overlap = roles, roles.server_communicator.several, overlap
        #: Whether this server names the stop batch before it comes, for replies to say it.
        self._names = roles.rank == 0 and not roles.synchronous
        self._not_finite = StepStatistics()
        self.reset()

    def reset(self) -> None:
        """Begin anew, after a synchronisation point."""
        self._stop_requested = self.diverged = False
        #: The batch after which all come to rest; 0 while there is none, as far as this server has to know it.
        self.stop_batch = 0
        self._not_finite.clear()

    def note_request(self, statistics: StepStatistics) -> None:
        """Take in whether a rank was asked to stop."""
        if statistics.stop:
            self._stop_requested = True

    def note_push(self, statistics: StepStatistics) -> bool:
        """Take in what a worker has pushed; return whether it is finite."""
        self.note_request(statistics)
        finite = statistics.finite
        if not finite:
            self.diverged = True
            self._not_finite.values += statistics.values
        return finite

    def note_update(self, squares: float) -> float:
        """Take in the sum of squares of an update's gradient; return what counts of it: 0 if it is not finite."""
        if math.isfinite(squares):
            return squares
        self.diverged = True
        return 0.0

    def name_stop_batch(self, batch_ahead: Callable[[], int]) -> None:
        """Name the stop batch, if there is a reason for one: rank 0, where there is none yet.

        Parameters
        ----------
        batch_ahead
            Gives the first one that no worker has pushed.
        """
        if (self._stop_requested or self.diverged) and self._names and not self.stop_batch:
            self.stop_batch = batch_ahead() + self._overlap

    def agree(self, batch: int, squares: float) -> float:
        """Let all servers know what each has found, when all workers have pushed `batch`.  *Collective* over them.

        A stop batch that rank 0 names later than this comes later.

        Parameters
        ----------
        batch
            The same on all servers.
        squares
            Sum of squares of the gradients of this server's updates.

        Returns
        -------
        float
            Its sum over the servers.
        """
        if self._several:
            squares = self._share_findings(squares)
        if (self._stop_requested or self.diverged) and self._roles.synchronous:
            self.stop_batch = batch
        return squares

    def _share_findings(self, squares: float) -> float:
        findings = np.zeros((), FINDINGS)
        findings["gradient_squares"], findings["stop_requests"] = squares, self._stop_requested
        findings["divergences"], findings["stop_batch"] = self.diverged, self.stop_batch if self._names else 0
        self._roles.server_communicator.sum(vectors(findings))
        self._stop_requested, self.diverged = bool(findings["stop_requests"]), bool(findings["divergences"])
        self.stop_batch = int(findings["stop_batch"])
        return float(findings["gradient_squares"])

    def conclude(self, statistics: StepStatistics) -> None:
        """Add the reasons to the statistics of the synchronisation point."""
        if self.diverged:
            statistics.values += self._not_finite.values
            statistics.gradient_squares = math.nan
        if self._stop_requested:
            statistics.ask_to_stop()
