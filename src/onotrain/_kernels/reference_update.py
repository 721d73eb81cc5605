"""The reference implementations of sums of gradients and of updates; see `onotrain._kernels.reference`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onotrain._kernels.reference import Array, expect, silent

if TYPE_CHECKING:
    from onotrain.config.optimizer import UpdateRule


def _summed(grads: Array, n: int, dtype: Any) -> Array:
    """Return ``row 0 + row 1 + ...``, in this order."""
    if grads.ndim != 2 or len(grads) < 1 or grads.shape[1] != n or grads.dtype != dtype:
        raise ValueError(f"grads: got {grads.dtype} {grads.shape}, expected {dtype} (at least 1, {n})")
    if n > 1 and grads.strides[1] != grads.itemsize:
        raise ValueError("grads: got rows with gaps, expected contiguous ones")
    g = grads[0].copy()
    for row in grads[1:]:
        g += row
    return g


def _gradient(grads: Array, inputs: Array | None, n: int, dtype: Any) -> Array:
    """Return the gradient of n parameters: the sum of the rows of `grads`, or ``grads^T inputs``."""
    if inputs is None:
        return _summed(grads, n, dtype)
    check_factors(grads, inputs, n, dtype)
    return (grads.T @ inputs).reshape(n)


def check_factors(grads: Array, inputs: Array, n: int, dtype: Any) -> None:
    """Raise ValueError unless ``grads^T inputs`` has n values."""
    expect("inputs", inputs, len(grads), inputs.shape[1], dtype=dtype)
    if grads.ndim != 2 or len(grads) < 1 or grads.shape[1] * inputs.shape[1] != n or grads.dtype != dtype:
        raise ValueError(f"grads: got {grads.dtype} {grads.shape}, expected {dtype}, {n} values with the inputs")


@silent
def update(
    rule: UpdateRule, scalars: tuple[float, ...], grads: Array, inputs: Array | None, shared: bool,
    state: tuple[Array, ...], param: Array | None, out: Array, row: int = 0,
) -> float:  # fmt: skip
    """Apply an update rule.

    Parameters
    ----------
    rule
        Names its compiled kernel; has its formula.
    scalars
        ``scale, penalty, shrink`` and those of the rule: the formula gets ``scale g + penalty p`` and ``shrink p`` for
        gradients and parameters.
    grads
        ``(k, n)``: rows to be summed in their order; those of other ranks.
    inputs
        None; or ``(r, i)``, the inputs of a dense layer, whose weight the parameters are, or some rows of it.  `grads
        (r, o)` is then the gradient of its outputs, and that of the parameters is ``grads^T inputs``, with n = o i.
    shared
        Other ranks read `out`: a hint on where to keep it, which changes no value.
    state
        ``(n,)`` each: the vectors that the rule remembers, updated.
    param
        ``(n,)``, or None: they are in `out`.
    out
        ``(n,)``: the new parameters, or what the rule makes instead; may be a row of `grads`.
    row
        0; or a divisor of n: so many neighbours whose gradients are all zero, and their state, stay as they are; what
        the rule makes instead of parameters is 0 there.  Not with `inputs`.

    Returns
    -------
    float
        Sum of squares, in double, of the summed gradient before scale and decay, or 0 if it counts in no norm; not
        finite if the gradient is not.
    """
    expect("out", out, len(out))
    param = out if param is None else param
    expect("param", param, len(out), dtype=out.dtype)
    for vector in state:
        expect("state", vector, len(out), dtype=out.dtype)
    if row < 0 or (row > 0 and (len(out) % row != 0 or inputs is not None)):
        raise ValueError(f"row: got {row} elements, expected a divisor of the {len(out)} parameters, without inputs")
    total = _gradient(grads, inputs, len(out), out.dtype)
    scale, penalty, shrink, *own = scalars
    w, before = shrink * param, [vector.copy() for vector in state]
    rule.formula(np, own, total * scale + penalty * param, w, state)
    if row:
        stays = np.repeat((total.reshape(-1, row) == 0).all(axis=1), row)
        w[stays] = param[stays] if param is out else 0
        for vector, old in zip(state, before, strict=True):
            vector[stays] = old[stays]
    out[...] = w
    return sum_of_squares(total) * rule.counts


@silent
def update_rows(
    rule: UpdateRule, scalars: tuple[float, ...], codes: Array, first: int, dz: Array, state: tuple[Array, ...],
    out: Array,
) -> float:  # fmt: skip
    """Apply an update rule to the rows of a table that occur, as `update` does for the whole gradient.

    Parameters
    ----------
    rule, scalars
        See `update`.
    codes
        int32 ``(r,)``: the row of the table that each row of `dz` belongs to.
    first
        The row of the table at which `out` begins; codes of rows that are not in `out` are passed over.
    dz
        ``(r, row)``: the gradient of a row of the table is the sum of those with its code, in their order.
    state
        ``(n,)`` each: the vectors that the rule remembers, updated.
    out
        ``(n,)``: some rows of the table, updated; those without a gradient, or with zeros, stay as they are.

    Returns
    -------
    float
        See `update`.
    """
    r, row = dz.shape
    expect("codes", codes, r, dtype=np.int32)
    expect("out", out, len(out), dtype=dz.dtype)
    if row < 1 or len(out) % row != 0 or first < 0:
        raise ValueError(f"out: got {len(out)} elements from row {first} on, expected rows of {row}")
    total, own = np.zeros((len(out) // row, row), out.dtype), (codes >= first) & (codes < first + len(out) // row)
    np.add.at(total, codes[own] - first, dz[own])
    return update(rule, scalars, total.reshape(1, -1), None, False, state, None, out, row)


@silent
def sum_gradients(grads: Array, out: Array) -> float:
    """Write the sum of the rows of ``grads (k, n)``, in their order, to ``out (n,)``; return its sum of squares.

    The elements of a row of `grads` are neighbours, the rows may lie anywhere.  `out` may be one of them.
    """
    expect("out", out, len(out))
    out[...] = _summed(grads, len(out), out.dtype)
    return sum_of_squares(out)


@silent
def sum_of_squares(x: Array) -> float:
    """Return the sum of the squares of ``x (n,)``, computed in double."""
    expect("x", x, len(x))
    return float(np.sum(np.square(x, dtype=np.float64)))


@silent
def add_scaled(x: Array, scale: float, y: Array) -> None:
    """Add ``scale * x`` to y; both ``(n,)``."""
    expect("x", x, len(y), dtype=y.dtype)
    expect("y", y, len(x))
    y += scale * x
