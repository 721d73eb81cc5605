"""Codecs: bounds of what rounding loses, what is kept of it, and replicas that stay equal; ranks are simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from builders import config
from onotrain.nn import ParameterLayout
from onotrain.strategies.codecs import (
    CODECS,
    BFloat16,
    Codec,
    Compressor,
    Feedback,
    Float16,
    Int8,
    Part,
    Plain,
    PowerSGD,
    SummedFeedback,
    TopK,
    build,
    with_feedback,
)
from onotrain.strategies.codecs.powersgd import multiply, orthonormalize

SEED = 7
DTYPES = (np.float32, np.float64)
RANKS = 4
#: Of many groups of int8, and odd.
LONG = 100_003

#: All codecs of a range of which nothing is known.
MAKERS: dict[str, Callable[[Part], Codec]] = {
    "none": Plain,
    "fp16": Float16,
    "bf16": BFloat16,
    "int8": Int8,
    "topk": lambda part: TopK(part, 0.2),
    "powersgd": lambda part: PowerSGD(part, 2, SEED),
}
#: Those whose decoded values and residual give the input to the last bit.
EXACT = ("none", "fp16", "bf16", "int8", "topk")

LAYOUT = ParameterLayout(
    [("a/weight", (20, 13)), ("a/bias", (20,)), ("b/weight", (9, 20)), ("b/bias", (9,))], np.float32
)
MATRICES = Part.of(LAYOUT, slice(0, LAYOUT.size))


def vectors(dtype: Any, low: float, high: float, min_size: int = 1, max_size: int = 600) -> Any:
    """Draw vectors of magnitudes between two numbers, with zeros; of few bits in some, so that there are ties."""

    def vector(size: int, seed: int, bits: int, span: float) -> np.ndarray:
        rng = np.random.default_rng(seed)
        top = rng.uniform(np.log2(low), np.log2(high))
        mantissas, exponents = np.frexp(np.exp2(rng.uniform(max(np.log2(low), top - span), top, size)))
        magnitudes = np.clip(np.ldexp(np.rint(np.ldexp(mantissas, bits)), exponents - bits), low, high)
        return (magnitudes * rng.choice([1.0, -1.0, 0.0, -0.0], size, p=[0.45, 0.45, 0.05, 0.05])).astype(dtype)

    spans = st.sampled_from([2.0, 30.0, 300.0])
    return st.builds(vector, st.integers(min_size, max_size), st.integers(0, 2**32), st.integers(1, 53), spans)


def normal(*shape: int, seed: int = SEED, dtype: Any = np.float32, scale: float = 1.0) -> np.ndarray:
    """Return normal numbers of a seed."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def round_trip(codec: Codec, values: np.ndarray) -> np.ndarray:
    """Return what the receiver of a message has."""
    before = values.tobytes()
    message, out = np.full(codec.nbytes, 0xA5, np.uint8), np.full_like(values, 123.0)
    codec.encode(values, message)
    codec.decode(message, out)
    assert values.tobytes() == before
    return out


def all_reduce(compressors: list[Any], values: list[np.ndarray]) -> list[np.ndarray]:
    """Sum vectors in rounds, as ranks would; return what each rank has."""
    sent = 0
    rounds = [compressor.begin(vector) for compressor, vector in zip(compressors, values, strict=True)]
    while rounds[0] is not None:
        assert any(rounds[0] is known for known in compressors[0].rounds)
        sent += rounds[0].nbytes
        total = np.add.reduce(np.stack(rounds), axis=0)
        for numbers in rounds:
            numbers[:] = total
        rounds = [compressor.advance() for compressor in compressors]
    assert all(numbers is None for numbers in rounds)
    assert sent == compressors[0].sent_bytes == sum(numbers.nbytes for numbers in compressors[0].rounds)
    outs = [np.full_like(vector, 123.0) for vector in values]
    for compressor, out in zip(compressors, outs, strict=True):
        compressor.finish(out)
    return outs


