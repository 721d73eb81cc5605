"""Which values ask for logarithms: quantiles of distributions, whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from onotrain.data.ranges import is_logarithmic, most_are_wide

P = (np.arange(400) + 0.5) / 400


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (10 ** (3 * P), True),  # log-uniform over three decades
        (np.exp(1.5 * ndtri(P)), True),  # log-normal
        (1e-9 * np.exp(1.5 * ndtri(P)), True),  # in any unit
        (10 ** (1.5 * P), False),  # less than two decades
        (np.append(1 + P, 1e9), False),  # an outlier is no distribution
        (-np.log1p(-P), False),  # exponential: as long a tail on the other side
        (P, False),  # uniform
        (5 + ndtri(P), False),  # normal
        (10 ** (3 * P) - 1.1, False),  # not positive
        (np.full(400, 7.0), False),
        (10 ** (3 * P[::40]), False),  # 10 values show nothing
        (np.empty(0), False),
    ],
    ids=["log-uniform", "log-normal", "small", "narrow", "outlier", "exponential", "uniform", "normal", "negative",
         "constant", "few", "none"],
)  # fmt: skip
def test_logarithmic(values: np.ndarray, expected: bool) -> None:
    order = np.random.Generator(np.random.Philox(1)).permutation(len(values))
    assert is_logarithmic(values[order]) is expected


def test_few_outliers_do_not_make_an_axis_logarithmic() -> None:
    assert not most_are_wide(np.append(np.linspace(1, 2, 999), 1e6))
    assert most_are_wide(np.geomspace(1, 1e3, 999))
