"""Strategy-Switch: all-reduce first, a parameter server once the loss is stable, and back if that does harm.

Provatas et al., IEEE Access 13:9510, 2025 (doi 10.1109/ACCESS.2025.3528248); the rules are in
`rules`.  A switch happens between two epochs.  It changes no bit of the parameters or of the optimiser's state, and
the rows of every batch are dealt anew, so every sample is seen once an epoch whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from onotrain.data.batches import Batch
from onotrain.nn import Model
from onotrain.runs.metadata import OWN
from onotrain.strategies.base import BatchShape, Job, Strategy
from onotrain.strategies.strategy_switch.rules import SwitchBackRule, SwitchRule
from onotrain.strategies.tally import Clock, Tally, Traffic

#: Returns a strategy for the options that go with it.
Builder = Callable[[Job], Strategy]


class StrategySwitch:
    """Runs one of two strategies and decides after every epoch which.

    Parameters
    ----------
    job
        Its options have those of both strategies, `synchronous` and `server`.  *Collective*: the same on all ranks.
    synchronous, server
        Return the two.
    """

    def __init__(self, job: Job, synchronous: Builder, server: Builder) -> None:
        options, back = job.options, job.options.switch_back
        self._job, self._builders = job, (synchronous, server)
        loss = options.loss
        self._loss = f"{loss}_loss"
        self._rule = SwitchRule(options.window, options.threshold, options.at_epoch)
        self._back_rule = SwitchBackRule() if back is None else SwitchBackRule(**dict(back))
        self._phase = 0
        #: How stable the loss was at a switch, until the next epoch's end.
        self._s_before: float | None = None
        self._strategy = self._build()

    def _build(self) -> Strategy:
        options = (self._job.options.synchronous, self._job.options.server)[self._phase]
        return self._builders[self._phase](replace(self._job, options=options))

    @property
    def clock(self) -> Clock:
        """The running strategy's."""
        return self._strategy.clock

    @property
    def traffic(self) -> Traffic:
        """The running strategy's."""
        return self._strategy.traffic

    @property
    def parameters(self) -> np.ndarray:
        """The running strategy's."""
        return self._strategy.parameters

    @property
    def settled(self) -> bool:
        """The running strategy's."""
        return self._strategy.settled

    @property
    def lockstep(self) -> bool:
        """The running strategy's."""
        return self._strategy.lockstep

    @property
    def finished(self) -> Callable[[int], None] | None:
        """The running strategy's."""
        return self._strategy.finished

    def prepare(self, model: Model, batch: BatchShape) -> None:
        """Give the model the running strategy's memory.  *Collective*."""
        self._strategy.prepare(model, batch)

    def part(self, batch: Batch) -> Batch:
        """Return this rank's slice under the running strategy."""
        return self._strategy.part(batch)

    def most_rows(self, samples: int) -> int:
        """Return the length of its largest slice under the running strategy."""
        return self._strategy.most_rows(samples)

    def weight(self, samples: int) -> float:
        """Return the weight of a row under the running strategy."""
        return self._strategy.weight(samples)

    def step(self, learning_rate: float, number: int, samples: int, tally: Tally, *, settle: bool) -> None:
        """Make a step of the running strategy.  *Collective*."""
        self._strategy.step(learning_rate, number, samples, tally, settle=settle)

    def collect(self) -> None:
        """Make the running strategy's state whole.  *Collective*."""
        self._strategy.collect()

    def state(self) -> dict[str, np.ndarray]:
        """Return the optimiser's state."""
        return self._strategy.state()

    def synchronize(self) -> None:
        """Make what rank 0 wrote everyone's.  *Collective*."""
        self._strategy.synchronize()

    def begin_epoch(self, epoch: int, learning_rate: float, loss: float | None) -> None:
        """Get the running strategy ready.  *Collective*."""
        self._strategy.begin_epoch(epoch, learning_rate, loss)

    def computed(self, rows: int, seconds: float) -> None:
        """Tell the running strategy.  *Collective*."""
        self._strategy.computed(rows, seconds)

    def report(self) -> dict[str, Any]:
        """Return the running strategy's, and its name."""
        return {**self._strategy.report(), "phase": self._name}

    def epoch_ended(self, record: dict[str, Any]) -> bool:
        """Switch if the rules say so, and put into the record what they saw.  *Collective*: the same record.

        The record of the first epoch after a switch has how stable the loss was before it and is now.

        Raises
        ------
        OnotrainError
            What the other strategy needs is not there.
        """
        epoch, loss = record["epoch"] - 1, record[self._loss]
        switch = self._rule.observe(epoch, loss)
        reason = None
        if self._phase == 0 and switch:
            reason = "the loss is stable" if self._job.options.at_epoch is None else "as configured"
        elif self._phase == 1:
            staleness = record.get("staleness", {}).get("mean")
            reason = self._back_rule.observe(record.get("validation_loss"), staleness)
        told = record["switch"] = {"s": self._rule.value, "problem": self._rule.problem, "to": None, "reason": reason}
        if self._s_before is not None:
            told["s_before"], told["s_after"] = self._s_before, self._rule.value
            self._s_before = None
        if reason is not None:
            self._s_before = self._rule.value
            self._change()
            told["to"] = self._name
        return reason is not None

    @property
    def _name(self) -> str:
        return ("synchronous", "server")[self._phase]

    def _change(self) -> None:
        """Build the other strategy with the parameters and the state of the one that runs."""
        old = self._strategy
        old.collect()
        self._phase = 1 - self._phase
        self._strategy = self._build()
        if self._job.world.rank == 0:
            self._strategy.parameters[:] = old.parameters
            state = old.state()
            for name, vector in self._strategy.state().items():
                if not name.startswith(OWN):  # what messages have left to send belongs to the strategy that sent them
                    vector[:] = state[name]
        self._strategy.synchronize()
        old.close()
        if self._phase == 0:  # only losses of the strategy that runs again may decide
            self._rule.reset()
        self._back_rule.reset()

    def notes(self) -> dict[str, Any]:
        """Return what a checkpoint must keep besides arrays."""
        return {
            "phase": self._phase, "rule": self._rule.state(), "back": self._back_rule.state(),
            "s_before": self._s_before, "strategy": self._strategy.notes(),
        }  # fmt: skip

    def restore(self, notes: dict[str, Any]) -> None:
        """Go on with the strategy that ran.  *Collective*."""
        if notes["phase"] != self._phase:
            self._strategy.close()
            self._phase = notes["phase"]
            self._strategy = self._build()
        self._rule.restore(notes["rule"])
        self._back_rule.restore(notes["back"])
        self._s_before = notes.get("s_before")
        self._strategy.restore(notes["strategy"])

    def close(self) -> None:
        """Give back what MPI holds."""
        self._strategy.close()
