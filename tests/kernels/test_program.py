"""Recorded calls against the same kernels called at once."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

import numpy as np
import pytest
from onotrain._kernels.events import Events

from kernels.oracle import normal, unset
from onotrain import _kernels
from onotrain._kernels import Kernels
from onotrain._kernels.recording import Label, Live, Place, PythonCall, place
from onotrain.known_names import ACTIVATIONS

ROWS, INPUTS, OUTPUTS = 5, 37, 19
NOW = {Live.STEP: 7, Live.POSITION: 3}
WEIGHT = 0.25


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
    rows_of, bias_of = np.array([4, 0, 2]), normal(rng, dtype, INPUTS)
    drawn: list[Any] = [0.3, 11, Live.STEP, 2, 3]
    gelu = ACTIVATIONS["gelu"]

    def made(*shape: int) -> np.ndarray:
        return unset(dtype, *shape)

    losses = {
        name: [logits, slope, rows, outputs, *options, WEIGHT, made(ROWS, OUTPUTS), np.zeros(2)]
        for name, options in {
            "binary_cross_entropy": [],
            "squared_error": [],
            "absolute_error": [],
            "huber": [0.7],
            "log_cosh": [],
            "poisson": [],
        }.items()
    }
    losses |= {  # of two outputs for each target
        name: [x[:, :6].copy(), slope[:, :3].copy(), rows, outputs[:3], own, WEIGHT, made(ROWS, 6), np.zeros(2)]
        for name, own in {"gaussian_nll": -7.0, "pinball": np.array([0.2, 0.7], dtype)}.items()
    }
    two, of_batch = normal(rng, np.dtype(float), 2 * INPUTS) ** 2 + 1, normal(rng, np.dtype(float), ROWS, 2 * INPUTS)
    dx, positive = normal(rng, dtype, ROWS, INPUTS), normal(rng, dtype, INPUTS) ** 2

    def double(*shape: int) -> np.ndarray:
        return unset(np.dtype(float), *shape)

    return {
        "sum_rows": [x, False, made(INPUTS)],
        "group_norm_forward": [x, 1, 1, 0.1, bias_of, bias_of, double(ROWS, 2), made(ROWS, INPUTS)],
        "group_norm_backward": [
            x, 1, 1, of_batch[:, :2].copy(), bias_of, dx, made(ROWS, INPUTS), made(ROWS, INPUTS), made(ROWS, INPUTS)
        ],
        "batch_norm_sums": [x, double(ROWS, 2 * INPUTS)],
        "batch_norm_forward": [x, two, 5.0, 0.1, bias_of, bias_of, made(ROWS, INPUTS)],
        "batch_norm_predict": [x, bias_of, positive, 0.1, bias_of, bias_of, made(ROWS, INPUTS)],
        "batch_norm_backward_sums": [
            x, two, 5.0, 0.1, dx, double(ROWS, 2 * INPUTS), made(ROWS, INPUTS), made(ROWS, INPUTS)
        ],
        "batch_norm_backward": [x, two, two, 5.0, 0.1, bias_of, dx, made(ROWS, INPUTS)],
        "batch_norm_running": [bias_of, positive, two, 5.0, 0.1, made(ROWS, INPUTS), made(ROWS, INPUTS)],
        "dense_forward": [x, weight, bias, gelu, 0.0, *drawn, made(ROWS, OUTPUTS), made(ROWS, OUTPUTS)],
        "dense_backward": [
            x, weight, slope, False, False, dy, made(ROWS, INPUTS), made(OUTPUTS, INPUTS), made(OUTPUTS)
        ],
        "elementwise_forward": [x, gelu, 0.0, *drawn, made(ROWS, INPUTS), made(ROWS, INPUTS)],
        "elementwise_backward": [slope, dy, made(ROWS, OUTPUTS)],
        "dense_predict": [x, weight, None, bias, gelu, 0.0, made(ROWS, OUTPUTS)],
        "elementwise_predict": [x, gelu, 0.0, made(ROWS, INPUTS)],
        "add": [x[0], bias_of],
        "sum_of_two": [x[0], x[1], made(INPUTS)],
        "gather": [(100 * x).astype(np.uint8), rows_of, bias_of, bias_of, made(3, INPUTS)],
        "take": [classes[:, None].view(np.uint8), rows_of, np.zeros((3, 4), np.uint8)],
        "batch_order": [Live.POSITION, 2, 3, 2, 40, np.array([9], np.uint64), np.zeros(5, np.int64)],
        "softmax_cross_entropy": [logits, classes, rows, 0.1, WEIGHT, made(ROWS, OUTPUTS), np.zeros(2)],
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
    assert program.run(1, 2) == 1
    (now, first, second), *more = seen
    assert now == (1, 2, 0, False) and not more
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
    program.run(0)
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
        "softmax_cross_entropy", np.zeros((2, 3), kernels.dtype), targets, None, 0.0, WEIGHT, dlogits, sums
    )
    seen: list[int] = []
    program = kernels.program([call, lambda *now: seen.append(1)])
    program.run(0)
    targets[1] = 3
    with pytest.raises(IndexError, match="targets"):
        program.run(0)
    assert seen == [1]


@pytest.mark.parametrize("step", [3, 4])
def test_a_program_makes_several_steps(kernels: Kernels, step: int) -> None:
    """With the numbers of each, until a call says that it is the last one."""
    seen: list[tuple[Any, ...]] = []

    def note(*now: Any) -> bool:
        seen.append(now)
        return len(seen) == 4

    program = kernels.program([PythonCall(note, Live.STEP, Live.POSITION, Live.INDEX, Live.LATE)])
    assert program.run(step, 10, 3, 5) == 3
    assert seen == [(step, 10, 0, False), (step + 1, 15, 1, False), (step + 2, 20, 2, False)]
    assert program.run(7, steps=3, seconds=0) == 1
    assert seen[3:] == [(7, 0, 0, True)]


def shared(*rows: list[float]) -> np.ndarray:
    """Return the numbers of ranks, in both places."""
    return np.array([rows, rows], np.float64)


def test_statistics_of_steps_are_summed_over_the_ranks(kernels: Kernels) -> None:
    """This rank's are published and cleared; the run ends at a request, a late rank, or a number that is not finite."""
    values, constant, totals = np.array([1.5, 0.0]), np.array([0.0, 2.0]), np.zeros((3, 2))
    numbers = shared([0, 0, 9, 9], [10.0, 20, 0, 9])
    program = kernels.program(
        [
            kernels.record("publish", values, constant, Live.LATE, Live.STEP, 0, numbers),
            kernels.record("total", numbers, 1, Live.STEP, Live.INDEX, totals),
        ]
    )
    assert program.run(0, steps=3) == 1  # the other rank asks to stop: its column 1 is 20
    np.testing.assert_array_equal(totals[0], [11.5, 22.0])
    np.testing.assert_array_equal(values, 0)
    numbers[:, 1, 1], constant[1] = 0, 0
    assert program.run(1, steps=3) == 3
    np.testing.assert_array_equal(totals, [[10, 0]] * 3)
    values[0] = np.inf
    assert program.run(0, steps=3) == 1
    assert program.run(0, steps=3, seconds=0) == 1
    numbers[1, 1, 2] = 1  # another rank is late in steps with odd numbers
    assert program.run(0, steps=3) == 2


