"""How weights and biases start.

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

#: Variance of a weight or bias as a function of (fan_in, fan_out).
_VARIANCES: dict[str, Callable[[int, int], float]] = {
    "xavier": lambda fan_in, fan_out: 2.0 / (fan_in + fan_out),
    "kaiming": lambda fan_in, fan_out: 2.0 / fan_in,
    "lecun": lambda fan_in, fan_out: 1.0 / fan_in,
}


def initialize(spec: Any, tensor: np.ndarray, rng: np.random.Generator, fans: tuple[int, int]) -> None:
    """Fill `tensor` in place.

    Parameters
    ----------
    spec
        An initialiser of the configuration: a ``name`` and, for ``constant``, ``uniform`` and ``normal``, its numbers;
        or a number: the value of all elements.
    tensor
        Of any shape.
    rng
        Source of the random numbers.
    fans
        Outputs and inputs of what the tensor belongs to.
    """
    if isinstance(spec, (int, float)):
        tensor[...] = spec
    elif spec.name == "constant":
        tensor[...] = spec.value
    elif spec.name == "uniform":
        tensor[...] = rng.uniform(spec.low, spec.high, tensor.shape)
    elif spec.name == "normal":
        tensor[...] = rng.normal(spec.mean, spec.std, tensor.shape)
    else:
        family, distribution = spec.name.rsplit("_", 1)
        fan_out, fan_in = fans
        std = math.sqrt(_VARIANCES[family](fan_in, fan_out))
        if distribution == "uniform":
            bound = math.sqrt(3.0) * std
            tensor[...] = rng.uniform(-bound, bound, tensor.shape)
        else:
            tensor[...] = rng.normal(0.0, std, tensor.shape)
