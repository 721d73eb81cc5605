from __future__ import annotations

import math
import platform
from collections.abc import Callable

import numpy as np
import pytest

from kernels.oracle import TOLERANCE, normal, unset
from onotrain import _kernels
from onotrain._kernels import Kernels, reference

SIZES = [0, 1, 7, 64, 511, 512, 513, 1030]
LR, DECAY = 0.01, 0.1


def corrections(step: int) -> tuple[float, float]:
    return 1 - 0.9**step, 1 - 0.999**step


# name -> number of state vectors, call of (kernels, grads, scale, decay, decoupled, step, state, param)
RULES: dict[str, tuple[int, Callable]] = {
    "sgd": (0, lambda k, g, c, wd, d, t, s, p: k.sgd(g, None, c, LR, 0.0, False, wd, d, False, None, p)),
    "momentum": (1, lambda k, g, c, wd, d, t, s, p: k.sgd(g, None, c, LR, 0.9, False, wd, d, False, s[0], p)),
    "nesterov": (1, lambda k, g, c, wd, d, t, s, p: k.sgd(g, None, c, LR, 0.9, True, wd, d, False, s[0], p)),
    "adam": (
        2,
        lambda k, g, c, wd, d, t, s, p: k.adam(g, None, c, LR, 0.9, 0.999, 1e-8, *corrections(t), wd, d, False, *s, p),
    ),
    "rmsprop": (
        1,
        lambda k, g, c, wd, d, t, s, p: k.rmsprop(g, None, c, LR, 0.99, 1e-8, 0.0, wd, d, False, s[0], None, p),
    ),
    "rmsprop_momentum": (
        2,
        lambda k, g, c, wd, d, t, s, p: k.rmsprop(g, None, c, LR, 0.99, 1e-8, 0.9, wd, d, False, *s, p),
    ),
    "adagrad": (1, lambda k, g, c, wd, d, t, s, p: k.adagrad(g, None, c, LR, 1e-10, wd, d, False, s[0], p)),
}


def by_hand(name: str, g: float, p: float, state: list[float], step: int, decay: float, decoupled: bool) -> float:
    """One parameter under the formulas of torch.optim's documentation; `state` is updated."""
    if decoupled:
        p = p - LR * decay * p
    else:
        g = g + decay * p
    if name == "sgd":
        return p - LR * g
    if name in ("momentum", "nesterov"):
        state[0] = g if step == 1 else 0.9 * state[0] + g
        return p - LR * (g + 0.9 * state[0] if name == "nesterov" else state[0])
    if name == "adam":
        state[0] = 0.9 * state[0] + 0.1 * g
        state[1] = 0.999 * state[1] + 0.001 * g**2
        mean, square = state[0] / (1 - 0.9**step), state[1] / (1 - 0.999**step)
        return p - LR * mean / (math.sqrt(square) + 1e-8)
    if name == "adagrad":
        state[0] += g**2
        return p - LR * g / (math.sqrt(state[0]) + 1e-10)
    state[0] = 0.99 * state[0] + 0.01 * g**2
    change = g / (math.sqrt(state[0]) + 1e-8)
    if name == "rmsprop":
        return p - LR * change
    state[1] = 0.9 * state[1] + change
    return p - LR * state[1]


def gradient_rows(rng: np.random.Generator, dtype: np.dtype, k: int, n: int, gap: int = 5) -> np.ndarray:
    """Rows with other data between them, as ranks' regions of shared memory."""
    return normal(rng, dtype, k, n + gap)[:, :n]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("decoupled", [False, True])
def test_a_sequence_of_steps_against_the_twin(kernels, rng, name, n, decoupled):
    states, call = RULES[name]
    param = normal(rng, kernels.dtype, n)
    state = [np.zeros(n, kernels.dtype) for _ in range(states)]
    twin_param, twin_state = param.copy(), [s.copy() for s in state]
    for step, (k, decay, scale) in enumerate([(1, 0.0, 1.0), (3, DECAY, 1.0), (2, DECAY, 0.3), (1, 0.0, 0.5)], 1):
        grads = gradient_rows(rng, kernels.dtype, k, n)
        squares = call(kernels, grads, scale, decay, decoupled, step, state, param)
        expected = call(reference, grads, scale, decay, decoupled, step, twin_state, twin_param)
        assert isinstance(squares, float)
        np.testing.assert_allclose(squares, expected, rtol=1e-12)
    for got, wanted in zip([param, *state], [twin_param, *twin_state], strict=True):
        np.testing.assert_allclose(got, wanted, **TOLERANCE[kernels.dtype.name])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("decay", "decoupled"), [(0.0, False), (DECAY, False), (DECAY, True)])