@pytest.mark.parametrize(("squares", "scale"), [(9.0, 0.5), (0.25, 1.0), (np.nan, 1.0)])
def test_a_gradient_is_clipped_by_the_squares_of_all_ranks(kernels: Kernels, squares: float, scale: float) -> None:
    mine, numbers, scalars = np.array([squares / 4, squares / 4]), shared([0, 0], [0, squares / 2]), np.zeros((2, 3))
    program = kernels.program(
        [
            kernels.record("publish_sum", mine, Live.STEP, 0, 1, numbers),
            kernels.record("clip", numbers, 1, 1.5, Live.STEP, Live.INDEX, scalars),
        ]
    )
    program.run(5, steps=2)
    np.testing.assert_allclose(scalars, [[scale, 0, 0]] * 2, rtol=1e-6)


@pytest.mark.parametrize("compiled", _kernels.available()[:-1])
def test_no_step_is_made_beyond_its_statistics(compiled: str) -> None:
    compiled_kernels = _kernels.load("float32", compiled)
    numbers, totals = shared([0, 0, 0]), np.zeros((2, 2))
    program = compiled_kernels.program([compiled_kernels.record("total", numbers, 1, Live.STEP, Live.INDEX, totals)])
    with pytest.raises(IndexError, match="more steps than rows of totals"):
        program.run(0, steps=3)


