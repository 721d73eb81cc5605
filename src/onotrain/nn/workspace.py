"""The memory that a plan wants for some rows, on one rank or with some of it shared by ranks.

Every array begins at a cache line.  Arrays of a rank that are never used at the same time share memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels import empty
from onotrain._kernels.recording import ELSEWHERE, PythonCall
from onotrain.nn.blocks import BLOCKS, block_rows, blocks
from onotrain.nn.layers.activation import flat
from onotrain.nn.layers.base import Scatter
from onotrain.nn.layers.recorder import BatchSums
from onotrain.nn.plan import Arrays, Plan, batch_sums, value
from onotrain.nn.shapes import Shape

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


class Blocks(NamedTuple):
    """Blocks of rows of a batch, and where the parts of gradients go that these make."""

    #: Rows of each; the last one may have less.
    rows: int
    #: ``(blocks, *shape)``, by the layer's number and the tensor's name in it.
    gradients: Mapping[tuple[int, str], np.ndarray]


class Factors(NamedTuple):
    """What the gradient of a tensor is made of, of all rows of a batch."""

    #: As of `Product` or `Scatter`; of neither: the parts of the blocks, to be summed.
    dz: np.ndarray
    #: As of `Product`.
    x: np.ndarray | None = None
    #: As of `Scatter`.
    codes: np.ndarray | None = None


class Workspace:
    """Arrays for passes over up to `rows` rows, of this rank alone.

    Parameters
    ----------
    arrays
        Of a `Plan`, for training or for prediction.
    rows
        Most rows of a pass.
    all_reduce
        Sums a small float64 array over the ranks that compute a batch together, in place.  *Collective* over them.
        None: a pass is all of the batch that sums go over.
    """

    def __init__(self, arrays: Arrays, rows: int, all_reduce: Callable[[np.ndarray], None] | None = None) -> None:
        self._all_reduce = all_reduce
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

    def batch_sums(self, number: int, name: str, begin: int, end: int, samples: int) -> BatchSums:
        """Return sums of a layer over a batch of `samples`, of which a pass computes rows `begin` to `end`."""
        mine = self.rows(begin, end)[batch_sums(number, name)]
        total = np.empty(mine.shape[1])
        if self._all_reduce is None:
            return BatchSums(mine, mine, total, ())
        everyone = np.empty((1, mine.shape[1]))
        return BatchSums(mine, everyone, total, (_exchange(mine, everyone, self._all_reduce),))

    def blocks(self, begin: int, end: int, samples: int) -> Blocks | None:
        """Return the blocks that rows `begin` to `end` of a batch of `samples` are made of.

        None, as here, where the gradient is made of all rows at a time.
        """
        return None


class SharedWorkspace(Workspace):
    """A workspace in which what gradients are made of is shared by ranks that compute some rows of a batch each.

    A pass leaves its part of these arrays in its own rows.

    Parameters
    ----------
    plan
        Whose gradients are products over the rows, or sums of blocks of them.
    rows
        Most rows of a pass of this rank.
    samples
        Most rows of a batch.
    allocate
        Makes arrays that all ranks share.
    barrier
        Returns a call, for a program, that waits for all ranks.
    """

    def __init__(
        self,
        plan: Plan,
        rows: int,
        samples: int,
        allocate: Callable[[Fields], Mapping[str, np.ndarray]],
        barrier: Callable[[], Any],
    ) -> None:
        names = shared_names(plan)
        super().__init__({name: each for name, each in plan.training.items() if name not in names}, rows)
        shared = allocate(shared_fields(plan, samples))
        self._shared = {name: shared[name] for name in names}
        self._in_blocks = {
            (number, name): (f"{plan.nodes[number].layer.name}/{name}", shape, shared[_block_name(number, name)])
            for number, shapes in plan.in_blocks.items()
            for name, shape in shapes.items()
        }
        self._products, self._barrier = plan.products, barrier

    def rows(self, begin: int, end: int) -> dict[str, np.ndarray]:
        """Return the arrays for the rows `begin` to `end` of a batch, by name."""
        return super().rows(begin, end) | {name: array[begin:end] for name, array in self._shared.items()}

    def batch_sums(self, number: int, name: str, begin: int, end: int, samples: int) -> BatchSums:
        """Return sums of a layer over a batch of `samples`, of which a pass computes rows `begin` to `end`."""
        everyone = self._shared[batch_sums(number, name)][:samples]
        return BatchSums(everyone[begin:end], everyone, np.empty(everyone.shape[1]), (self._barrier(),))

    def blocks(self, begin: int, end: int, samples: int) -> Blocks | None:
        """Return the blocks that rows `begin` to `end` of a batch of `samples` are made of: whole ones."""
        step = block_rows(samples)
        mine = slice(-(-begin // step), -(-end // step))
        return Blocks(
            step, {key: parts.reshape(BLOCKS, *shape)[mine] for key, (_, shape, parts) in self._in_blocks.items()}
        )

    def factors(self, samples: int) -> Iterator[tuple[str, Factors]]:
        """Yield what gradients of a batch are made of, with the name of the tensor."""

        def rows(name: str) -> np.ndarray:
            return flat(self._shared[name][:samples])

        for tensor, product in self._products.items():
            dz = rows(product.dz)
            if isinstance(product, Scatter):
                yield tensor, Factors(dz[:, product.columns], codes=self._shared[product.codes][:samples])
            else:
                yield tensor, Factors(dz, None if product.x is None else rows(product.x))
        for tensor, _, parts in self._in_blocks.values():
            yield tensor, Factors(parts[: blocks(samples)])


def _exchange(mine: np.ndarray, everyone: np.ndarray, all_reduce: Callable[[np.ndarray], None]) -> PythonCall:
    """Return the call that sums over the ranks; it says itself how long that takes."""
    call = PythonCall(_sum_over_ranks, mine, everyone, all_reduce)
    call.place = ELSEWHERE
    return call


def _sum_over_ranks(mine: np.ndarray, everyone: np.ndarray, all_reduce: Callable[[np.ndarray], None]) -> None:
    np.add.reduce(mine, axis=0, out=everyone[0])
    all_reduce(everyone[0])


def _block_name(number: int, name: str) -> str:
    """Return the name of the array of the parts of a gradient, a row for each block."""
    return f"blocks/{number}/{name}"


def shared_names(plan: Plan) -> Collection[str]:
    """Return the names of the arrays that all ranks read, in the order of the plan.

    What gradients of trained parameters are made of, and sums over the batch.
    """
    wanted = {name for product in plan.products.values() for name in product.arrays}
    for number, node in enumerate(plan.nodes):
        wanted |= {batch_sums(number, name) for name in node.layer.batch_sums}
    return [name for name in plan.training if name in wanted]


def shared_fields(plan: Plan, samples: int) -> Fields:
    """Return shape and dtype of what ranks share for a batch of `samples`: those arrays, and parts of gradients."""
    fields = {name: ((samples, *plan.training[name].shape), plan.training[name].dtype) for name in shared_names(plan)}
    for number, shapes in plan.in_blocks.items():
        for name, shape in shapes.items():
            fields[_block_name(number, name)] = (BLOCKS, math.prod(shape)), plan.dtype
    return fields


def private_bytes(plan: Plan, rows: int, *, shared: bool = False) -> int:
    """Return the bytes of a rank's own arrays for training, with those of `SharedWorkspace` left out or not."""
    names = shared_names(plan) if shared else ()
    return place({name: each for name, each in plan.training.items() if name not in names}, rows).nbytes


def shared_bytes(plan: Plan, samples: int) -> int:
    """Return the bytes of what ranks share for a batch of `samples`."""
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in shared_fields(plan, samples).values())
