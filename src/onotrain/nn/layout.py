"""Where every parameter lies in the one flat vector of a model.

A model is metadata over a flat vector: partitioning, sending, checkpointing and updating name ranges of it and never
copy or reorder tensors.  Every tensor starts at a 64-byte boundary, so that a kernel may load whole vectors and two
tensors never share a cache line; the gaps stay zero under every update rule.  Averaged tensors, which follow the data,
lie behind all others: what is meant for gradients is kept away from them by one cut.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType

import numpy as np

from onotrain._kernels import ALIGNMENT_BYTES


@dataclass(frozen=True)
class Tensor:
    """One named tensor: its shape, and its place in the flat vector [elements]."""

    name: str
    shape: tuple[int, ...]
    offset: int
    #: Whether updates change it.
    trained: bool = True
    #: Whether its gradient is a sum of outer products over the rows of a batch.
    is_product: bool = True
    #: Whether it is one of those that weight decay is meant for.
    decays: bool = True
    #: Part of the way to the batch's statistic that an averaged tensor goes in a step; None: the optimiser trains it.
    rate: float | None = None
    #: Elements of a row that is updated as a whole or, without a gradient, not at all; 0: it is no table of such rows.
    row: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def range(self) -> slice:
        """The tensor's elements in the flat vector."""
        return slice(self.offset, self.offset + self.size)


