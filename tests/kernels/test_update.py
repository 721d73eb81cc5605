from __future__ import annotations

import itertools
import math
import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from builders import ELEMENTWISE, OPTIMIZERS, update_rule
from kernels.oracle import TOLERANCE, in_turn, normal, unset
from onotrain import _kernels
from onotrain._kernels import Kernels
from onotrain._kernels import reference_update as reference
from onotrain.config.optimizer import Adam, Lamb, Sgd, UpdateRule

SIZES = [0, 1, 7, 64, 511, 512, 513, 1030]
LR, DECAY = 0.01, 0.1
COMPILED = [build for build in _kernels.available() if build != "reference"]


def scalars(rule: UpdateRule, number: int = 1, scale: float = 1.0) -> tuple[float, ...]:
    return scale, *rule.decay(LR), *rule.scalars(LR, number)


def apply(
    kernels: Any, rule: UpdateRule, grads: np.ndarray, state: Sequence[np.ndarray], param: np.ndarray, *,
    number: int = 1, scale: float = 1.0, inputs: np.ndarray | None = None, shared: bool = False,
) -> float:  # fmt: skip
    return kernels.update(rule, scalars(rule, number, scale), grads, inputs, shared, tuple(state), None, param)


def zeros(rule: UpdateRule, dtype: Any, n: int) -> list[np.ndarray]:
    return [np.zeros(n, dtype) for _ in rule.state_names]


def some_state(rng: np.random.Generator, rule: UpdateRule, dtype: Any, n: int) -> list[np.ndarray]:
    return [abs(normal(rng, dtype, n)) for _ in rule.state_names]


def sgd_by_hand(o: Any, g: float, p: float, state: list[float], t: int) -> float:
    if not o.momentum:
        return p - LR * g
    state[0] = g if t == 1 else o.momentum * state[0] + g
    return p - LR * (g + o.momentum * state[0] if o.nesterov else state[0])


def adam_by_hand(o: Any, g: float, p: float, state: list[float], t: int) -> float:
    beta1, beta2 = o.betas
    state[0] = beta1 * state[0] + (1 - beta1) * g
    state[1] = beta2 * state[1] + (1 - beta2) * g**2
    mean, square = state[0] / (1 - beta1**t), state[1] / (1 - beta2**t)
    return p - LR * mean / (math.sqrt(square) + o.eps)


def rmsprop_by_hand(o: Any, g: float, p: float, state: list[float], t: int) -> float:
    state[0] = o.alpha * state[0] + (1 - o.alpha) * g**2
    change = g / (math.sqrt(state[0]) + o.eps)
    if not o.momentum:
        return p - LR * change
    state[1] = o.momentum * state[1] + change
    return p - LR * state[1]


def adagrad_by_hand(o: Any, g: float, p: float, state: list[float], t: int) -> float:
    state[0] += g**2
    return p - LR * g / (math.sqrt(state[0]) + o.eps)


def lamb_by_hand(o: Any, g: float, p: float, state: list[float], t: int) -> float:
    """The direction, with decay in it."""
    return (p - adam_by_hand(o, g, p, state, t)) / LR + (o.weight_decay * p if o.decoupled else 0)


def lion_by_hand(o: Any, g: float, p: float, state: list[float], t: int) -> float:
    beta1, beta2 = o.betas
    p -= LR * math.copysign(1, beta1 * state[0] + (1 - beta1) * g)
    state[0] = beta2 * state[0] + (1 - beta2) * g
    return p


def nadam_by_hand(o: Any, g: float, p: float, state: list[float], t: int) -> float:
    beta1, beta2 = o.betas
    momenta = [beta1 * (1 - 0.5 * 0.96 ** (i * o.momentum_decay)) for i in range(1, t + 2)]
    state[0] = beta1 * state[0] + (1 - beta1) * g
    state[1] = beta2 * state[1] + (1 - beta2) * g**2
    mean = momenta[-1] * state[0] / (1 - math.prod(momenta)) + (1 - momenta[-2]) * g / (1 - math.prod(momenta[:-1]))
    return p - LR * mean / (math.sqrt(state[1] / (1 - beta2**t)) + o.eps)


