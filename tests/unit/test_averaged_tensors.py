"""Groups of parameters: where averaged tensors lie, what updates whom, and what codecs and servers leave alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builders
from builders import OPTIMIZERS, filled
from onotrain.nn import ParameterLayout
from onotrain.optim import Gradient, Optimizer, Shard
from onotrain.optim.average import Average
from onotrain.strategies.codecs import CODECS, Part, build
from onotrain.strategies.parameter_server.compensation import Delay, Place

TENSORS = [
    ("norm_0/mean", (11,)), ("norm_0/scale", (11,)), ("dense_0/weight", (37, 11)), ("dense_0/bias", (37,)),
    ("norm_1/scale", (37,)), ("norm_1/matrix", (5, 37)), ("dense_1/weight", (5, 37)),
]  # fmt: skip
RATES = {"norm_0/mean": 0.5, "norm_1/matrix": 0.25}
NO_DECAY = [name for name, _ in TENSORS if name.endswith(("scale", "bias"))]
KINDS = {"bf16": {}, "fp16": {}, "int8": {}, "topk": {"fraction": 0.05}, "powersgd": {"rank": 1}}


def layout_of(dtype: str = "float64", frozen: Any = ()) -> ParameterLayout:
    return ParameterLayout(TENSORS, dtype, frozen, no_decay=NO_DECAY, rates=RATES)


LAYOUT = layout_of()


def optimizer(clip: float | None = None, **options: Any) -> Optimizer:
    made = builders.config(optimizer=options, training={"clip_norm": clip, "dtype": "float64"})
    return builders.optimizer(made)


def whole(rule: Optimizer, layout: ParameterLayout, parameters: np.ndarray) -> Shard:
    state = [layout.zeros() for _ in rule.state_names]
    return rule.shard(layout.tensors, slice(0, layout.size), parameters, state)


def no_others(values: np.ndarray) -> None:
    """Sum over the only shard."""


# The layout -----------------------------------------------------------------------------------------------------------


def test_averaged_tensors_lie_behind_all_others() -> None:
    """In the order of the layers; they count as no parameters, and a layout without frozen layers keeps the order."""
    assert [tensor.name for tensor in LAYOUT][-2:] == ["norm_0/mean", "norm_1/matrix"]
    assert [tensor.rate for tensor in LAYOUT] == [None] * 5 + [0.5, 0.25]
    assert {tensor.name for tensor in LAYOUT if not tensor.decays} == set(NO_DECAY)
    assert LAYOUT.averaged == slice(LAYOUT.tensors[-2].offset, LAYOUT.size)
    assert LAYOUT.averaged_count == 11 + 185 and LAYOUT.parameter_count == 11 + 407 + 37 + 37 + 185
    trained = layout_of(frozen=["norm_0", "dense_1"]).trained_only()
    assert [tensor.rate for tensor in trained] == [None] * 3 + [0.25]
    without = ParameterLayout(TENSORS[2:4], "float64")
    assert without.averaged == slice(without.size, without.size) and without.averaged_count == 0


@given(st.integers(0, LAYOUT.size), st.integers(0, LAYOUT.size))
def test_how_many_averaged_elements_end_a_part(one: int, other: int) -> None:
    begin, end = sorted((one, other))
    expected = sum(place >= LAYOUT.averaged.start for place in range(begin, end))
    assert LAYOUT.averaged_within(slice(begin, end)) == expected


def test_they_are_the_last_bucket() -> None:
    """Their gradients are final when the first layer's are; one bucket has everything."""
    buckets = LAYOUT.buckets(1)
    assert buckets[-1] == LAYOUT.averaged and buckets[-2].start == 0 and buckets[0].stop == LAYOUT.averaged.start
    assert sum(bucket.stop - bucket.start for bucket in buckets) == LAYOUT.size
    assert LAYOUT.buckets(0) == LAYOUT.buckets(10**6) == [slice(0, LAYOUT.size)]