def test_events_of_a_program_change_nothing_else(kernels: Kernels, rng: np.random.Generator) -> None:
    """Kernels, placed Python functions and passes follow one another; those beyond the memory are counted."""
    events = Events(6)
    watched, x, y = kernels.recording(events), normal(rng, kernels.dtype, 2, 3), np.ones((2, 3), kernels.dtype)
    python = PythonCall(lambda step: step == 4, Live.STEP)
    calls = [watched.record("add", x.reshape(-1), y.reshape(-1)) for _ in range(2)]
    calls += [python, PythonCall(lambda: None)]
    place(calls[:3], "forward", "dense_0", 2)
    step = Label("step", "step")
    program = watched.program(calls, step)
    assert program.run(3, steps=9) == 2 and events.count == 0
    events.on = True
    assert program.run(3, steps=9) == 2
    np.testing.assert_allclose(y, 1 + 8 * x, rtol=1e-6)
    found, labels = events.array[: events.count], events.labels
    add = Label("kernel", "add", Place("forward", "dense_0", 2))
    if kernels.path == "reference":  # which does not know places
        assert [labels[each] for each in found["label"]] == [Label("kernel", "add")] * 2 + [step] + [
            Label("kernel", "add")
        ] * 2 + [step]
    else:
        called = add._replace(name="<lambda>")
        assert [labels[each] for each in found["label"]] == [add, add, called, step, add, add]
        assert events.missed == 2
    ends = found["begin"] + found["duration"]
    assert (np.diff(ends) >= 0).all() and (found["duration"] >= 0).all()
    assert found["number"][found["label"] == events.label(step)].tolist()[0] == 4
    inner = found[: np.flatnonzero(found["label"] == events.label(step))[0]]
    assert (inner["begin"][1:] >= ends[: len(inner) - 1]).all()
    events.clear()
    assert (events.count, events.missed) == (0, 0)


def test_kernels_that_are_called_are_events(kernels: Kernels) -> None:
    """Those that are recorded are not yet."""
    events = Events(4)
    watched, x = kernels.recording(events), np.ones(3, kernels.dtype)
    events.on = True
    watched.record("add", x, x.copy())
    watched.sum_of_squares(x)
    found = events.array[: events.count]["label"]
    assert [events.labels[each] for each in found] == [Label("kernel", "sum_of_squares")]
    begin = events.now()
    events.add("any object", begin, begin + 1e-6, number=3, nbytes=4, peer=5)
    last = events.array[events.count - 1]
    assert (last["number"], last["nbytes"], last["peer"]) == (3, 4, 5) and 990 <= last["duration"] <= 1010


def test_signals_are_looked_for_between_steps(kernels: Kernels) -> None:
    def stop(number: int, frame: Any) -> None:
        raise InterruptedError

    program = kernels.program([PythonCall(lambda step: os.kill(os.getpid(), signal.SIGUSR1), Live.STEP)])
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(InterruptedError):
            program.run(0, steps=3)
    finally:
        signal.signal(signal.SIGUSR1, before)