#: One parameter under the formulas of torch.optim's documentation or of the paper; the state is updated.
BY_HAND: dict[str, Callable[[Any, float, float, list[float], int], float]] = {
    "sgd": sgd_by_hand,
    "adam": adam_by_hand,
    "adamw": adam_by_hand,
    "rmsprop": rmsprop_by_hand,
    "adagrad": adagrad_by_hand,
    "lamb": lamb_by_hand,
    "lion": lion_by_hand,
    "nadam": nadam_by_hand,
}


def by_hand(rule: UpdateRule, g: float, p: float, state: list[float], t: int) -> float:
    if not rule.decoupled:
        g = g + rule.weight_decay * p
    elif rule.elementwise:
        p = p - LR * rule.weight_decay * p
    return BY_HAND[rule.name](rule, g, p, state, t)


def gradient_rows(rng: np.random.Generator, dtype: np.dtype, k: int, n: int, gap: int = 5) -> np.ndarray:
    """Rows with other data between them, as ranks' regions of shared memory."""
    return normal(rng, dtype, k, n + gap)[:, :n]


@pytest.mark.parametrize("name", OPTIMIZERS)
@in_turn(("n", "decoupled"), itertools.product(SIZES, [False, True]))
def test_a_sequence_of_steps_is_the_references_bit_for_bit(compiled, rng, name, n, decoupled):
    kernels = compiled
    param = normal(rng, kernels.dtype, n)
    state = zeros(update_rule(name), kernels.dtype, n)
    other_param, other_state = param.copy(), [s.copy() for s in state]
    for number, (k, decay, scale) in enumerate([(1, 0.0, 1.0), (3, DECAY, 1.0), (2, DECAY, 0.3), (1, 0.0, 0.5)], 1):
        rule = update_rule(name, weight_decay=decay, decoupled=decoupled)
        grads = gradient_rows(rng, kernels.dtype, k, n)
        squares = apply(kernels, rule, grads, state, param, number=number, scale=scale)
        expected = apply(reference, rule, grads, other_state, other_param, number=number, scale=scale)
        assert isinstance(squares, float)
        np.testing.assert_allclose(squares, expected, rtol=1e-12)
    for got, wanted in zip([param, *state], [other_param, *other_state], strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("decay", "decoupled"), [(0.0, False), (DECAY, False), (DECAY, True)])
def test_a_sequence_of_steps_against_the_published_formulas(double_kernels, rng, name, decay, decoupled):
    rule, n = update_rule(name, weight_decay=decay, decoupled=decoupled), 5
    param = normal(rng, np.float64, n)
    state = zeros(rule, np.float64, n)
    hand_param, hand_state = list(map(float, param)), [[0.0] * len(state) for _ in range(n)]
    for number in range(1, 8):
        grads = normal(rng, np.float64, 1, n)
        apply(double_kernels, rule, grads, state, param, number=number)
        hand_param = [
            by_hand(rule, float(g), p, s, number) for g, p, s in zip(grads[0], hand_param, hand_state, strict=True)
        ]
    np.testing.assert_allclose(param, hand_param, rtol=1e-12)


@in_turn(("n", "k"), itertools.product(SIZES, [2, 17]))
def test_a_direction_may_go_to_a_gradient_row(kernels, rng, n, k):
    """As the optimiser does; parameters are only read."""
    rule = Lamb(name="lamb", weight_decay=DECAY)
    param, state = normal(rng, kernels.dtype, n), some_state(rng, rule, kernels.dtype, n)
    grads = gradient_rows(rng, kernels.dtype, k, n)
    before, expected = param.copy(), unset(kernels.dtype, n)
    param.flags.writeable = False
    other_state = [s.copy() for s in state]
    kernels.update(rule, scalars(rule), grads, None, False, tuple(other_state), param, expected)
    kernels.update(rule, scalars(rule), grads, None, False, tuple(state), param, grads[0])
    for got, wanted in zip([grads[0], param, *state], [expected, before, *other_state], strict=True):
        np.testing.assert_array_equal(got, wanted)


