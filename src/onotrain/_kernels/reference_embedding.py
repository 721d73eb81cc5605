"""Reference implementations of embeddings: for each sample the row of a table that its code names.

Dimensions: ``r`` rows of the batch on this rank, ``i`` features, ``o`` outputs, a table of ``n`` rows of ``w`` numbers.
"""

from __future__ import annotations

import numpy as np

from onotrain._kernels.reference import Array, expect, silent


def _expect_within(what: str, begin: int, count: int, n: int) -> None:
    if begin < 0 or begin + count > n:
        raise ValueError(f"{what}: got columns {begin} to {begin + count}, expected some of the {n}")


def _expect_codes(codes: Array, n: int) -> None:
    wrong = ~((codes >= 0) & (codes < n) & (codes == np.trunc(codes)))  # NaN is no code
    if wrong.any():
        raise IndexError(f"row {np.argmax(wrong)}: got {codes[wrong][0]}, expected one of the {n} rows of the table")


@silent
def embedding_forward(x: Array, feature: int, table: Array, begin: int, codes: Array | None, y: Array) -> None:
    """Write ``table[codes]`` to w columns of y.

    Parameters
    ----------
    x
        ``(r, i)``: the samples.
    feature
        The column of x with the codes: whole numbers from 0 to n - 1.
    table
        ``(n, w)``.
    begin
        The first of the columns in y.
    codes
        None; or int32 ``(r,)``, written: the codes.
    y
        ``(r, o)``; all other columns are left as they are.

    Raises
    ------
    IndexError
        A code is none of a row of the table; nothing has been written.
    """
    expect("table", table, *table.shape, dtype=y.dtype)
    expect("x", x, len(y), x.shape[1], dtype=y.dtype)
    _expect_within("feature", feature, 1, x.shape[1])
    _expect_within("begin", begin, table.shape[1], y.shape[1])
    if codes is not None:
        expect("codes", codes, len(y), dtype=np.int32)
    _expect_codes(x[:, feature], len(table))
    found = x[:, feature].astype(np.int32)
    if codes is not None:
        codes[...] = found
    y[:, begin : begin + table.shape[1]] = table[found]


@silent
def embedding_backward(codes: Array, begin: int, accumulate: bool, dy: Array, dtable: Array) -> None:
    """Write the gradient by a table: of each row the sum over the samples with its code, in their order.

    Parameters
    ----------
    codes
        int32 ``(r,)``, as of `embedding_forward`.
    begin
        The first of w columns of dy.
    accumulate
        Add to what is in `dtable`, instead of overwriting it.
    dy
        ``(r, o)``.
    dtable
        ``(n, w)``.

    Raises
    ------
    IndexError
        A code is none of a row of the table; nothing has been written.
    """
    expect("codes", codes, len(dy), dtype=np.int32)
    expect("dtable", dtable, *dtable.shape, dtype=dy.dtype)
    _expect_within("begin", begin, dtable.shape[1], dy.shape[1])
    _expect_codes(codes, len(dtable))
    if not accumulate:
        dtable[...] = 0
    np.add.at(dtable, codes, dy[:, begin : begin + dtable.shape[1]])


@silent
def pick_columns(x: Array, columns: Array, begin: int, y: Array) -> None:
    """Write ``x[:, columns]`` to columns of y.

    Parameters
    ----------
    x
        ``(r, i)``.
    columns
        int64 ``(m,)``.
    begin
        The first of m columns in y.
    y
        ``(r, o)``; all other columns are left as they are.

    Raises
    ------
    IndexError
        A column is none of x.
    """
    expect("columns", columns, len(columns), dtype=np.int64)
    expect("x", x, len(y), x.shape[1], dtype=y.dtype)
    _expect_within("begin", begin, len(columns), y.shape[1])
    if not ((columns >= 0) & (columns < x.shape[1])).all():
        raise IndexError(f"columns: got {columns}, expected some of the {x.shape[1]} columns of x")
    y[:, begin : begin + len(columns)] = x[:, columns]
