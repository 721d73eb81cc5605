from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.oracle import normal, unset
from onotrain import _kernels
from onotrain._kernels import Kernels

#: r, features, table (n, w), first column, outputs.
CASES = [
    (7, 3, (5, 4), 2, 9), (1, 1, (1, 1), 0, 1), (300, 2, (17, 33), 0, 33), (64, 5, (1000, 16), 7, 30),
    (5, 2, (3, 0), 1, 2), (0, 3, (5, 4), 2, 9),
]  # fmt: skip


def samples(rng: np.random.Generator, dtype: np.dtype, r: int, features: int, n: int) -> tuple[np.ndarray, int]:
    """Return samples, and which feature of theirs is a code of n categories."""
    x, feature = normal(rng, dtype, r, features), features // 2
    x[:, feature] = rng.integers(0, n, r)
    return x, feature


@pytest.mark.parametrize("case", CASES)
def test_a_row_of_the_table_for_each_code(kernels, rng, case):
    r, features, (n, w), begin, outputs = case
    x, feature = samples(rng, kernels.dtype, r, features, n)
    table, codes = normal(rng, kernels.dtype, n, w), np.full(r, -1, np.int32)
    y, alone = unset(kernels.dtype, r, outputs), unset(kernels.dtype, r, outputs)
    kernels.embedding_forward(x, feature, table, begin, codes, y)
    kernels.embedding_forward(x, feature, table, begin, None, alone)
    np.testing.assert_array_equal(codes, x[:, feature])
    np.testing.assert_array_equal(y[:, begin : begin + w], table[codes])
    assert np.isnan(np.delete(y, np.s_[begin : begin + w], axis=1)).all(), "other columns belong to others"
    np.testing.assert_array_equal(alone, y)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_added_in_the_order_of_the_rows(kernels, rng, case):
    """To the bit: it is the reference's sum, and that of a loop."""
    r, _, (n, w), begin, outputs = case
    codes, dy = rng.integers(0, n, r).astype(np.int32), normal(rng, kernels.dtype, r, outputs)
    expected = np.zeros((n, w), kernels.dtype)
    for code, row in zip(codes, dy, strict=True):
        expected[code] += row[begin : begin + w]
    dtable = unset(kernels.dtype, n, w)
    kernels.embedding_backward(codes, begin, False, dy, dtable)
    np.testing.assert_array_equal(dtable, expected)
    for code, row in zip(codes, dy, strict=True):
        expected[code] += row[begin : begin + w]
    kernels.embedding_backward(codes, begin, True, dy, dtable)
    np.testing.assert_array_equal(dtable, expected)


@pytest.mark.parametrize(
    ("r", "i", "columns", "begin", "o"), [(5, 4, [3, 0, 3], 2, 6), (3, 1, [], 1, 1), (0, 2, [1], 0, 1)]
)
def test_columns_are_picked(kernels, rng, r, i, columns, begin, o):
    x, y = normal(rng, kernels.dtype, r, i), unset(kernels.dtype, r, o)
    kernels.pick_columns(x, np.array(columns, np.int64), begin, y)
    np.testing.assert_array_equal(y[:, begin : begin + len(columns)], x[:, columns])
    assert np.isnan(np.delete(y, np.s_[begin : begin + len(columns)], axis=1)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    st.integers(0, 40), st.integers(1, 5), st.integers(1, 30), st.integers(0, 20), st.integers(0, 5), st.booleans(),
    st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_shape(dtype, r, i, n, w, begin, accumulate, seed):
    rng, passes = np.random.default_rng(seed), []
    x, feature = samples(rng, dtype, r, i, n)
    table, dy, at_first = (normal(rng, dtype, *shape) for shape in ((n, w), (r, begin + w + 1), (n, w)))
    table[rng.random(table.shape) < 0.05] = np.nan
    for build in _kernels.available():
        kernels = _kernels.load(dtype, build)
        y, codes, dtable = np.zeros_like(dy), np.zeros(r, np.int32), at_first.copy()
        kernels.embedding_forward(x, feature, table, begin, codes, y)
        kernels.embedding_backward(codes, begin, accumulate, dy, dtable)
        passes.append((y, codes, dtable))
    for made in passes[:-1]:
        for got, expected in zip(made, passes[-1], strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("wrong", [-1, 5, 2.5, np.nan, np.inf, -np.inf, 1e30, -0.5])
def test_what_is_no_code_is_refused_and_nothing_is_written(kernels, rng, wrong):
    x, feature = samples(rng, kernels.dtype, 6, 3, 5)
    x[4, feature] = wrong
    y, codes = unset(kernels.dtype, 6, 4), np.full(6, -7, np.int32)
    arguments = (x, feature, normal(rng, kernels.dtype, 5, 4), 0, codes, y)
    with pytest.raises(IndexError, match="5 rows of"):
        kernels.embedding_forward(*arguments)
    program = kernels.program([kernels.record("embedding_forward", *arguments)])
    with pytest.raises(IndexError, match="codes|row 4"):
        program.run(0)
    assert np.isnan(y).all() and (codes == -7).all()
    dtable = unset(kernels.dtype, 5, 4)
    with pytest.raises(IndexError, match="5 rows of"):
        kernels.embedding_backward(np.array([0, 5], np.int32), 0, False, y[:2], dtable)
    assert np.isnan(dtable).all()


def test_nan_and_infinities_come_through(kernels):
    table = np.array([[1, np.nan], [np.inf, 2]], kernels.dtype)
    x, y, codes = np.array([[1], [0]], kernels.dtype), unset(kernels.dtype, 2, 2), np.zeros(2, np.int32)
    kernels.embedding_forward(x, 0, table, 0, codes, y)
    np.testing.assert_array_equal(y, table[[1, 0]])
    dtable = unset(kernels.dtype, 2, 2)
    kernels.embedding_backward(
        np.array([1, 1], np.int32), 0, False, np.array([[np.nan, np.inf], [1, 1]], kernels.dtype), dtable
    )
    np.testing.assert_array_equal(dtable, [[0, 0], [np.nan, np.inf]])


def test_wrong_shapes_are_refused(kernels: Kernels) -> None:
    def array(*shape: int) -> np.ndarray:
        return np.zeros(shape, kernels.dtype)

    codes = np.zeros(3, np.int32)
    for x, feature, begin, y in (
        (array(3, 2), 2, 0, array(3, 4)), (array(3, 2), -1, 0, array(3, 4)), (array(3, 2), 0, 1, array(3, 4)),
        (array(3, 2), 0, -1, array(3, 5)), (array(2, 2), 0, 0, array(3, 4)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="got"):
            kernels.embedding_forward(x, feature, array(5, 4), begin, None, y)
    with pytest.raises(ValueError, match="codes"):
        kernels.embedding_forward(array(2, 2), 0, array(5, 4), 0, codes, array(2, 4))
    with pytest.raises(ValueError, match="got"):
        kernels.embedding_backward(codes, 1, False, array(3, 4), array(5, 4))
    with pytest.raises(ValueError, match="got"):
        kernels.embedding_backward(codes, 0, False, array(2, 4), array(5, 4))
    with pytest.raises(IndexError, match="columns"):
        kernels.pick_columns(array(3, 2), np.array([2]), 0, array(3, 1))
