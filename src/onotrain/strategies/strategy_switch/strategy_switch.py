"""Strategy-Switch: all-reduce first, a parameter server once the loss is stable, and back if that does harm.

Provatas et al., IEEE Access 13:9510, 2025 (doi 10.1109/ACCESS.2025.3528248); the rules are in
`rules`.  A switch happens between two epochs.  It changes no bit of the parameters or of the optimiser's state, and
every batch is partitioned anew, so every sample is seen once an epoch whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onotrain.nn import Model
from onotrain.runs.json_objects import restore
from onotrain.strategies.base import BatchShape, Strategy
from onotrain.strategies.context import Context
from onotrain.strategies.recorded_step import RecordedStep
from onotrain.strategies.replica import Noted
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.strategy_switch.rules import SwitchBackRule, SwitchRule

#: Returns a strategy for the options that go with it.
Builder = Callable[[Context], Strategy]

#: What can run, and the keys of their options.
PHASES = ("synchronous", "server")


class Decision:
    """Whether to switch after an epoch, and what its record says of that.

    Parameters
    ----------
    options
        The ``strategy`` section of the configuration.
    """

    def __init__(self, options: Any) -> None:
        self._loss, self._at_epoch = f"{options.loss}_loss", options.at_epoch
        #: Index of the phase that runs.
        self.phase = 0
        self._rule = SwitchRule(options.window, options.threshold, options.at_epoch)
        back = options.switch_back
        self._back_rule = SwitchBackRule(None, 0.0, None) if back is None else SwitchBackRule(**dict(back))
        #: How stable the loss was at a switch, until the next epoch's end.
        self._s_before: float | None = None

    def observe(self, record: dict[str, Any]) -> bool:
        """Add to an epoch's record what the rules see in it; return whether to switch, which is then noted.

        The record of the first epoch after a switch has how stable the loss was before it and is now.
        """
        switch = self._rule.observe(record["epoch"] - 1, record[self._loss])
        reason = None
        if self.phase == 1:
            staleness = record.get("staleness", {}).get("mean")
            reason = self._back_rule.observe(record.get("validation_loss"), staleness)
        elif switch:
            reason = "the loss is stable" if self._at_epoch is None else "as configured"
        record["phase"] = PHASES[self.phase]
        found = record["switch"] = {"s": self._rule.value, "problem": self._rule.problem, "to": None, "reason": reason}
        if self._s_before is not None:
            found["s_before"], found["s_after"] = self._s_before, self._rule.value
        self._s_before = None if reason is None else self._rule.value
        if reason is not None:
            self.phase = 1 - self.phase
            found["to"] = PHASES[self.phase]
            if self.phase == 0:  # only losses of the strategy that runs again may decide
                self._rule.reset()
            self._back_rule.reset()
        return reason is not None

    def notes(self) -> dict[str, Any]:
        """Return the phase, and what the rules have seen."""
        return {
            "phase": self.phase, "rule": self._rule.state(), "back": self._back_rule.state(),
            "s_before": self._s_before,
        }  # fmt: skip

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Go on from there."""
        if "phase" in notes:
            self.phase = notes["phase"]
            self._rule.restore(notes["rule"])
            self._back_rule.restore(notes["back"])
            self._s_before = notes.get("s_before")


class _Within:
    """The notes of the strategy that runs, among those of the switch."""

    def __init__(self, noted: Sequence[Noted]) -> None:
        self._noted = noted

    def notes(self) -> dict[str, Any]:
        """Return them under one key."""
        return {"strategy": {key: value for part in self._noted for key, value in part.notes().items()}}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Do nothing: the strategy was built from its notes."""


class StrategySwitch(Strategy):
    """Runs one of two strategies and decides after every epoch which.

    Parameters
    ----------
    context
        Its options have those of both strategies, `synchronous` and `server`.
    synchronous, server
        Return the two.
    """

    def __init__(self, context: Context, synchronous: Builder, server: Builder) -> None:
        self._context, self._builders = context, (synchronous, server)
        self._decision = Decision(context.options)
        restore(self._decision.restore, self._decision.notes(), context.notes)
        self._build(context.notes.get("strategy", {}))

    def _build(self, notes: Mapping[str, Any]) -> None:
        """Build the strategy of the phase; its slices, replica and telemetry are this one's."""
        phase = self._decision.phase
        options = getattr(self._context.options, PHASES[phase])
        running = self._builders[phase](replace(self._context, options=options, notes=notes))
        self._running = running
        self.batches, self.replica, self.telemetry = running.batches, running.replica, running.telemetry
        self.gradient_ready = running.gradient_ready
        self.replica.noted = (self._decision, _Within(self.replica.noted))
        # What the feed may rely on must hold in both phases.
        self.batches.bulk_synchronous &= self._context.options.server.bulk_synchronous

    def bind(self, model: Model, batch: BatchShape) -> None:
        """Give the model the running strategy's memory.  *Collective*."""
        self._running.bind(model, batch)

    def record(self, samples: int, rows: int, steps: int, statistics: StepStatistics) -> RecordedStep | None:
        """Return how steps of the running strategy end.  *Collective*."""
        return self._running.record(samples, rows, steps, statistics)

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Make a step of the running strategy.  *Collective*."""
        self._running.step(learning_rate, number, samples, statistics, synchronize=synchronize)

    def begin_epoch(self, epoch: int, learning_rate: float, loss: float | None) -> None:
        """Let the running strategy get ready.  *Collective*."""
        self._running.begin_epoch(epoch, learning_rate, loss)

    def end_epoch(self, record: dict[str, Any]) -> bool:
        """Switch if the rules say so.  *Collective*: the same record.

        Raises
        ------
        OnotrainError
            What the other strategy needs is not there.
        """
        switch = self._decision.observe(record)
        if switch:
            self._change()
        return switch

    def _change(self) -> None:
        """Build the other strategy with the parameters and the optimiser's state of the one that runs.

        The strategies' own state, such as what messages have left to send, ends with the strategy.
        """
        old, before = self._running, self.replica
        before.gather()
        self._build({})
        if self._context.world.rank == 0:
            self.replica.parameters[:] = before.parameters
            for name, vector in self.replica.optimizer_state.items():
                vector[:] = before.optimizer_state[name]
        self.replica.broadcast()
        old.close()

    def close(self) -> None:
        """Free what MPI holds."""
        self._running.close()