# ----------------------------------------------------------------------------------------------------- bounds of errors


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_fp16_errs_by_half_a_unit_of_its_eleven_bits(dtype: Any, data: Any) -> None:
    """At any magnitude of the message: relative error 2^-11 down to 2^-28 of the largest, below it 2^-39 of it."""
    values = data.draw(vectors(dtype, 1e-9, 1.0)) * dtype(data.draw(st.sampled_from([1e-25, 1e-3, 1.0, 1e7, 1e38])))
    out = round_trip(Float16(Part.plain(len(values), dtype)), values)
    largest = np.abs(values).max()
    assert (np.abs(out - values) <= np.maximum(np.abs(values) * 2.0**-11, largest * 2.0**-39)).all()
    assert (np.signbit(out) == np.signbit(values)).all()


@given(data=st.data())
def test_fp16_loses_nothing_but_bits_near_the_ends_of_the_range(data: Any) -> None:
    """A message of subnormal numbers, and one with the largest whose rounded value exists."""
    tiny = data.draw(vectors(np.float32, 1e-45, 1e-40))
    out = round_trip(Float16(Part.plain(len(tiny), np.float32)), tiny)
    assert (np.abs(out - tiny) <= np.maximum(np.abs(tiny) * 2.0**-11, np.abs(tiny).max() * 2.0**-39)).all()
    huge = np.array([3.4e38, -3.4e38, 1.0], np.float32)
    assert np.isfinite(round_trip(Float16(Part.plain(3, np.float32)), huge)).all()


