"""What a parameter server does with a gradient that is stale, in place on flat vectors: a registry of rules.

A server passes each gradient through `push` before the optimiser, and calls `sent` whenever it sends its parameters to
a worker.  A worker's gradient is the mean over the samples of its push; its staleness is the number of updates between
the parameters that it was computed with and now.  A new rule is a class with the members of `Compensation` and a line
in `COMPENSATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onotrain.optim import Optimizer
from onotrain.strategies.parameter_server.compensation.base import Compensation, LearningRate, Place, Plain, Step
from onotrain.strategies.parameter_server.compensation.constant_batch import ConstantBatch
from onotrain.strategies.parameter_server.compensation.delay import Delay

__all__ = [
    "COMPENSATIONS", "Compensation", "ConstantBatch", "Delay", "LearningRate", "Place", "Plain", "Step", "delta_power",
    "rate_power", "whole_batches",
]  # fmt: skip

#: By the name in the configuration; options: `strength`, `adaptive`, `decay` of `Delay`, `limit` of `ConstantBatch`.
COMPENSATIONS: dict[str, Callable[[Any, Place], Compensation]] = {
    "none": lambda options, place: Plain(),
    "learning_rate": lambda options, place: LearningRate(),
    "delay": lambda options, place: Delay(place, options.strength, options.adaptive, options.decay),
    "constant_batch": lambda options, place: ConstantBatch(place, options.limit),
}


def whole_batches(options: Any) -> bool:
    """Return whether each update of a parameter server with these options is of a whole batch, not of a push."""
    return bool(options.bulk_synchronous or options.compensation.whole_batches)


def rate_power(options: Any, optimizer: Optimizer) -> float:
    """Return the power of a push's share of the global batch that its learning rate is multiplied by.

    Parameters
    ----------
    options
        Of the parameter server.
    optimizer
        Decides what `auto` is.
    """
    if whole_batches(options):
        return 0.0
    powers = {"auto": optimizer.rate_power, "none": 0.0, "root": 0.5, "linear": 1.0}
    return powers[options.rate_scaling]


def delta_power(options: Any) -> float:
    """Return the power of a worker's share of the samples that the delta which it pushes is multiplied by.

    An average of all deltas, with power 1, unless something else is asked for: of a delta, unlike of a gradient, every
    optimiser makes steps as long as those of synchronous training.
    """
    if options.bulk_synchronous:
        return 1.0
    return {"auto": 1.0, "none": 0.0, "root": 0.5, "linear": 1.0}[options.rate_scaling]
