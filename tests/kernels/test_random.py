from __future__ import annotations

import numpy as np
import pytest

from kernels.oracle import unset
from onotrain import _kernels
from onotrain._kernels import random, reference

# Random123, kat_vectors: counter, key, answer.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
SIZES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 63, 64, 65, 99, 255, 256, 257, 1797, 4095, 4096, 4097, 60000]


def words(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], np.uint32)


def positions(kernels: _kernels.Kernels, n: int, key: int) -> np.ndarray:
    out = np.empty(n, np.int64)
    kernels.shuffle_positions(0, n, key, out)
    return out


def factors(kernels: _kernels.Kernels, rows: int, columns: int, rate: float, **draw: int) -> np.ndarray:
    """Dropout applied to ones."""
    draw = {"seed": 1, "step": 2, "layer": 3, "first_row": 0} | draw
    slope, y = unset(kernels.dtype, rows, columns), unset(kernels.dtype, rows, columns)
    kernels.elementwise_forward(np.ones((rows, columns), kernels.dtype), 0, 0.0, rate, *draw.values(), slope, y)
    np.testing.assert_array_equal(slope, y)
    return y


@pytest.mark.parametrize("philox", [random.philox4x32, reference.philox4x32], ids=["compiled", "reference"])
@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_known_answers(philox, counter, key, answer):
    out = np.empty(4, np.uint32)
    philox(words(counter), words(key), out)
    np.testing.assert_array_equal(out, words(answer))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_positions_are_a_permutation_and_the_same_in_every_build(n, key):
    builds = [positions(_kernels.load("float32", build), n, key) for build in ("baseline", "reference")]
    np.testing.assert_array_equal(np.sort(builds[0]), np.arange(n))
    np.testing.assert_array_equal(builds[0], builds[1])


def test_a_part_of_the_permutation_is_the_part_of_the_whole(kernels):
    whole = positions(kernels, 1797, 5)
    part = np.empty(100, np.int64)
    kernels.shuffle_positions(1697, 1797, 5, part)
    np.testing.assert_array_equal(part, whole[1697:])
    kernels.shuffle_positions(7, 1797, 5, part[:0])
    kernels.shuffle_positions(0, 0, 5, part[:0])


@pytest.mark.parametrize(("start", "n", "count"), [(-1, 10, 2), (9, 10, 2), (0, 0, 1), (0, -1, 0), (0, 2**62, 1)])
def test_positions_outside_the_range_are_refused(kernels, start, n, count):
    with pytest.raises(ValueError):
        kernels.shuffle_positions(start, n, 0, np.empty(count, np.int64))


@pytest.mark.parametrize("n", [2, 3, 5, 10, 100])
def test_every_place_is_equally_likely(n):
    """Chi-squared of where the first and the last sample go under many keys; the bound is 6 standard deviations."""
    kernels = _kernels.load("float32", "baseline")
    keys = 20_000
    out = np.empty(1, np.int64)
    for start in (0, n - 1):
        counts = np.zeros(n)
        for key in range(keys):
            kernels.shuffle_positions(start, n, key, out)
            counts[out[0]] += 1
        chi_squared = ((counts - keys / n) ** 2 / (keys / n)).sum()
        assert chi_squared < (n - 1) + 6 * np.sqrt(2 * (n - 1))


def test_neighbours_part_and_keys_are_unrelated(kernels):
    first, second = positions(kernels, 10_000, 1), positions(kernels, 10_000, 2)
    for a, b in [(first[:-1], first[1:]), (first, second), (first, np.arange(10_000))]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.05  # 5 standard deviations
    assert (first == second).sum() < 10


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_at_its_rate(kernels, rate):
    y = factors(kernels, 300, 500, rate)
    dropped = (y == 0).mean()
    assert abs(dropped - rate) < 6 * np.sqrt(rate * (1 - rate) / y.size)
    threshold = round(rate * 65536)
    np.testing.assert_array_equal(np.unique(y), np.array([0, 65536 / (65536 - threshold)], kernels.dtype))
    columns, rows = (y == 0).mean(axis=0), (y == 0).mean(axis=1)
    assert abs(columns - rate).max() < 6 * np.sqrt(rate * (1 - rate) / 300)
    assert abs(rows - rate).max() < 6 * np.sqrt(rate * (1 - rate) / 500)


def test_masks_depend_on_every_part_of_their_key(kernels):
    base = factors(kernels, 20, 300, 0.5)
    for change in ({"seed": 9}, {"seed": 1 + 2**32}, {"step": 9}, {"layer": 9}, {"first_row": 20}):
        same = ((factors(kernels, 20, 300, 0.5, **change) == 0) == (base == 0)).mean()
        assert 0.4 < same < 0.6, change


@pytest.mark.parametrize("columns", [1, 10, 127, 128, 129, 300])
def test_masks_do_not_depend_on_the_split_of_the_rows(kernels, columns):
    whole = factors(kernels, 11, columns, 0.3, first_row=100)
    for a in (0, 1, 5, 11):
        parts = [factors(kernels, rows, columns, 0.3, first_row=first) for rows, first in [(a, 100), (11 - a, 100 + a)]]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_masks_are_the_same_in_every_build_and_dtype(kernels):
    expected = factors(_kernels.load("float64", "reference"), 9, 777, 0.4, seed=2**64 - 1, first_row=2**32 - 4)
    got = factors(kernels, 9, 777, 0.4, seed=2**64 - 1, first_row=2**32 - 4)
    np.testing.assert_array_equal(got == 0, expected == 0)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_outside_its_range_is_refused(kernels, rate):
    with pytest.raises(ValueError, match="dropout"):
        factors(kernels, 2, 2, rate)