def test_fp16_of_every_half_is_that_half() -> None:
    """With a first value that makes the scale one."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    values = np.append(np.float32(2.0**14), halves[np.abs(halves) < 2.0**15])
    np.testing.assert_array_equal(round_trip(Float16(Part.plain(len(values), np.float32)), values), values)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_bf16_errs_by_half_a_unit_of_its_eight_bits(dtype: Any, data: Any) -> None:
    """Nearest, ties to even; float64 values are rounded to float32 before."""
    values = data.draw(vectors(dtype, 1e-37, 3e38))
    out = round_trip(BFloat16(Part.plain(len(values), dtype)), values)
    assert (np.abs(out - values) <= np.abs(values) * (2.0**-8 + 2.0**-23)).all()
    assert (np.signbit(out) == np.signbit(values)).all()


def test_bf16_rounds_to_the_nearest_and_ties_to_even() -> None:
    """Every upper half of a float32, and what lies between it and the next."""
    upper = np.arange(0x7F7F, dtype=np.uint32)
    low, high = (upper << 16).view(np.float32), (upper + 1 << 16).view(np.float32)
    codec = BFloat16(Part.plain(len(upper), np.float32))
    for between, expected in (
        (0, low),
        (0x7FFF, low),
        (0x8000, np.where(upper % 2 == 0, low, high)),
        (0x8001, high),
    ):
        values = ((upper << 16) + np.uint32(between)).view(np.float32)
        np.testing.assert_array_equal(round_trip(codec, values), expected)
        np.testing.assert_array_equal(round_trip(codec, -values), -expected)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_int8_errs_by_half_a_scale_of_the_group(dtype: Any, data: Any) -> None:
    """Groups of 256 values, the last one shorter; the largest of each is met to the rounding of the scale."""
    values = data.draw(vectors(dtype, 1e-30, 1e30))
    out = round_trip(Int8(Part.plain(len(values), dtype)), values)
    for begin in range(0, len(values), 256):
        group, got = values[begin : begin + 256], out[begin : begin + 256]
        scale = np.abs(group).max() / 127
        assert (np.abs(got - group) <= scale / 2 * (1 + 2.0**-13)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_int8_rounds_next_to_half_a_scale_to_the_nearer_side(dtype: Any) -> None:
    """In 500 groups: the numbers next to half of the scale, half a scale itself (a tie, to even), and the largest."""
    values = np.zeros((500, 256), dtype)
    values[:, 0] = 1 + np.random.default_rng(SEED).random(500)
    scales = (values[:, 0] / 127).astype(np.float32)
    half = (scales / 2).astype(dtype)
    values[:, 1], values[:, 2], values[:, 3] = np.nextafter(half, dtype(0)), half, np.nextafter(half, dtype(1)) * 1.0001
    out = round_trip(Int8(Part.plain(values.size, dtype)), values.reshape(-1)).reshape(values.shape)
    assert not out[:, 1:3].any()
    np.testing.assert_array_equal(out[:, 3], scales)
    np.testing.assert_allclose(out[:, 0], values[:, 0], rtol=2.0**-22)


def test_int8_sends_groups_of_no_scale_as_zeros() -> None:
    """All zero, or so small that the scale would be subnormal; the groups beside them are not touched."""
    values = normal(4 * 256)
    values[256:512] = 0.0
    values[512:768] = 1e-38
    out = round_trip(Int8(Part.plain(len(values), np.float32)), values)
    assert not out[256:768].any()
    assert np.abs(out - values)[[*range(256), *range(768, 1024)]].max() < 0.02


# ----------------------------------------------------------------------------------------------------------------- topk


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data(), fraction=st.floats(0.001, 0.3))
def test_topk_keeps_the_k_largest_and_of_equals_the_first(dtype: Any, data: Any, fraction: float) -> None:
    """Against a stable sort of magnitudes in which NaN comes first."""
    few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 1e-40, np.inf, -np.inf, np.nan])
    values = data.draw(hnp.arrays(dtype, st.integers(4, 300), elements=few | st.floats(width=32)))
    count = max(1, round(fraction * len(values)))
    magnitude = np.where(np.isnan(values), np.inf, np.abs(values))
    kept = sorted(range(len(values)), key=lambda i: (not np.isnan(values[i]), -magnitude[i], i))[:count]
    expected = np.zeros_like(values)
    expected[kept] = values[kept]
    np.testing.assert_array_equal(round_trip(TopK(Part.plain(len(values), dtype), fraction), values), expected)


def test_topk_takes_the_first_of_nan_of_any_kind() -> None:
    """Lower bits and sign of a NaN do not count, and an infinity is less."""
    bits = np.array([0x7F800000, 0xFF800001, 0x7FC00000, 0x7FFFFFFF, 0, 0], np.uint32)
    out = round_trip(TopK(Part.plain(6, np.float32), 0.3), bits.view(np.float32))
    assert np.isnan(out).tolist() == [False, True, True, False, False, False]
    assert not out[[0, 3, 4, 5]].any()


# ------------------------------------------------------------------------------------------------------------- powersgd


@pytest.mark.parametrize("dtype", DTYPES)
def test_orthonormal_rows_span_what_the_rows_did(dtype: Any) -> None:
    """Also of rows that are nearly the same, or of any magnitude."""
    rows = normal(5, 40, dtype=np.float64)
    rows[1] = rows[0] + 1e-6 * rows[1]
    rows[2] *= 1e30
    basis = rows.astype(dtype)
    expected = np.linalg.qr(basis.astype(np.float64).T)[0].T
    orthonormalize(basis)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(basis @ basis.T, np.eye(5), atol=20 * eps)
    np.testing.assert_allclose(np.abs((basis * expected).sum(axis=1)), 1.0, atol=max(20 * eps, 1e-8))


def test_rows_that_depend_on_others_become_zero() -> None:
    """So their part of the approximation is none; NaN stays to be seen."""
    rows = normal(4, 30, dtype=np.float64)
    rows[1] = 3 * rows[0]
    rows[3] = 0.0
    orthonormalize(rows)
    assert rows.any(axis=1).tolist() == [True, False, True, False]
    rows[2, 5] = np.nan
    orthonormalize(rows)
    assert np.isnan(rows[2]).all()


@pytest.mark.parametrize("scratch", [1, 64, 1000])
def test_products_are_made_in_chunks_of_any_size(scratch: int) -> None:
    """As NumPy makes them whole."""
    p, q = normal(3, 17), normal(3, 11, seed=8)
    out = np.full((17, 11), np.nan, np.float32)
    multiply(p, q, np.empty(scratch, np.float32), out)
    np.testing.assert_allclose(out, p.T @ q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_powersgd_gives_back_gradients_of_its_rank(dtype: Any, rank: int) -> None:
    """In one step, from the seeded Q, summed over ranks and as a message."""
    layout = ParameterLayout([("a/weight", (20, 13)), ("a/bias", (20,)), ("b/weight", (9, 20))], dtype)
    values = layout.zeros()
    for name, view in layout.views(values).items():
        if name.endswith("bias"):
            view[:] = normal(20, dtype=dtype)
        else:
            view[...] = normal(view.shape[0], rank, dtype=dtype) @ normal(rank, view.shape[1], seed=8, dtype=dtype)
    part = Part.of(layout, slice(0, layout.size))
    tolerance = 100 * np.finfo(dtype).eps * np.abs(values).max()
    codec = PowerSGD(part, rank, SEED)
    assert codec.nbytes < codec.raw_bytes
    np.testing.assert_allclose(round_trip(codec, values), values, atol=tolerance)
    (out,) = all_reduce([PowerSGD(part, rank, SEED)], [values])
    np.testing.assert_allclose(out, values, atol=tolerance)


def test_powersgd_at_full_rank_gives_back_the_gradient() -> None:
    """Two thin matrices of full rank are no fewer bytes, so the whole goes dense, and not a bit is lost."""
    values = normal(LAYOUT.size)
    codec = PowerSGD(MATRICES, 13, SEED)
    assert len(codec.rounds) == 1 and codec.nbytes == codec.raw_bytes
    np.testing.assert_array_equal(round_trip(codec, values), values)
    (out,) = all_reduce([codec], [values])
    np.testing.assert_array_equal(out, values)


def test_powersgd_of_ranks_is_the_approximation_of_the_sum() -> None:
    """``P P' M`` with P spanning ``M Q``, bit-equal on all ranks, and each rank's contributions sum to it."""
    gradients = [normal(LAYOUT.size, seed=rank) for rank in range(RANKS)]
    total = np.add.reduce(np.stack(gradients).astype(np.float64), axis=0)
    ranks = [PowerSGD(MATRICES, 2, SEED) for _ in range(RANKS)]
    for _ in range(3):
        warm = ranks[0].state()["q"].astype(np.float64)
        outs = all_reduce(ranks, gradients)
        assert {out.tobytes() for out in outs} == {outs[0].tobytes()}
        assert {rank.state()["q"].tobytes() for rank in ranks} == {ranks[0].state()["q"].tobytes()}
        views, begin = LAYOUT.views(outs[0]), 0
        for name, matrix in LAYOUT.views(total).items():
            expected = matrix
            if matrix.ndim == 2:
                end = begin + 2 * matrix.shape[1]
                basis = np.linalg.qr(matrix @ warm[begin:end].reshape(2, -1).T)[0]
                expected, begin = basis @ (basis.T @ matrix), end
            np.testing.assert_allclose(views[name], expected, atol=1e-4)
        parts = np.zeros((RANKS, LAYOUT.size), np.float32)
        for rank, part in zip(ranks, parts, strict=True):
            rank.contribution(part)
        np.testing.assert_allclose(parts.sum(axis=0), outs[0], atol=1e-4)


def sum_alone(compressor: Compressor, values: np.ndarray) -> np.ndarray:
    """Return the sum over one rank."""
    return all_reduce([compressor], [values])[0]


@pytest.mark.parametrize("way", [round_trip, sum_alone])
def test_powersgd_comes_nearer_from_step_to_step(way: Callable[[PowerSGD, np.ndarray], np.ndarray]) -> None:
    """The warm Q makes a power iteration of the steps: the error falls to that of the best approximation."""
    layout = ParameterLayout([("a/weight", (40, 30))], np.float64)
    left, right = np.linalg.qr(normal(40, 30, dtype=np.float64))[0], np.linalg.qr(normal(30, 30, dtype=np.float64))[0]
    values = layout.zeros()
    sizes = 0.7 ** np.arange(30)
    layout.views(values)["a/weight"][...] = left * sizes @ right.T
    codec = PowerSGD(Part.of(layout, slice(0, layout.size)), 3, SEED)
    errors = [np.linalg.norm(way(codec, values) - values) for _ in range(30)]
    best = np.linalg.norm(sizes[3:])
    assert errors[0] > 1.05 * best
    assert errors[-1] == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("spoiled", [0.0, np.nan, np.inf])
def test_powersgd_recovers_from_a_gradient_that_left_no_q(spoiled: float) -> None:
    """A zero or diverged gradient must not make every later approximation zero or NaN."""
    codec = PowerSGD(MATRICES, 2, SEED)
    values = normal(LAYOUT.size)
    before = np.linalg.norm(round_trip(codec, values) - values)
    round_trip(codec, np.full_like(values, spoiled))
    again = np.linalg.norm(round_trip(codec, values) - values)
    assert again == pytest.approx(before, rel=0.1) and before < np.linalg.norm(values)


@given(cuts=st.tuples(st.integers(0, LAYOUT.size), st.integers(0, LAYOUT.size)), rank=st.integers(1, 3))
def test_powersgd_takes_ranges_that_cut_tensors(cuts: tuple[int, int], rank: int) -> None:
    """Whole rows are matrices, all else is dense: of matrices of rank 1 nothing is lost, and no bytes are added."""
    part = slice(min(cuts), max(cuts))
    values = LAYOUT.zeros()
    for view in LAYOUT.views(values).values():
        view[...] = np.float32(3.0) if view.ndim == 1 else np.outer(normal(len(view)), normal(view.shape[1], seed=8))
    codec = PowerSGD(Part.of(LAYOUT, part), rank, SEED)
    assert codec.nbytes <= codec.raw_bytes
    np.testing.assert_allclose(round_trip(codec, values[part].copy()), values[part], atol=1e-5)


def test_a_part_holds_the_whole_rows_of_the_tensors_in_it() -> None:
    """The first tensor has 20 rows of 13, the one at 288 has 9 of 20."""
    assert [tuple(m) for m in MATRICES.matrices] == [("a/weight", 0, 20, 13), ("b/weight", 304, 9, 20)]
    cut = Part.of(LAYOUT, slice(14, 330))
    assert [tuple(m) for m in cut.matrices] == [("a/weight", 12, 18, 13), ("b/weight", 290, 1, 20)]
    assert Part.of(LAYOUT, slice(14, 20)).matrices == ()


# ------------------------------------------------------------------------------------------------------- error feedback


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_sent_and_what_is_kept_are_the_input_bit_by_bit(name: str, dtype: Any, data: Any) -> None:
    """Subtraction does not round: Sterbenz, or one of the two is zero."""
    values = data.draw(vectors(dtype, 1e-45, 1e36, min_size=4, max_size=300))
    feedback = with_feedback(MAKERS[name](Part.plain(len(values), dtype)))
    sent = round_trip(feedback, values)
    kept = feedback.residual
    np.testing.assert_array_equal(sent + kept, values)
    # In float32 the exact sum is seen in float64, unless it takes more than its 53 bits.
    if dtype == np.float32:
        near = np.abs(kept) >= np.abs(sent) * 2.0**-29
        wide = (sent.astype(np.float64) + kept.astype(np.float64))[near | (kept == 0.0)]
        np.testing.assert_array_equal(wide, values[near | (kept == 0.0)].astype(np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAKERS)
def test_all_messages_and_the_last_residual_sum_to_all_inputs(name: str, dtype: Any) -> None:
    """Over 200 steps, up to the rounding of ``g + e``."""
    layout = ParameterLayout([("a/weight", (20, 13)), ("a/bias", (20,))], dtype)
    feedback = with_feedback(MAKERS[name](Part.of(layout, slice(0, layout.size))))
    wanted, sent, largest = np.zeros(layout.size), np.zeros(layout.size), 0.0
    for step in range(200):
        gradient = normal(layout.size, seed=step, dtype=dtype)
        wanted += gradient
        sent += round_trip(feedback, gradient)
        largest = max(largest, np.abs(feedback.residual).max() + np.abs(gradient).max())
    bound = 200 * 4 * np.finfo(dtype).eps * largest
    assert np.abs(sent + feedback.residual - wanted).max() <= bound
    if name != "none":
        assert np.abs(sent - wanted).max() > bound  # it is the residual that closes it


@pytest.mark.parametrize("name", ["fp16", "bf16", "topk"])
def test_of_small_whole_numbers_the_feedback_loses_nothing_at_all(name: str) -> None:
    """No sum rounds, so the balance is exact after 500 steps."""
    feedback = with_feedback(MAKERS[name](Part.plain(301, np.float32)))
    wanted, sent = np.zeros(301), np.zeros(301)
    for step in range(500):
        gradient = np.random.default_rng(step).integers(-1000, 1001, 301).astype(np.float32)
        wanted += gradient
        sent += round_trip(feedback, gradient)
    np.testing.assert_array_equal(sent + feedback.residual, wanted)


def test_summed_feedback_conserves_the_sum_of_all_ranks() -> None:
    """What all ranks have been given is what was decoded and what they keep."""
    ranks = [with_feedback(PowerSGD(MATRICES, 1, SEED)) for _ in range(RANKS)]
    assert all(isinstance(rank, SummedFeedback) and isinstance(rank, Compressor) for rank in ranks)
    wanted, got = np.zeros(LAYOUT.size), np.zeros(LAYOUT.size)
    for step in range(50):
        gradients = [normal(LAYOUT.size, seed=RANKS * step + rank) for rank in range(RANKS)]
        wanted += np.add.reduce(np.stack(gradients).astype(np.float64), axis=0)
        got += all_reduce(ranks, gradients)[0]
    kept = sum(rank.residual.astype(np.float64) for rank in ranks)
    np.testing.assert_allclose(got + kept, wanted, atol=2e-3)
    assert np.abs(got - wanted).max() > 1.0


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_step_that_diverged_does_not_poison_the_residual(name: str, bad: float) -> None:
    """What is not finite is seen in the message of its step, and in no later one."""
    feedback = with_feedback(MAKERS[name](MATRICES))
    values = normal(LAYOUT.size)
    round_trip(feedback, values)
    spoiled = values.copy()
    spoiled[[5, 300]] = bad
    assert not np.isfinite(round_trip(feedback, spoiled)[[5, 300]]).any()
    assert np.isfinite(feedback.residual).all()
    for _ in range(3):
        assert np.isfinite(round_trip(feedback, values)).all()


def test_a_diverged_rank_is_seen_by_all_that_sum() -> None:
    """And the next step of all is finite."""
    ranks = [with_feedback(PowerSGD(MATRICES, 2, SEED)) for _ in range(RANKS)]
    gradients = [normal(LAYOUT.size, seed=rank) for rank in range(RANKS)]
    gradients[2][5] = np.nan
    assert not any(np.isfinite(out[5]) for out in all_reduce(ranks, gradients))
    gradients[2][5] = 0.0
    assert np.isfinite(all_reduce(ranks, gradients)).all()


@pytest.mark.parametrize("name", MAKERS)
def test_the_state_is_all_that_the_next_message_depends_on(name: str) -> None:
    """Written to a new codec it gives the same bytes; after a reset the bytes are those of the first message."""
    old, new = (with_feedback(MAKERS[name](MATRICES)) for _ in range(2))
    messages = np.zeros((4, old.nbytes), np.uint8)
    old.encode(normal(LAYOUT.size), messages[0])
    for key, vector in new.state().items():
        vector[:] = old.state()[key]
    old.encode(normal(LAYOUT.size, seed=1), messages[1])
    new.encode(normal(LAYOUT.size, seed=1), messages[2])
    np.testing.assert_array_equal(messages[1], messages[2])
    old.reset()
    old.encode(normal(LAYOUT.size), messages[3])
    np.testing.assert_array_equal(messages[0], messages[3])
    assert old.state()["residual"] is old.residual


# ------------------------------------------------------------------------------------------- replicas, and every codec


@pytest.mark.parametrize("name", ["none", "fp16", "bf16", "int8", "topk", "powersgd"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_survives(name: str, dtype: Any, bad: float) -> None:
    """Codecs of floats keep which it was and all finite values; int8 spoils its group.

    A NaN whose lower bits round up must not become an infinity or a zero.
    """
    values = normal(700, dtype=dtype)
    values[[3, 600]] = bad
    if np.isnan(bad):
        values.view(f"u{values.itemsize}")[3] = np.iinfo(f"u{values.itemsize}").max
    out = round_trip(MAKERS[name](Part.plain(700, dtype)), values)
    assert not np.isfinite(out[[3, 600]]).any()
    assert np.isfinite(out[256:512]).all()
    if name != "int8":
        np.testing.assert_array_equal(out[[3, 600]], values[[3, 600]])
        assert np.isfinite(out).sum() == 698
    if name in ("fp16", "bf16"):
        assert np.abs(np.delete(out, [3, 600]) - np.delete(values, [3, 600])).max() < 0.02


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("size", [0, 4, 5, 255, 257, 1023, LONG])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_length_with_and_without_feedback(name: str, size: int, dtype: Any) -> None:
    """The same message of the same values, of the size that was told, and what it gives is near them."""
    values = normal(size, dtype=dtype)
    plain = MAKERS[name](Part.plain(size, dtype))
    fed = Feedback(MAKERS[name](Part.plain(size, dtype)))
    assert plain.raw_bytes == fed.raw_bytes == values.nbytes
    assert plain.sent_bytes == plain.nbytes == fed.nbytes
    expected = {
        "none": values.nbytes,
        "fp16": 8 + 2 * size,
        "bf16": 2 * size,
        "int8": size + 4 * -(-size // 256),
        "topk": max(1, round(0.2 * size)) * (4 + values.itemsize),
        "powersgd": values.nbytes,
    }[name]
    assert plain.nbytes == (expected if size else 0)
    out = round_trip(plain, values)
    np.testing.assert_array_equal(out, round_trip(fed, values))
    if name != "topk":
        np.testing.assert_allclose(out, values, rtol=2.0**-8, atol=0.02 if name == "int8" else 1e-9)


@pytest.mark.parametrize("name", MAKERS)
def test_wrong_arrays_are_refused(name: str) -> None:
    """Nothing is broadcast or reinterpreted."""
    codec = MAKERS[name](Part.plain(40, np.float32))
    values, message = np.ones(40, np.float32), np.zeros(codec.nbytes, np.uint8)
    for wrong in (values[:1], values.astype(np.float64), np.ones(80, np.float32)[::2], values.reshape(4, 10)):
        with pytest.raises(ValueError, match="values: got .* expected contiguous float32 .40,"):
            codec.encode(wrong, message)
        with pytest.raises(ValueError, match="values: got"):
            codec.decode(message, wrong)
    with pytest.raises(ValueError, match="message: got uint8"):
        codec.encode(values, message[1:])


def test_the_registry_knows_every_codec_by_its_name_and_makes_no_range_longer() -> None:
    """One value is sent as it is by any of them."""
    assert set(CODECS) == set(MAKERS)
    options = {name: config(communication={"codec": name}).communication.codec for name in CODECS}
    for name in CODECS:
        codec = build(options[name], MATRICES, SEED)
        assert codec.nbytes == codec.raw_bytes if name == "none" else codec.nbytes < codec.raw_bytes
        assert isinstance(codec, Compressor) == (name == "powersgd")
        assert build(options[name], Part.plain(1, np.float32), SEED).nbytes <= 4
    first, second = (build(options["powersgd"], MATRICES, seed).state()["q"] for seed in (1, 2))
    assert (first != second).any()