def test_a_sequence_of_steps_against_the_formulas_of_torch(double_kernels, rng, name, decay, decoupled):
    states, call = RULES[name]
    n = 5
    param = normal(rng, np.float64, n)
    state = [np.zeros(n) for _ in range(states)]
    hand_param, hand_state = list(map(float, param)), [[0.0] * states for _ in range(n)]
    for step in range(1, 8):
        grads = normal(rng, np.float64, 1, n)
        call(double_kernels, grads, 1.0, decay, decoupled, step, state, param)
        hand_param = [
            by_hand(name, float(g), p, s, step, decay, decoupled)
            for g, p, s in zip(grads[0], hand_param, hand_state, strict=True)
        ]
    np.testing.assert_allclose(param, hand_param, rtol=1e-12)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("decoupled", [False, True])
def test_lamb_direction_against_the_twin(kernels, rng, n, decoupled):
    param, m, v = normal(rng, kernels.dtype, n), np.zeros(n, kernels.dtype), np.zeros(n, kernels.dtype)
    before, twin_m, twin_v = param.copy(), m.copy(), v.copy()
    for step in range(1, 4):
        grads = gradient_rows(rng, kernels.dtype, 2, n)
        expected = unset(kernels.dtype, n)
        a = reference.lamb_direction(
            grads, 0.5, 0.9, 0.999, 1e-6, *corrections(step), DECAY, decoupled, param, twin_m, twin_v, expected
        )
        # into the first gradient row, as the optimiser does
        b = kernels.lamb_direction(
            grads, 0.5, 0.9, 0.999, 1e-6, *corrections(step), DECAY, decoupled, param, m, v, grads[0]
        )
        np.testing.assert_allclose(b, a, rtol=1e-12)
        for got, wanted in [(grads[0], expected), (m, twin_m), (v, twin_v)]:
            np.testing.assert_allclose(got, wanted, **TOLERANCE[kernels.dtype.name])
    np.testing.assert_array_equal(param, before)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_gradients_are_summed_in_their_order(kernels, rng, n, k):
    grads = gradient_rows(rng, kernels.dtype, k, n)
    expected = grads[0].copy()
    for row in grads[1:]:
        expected += row
    out = unset(kernels.dtype, n)
    squares = kernels.sum_gradients(grads, out)
    np.testing.assert_array_equal(out, expected)  # bit for bit: ranks must not drift
    np.testing.assert_allclose(squares, (expected.astype(np.float64) ** 2).sum(), rtol=1e-12)
    assert kernels.sum_gradients(grads, grads[0]) == squares
    np.testing.assert_array_equal(grads[0], expected)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_compiled_build_gives_the_same_bits(dtype, name):
    states, call = RULES[name]
    results = []
    for build in _kernels.available():
        if build == "reference":
            continue
        rng = np.random.default_rng(5)
        kernels = _kernels.load(dtype, build)
        param, grads = normal(rng, kernels.dtype, 517), gradient_rows(rng, kernels.dtype, 3, 517)
        state = [abs(normal(rng, kernels.dtype, 517)) for _ in range(states)]
        squares = call(kernels, grads, 0.7, DECAY, False, 3, state, param)
        results.append((squares, param, *state))
    for result in results[1:]:
        for got, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(got, expected)


