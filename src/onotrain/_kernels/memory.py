"""Memory for what kernels read and write."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

#: A cache line, and the widest vector.
ALIGNMENT_BYTES = 64


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray[Any, Any]:
    """Return a new array of any content that begins at a cache line.

    `numpy.empty` begins anywhere, where every vector that a kernel loads may reach into two lines: 10 % of a product.
    """
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(nbytes + ALIGNMENT_BYTES, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[begin : begin + nbytes].view(dtype).reshape(shape)
