"""The memory that a plan wants for some rows, on one rank or with some of it shared by ranks.

Every array begins at a cache line.  Arrays of a rank that are never used at the same time share memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from onotrain._kernels import empty
from onotrain.nn.layers.activation import flat
from onotrain.nn.layers.base import Shape
from onotrain.nn.plan import Arrays, Plan, value

#: Name of an array -> (shape, dtype).
Fields = dict[str, tuple[Shape, np.dtype]]


class Layout(NamedTuple):
    """Where arrays lie in one block of memory [bytes]."""

    offsets: dict[str, int]
    nbytes: int


def place(arrays: Arrays, rows: int) -> Layout:
    """Return places for the arrays of `rows` rows, so that those used at the same time do not overlap.

    The largest come first, each to the lowest place that is free while it is used (Pisarchyk and Lee, arXiv
    2001.03288, greedy by size).
    """
    offsets, end = dict[str, int](), 0
    for name in sorted(arrays, key=lambda name: -arrays[name].nbytes(rows)):
        mine, begin = arrays[name], 0
        for other in sorted(offsets, key=offsets.__getitem__):
            theirs = arrays[other]
            if mine.first <= theirs.last and theirs.first <= mine.last:
                if begin + mine.nbytes(rows) <= offsets[other]:
                    break
                begin = max(begin, offsets[other] + theirs.nbytes(rows))
        offsets[name] = begin
        end = max(end, begin + mine.nbytes(rows))
    return Layout(offsets, end)


class Workspace:
    """Arrays for passes over up to `rows` rows, of this rank alone.

    Parameters
    ----------
    arrays
        Of a `Plan`, for training or for prediction.
    rows
        Most rows of a pass.
    """

    def __init__(self, arrays: Arrays, rows: int) -> None:
        layout = place(arrays, rows)
        #: Of the memory.
        self.nbytes = layout.nbytes
        memory = empty((layout.nbytes,), np.uint8)
        self._arrays = dict[str, np.ndarray]()
        for name, each in arrays.items():
            begin = layout.offsets[name]
            part = memory[begin : begin + each.nbytes(rows)].view(each.dtype)
            size = rows * int(np.prod(each.shape, dtype=np.int64))
            self._arrays[name] = part[:size].reshape(rows, *each.shape)

    def rows(self, begin: int, end: int) -> dict[str, np.ndarray]:
        """Return the arrays for the rows `begin` to `end` of a batch, by name."""
        return {name: array[: end - begin] for name, array in self._arrays.items()}

    def samples(self, begin: int, end: int) -> np.ndarray:
        """Return where the samples of these rows are to be put, ``(r, inputs)``."""
        return self.rows(begin, end)[value(0)]


class SharedWorkspace(Workspace):
    """A workspace in which what gradients are made of is shared by ranks that compute some rows of a batch each.

    A pass leaves its part of these arrays in its own rows.

    Parameters
    ----------
    plan
        Whose trained parameters all have `Plan.products`.
    rows
        Most rows of a pass of this rank.
    samples
        Most rows of a batch.
    allocate
        Makes arrays that all ranks share.
    """

    def __init__(
        self, plan: Plan, rows: int, samples: int, allocate: Callable[[Fields], Mapping[str, np.ndarray]]
    ) -> None:
        names = shared_names(plan)
        super().__init__({name: each for name, each in plan.training.items() if name not in names}, rows)
        self._shared = allocate(shared_fields(plan, samples))
        self._products = plan.products

    def rows(self, begin: int, end: int) -> dict[str, np.ndarray]:
        """Return the arrays for the rows `begin` to `end` of a batch, by name."""
        return super().rows(begin, end) | {name: array[begin:end] for name, array in self._shared.items()}

    def factors(self, samples: int) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
        """Yield what gradients of a batch are made of: name of the tensor, and dz and x as of `Product`."""
        for tensor, (dz, x) in self._products.items():
            yield tensor, flat(self._shared[dz][:samples]), None if x is None else flat(self._shared[x][:samples])


def shared_names(plan: Plan) -> Collection[str]:
    """Return the names of the arrays that gradients of trained parameters are made of, in the order of the plan."""
    wanted = {name for product in plan.products.values() for name in product if name is not None}
    return [name for name in plan.training if name in wanted]


def shared_fields(plan: Plan, samples: int) -> Fields:
    """Return shape and dtype of those arrays for a batch of `samples`."""
    return {name: ((samples, *plan.training[name].shape), plan.training[name].dtype) for name in shared_names(plan)}


def private_bytes(plan: Plan, rows: int, *, shared: bool = False) -> int:
    """Return the bytes of a rank's own arrays for training, with those of `SharedWorkspace` left out or not."""
    names = shared_names(plan) if shared else ()
    return place({name: each for name, each in plan.training.items() if name not in names}, rows).nbytes


def shared_bytes(plan: Plan, samples: int) -> int:
    """Return the bytes of the arrays that ranks share for a batch of `samples`."""
    return sum(plan.training[name].nbytes(samples) for name in shared_names(plan))
