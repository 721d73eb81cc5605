from __future__ import annotations

import numpy as np
import pytest

from kernels.oracle import normal, unset
from onotrain._kernels import reference_batch


def affine_dtype(kernels, storage):
    """Return the dtype of shift and scale."""
    return np.dtype(np.float64) if storage == np.float64 else kernels.dtype


@pytest.mark.parametrize("storage", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (1, 1), (5, 64), (33, 785)])
def test_against_the_reference(kernels, rng, storage, rows, columns):
    source = (rng.random((40, columns)) * 255).astype(storage)
    source.flags.writeable = False  # a memory-mapped file
    index = rng.integers(0, 40, rows)
    affine = affine_dtype(kernels, storage)
    shift, scale = normal(rng, affine, columns), normal(rng, affine, columns)
    out, expected = unset(kernels.dtype, rows, columns), unset(kernels.dtype, rows, columns)
    kernels.gather(source, index, shift, scale, out)
    reference_batch.gather(source, index, shift, scale, expected)
    # a fused multiply-add rounds once less; the products reach 1000
    np.testing.assert_allclose(out, expected, rtol=1e-5 if kernels.dtype == np.float32 else 1e-13, atol=1e-4)
    assert out.dtype == expected.dtype


def test_double_storage_keeps_its_fractions_until_after_shift_and_scale(kernels):
    """Times of 1.7e9 s are 128 s apart in float32; their differences are not."""
    source = np.array([[1.7e9 + 0.25], [1.7e9 + 0.75]])
    shift, scale = np.array([1.7e9]), np.array([3.0])
    out = unset(kernels.dtype, 2, 1)
    kernels.gather(source, np.array([1, 0]), shift, scale, out)
    assert out.dtype == kernels.dtype
    assert out.tolist() == [[2.25], [0.75]]
    expected = unset(kernels.dtype, 2, 1)
    reference_batch.gather(source, np.array([1, 0]), shift, scale, expected)
    np.testing.assert_array_equal(out, expected)


def test_double_storage_is_multiplied_in_double(kernels):
    """1e-46 is 0 in float32, and 1e46 infinite."""
    out = unset(kernels.dtype, 1, 1)
    kernels.gather(np.array([[3e-46]]), np.zeros(1, np.int64), np.array([1e-46]), np.array([1e46]), out)
    np.testing.assert_allclose(out, 2.0, rtol=1e-6)


@pytest.mark.parametrize("bad", [-1, 4, 2**40])
def test_an_index_outside_the_source_is_refused_before_anything_is_written(kernels, bad):
    out = unset(kernels.dtype, 3, 2)
    with pytest.raises(IndexError, match=rf"index\[1\]: got {bad}, expected one of the 4 rows"):
        kernels.gather(
            np.ones((4, 2), np.uint8), np.array([0, bad, 1]), np.zeros(2, kernels.dtype), np.ones(2, kernels.dtype), out
        )
    assert np.isnan(out).all()


def test_wrong_shapes_and_dtypes_are_refused(kernels):
    def call(source=None, index=None, shift=None, scale=None, out=None):
        right = {
            "source": np.ones((4, 2), np.uint8), "index": np.arange(3),
            "shift": np.zeros(2, kernels.dtype), "scale": np.ones(2, kernels.dtype), "out": unset(kernels.dtype, 3, 2),
        }  # fmt: skip
        given = {"source": source, "index": index, "shift": shift, "scale": scale, "out": out}
        kernels.gather(**right | {name: value for name, value in given.items() if value is not None})

    call()
    for wrong in [
        {"source": np.ones((4, 3), np.uint8)}, {"source": np.ones((4, 2), np.int16)}, {"source": np.ones(4, np.uint8)},
        {"source": np.ones((4, 4), np.uint8)[:, ::2]}, {"index": np.arange(2)}, {"index": np.arange(3, dtype=np.int32)},
        {"shift": np.zeros(1, kernels.dtype)}, {"scale": np.ones(3, kernels.dtype)}, {"scale": np.ones(2, np.float16)},
        {"shift": np.zeros(2), "scale": np.ones(2, np.float32)}, {"out": unset(kernels.dtype, 3, 3)},
        {"out": unset(kernels.dtype, 2, 2)},
    ]:  # fmt: skip
        with pytest.raises(ValueError):
            call(**wrong)


def test_nan_in_the_data_stays(kernels):
    out = unset(kernels.dtype, 1, 2)
    kernels.gather(
        np.array([[np.nan, np.inf]], np.float32), np.zeros(1, np.int64),
        np.zeros(2, kernels.dtype), np.ones(2, kernels.dtype), out,
    )  # fmt: skip
    np.testing.assert_array_equal(out, [[np.nan, np.inf]])