class ParameterLayout:
    """Names, shapes and offsets of all parameters of a model.

    Parameters
    ----------
    shapes
        ``(name, shape)`` of every tensor in the order of the layers; names such as ``dense_0/weight``.  The layout has
        averaged tensors behind all others.
    dtype
        float32 or float64.
    frozen
        Names of layers, such as ``dense_0``, whose tensors no update changes.
    no_products
        Names of tensors whose gradients are no sums of outer products over the rows.
    no_decay
        Names of tensors that weight decay is not meant for.
    rates
        Of averaged tensors, by name.
    rows
        Names of tables ``(n, row)`` whose rows are updated as a whole or not at all.
    """

    def __init__(
        self,
        shapes: Iterable[tuple[str, tuple[int, ...]]],
        dtype: np.dtype | type,
        frozen: Collection[str] = (),
        no_products: Collection[str] = (),
        no_decay: Collection[str] = (),
        rates: Mapping[str, float] = MappingProxyType({}),
        rows: Collection[str] = (),
    ) -> None:
        self.dtype = np.dtype(dtype)
        self._step = ALIGNMENT_BYTES // self.dtype.itemsize
        tensors: list[Tensor] = []
        offset, averaged = 0, None
        for name, shape in sorted(shapes, key=lambda each: each[0] in rates):
            trained, rate = name.rpartition("/")[0] not in frozen, rates.get(name)
            if rate is not None and averaged is None:
                averaged = offset
            is_product, decays = name not in no_products, name not in no_decay
            row = shape[-1] if name in rows else 0
            tensors.append(Tensor(name, tuple(shape), offset, trained, is_product, decays, rate, row))
            offset += self._aligned(tensors[-1].size)
        self.tensors = tuple(tensors)
        #: Length of the flat vector [elements], a multiple of the alignment.
        self.size = offset
        #: Range of the averaged tensors, at the end of the vector; empty if there are none.
        self.averaged = slice(offset if averaged is None else averaged, offset)

    def _aligned(self, size: int) -> int:
        return -(-size // self._step) * self._step

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)

    @property
    def parameter_count(self) -> int:
        """Number of parameters, without the gaps; averaged tensors are none."""
        return sum(tensor.size for tensor in self.tensors if tensor.rate is None)

    @property
    def averaged_count(self) -> int:
        """Number of values of averaged tensors."""
        return sum(tensor.size for tensor in self.tensors if tensor.rate is not None)

    def averaged_within(self, part: slice) -> int:
        """Return how many elements at the end of the range `part` of the vector belong to averaged tensors."""
        return max(0, part.stop - max(part.start, self.averaged.start))

    @property
    def frozen(self) -> tuple[slice, ...]:
        """Ranges of the tensors that no update changes."""
        return tuple(tensor.range for tensor in self.tensors if not tensor.trained)

    def trained_only(self) -> ParameterLayout:
        """Return the layout of a vector of those tensors alone that updates change."""
        if not self.frozen:
            return self
        kept = [tensor for tensor in self.tensors if tensor.trained]
        rates = {tensor.name: tensor.rate for tensor in kept if tensor.rate is not None}
        rows = {tensor.name for tensor in kept if tensor.row}
        return ParameterLayout(((tensor.name, tensor.shape) for tensor in kept), self.dtype, rates=rates, rows=rows)

    @property
    def digest(self) -> str:
        """SHA-256 of names, shapes, offsets and dtype; equal digests mean exchangeable flat vectors."""
        description = [self.dtype.str, [(t.name, t.shape, t.offset) for t in self.tensors]]
        return hashlib.sha256(json.dumps(description).encode()).hexdigest()

    def zeros(self) -> np.ndarray:
        """Return a new flat vector of zeros."""
        return np.zeros(self.size, self.dtype)

    def views(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Return every tensor as a view of `flat`, by name."""
        return {tensor.name: flat[tensor.range].reshape(tensor.shape) for tensor in self.tensors}

    def gather(self, tensors: Mapping[str, np.ndarray], flat: np.ndarray) -> None:
        """Copy named tensors into the flat vector `flat`; names and shapes must be the layout's."""
        for name, view in self.views(flat).items():
            np.copyto(view, tensors[name], casting="no")

    def shard(self, index: int, count: int, within: slice | None = None) -> slice:
        """Return part `index` of `count` contiguous parts, cut at alignment boundaries, and not within a `Tensor.row`.

        What is cut is the whole vector, or a range `within` it that begins and ends at such boundaries.
        """
        begin, end = (0, self.size) if within is None else (within.start, within.stop)
        units = (end - begin) // self._step
        cuts = (begin + units * cut // count * self._step for cut in (index, index + 1))
        return slice(*map(self._between_rows, cuts))

    def _between_rows(self, element: int) -> int:
        """Move a cut at an alignment boundary back to one at which no row of a table is cut."""
        for tensor in self.tensors:
            if tensor.row and tensor.range.start < element < tensor.range.stop:
                whole = math.lcm(tensor.row, self._step)
                return tensor.offset + (element - tensor.offset) // whole * whole
        return element

    def rows_within(self, begin: int, end: int) -> slice:
        """Return a range of the vector with both ends moved back to where a row of a tensor begins."""
        return slice(self._row_at(begin), self._row_at(end))

    def _row_at(self, element: int) -> int:
        """Return where the row of a tensor that `element` lies in begins; of a tensor without rows, a cache line."""
        if element == self.size:
            return element
        tensor = next(tensor for tensor in reversed(self.tensors) if tensor.offset <= element)
        row = tensor.shape[-1] if len(tensor.shape) > 1 else self._step
        return tensor.offset + min(element - tensor.offset, tensor.size) // row * row

    def buckets(self, nbytes: int) -> list[slice]:
        """Return ranges of whole layers, from the last layer to the first, each of at least `nbytes` but for the last.

        They are in the order in which gradients become final; 0 bytes stand for one range of everything.  Averaged
        tensors, which lie apart from their layers, are a range by themselves, the last one, if there are several.
        """
        layers = groupby((t for t in self.tensors if t.rate is None), key=lambda tensor: tensor.name.rpartition("/")[0])
        begins = [next(tensors).offset for _, tensors in layers]
        found, end = [], self.averaged.start
        for begin in reversed(begins):
            if begin == 0 or 0 < nbytes <= (end - begin) * self.dtype.itemsize:
                found.append(slice(begin, end))
                end = begin
        if self.averaged_count == 0:
            return found
        return [*found, self.averaged] if len(found) > 1 else [slice(0, self.size)]
