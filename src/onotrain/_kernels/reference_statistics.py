"""The reference implementations of what ranks of a node tell each other; see `onotrain._kernels.reference`.

`shared` is ``(2, ranks, numbers)`` float64, in memory that the ranks share: a step's numbers have one of two places.
"""

from __future__ import annotations

import math

import numpy as np

from onotrain._kernels.reference import Array, expect


def _rows(shared: Array, step: int, rank: int, columns: int) -> Array:
    """Return the rows of all ranks in this step."""
    expect("shared", shared, 2, *shared.shape[1:], dtype=np.float64)
    if not 0 <= rank < shared.shape[1]:
        raise ValueError(f"rank: got {rank}, expected one of {shared.shape[1]}")
    if columns > shared.shape[2]:
        raise ValueError(f"columns of shared: got {shared.shape[2]}, expected at least {columns}")
    place: Array = shared[step % 2]
    return place


def publish(values: Array, constant: Array, late: bool, step: int, rank: int, shared: Array) -> None:
    """Write ``values + constant`` and whether it is late to this rank's row, and begin new values at 0.

    Parameters
    ----------
    values, constant
        float64 ``(f,)``.
    late
        Whether the run is to end.
    step
        Counted from 0.
    rank
        This rank's number on the node.
    shared
        With more than `f` numbers a rank.
    """
    expect("constant", constant, len(values), dtype=np.float64)
    mine = _rows(shared, step, rank, len(values) + 1)[rank]
    mine[: len(values)] = values + constant
    mine[len(values)] = late
    values[:] = 0


def publish_sum(values: Array, step: int, rank: int, column: int, shared: Array) -> None:
    """Write the sum of ``values (n,)`` to a column of this rank's row."""
    _rows(shared, step, rank, column + 1)[rank, column] = sum(values.tolist())


def total(shared: Array, stop: int, step: int, index: int, totals: Array) -> bool:
    """Write the sums over the ranks to row `index` of ``totals (steps, f)``; return whether the run ends.

    It does where a rank is late, the column `stop` is more than 0, or a sum is not finite.
    """
    count = totals.shape[1]
    if not 0 <= stop < count or not 0 <= index < len(totals):
        raise ValueError(f"stop and index: got {stop} and {index}, expected less than {count} and {len(totals)}")
    rows = _rows(shared, step, 0, count + 1)
    totals[index] = np.add.reduce(rows[:, :count], axis=0)
    return bool(rows[:, count].any() or totals[index, stop] > 0 or not np.isfinite(totals[index]).all())


def clip(shared: Array, column: int, longest: float, step: int, index: int, scalars: Array) -> None:
    """Write the scale that shortens a gradient to `longest` to ``scalars[index, 0]``.

    Its sum of squares is that of a column over the ranks.
    """
    squares = sum(_rows(shared, step, 0, column + 1)[:, column].tolist())
    scalars[index, 0] = min(1.0, longest / (math.sqrt(squares) + 1e-6))
