"""Recorded calls against the same kernels called at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from kernels.oracle import normal, unset
from onotrain import _kernels
from onotrain._kernels import Kernels
from onotrain._kernels.recording import Live
from onotrain.known_names import ACTIVATIONS

ROWS, INPUTS, OUTPUTS = 5, 37, 19
NOW = {Live.STEP: 7, Live.FIRST_ROW: 3, Live.WEIGHT: 0.25}


def cases(rng: np.random.Generator, dtype: np.dtype) -> dict[str, list[Any]]:
    """Return the arguments of every kernel that can be recorded; what it writes are the arrays of NaN, and dy."""
    x, weight, bias = normal(rng, dtype, ROWS, INPUTS), normal(rng, dtype, OUTPUTS, INPUTS), normal(rng, dtype, OUTPUTS)
    slope, dy, logits = (
        normal(rng, dtype, ROWS, OUTPUTS),
        normal(rng, dtype, ROWS, OUTPUTS),
        normal(rng, dtype, ROWS, OUTPUTS),
    )
    classes, rows, outputs = (
        rng.integers(0, OUTPUTS, ROWS).astype(np.int32),
        normal(rng, dtype, ROWS) ** 2,
        normal(rng, dtype, OUTPUTS) ** 2,
    )
    drawn: list[Any] = [0.3, 11, Live.STEP, 2, Live.FIRST_ROW]
    gelu = ACTIVATIONS["gelu"]

    def made(*shape: int) -> np.ndarray:
        return unset(dtype, *shape)

    losses = {
        name: [logits, slope, rows, outputs, *options, Live.WEIGHT, made(ROWS, OUTPUTS), np.zeros(2)]
        for name, options in {
            "binary_cross_entropy": [],
            "squared_error": [],
            "absolute_error": [],
            "huber": [0.7],
        }.items()
    }
    return {
        "dense_forward": [x, weight, bias, gelu, 0.0, *drawn, made(ROWS, OUTPUTS), made(ROWS, OUTPUTS)],
        "dense_backward": [
            x, weight, slope, False, False, dy, made(ROWS, INPUTS), made(OUTPUTS, INPUTS), made(OUTPUTS)
        ],
        "elementwise_forward": [x, gelu, 0.0, *drawn, made(ROWS, INPUTS), made(ROWS, INPUTS)],
        "elementwise_backward": [slope, dy, made(ROWS, OUTPUTS)],
        "softmax_cross_entropy": [logits, classes, rows, 0.1, Live.WEIGHT, made(ROWS, OUTPUTS), np.zeros(2)],
        **losses,
    }  # fmt: skip


def copied(arguments: list[Any]) -> list[Any]:
    return [each.copy() if isinstance(each, np.ndarray) else each for each in arguments]


@pytest.mark.parametrize("name", list(cases(np.random.default_rng(0), np.dtype("float32"))))
def test_a_recorded_call_computes_what_the_kernel_does(kernels: Kernels, rng: np.random.Generator, name: str) -> None:
    once = cases(rng, kernels.dtype)[name]
    later = copied(once)
    program = kernels.program([kernels.record(name, *later)])
    before = copied(later)
    getattr(kernels, name)(*(NOW.get(each, each) if isinstance(each, Live) else each for each in once))
    for _ in range(2):  # again, on what stands in the arrays then
        for own, old in zip(later, before, strict=True):
            if isinstance(own, np.ndarray):
                own[...] = old
        program.run(*NOW.values())
        for got, expected in zip(later, once, strict=True):
            if isinstance(got, np.ndarray):
                np.testing.assert_array_equal(got, expected)


def test_python_functions_run_between_kernels(kernels: Kernels, rng: np.random.Generator) -> None:
    x, y, z = normal(rng, kernels.dtype, 2, 3), unset(kernels.dtype, 2, 3), unset(kernels.dtype, 2, 3)
    ones, seen = np.ones_like(x), list[Any]()

    def between(*now: Any) -> None:
        seen.append((now, y.copy(), z.copy()))

    program = kernels.program(
        [kernels.record("elementwise_backward", x, ones, y), between, kernels.record("elementwise_backward", y, x, z)]
    )
    program.run(1, 2, 0.5)
    (now, first, second), *more = seen
    assert now == (1, 2, 0.5) and not more
    np.testing.assert_array_equal(first, x)
    assert np.isnan(second).all()
    np.testing.assert_array_equal(z, x * x)


def test_a_program_keeps_its_arrays(kernels: Kernels) -> None:
    y, full = np.zeros((1, 2), kernels.dtype), partial(np.full, (1, 2), dtype=kernels.dtype)
    program = kernels.program(
        [
            kernels.record(
                "elementwise_backward", np.full((1, 2), 3, kernels.dtype), np.full((1, 2), 5, kernels.dtype), y
            )
        ]
    )
    full(9)  # where the others were, if they are gone
    program.run(0, 0, 0.0)
    np.testing.assert_array_equal(y, [[15, 15]])


@pytest.mark.parametrize("compiled", _kernels.available()[:-1])
def test_arguments_are_checked_when_they_are_recorded(compiled: str) -> None:
    kernels = _kernels.load("float32", compiled)
    x = np.zeros((2, 3), kernels.dtype)
    with pytest.raises(ValueError, match="columns of dx: got 4, expected 3"):
        kernels.record("elementwise_backward", x, x, np.zeros((2, 4), kernels.dtype))


def test_a_class_that_is_none_is_an_error_when_it_runs(kernels: Kernels) -> None:
    targets, dlogits, sums = np.zeros(2, np.int32), np.zeros((2, 3), kernels.dtype), np.zeros(2)
    call = kernels.record(
        "softmax_cross_entropy", np.zeros((2, 3), kernels.dtype), targets, None, 0.0, Live.WEIGHT, dlogits, sums
    )
    seen: list[int] = []
    program = kernels.program([call, lambda *now: seen.append(1)])
    program.run(0, 0, 0.5)
    targets[1] = 3
    with pytest.raises(IndexError, match="targets"):
        program.run(0, 0, 0.5)
    assert seen == [1]