@in_turn(("n", "k"), itertools.product(SIZES, [1, 2, 5, 16, 33]))  # many rows are those of a batch: a bias's gradient
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


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [3, 40])
def test_every_compiled_build_gives_the_same_bits(dtype, name, rows):
    rule, results = update_rule(name, weight_decay=DECAY, decoupled=False), []
    for build in COMPILED:
        rng = np.random.default_rng(5)
        kernels = _kernels.load(dtype, build)
        param, grads = normal(rng, kernels.dtype, 517), gradient_rows(rng, kernels.dtype, rows, 517)
        state = some_state(rng, rule, kernels.dtype, 517)
        squares = apply(kernels, rule, grads, state, param, number=3, scale=0.7)
        results.append((squares, param, *state))
    for result in results[1:]:
        for got, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(got, expected)


def at_a_cache_line(x: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 64 bytes."""
    buffer = np.empty(x.size + 16, x.dtype)
    begin = -buffer.ctypes.data % 64 // x.itemsize
    buffer[begin : begin + x.size] = x
    return buffer[begin : begin + x.size]


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("n", [65_536, 70_009])
@pytest.mark.parametrize("k", [2, 17])
def test_what_is_written_past_the_caches_is_the_same(kernels, rng, name, n, k):
    rule = update_rule(name, weight_decay=DECAY)
    grads = gradient_rows(rng, kernels.dtype, k, n)
    start = [normal(rng, kernels.dtype, n), *some_state(rng, rule, kernels.dtype, n)]
    results = []
    for shared in (True, False):
        param, *state = map(at_a_cache_line, start)
        squares = apply(kernels, rule, grads, state, param, number=3, scale=0.7, shared=shared)
        results.append((squares, param, *state))
    for got, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_shards_compute_what_the_whole_does_bit_for_bit(kernels, rng, name):
    rule, n = update_rule(name, weight_decay=DECAY), 1300
    param, grads = normal(rng, kernels.dtype, n), gradient_rows(rng, kernels.dtype, 3, n)
    state = some_state(rng, rule, kernels.dtype, n)
    parts, part_state = param.copy(), [s.copy() for s in state]
    apply(kernels, rule, grads, state, param, number=3, scale=0.7)
    for start, stop in [(0, 1), (1, 640), (640, 640), (640, n)]:
        shard = slice(start, stop)
        apply(kernels, rule, grads[:, shard], [s[shard] for s in part_state], parts[shard], number=3, scale=0.7)
    np.testing.assert_array_equal(parts, param)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_stays_zero(kernels, name):
    """The gaps between tensors hold zeros and must keep them under every rule."""
    rule = update_rule(name, weight_decay=DECAY)
    param, state = np.zeros(40, kernels.dtype), zeros(rule, kernels.dtype, 40)
    assert apply(kernels, rule, np.zeros((2, 40), kernels.dtype), state, param) == 0
    assert not param.any() and not any(s.any() for s in state)


@pytest.mark.parametrize("name", OPTIMIZERS)
@in_turn(("bad", "place"), itertools.product([np.nan, np.inf], [0, 700]))
def test_a_gradient_that_is_not_finite_shows(kernels, rng, name, bad, place):
    rule = update_rule(name)
    grads = gradient_rows(rng, kernels.dtype, 2, 701)
    grads[1, place] = bad
    param, state = np.ones(701, kernels.dtype), zeros(rule, kernels.dtype, 701)
    assert not np.isfinite(apply(kernels, rule, grads, state, param))
    assert not np.isfinite([param[place], *(s[place] for s in state)]).all()
    assert all(np.isfinite(np.delete(array, place)).all() for array in (param, *state))
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
    x.flags.writeable = False
    kernels.add_scaled(x, -0.3, y)
    np.testing.assert_allclose(y, expected, **TOLERANCE[kernels.dtype.name])


def wrong_arguments(dtype: np.dtype) -> dict[str, list[np.ndarray]]:
    other = np.float64 if dtype == np.float32 else np.float32
    vectors = [np.zeros(8, dtype), np.zeros(9, other), np.zeros(18, dtype)[::2]]
    rows = [np.zeros(shape, dtype) for shape in [(2, 8), (0, 9), (9,)]]
    gaps = [np.zeros((2, 18), dtype)[:, ::2], np.zeros((9, 2), dtype).T, np.zeros((2, 9), other)]
    return {"grads": rows + gaps, "param": vectors, "out": vectors, "state": vectors}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_wrong_shapes_dtypes_and_layouts_are_refused(kernels: Kernels, name):
    rule = update_rule(name)
    for role, arrays in wrong_arguments(kernels.dtype).items():
        for wrong in arrays:
            for place in range(len(rule.state_names) if role == "state" else 1):
                state, nine = zeros(rule, kernels.dtype, 9), np.ones(9, kernels.dtype)
                right = {"grads": np.ones((2, 9), kernels.dtype), "param": nine.copy(), "out": nine}
                if role == "state":
                    state[place] = wrong
                else:
                    right[role] = wrong
                with pytest.raises(ValueError):
                    kernels.update(
                        rule, scalars(rule), right["grads"], None, False, tuple(state), right["param"], right["out"]
                    )
                assert (nine == 1).all() and not any(s.any() for s in state)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_other_numbers_of_scalars_and_state_vectors_are_refused(kernels, name):
    rule, param = update_rule(name), np.ones(3, kernels.dtype)
    right, state = scalars(rule), tuple(zeros(rule, kernels.dtype, 3))
    grads = np.ones((1, 3), kernels.dtype)
    wrong = [(right[:2], state), (right[:-1], state), ((*right, 0.0), state), ((*right, *range(9)), state)]
    if state:  # velocities of momentum included
        wrong.append((right, state[:-1]))
    for numbers, vectors in wrong:
        with pytest.raises(ValueError):
            kernels.update(rule, numbers, grads, None, False, vectors, None, param)
    assert (param == 1).all()


@pytest.mark.parametrize("build", COMPILED)
def test_a_rule_without_a_kernel_is_refused(build):
    class Unknown(Adam):
        kernel = "unknown"

    param = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="got 'unknown'"):
        apply(_kernels.load("float32", build), Unknown(), param[np.newaxis], [param.copy(), param.copy()], param)


def test_sums_refuse_wrong_shapes(kernels):
    with pytest.raises(ValueError):
        kernels.sum_gradients(np.zeros((2, 4), kernels.dtype), np.zeros(5, kernels.dtype))
    with pytest.raises(ValueError):
        kernels.add_scaled(np.zeros(4, kernels.dtype), 1.0, np.zeros(5, kernels.dtype))
    with pytest.raises(ValueError):
        kernels.sum_of_squares(np.zeros(8, kernels.dtype)[::2])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="only x86 is slow with subnormal numbers")
@pytest.mark.parametrize("build", COMPILED)
def test_running_means_that_vanish_become_zero_and_nothing_else_changes(build):
    kernels = _kernels.load("float32", build)
    tiny = np.float32(1e-40)
    grads, m, v, param = (np.zeros(40, np.float32) for _ in range(4))
    m[:] = v[:] = tiny
    grads[1:], param[:] = 1e-3, 1.0
    before = m[1:].copy()
    apply(kernels, Adam(), grads[np.newaxis], [m, v], param, number=100_000)
    assert m[0] == 0
    assert v[0] == 0
    assert param[0] == 1
    assert (np.abs(m[1:] - 1e-4) < 1e-9).all()
    # The caller's arithmetic is as it was.
    assert (before * np.float32(1) == tiny).all()
    assert tiny > 0


@pytest.mark.parametrize("name", ELEMENTWISE)
@in_turn(
    ("r", "o", "i"), [(1, 1, 1), (5, 3, 2), (32, 7, 16), (22, 100, 50), (300, 10, 65), (40, 97, 1030), (7, 64, 1024)]
)
def test_rules_multiply_the_factors_of_a_gradient(kernels, rng, name, r, o, i):
    """`dz` is some columns of a wider array, as a shard's are."""
    rule = update_rule(name, weight_decay=DECAY)
    wide, x = normal(rng, kernels.dtype, r, o + 5), normal(rng, kernels.dtype, r, i)
    dz = wide[:, 2 : 2 + o]
    start = [normal(rng, kernels.dtype, o * i), *some_state(rng, rule, kernels.dtype, o * i)]
    product = (dz.T.astype(np.float64) @ x).astype(kernels.dtype).reshape(1, o * i)
    expected, got = [array.copy() for array in start], {}
    squares = apply(reference, rule, product, expected[1:], expected[0], number=3, scale=0.7)
    for shared in (False, True):
        arrays = [at_a_cache_line(array) for array in start]
        total = apply(kernels, rule, dz, arrays[1:], arrays[0], number=3, scale=0.7, inputs=x, shared=shared)
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
            apply(kernels, Sgd(name="sgd"), rows, [], param, inputs=inputs)
    assert (param == 1).all()


# Tables, whose rows are updated as a whole or not at all --------------------------------------------------------------


def table(rng: np.random.Generator, dtype: Any, n: int, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return k gradients of a table, and which of its rows have none; in one, parts cancel, in one, numbers are 0."""
    grads = normal(rng, dtype, k, n, row)
    stays = rng.random(n) < 0.5
    grads[:, stays] = 0.0
    if k > 1 and stays.any():
        cancels = np.flatnonzero(stays)[0]
        grads[0, cancels], grads[1, cancels] = 1.5, -1.5
    if not stays.all():
        grads[:, np.flatnonzero(~stays)[0], 1:] = 0.0
    return grads.reshape(k, n * row), stays


@in_turn(
    ("k", "n", "row"),
    [(k, *table) for k in (1, 3, 20) for table in [(0, 4), (1, 1), (9, 3), (40, 16), (7, 33), (3, 600)]],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rows_without_a_gradient_stay_as_they_are(kernels, rng, optimizer, n, row, k):
    """To the bit, their state too; the others are updated as if they were alone."""
    rule, dtype = update_rule(optimizer), kernels.dtype
    grads, stays = table(rng, dtype, n, row, k)
    param, state = normal(rng, dtype, n * row), some_state(rng, rule, dtype, n * row)
    after, state_after = param.copy(), [each.copy() for each in state]
    squares = kernels.update(rule, scalars(rule), grads, None, True, tuple(state_after), None, after, row)
    mask = np.repeat(stays, row)
    for got, before in zip((after, *state_after), (param, *state), strict=True):
        assert got[mask].tobytes() == before[mask].tobytes()
    alone, state_alone = param[~mask].copy(), [each[~mask].copy() for each in state]
    expected = kernels.update(
        rule, scalars(rule), np.ascontiguousarray(grads[:, ~mask]), None, False, tuple(state_alone), None, alone
    )
    for got, wanted in zip((after, *state_after), (alone, *state_alone), strict=True):
        np.testing.assert_allclose(got[~mask], wanted, **TOLERANCE[dtype.name])
    assert squares == pytest.approx(expected, rel=1e-5)
    if not rule.elementwise:  # what is made instead of parameters
        direction = unset(dtype, n * row)
        kernels.update(rule, scalars(rule), grads, None, False, tuple(state), param, direction, row)
        assert not direction[mask].any()
        np.testing.assert_array_equal(direction[~mask], after[~mask])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_nan_is_a_gradient_and_minus_zero_is_none(kernels, optimizer):
    rule = update_rule(optimizer)
    grads = np.array([[np.nan, 0, -0.0, 0.0]], kernels.dtype)
    param, state = np.ones(4, kernels.dtype), zeros(rule, kernels.dtype, 4)
    squares = kernels.update(rule, scalars(rule), grads, None, False, tuple(state), None, param, 2)
    assert np.isnan(squares) and np.isnan(param[0]) and param[2:].tolist() == [1, 1]


def test_rows_of_a_table_are_whole(kernels):
    rule, grads, param = update_rule("sgd"), np.ones((1, 6), kernels.dtype), np.ones(6, kernels.dtype)
    for row in (-1, 4, 7):
        with pytest.raises(ValueError, match="row"):
            kernels.update(rule, scalars(rule), grads, None, False, (), None, param, row)
    with pytest.raises(ValueError, match="row"):
        kernels.update(rule, scalars(rule), np.ones((2, 3), kernels.dtype), np.ones((2, 2), kernels.dtype), False, (),
                       None, param, 2)  # fmt: skip
    assert (param == 1).all()


# Rows of a table by their codes ---------------------------------------------------------------------------------------


@in_turn(("r", "n", "row"), [(0, 5, 4), (1, 1, 1), (60, 9, 3), (500, 1000, 16), (40, 7, 33), (9, 3, 600)])
@pytest.mark.parametrize("optimizer", ELEMENTWISE)
def test_rows_by_their_codes_are_those_of_the_whole_gradient(kernels, rng, optimizer, r, n, row):
    """To the bit, wherever the table is cut; of a rule that sums squares these too."""
    rule, dtype = update_rule(optimizer), kernels.dtype
    codes, dz = rng.integers(0, n, r).astype(np.int32), normal(rng, dtype, r, row + 5)[:, 2 : 2 + row]
    if r > 5:
        dz[codes == codes[0]] = 0  # occurs, without a gradient
    whole = np.zeros((n, row), dtype)
    np.add.at(whole, codes, dz)
    param, state = normal(rng, dtype, n * row), some_state(rng, rule, dtype, n * row)
    expected, expected_state = param.copy(), [each.copy() for each in state]
    squares = kernels.update(
        rule, scalars(rule), whole.reshape(1, -1), None, False, tuple(expected_state), None, expected, row
    )
    for cuts in ([0, n], [0, n // 3, n // 2, n]):
        got, got_state, found = param.copy(), [each.copy() for each in state], 0.0
        for first, end in zip(cuts, cuts[1:], strict=False):
            part = slice(first * row, end * row)
            of_part = tuple(each[part] for each in got_state)
            found += kernels.update_rows(rule, scalars(rule), codes, first, dz, of_part, got[part])
        assert found == pytest.approx(squares, rel=1e-6)
        for mine, wanted in zip((got, *got_state), (expected, *expected_state), strict=True):
            assert mine.tobytes() == wanted.tobytes()


def test_recorded_updates_of_rows_take_the_scalars_of_their_step(kernels, rng):
    rule, codes, dz = update_rule("adam"), np.array([1, 0, 1], np.int32), normal(rng, kernels.dtype, 3, 4)
    ends = []
    for recorded in (False, True):
        param, squares = np.ones(8, kernels.dtype), np.zeros(1)
        state = tuple(np.zeros(8, kernels.dtype) for _ in rule.state_names)
        steps = [scalars(rule, number) for number in (1, 2, 3)]
        if recorded:
            call = kernels.record_update_rows(rule, np.array(steps), codes, 0, dz, state, param, squares)
            kernels.program([call]).run(0, steps=3)
            assert squares[0] > 0
        else:
            for each in steps:
                kernels.update_rows(rule, each, codes, 0, dz, state, param)
        ends.append(param)
    np.testing.assert_array_equal(*ends)


def test_nan_in_a_row_comes_through(kernels):
    rule, param = update_rule("sgd"), np.ones(6, kernels.dtype)
    dz = np.array([[np.nan, 0]], kernels.dtype)
    assert np.isnan(kernels.update_rows(rule, scalars(rule), np.array([1], np.int32), 0, dz, (), param))
    assert np.isnan(param).tolist() == [False, False, True, False, False, False]


def test_wrong_rows_are_refused(kernels):
    rule, codes, dz = update_rule("sgd"), np.zeros(3, np.int32), np.zeros((3, 2), kernels.dtype)
    for wrong in (
        (codes[:2], 0, dz, np.zeros(4, kernels.dtype)), (codes, 0, dz, np.zeros(5, kernels.dtype)),
        (codes, -1, dz, np.zeros(4, kernels.dtype)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="got"):
            kernels.update_rows(rule, scalars(rule), *wrong[:3], (), wrong[3])
