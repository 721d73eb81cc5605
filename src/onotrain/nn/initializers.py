"""How weights start.

Each tensor draws from a generator keyed by (seed, name of the tensor), so that its first values depend neither on the
number of ranks nor on the other layers.

References
----------
Glorot and Bengio, AISTATS 2010 (xavier); He et al., ICCV 2015 (kaiming); LeCun et al., Efficient BackProp, 1998
(lecun).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

#: Variance of a weight as a function of (fan_in, fan_out).
_VARIANCES: dict[str, Callable[[int, int], float]] = {
    "xavier": lambda fan_in, fan_out: 2.0 / (fan_in + fan_out),
    "kaiming": lambda fan_in, fan_out: 2.0 / fan_in,
    "lecun": lambda fan_in, fan_out: 1.0 / fan_in,
}


def initialize(spec: Any, weight: np.ndarray, rng: np.random.Generator) -> None:
    """Fill `weight` in place.

    Parameters
    ----------
    spec
        An initialiser of the configuration: a ``name`` and, for ``constant``, ``uniform`` and ``normal``, its numbers.
    weight
        Shape ``(fan_out, fan_in)``, or ``(outputs,)`` for a bias.
    rng
        Source of the random numbers.
    """
    if spec.name == "constant":
        weight[...] = spec.value
    elif spec.name == "uniform":
        weight[...] = rng.uniform(spec.low, spec.high, weight.shape)
    elif spec.name == "normal":
        weight[...] = rng.normal(spec.mean, spec.std, weight.shape)
    else:
        family, distribution = spec.name.rsplit("_", 1)
        fan_out, fan_in = weight.shape
        std = math.sqrt(_VARIANCES[family](fan_in, fan_out))
        if distribution == "uniform":
            bound = math.sqrt(3.0) * std
            weight[...] = rng.uniform(-bound, bound, weight.shape)
        else:
            weight[...] = rng.normal(0.0, std, weight.shape)
