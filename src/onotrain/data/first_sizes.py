"""Sizes and rates of a first configuration, which follow from the numbers of samples, features and outputs."""

from __future__ import annotations

import math

#: Optimiser steps that a first run should make, about.
_STEPS = 3000
#: Widths of a hidden layer.
_NARROWEST, _WIDEST = 32, 512
#: Weights of the first layer for each sample, at most.
_WEIGHTS_PER_SAMPLE = 100


def hidden_widths(features: int, outputs: int, samples: int) -> list[int]:
    """Return widths of two hidden layers: powers of two that narrow from the features to the outputs.

    The weights of the first layer are at most 100 for each sample, unless that is a width below 32.
    """
    wanted = max(2 * max(features, outputs) // 3, _NARROWEST)
    affordable = max(_WEIGHTS_PER_SAMPLE * samples // max(features, 1), _NARROWEST)
    first = _power_of_two(min(wanted, affordable, _WIDEST))
    return [first, max(first // 2, _NARROWEST)]


def batch_size(samples: int) -> int:
    """Return a batch that gives an epoch some 50 steps, within the sizes that train well [samples]."""
    return _power_of_two(min(max(samples // 50, 8), 128))


def learning_rate(batch: int) -> float:
    """Return Adam's first rate, which goes with the square root of the batch size, as the noise of gradients does."""
    return min(1e-3 * math.sqrt(batch / 8), 2e-3)


def weight_decay(samples: int) -> float:
    """Return the L2 penalty: that of a prior of variance 1, which counts as much as one sample; at most 0.01."""
    return min(1.0 / samples, 1e-2)


def epochs(samples: int, batch: int) -> int:
    """Return how many epochs make enough steps, between 5 and 100."""
    return min(max(round(_STEPS * batch / samples), 5), 100)


def patience(epochs: int) -> int:
    """Return after how many epochs without a better figure training may stop, if that is wanted."""
    return max(epochs // 5, 5)


def _power_of_two(number: int) -> int:
    """Return the nearest power of two that is not larger than `number`."""
    return 1 << (number.bit_length() - 1)
