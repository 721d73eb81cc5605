"""Arrays for kernels."""

from __future__ import annotations

import numpy as np
import pytest

from onotrain import _kernels


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (0, 4), (7, 784)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_arrays_begin_at_a_cache_line(shape, dtype):
    arrays = [_kernels.empty(shape, dtype) for _ in range(5)]
    for number, array in enumerate(arrays):
        assert array.shape == shape
        assert array.dtype == np.dtype(dtype)
        assert array.flags.c_contiguous
        assert array.size == 0 or array.ctypes.data % _kernels.ALIGNMENT_BYTES == 0
        array[...] = number
    for number, array in enumerate(arrays):
        assert (array == number).all()
