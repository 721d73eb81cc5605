"""What a codec needs to know of the range of the flat vector that it works on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from onotrain.nn import ParameterLayout


class Matrix(NamedTuple):
    """Whole rows of one tensor within a range."""

    #: Name of the tensor.
    name: str
    #: Where the first row begins in the range [elements].
    begin: int
    rows: int
    columns: int

    @property
    def range(self) -> slice:
        """Its elements in the range."""
        return slice(self.begin, self.begin + self.rows * self.columns)


@dataclass(frozen=True)
class Part:
    """A range of the flat vector."""

    #: float32 or float64.
    dtype: np.dtype
    #: Its length [elements].
    size: int
    #: The rows, in the order of the vector, of tensors with at least two dimensions; of parts of rows, nothing.
    matrices: tuple[Matrix, ...] = ()
    #: How many values at its end belong to averaged tensors, which are always sent as they are.
    averaged: int = 0

    @property
    def coded(self) -> Part:
        """The range without them."""
        return replace(self, size=self.size - self.averaged, averaged=0)

    @classmethod
    def plain(cls, size: int, dtype: DTypeLike) -> Part:
        """Return a range of which no tensors are known."""
        return cls(np.dtype(dtype), size)

    @classmethod
    def of(cls, layout: ParameterLayout, part: slice) -> Part:
        """Return the range `part` of a layout; it may cut tensors anywhere.

        A tensor is taken as a matrix of ``shape[0]`` rows; an averaged one is none.
        """
        found = []
        for tensor in layout:
            if len(tensor.shape) < 2 or tensor.size == 0 or tensor.rate is not None:
                continue
            columns = tensor.size // tensor.shape[0]
            first = -(-max(part.start - tensor.offset, 0) // columns)
            last = min(part.stop - tensor.offset, tensor.size) // columns
            if first < last:
                begin = tensor.offset + first * columns - part.start
                found.append(Matrix(tensor.name, begin, last - first, columns))
        return cls(layout.dtype, part.stop - part.start, tuple(found), layout.averaged_within(part))