# The optimiser --------------------------------------------------------------------------------------------------------


def test_what_has_one_rule_is_updated_at_once() -> None:
    """With all defaults there is one call for all that is trained, gaps included."""
    plain, decays = optimizer(name="adam"), {"name": "adam", "weight_decay": 0.1}
    kept = optimizer(**decays, decay_norm_and_bias=False)
    trained = slice(0, LAYOUT.averaged.start)
    for rule in (plain, optimizer(**decays), optimizer(name="adam", decay_norm_and_bias=False)):
        first, *averages = whole(rule, LAYOUT, LAYOUT.zeros()).runs
        assert first.range == trained and [run.rule.learning_rate for run in averages] == [0.5, 0.25]
    runs = whole(kept, LAYOUT, LAYOUT.zeros()).runs
    assert [run.rule.weight_decay for run in runs] == [0.0, 0.1, 0.0, 0.1, 0.0, 0.0]
    cuts = [run.range.start for run in runs] + [LAYOUT.size]
    assert cuts[0] == 0 and [run.range.stop for run in runs] == cuts[1:]
    without = ParameterLayout(TENSORS[2:4], "float64", no_decay=NO_DECAY)
    (only,) = whole(plain, without, without.zeros()).runs
    assert only.range == slice(0, without.size)


def test_nothing_of_a_frozen_layer_is_updated() -> None:
    layout = layout_of(frozen=["norm_0", "dense_0"])
    parameters, rule = filled(layout, 1), optimizer(name="sgd", weight_decay=0.1)
    before = layout.views(parameters.copy())
    rule.update(whole(rule, layout, parameters), np.ones((1, layout.size)), 0.1, 1, no_others)
    same = {name for name, view in layout.views(parameters).items() if np.array_equal(view, before[name])}
    assert same == {"norm_0/mean", "norm_0/scale", "dense_0/weight", "dense_0/bias"}


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_groups_are_updated_as_if_alone(name: str, clip: float | None) -> None:
    """By one shard or many, in three steps: trained tensors as without the others, averaged ones by their rates."""
    options = OPTIMIZERS[name] | {"decay_norm_and_bias": False, "weight_decay": 0.1}
    rule, start = optimizer(clip, **options), filled(LAYOUT, 0)
    alone = ParameterLayout([each for each in TENSORS if each[0] not in RATES], "float64", no_decay=NO_DECAY)
    trained, averaged = slice(0, alone.size), LAYOUT.averaged
    expected = start[trained].copy()
    shard, of_all = whole(rule, alone, expected), start.copy()
    both = whole(rule, LAYOUT, of_all)
    for number in range(1, 4):
        rows = np.stack([filled(LAYOUT, number, row) for row in range(3)])
        mean = of_all[averaged].copy()
        squares = rule.update(shard, rows[:, trained].copy(), 0.1, number, no_others)
        assert rule.update(both, rows.copy(), 0.1, number, no_others) == pytest.approx(squares, rel=1e-12)
        rates = np.where(np.arange(averaged.start, averaged.stop) < LAYOUT.tensors[-1].offset, 0.5, 0.25)
        np.testing.assert_allclose(of_all[averaged], mean - rates * rows[:, averaged].sum(axis=0), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(of_all[trained], expected)


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("name", builders.ELEMENTWISE)
def test_a_recorded_update_is_the_same(name: str, clip: float | None) -> None:
    """Bit by bit, with the scale that clipping would find between the two lists of calls."""
    rule = optimizer(clip, **OPTIMIZERS[name] | {"decay_norm_and_bias": False, "weight_decay": 0.1})
    one, other = filled(LAYOUT, 0), filled(LAYOUT, 0)
    rows = np.stack([filled(LAYOUT, 1, row) for row in range(3)])
    squares = rule.update(whole(rule, LAYOUT, one), rows.copy(), 0.1, 1, no_others)
    recorded = rule.record([(Gradient(rows.copy()), whole(rule, LAYOUT, other))], 2)
    assert recorded is not None
    recorded.prepare([0.1, 0.2], 1)
    program = rule.kernels.program
    if clip is not None:
        program(recorded.sums).run(0)
        for scalars in recorded.clipped:
            scalars[0, 0] = clip / (math.sqrt(recorded.squares.sum()) + 1e-6)
    program(recorded.updates).run(0)
    np.testing.assert_allclose(recorded.squares.sum(), squares, rtol=1e-12)
    np.testing.assert_allclose(other, one, rtol=1e-12 if clip else 0)
    assert len(recorded.scalars) == 4 and len(recorded.clipped) == 2


@pytest.mark.parametrize("name", ["sgd", "lamb"])
@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("place", [0, 10])
def test_an_average_that_is_not_finite_is_noticed(name: str, clip: float | None, place: int) -> None:
    rule, gradient = optimizer(clip, name=name), filled(LAYOUT, 1)[None]
    gradient[0, LAYOUT.averaged.start + place] = np.inf
    assert np.isnan(rule.update(whole(rule, LAYOUT, filled(LAYOUT, 0)), gradient, 0.1, 1, no_others))


def test_a_rate_that_is_none_is_refused() -> None:
    layout = ParameterLayout([("a/mean", (3,))], "float64", rates={"a/mean": 1.5})
    with pytest.raises(ValueError, match="less than or equal to 1"):
        whole(optimizer(name="sgd"), layout, layout.zeros())
    assert Average.model_validate({"learning_rate": 1.0}).state_names == ()


# Codecs and servers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=40)
@given(cuts=st.tuples(st.integers(0, LAYOUT.size), st.integers(0, LAYOUT.size)))
def test_a_codec_leaves_averaged_tensors_as_they_are(kind: str, dtype: str, cuts: tuple[int, int]) -> None:
    """Of any range; and codes the rest as if it were alone."""
    layout = layout_of(dtype)
    part = slice(*sorted(min(cut, layout.size) for cut in cuts))
    options = builders.config(communication={"codec": {"name": kind, **KINDS[kind]}}).communication.codec
    values = filled(layout, 1)[part].astype(dtype)
    made = Part.of(layout, part)
    codec = build(options, made, 3)
    message, out = np.empty(codec.nbytes, np.uint8), np.empty_like(values)
    codec.encode(values, message)
    codec.decode(message, out)
    end = len(values) - layout.averaged_within(part)
    np.testing.assert_array_equal(out[end:], values[end:])
    assert not codec.residual[end:].any() and codec.nbytes <= values.nbytes
    if codec.nbytes < values.nbytes and kind != "powersgd":
        alone = CODECS[kind](made.coded, options, 3)
        message, expected = np.empty(alone.nbytes, np.uint8), np.empty_like(values[:end])
        alone.encode(values[:end], message)
        alone.decode(message, expected)
        np.testing.assert_array_equal(out[:end], expected)


@pytest.mark.parametrize("adaptive", [False, True])
def test_delay_compensation_leaves_them_alone(adaptive: bool) -> None:
    """The rest is corrected as if it were alone."""
    gradient, sent, now = (filled(LAYOUT, seed) for seed in (1, 2, 3))
    results = []
    for size, averaged in ((LAYOUT.size, LAYOUT.size - LAYOUT.averaged.start), (LAYOUT.averaged.start, 0)):
        vectors = {"mean_square": np.zeros(size)}
        rule = Delay(Place(size, "float64", 1, 8, vectors, averaged), 2.0, adaptive, 0.9)
        rule.sent(0, sent[:size])
        step = rule.push(0, gradient[:size].copy(), now[:size], 1, 8)
        assert step is not None
        results.append(step.gradient)
    end = LAYOUT.averaged.start
    np.testing.assert_array_equal(results[0][end:], gradient[end:])
    np.testing.assert_array_equal(results[0][:end], results[1])
    assert not np.array_equal(results[1], gradient[:end])