def at_a_cache_line(x: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 64 bytes."""
    room = np.empty(x.size + 16, x.dtype)
    begin = -room.ctypes.data % 64 // x.itemsize
    room[begin : begin + x.size] = x
    return room[begin : begin + x.size]


#: Call of (kernels, shared, grads, inputs, state, param).
SHARED_RULES: dict[str, Callable] = {
    "sgd": lambda k, h, g, x, s, p: k.sgd(g, x, 0.7, LR, 0.9, True, DECAY, True, h, s[0], p),
    "adam": lambda k, h, g, x, s, p: k.adam(g, x, 0.7, LR, 0.9, 0.999, 1e-8, *corrections(3), DECAY, False, h, *s, p),
    "rmsprop": lambda k, h, g, x, s, p: k.rmsprop(g, x, 0.7, LR, 0.99, 1e-8, 0.9, DECAY, False, h, *s, p),
    "adagrad": lambda k, h, g, x, s, p: k.adagrad(g, x, 0.7, LR, 1e-10, DECAY, True, h, s[0], p),
}


@pytest.mark.parametrize("name", SHARED_RULES)
@pytest.mark.parametrize("n", [65_536, 70_009])
def test_what_is_written_past_the_caches_is_the_same(kernels, rng, name, n):
    grads = gradient_rows(rng, kernels.dtype, 2, n)
    start = [normal(rng, kernels.dtype, n), *(abs(normal(rng, kernels.dtype, n)) for _ in range(2))]
    results = []
    for shared in (True, False):
        param, *state = map(at_a_cache_line, start)
        squares = SHARED_RULES[name](kernels, shared, grads, None, state, param)
        results.append((squares, param, *state))
    for got, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", RULES)
def test_shards_compute_what_the_whole_does_bit_for_bit(kernels, rng, name):
    states, call = RULES[name]
    n = 1300
    param, grads = normal(rng, kernels.dtype, n), gradient_rows(rng, kernels.dtype, 3, n)
    state = [abs(normal(rng, kernels.dtype, n)) for _ in range(states)]
    parts, part_state = param.copy(), [s.copy() for s in state]
    call(kernels, grads, 0.7, DECAY, False, 3, state, param)
    for start, stop in [(0, 1), (1, 640), (640, 640), (640, n)]:
        shard = slice(start, stop)
        call(kernels, grads[:, shard], 0.7, DECAY, False, 3, [s[shard] for s in part_state], parts[shard])
    np.testing.assert_array_equal(parts, param)


@pytest.mark.parametrize("name", RULES)
def test_zero_stays_zero(kernels, name):
    """The gaps between tensors hold zeros and must keep them under every rule."""
    states, call = RULES[name]
    param, state = np.zeros(40, kernels.dtype), [np.zeros(40, kernels.dtype) for _ in range(states)]
    assert call(kernels, np.zeros((2, 40), kernels.dtype), 1.0, DECAY, True, 1, state, param) == 0
    assert not param.any() and not any(s.any() for s in state)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 700])
def test_a_gradient_that_is_not_finite_shows(kernels, rng, name, bad, place):
    states, call = RULES[name]
    grads = gradient_rows(rng, kernels.dtype, 2, 701)
    grads[1, place] = bad
    param, state = np.ones(701, kernels.dtype), [np.zeros(701, kernels.dtype) for _ in range(states)]
    assert not np.isfinite(call(kernels, grads, 1.0, 0.0, False, 1, state, param))
    assert not np.isfinite(param[place]) and np.isfinite(np.delete(param, place)).all()
    assert not np.isfinite(kernels.sum_gradients(grads, unset(kernels.dtype, 701)))


def test_sums_of_squares_are_double(kernels):
    """The squares of large float32 would overflow, those of many small ones would be lost."""
    large = np.full(100, 1e30, kernels.dtype)
    np.testing.assert_allclose(kernels.sum_of_squares(large), 1e62, rtol=1e-6)
    many = np.full(1_000_003, 0.1, kernels.dtype)
    np.testing.assert_allclose(kernels.sum_of_squares(many), 1_000_003 * float(many[0]) ** 2, rtol=1e-11)
    assert kernels.sum_of_squares(many[:0]) == 0
    assert np.isnan(kernels.sum_of_squares(np.array([1, np.nan], kernels.dtype)))


@pytest.mark.parametrize("n", SIZES)
def test_add_scaled(kernels, rng, n):
    x, y = normal(rng, kernels.dtype, n), normal(rng, kernels.dtype, n)
    expected = y + kernels.dtype.type(-0.3) * x
    kernels.add_scaled(x, -0.3, y)
    np.testing.assert_allclose(y, expected, **TOLERANCE[kernels.dtype.name])


def test_parameters_that_are_only_read_may_be_read_only(kernels, rng):
    x, param = normal(rng, kernels.dtype, 9), normal(rng, kernels.dtype, 9)
    grads, state = normal(rng, kernels.dtype, 1, 9), np.zeros(9, kernels.dtype)
    for array in (x, param, grads):
        array.flags.writeable = False
    kernels.add_scaled(x, 1.0, state)
    kernels.lamb_direction(
        grads, 1.0, 0.9, 0.999, 1e-6, 0.1, 0.001, 0.1, False, param, state.copy(), state.copy(), state.copy()
    )


def wrong_arguments(dtype: np.dtype) -> dict[str, list[np.ndarray]]:
    other = np.float64 if dtype == np.float32 else np.float32
    vectors = [np.zeros(8, dtype), np.zeros(9, other), np.zeros(18, dtype)[::2]]
    rows = [np.zeros(shape, dtype) for shape in [(2, 8), (0, 9), (9,)]]
    gaps = [np.zeros((2, 18), dtype)[:, ::2], np.zeros((9, 2), dtype).T, np.zeros((2, 9), other)]
    return {"grads": rows + gaps, "param": vectors, "state": vectors}


@pytest.mark.parametrize("name", RULES)
def test_wrong_shapes_dtypes_and_layouts_are_refused(kernels: Kernels, name):
    states, call = RULES[name]
    for role, arrays in wrong_arguments(kernels.dtype).items():
        for wrong in arrays:
            for place in range(states if role == "state" else 1):
                state = [np.zeros(9, kernels.dtype) for _ in range(states)]
                right = {"grads": np.zeros((2, 9), kernels.dtype), "param": np.zeros(9, kernels.dtype)}
                if role == "state":
                    state[place] = wrong
                else:
                    right[role] = wrong
                with pytest.raises(ValueError):
                    call(kernels, right["grads"], 1.0, 0.0, False, 1, state, right["param"])


def test_momentum_needs_a_velocity(kernels):
    grads, param = np.zeros((1, 3), kernels.dtype), np.zeros(3, kernels.dtype)
    with pytest.raises(ValueError, match="momentum"):
        kernels.sgd(grads, None, 1.0, 0.1, 0.9, False, 0.0, False, False, None, param)
    with pytest.raises(ValueError, match="momentum"):
        kernels.rmsprop(grads, None, 1.0, 0.1, 0.9, 1e-8, 0.9, 0.0, False, False, param.copy(), None, param)


def test_sums_refuse_wrong_shapes(kernels):
    with pytest.raises(ValueError):
        kernels.sum_gradients(np.zeros((2, 4), kernels.dtype), np.zeros(5, kernels.dtype))
    with pytest.raises(ValueError):
        kernels.add_scaled(np.zeros(4, kernels.dtype), 1.0, np.zeros(5, kernels.dtype))
    with pytest.raises(ValueError):
        kernels.sum_of_squares(np.zeros(8, kernels.dtype)[::2])
    four, three = np.zeros(4, kernels.dtype), np.zeros(3, kernels.dtype)
    for place in range(4):
        arrays = [three if place == index else four for index in range(4)]
        with pytest.raises(ValueError):
            kernels.lamb_direction(four[None], 1.0, 0.9, 0.999, 1e-6, 0.1, 0.001, 0.0, False, *arrays)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="only x86 is slow with subnormal numbers")
@pytest.mark.parametrize("build", [build for build in _kernels.available() if build != "reference"])
def test_running_means_that_vanish_become_zero_and_nothing_else_changes(build):
    kernels = _kernels.load("float32", build)
    tiny = np.float32(1e-40)
    grads, m, v, param = (np.zeros(40, np.float32) for _ in range(4))
    m[:] = v[:] = tiny
    grads[1:], param[:] = 1e-3, 1.0
    before = m[1:].copy()
    kernels.adam(grads[np.newaxis], None, 1.0, 1e-3, 0.9, 0.999, 1e-8, 1.0, 1.0, 0.0, False, False, m, v, param)
    assert m[0] == 0
    assert v[0] == 0
    assert param[0] == 1
    assert (np.abs(m[1:] - 1e-4) < 1e-9).all()
    # The caller's arithmetic is as it was.
    assert (before * np.float32(1) == tiny).all()
    assert tiny > 0


@pytest.mark.parametrize("name", SHARED_RULES)
@pytest.mark.parametrize(
    ("r", "o", "i"), [(1, 1, 1), (5, 3, 2), (32, 7, 16), (22, 100, 50), (300, 10, 65), (40, 97, 1030), (7, 64, 1024)]
)
def test_rules_multiply_the_factors_of_a_gradient(kernels, rng, name, r, o, i):
    """`dz` is some columns of a wider array, as a shard's are."""
    wide, x = normal(rng, kernels.dtype, r, o + 5), normal(rng, kernels.dtype, r, i)
    dz = wide[:, 2 : 2 + o]
    start = [normal(rng, kernels.dtype, o * i), *(abs(normal(rng, kernels.dtype, o * i)) for _ in range(2))]
    product = (dz.T.astype(np.float64) @ x).astype(kernels.dtype).reshape(1, o * i)
    expected, got = [array.copy() for array in start], {}
    squares = SHARED_RULES[name](reference, False, product, None, expected[1:], expected[0])
    for shared in (False, True):
        arrays = [at_a_cache_line(array) for array in start]
        total = SHARED_RULES[name](kernels, shared, dz, x, arrays[1:], arrays[0])
        assert total == pytest.approx(squares, rel=1e-4)
        for array, other in zip(arrays, expected, strict=True):
            np.testing.assert_allclose(array, other, rtol=2e-4, atol=r * 2e-6)
        got[shared] = arrays
    for plain, streamed in zip(got[False], got[True], strict=True):
        np.testing.assert_array_equal(plain, streamed)


def test_factors_that_do_not_fit_are_refused(kernels):
    dz, x, param = np.ones((4, 3), kernels.dtype), np.ones((4, 5), kernels.dtype), np.ones(15, kernels.dtype)
    for rows, inputs, what in (
        (dz[:3], x, "rows of inputs|inputs"),
        (dz[:, :2], x, "grads"),
        (dz, x[:, :4].copy(), "grads"),
    ):
        with pytest.raises(ValueError, match=what):
            kernels.sgd(rows, inputs, 1.0, 0.1, 0.0, False, 0.0, False, False, None, param)
    assert (param == 1).all()
