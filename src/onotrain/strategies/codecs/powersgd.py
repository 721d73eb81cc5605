"""Matrices as products of two thin ones.

For a matrix M of m rows and n columns, with Q of n rows and r columns from the step before (algorithm 1)::

    P = M Q             summed over the ranks, then made orthonormal
    Q = M' P            summed over the ranks
    sum of M ~ P Q'

Sums, where the paper has means: only the length of Q differs, which is made orthonormal before it is used again.  A
message, where nothing is summed, holds P and Q of one rank alone.

References
----------
Vogels, Karimireddy and Jaggi, arXiv 1905.13727.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onotrain.seeds import generator
from onotrain.strategies.codecs.base import Compressor
from onotrain.strategies.codecs.vector_range import Part

#: Elements of a product that are made at a time, so that they stay in a core's own cache.
_BLOCK = 1 << 15
#: A vector of which no more than this is left when the parts along others are taken away depends on them.
_DEPENDENT = 1e-12


class _LowRank(NamedTuple):
    """One matrix that is sent as two: its elements in the range, and those of P and Q in their rounds."""

    range: slice
    shape: tuple[int, int]
    p: slice
    q: slice


class PowerSGD(Compressor):
    """Approximations of rank r; what has no rows, or would not shrink, is sent as it is in the first round.

    P and Q are held as ``(r, m)`` and ``(r, n)``.  What every rank makes of sums for itself, P made orthonormal and the
    product, is computed element by element: BLAS gives other bits on another CPU, and replicas would drift.

    Parameters
    ----------
    part
        The range, with its matrices.
    rank
        r, at least 1.
    seed
        Of the first Q.
    """

    def __init__(self, part: Part, rank: int, seed: int) -> None:
        self._rank = rank
        thin = [m for m in part.matrices if rank * (m.rows + m.columns) < m.rows * m.columns]
        self._low: list[_LowRank] = []
        p = q = 0
        for m in thin:
            next_p, next_q = p + rank * m.rows, q + rank * m.columns
            self._low.append(_LowRank(m.range, (m.rows, m.columns), slice(p, next_p), slice(q, next_q)))
            p, q = next_p, next_q
        edges = [0, *(edge for low in self._low for edge in (low.range.start, low.range.stop)), part.size]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        self._dense = [slice(begin, end) for begin, end in gaps if begin < end]
        dense = sum(gap.stop - gap.start for gap in self._dense)
        #: The first round is all P, and then what is dense; the second is all Q.
        self._first, self._second = np.empty(p + dense, part.dtype), np.empty(q, part.dtype)
        super().__init__(part, self._first.nbytes + self._second.nbytes)
        self.rounds = tuple(numbers for numbers in (self._first, self._second) if numbers.size)
        self._ends_of_p = p
        self._seeds = np.empty(q, part.dtype)
        for m, low in zip(thin, self._low, strict=True):
            self._seeds[low.q] = generator(seed, f"powersgd/{m.name}").standard_normal(rank * m.columns)
        self._warm = self._seeds.copy()
        self._own = np.empty_like(self._second)
        self._product = np.empty(_BLOCK, part.dtype)
        self._values = self._first[:0]
        self._round = 0

    def state(self) -> dict[str, np.ndarray]:
        """Return Q of the last step, which is the same on all ranks that summed."""
        return {"q": self._warm}

    def reset(self) -> None:
        """Go back to the seeded Q."""
        self._warm[:] = self._seeds

    def begin(self, values: np.ndarray) -> np.ndarray | None:
        """Return ``P = M Q`` of this rank, and what is dense."""
        self._check_values(values)
        self._values, self._round = values, 0
        with np.errstate(all="ignore"):
            for low in self._low:
                matrix = values[low.range].reshape(low.shape)
                warm = self._thin(self._warm[low.q])
                _restart(warm, self._thin(self._seeds[low.q]))
                np.matmul(warm, matrix.T, out=self._thin(self._first[low.p]))
        self._copy_dense(values, self._first)
        return self.rounds[0] if self.rounds else None

    def advance(self) -> np.ndarray | None:
        """Return ``Q = M' P`` of this rank, of the sum of P made orthonormal."""
        self._round += 1
        if self._round > 1 or not self._low:
            return None
        with np.errstate(all="ignore"):
            for low in self._low:
                matrix = self._values[low.range].reshape(low.shape)
                p = self._thin(self._first[low.p])
                orthonormalize(p)
                np.matmul(p, matrix, out=self._thin(self._second[low.q]))
        self._own[:] = self._second
        return self._second

    def finish(self, out: np.ndarray) -> None:
        """Write ``P Q'``, and keep Q for the next step."""
        self._check_values(out)
        self._warm[:] = self._second
        self._expand(self._first, self._second, out)

    def contribution(self, out: np.ndarray) -> None:
        """Write ``P Q'`` with this rank's own Q, and what it sent dense."""
        self._check_values(out)
        self._expand(self._first, self._own, out)
        for gap in self._dense:
            out[gap] = self._values[gap]

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        self.begin(values)
        self.advance()
        self._warm[:] = self._second
        first, second = self._split(out)
        first[:], second[:] = self._first, self._second

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        self._expand(*self._split(message), out)

    def _split(self, message: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the two rounds as views of a message."""
        numbers = message.view(self.part.dtype)
        return numbers[: self._first.size], numbers[self._first.size :]

    def _thin(self, numbers: np.ndarray) -> np.ndarray:
        return numbers.reshape(self._rank, -1)

    def _copy_dense(self, values: np.ndarray, first: np.ndarray) -> None:
        begin = self._ends_of_p
        for gap in self._dense:
            end = begin + gap.stop - gap.start
            first[begin:end] = values[gap]
            begin = end

    def _expand(self, first: np.ndarray, second: np.ndarray, out: np.ndarray) -> None:
        """Write the products of P and Q, and what is dense, to `out`."""
        begin = self._ends_of_p
        for gap in self._dense:
            end = begin + gap.stop - gap.start
            out[gap] = first[begin:end]
            begin = end
        with np.errstate(all="ignore"):
            for low in self._low:
                product = out[low.range].reshape(low.shape)
                multiply(self._thin(first[low.p]), self._thin(second[low.q]), self._product, product)


def _restart(rows: np.ndarray, seeds: np.ndarray) -> None:
    """Make Q orthonormal, and take from the seeds what a zero or diverged gradient left of it."""
    if not _finite(rows):
        rows[:] = seeds
    orthonormalize(rows)
    lost = ~rows.any(axis=1)
    if lost.any():
        rows[lost] = seeds[lost]
        orthonormalize(rows)


def orthonormalize(rows: np.ndarray) -> None:
    """Make the rows of a matrix orthonormal in place; a row that depends on those above it becomes zero.

    Modified Gram-Schmidt in float64, twice, which is enough (Giraud et al., Numer. Math. 101, 2005).  Rows that are not
    finite stay so.
    """
    basis = rows.astype(np.float64)
    for index, row in enumerate(basis):
        largest = max(row.max(), -row.min())
        if largest == 0.0:
            continue
        row /= largest  # no square overflows or vanishes
        before = _dot(row, row)
        for above in (*basis[:index], *basis[:index]):
            row -= _dot(above, row) * above
        after = _dot(row, row)
        row /= np.sqrt(after) if not after <= _DEPENDENT**2 * before else np.inf
    rows[...] = basis


def _dot(x: np.ndarray, y: np.ndarray) -> np.float64:
    """Return the sum of products, in an order that depends on nothing but their number."""
    return np.add.reduce(x * y)


def multiply(p: np.ndarray, q: np.ndarray, scratch: np.ndarray, out: np.ndarray) -> None:
    """Write ``out = p' q``, adding products in the order of their rows, each rounded.

    Parameters
    ----------
    p, q
        Shapes ``(r, m)`` and ``(r, n)``.
    scratch
        Any number of elements; it is best if they stay in the cache with a block of `out`.
    out
        Shape ``(m, n)``.
    """
    rows, columns = out.shape
    step = max(1, scratch.size // columns)
    spare = scratch if columns <= scratch.size else np.empty(columns, scratch.dtype)
    for begin in range(0, rows, step):
        block = out[begin : begin + step]
        product = spare[: block.size].reshape(block.shape)
        left = p[:, begin : begin + step, np.newaxis]
        np.multiply(left[0], q[0], out=block)
        for index in range(1, len(p)):
            np.multiply(left[index], q[index], out=product)
            np.add(block, product, out=block)


def _finite(values: np.ndarray) -> bool:
    """Return whether all values are finite, without a mask."""
    return values.size == 0 or bool(np.isfinite(values.max()) and np.isfinite(values.min()))
