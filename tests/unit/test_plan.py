"""Plan and workspace: live ranges, memory that is used again, and tensors with two readers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from onotrain import _kernels
from onotrain._kernels.recording import Live
from onotrain.config.layers import Activation, Dense
from onotrain.config.options import LayerOptions, LossOptions
from onotrain.nn import Model
from onotrain.nn.layers import LAYERS, Layer
from onotrain.nn.layers.base import Builder, Recorder
from onotrain.nn.plan import Array, Plan, gradient, saved, value
from onotrain.nn.workspace import SharedWorkspace, Workspace, place, private_bytes, shared_fields

arrays = st.lists(
    st.tuples(st.integers(1, 50), st.sampled_from(["float32", "uint8"]), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
    max_size=12,
).map(
    lambda made: {
        f"a{number}": Array((width,), np.dtype(dtype), min(ends), max(ends))
        for number, (width, dtype, *ends) in enumerate(made)
    }
)


@given(arrays, st.integers(0, 40))
def test_arrays_that_are_used_at_the_same_time_do_not_overlap(made: dict[str, Array], rows: int) -> None:
    layout = place(made, rows)
    assert set(layout.offsets) == set(made) and all(offset % 64 == 0 for offset in layout.offsets.values())
    for name, mine in made.items():
        begin, end = layout.offsets[name], layout.offsets[name] + mine.nbytes(rows)
        assert end <= layout.nbytes
        for other, theirs in made.items():
            if other != name and mine.first <= theirs.last and theirs.first <= mine.last:
                first = layout.offsets[other]
                assert end <= first or first + theirs.nbytes(rows) <= begin
    at_once = [sum(a.nbytes(rows) for a in made.values() if a.first <= now <= a.last) for now in range(10)]
    assert max(at_once) <= layout.nbytes <= sum(a.nbytes(rows) for a in made.values())


@given(arrays, st.integers(1, 9), st.data())
def test_a_workspace_gives_rows_of_them(made: dict[str, Array], rows: int, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, rows))
    for name, array in Workspace(made, rows).rows(0, end).items():
        assert array.shape == (end, *made[name].shape) and array.dtype == made[name].dtype
        assert array.flags.c_contiguous and (array.size == 0 or array.ctypes.data % 64 == 0)


def plan(*layers: Any, **model: Any) -> Plan:
    return builders.model(builders.config(*layers, model=model), 64).plan


def test_gradients_take_two_buffers_and_so_does_prediction() -> None:
    """However many layers there are; what the backward pass reads again is kept."""
    deep = plan(*[{"dense": {"units": 64, "activation": "tanh"}}] * 7, 64)
    one = 10 * 64 * 4
    assert place(deep.prediction, 10).nbytes == 2 * one
    assert place({name: a for name, a in deep.training.items() if name.startswith("gradient")}, 10).nbytes == 2 * one
    # Samples, outputs of 7 layers and slopes of 8 are read again; the logits make way for a gradient.
    assert private_bytes(deep, 10) == (8 + 8 + 2) * one


def test_what_no_backward_pass_reads_is_not_kept() -> None:
    """Values in front of activations, and everything in front of the first layer that is trained."""
    made = plan({"dropout": 0.5}, {"dense": 8}, {"dropout": 0.2}, {"activation": "relu"}, 10, freeze=1)
    assert [step.number for step in made.backward] == [3]
    training, loss = made.training, len(made.nodes)
    assert (training[value(1)].last, training[value(2)].last, training[value(3)].last) == (1, 2, 2 * loss - 3)
    assert training[saved(1, "slope")] == Array((8,), np.dtype("float32"), 1, 1)
    assert gradient(3) not in training and set(made.products) == {"dense_1/weight", "dense_1/bias"}


def test_ranks_share_what_gradients_are_made_of() -> None:
    """And nothing else; frozen layers have none."""
    made = plan({"dense": 8}, {"dropout": 0.2}, {"activation": "relu"}, 6, 10, freeze=["dense_1"])
    fields = shared_fields(made, 30)
    assert fields == {
        name: ((30, width), np.dtype("float32"))
        for name, width in ((value(0), 64), (value(3), 6), (gradient(1), 8), (gradient(4), 10))
    }
    shared = {name: np.zeros(shape, dtype) for name, (shape, dtype) in fields.items()}
    workspace = SharedWorkspace(made, 10, 30, lambda asked: shared if asked == fields else {}, lambda: None)
    assert np.shares_memory(workspace.samples(20, 30), shared[value(0)][20:])
    assert workspace.rows(20, 30)[gradient(3)].shape == (10, 6)
    factors = {name: (of.dz.shape, None if of.x is None else of.x.shape) for name, of in workspace.factors(25)}
    assert factors["dense_0/weight"] == ((25, 8), (25, 64)) and factors["dense_2/bias"] == ((25, 10), None)
    assert workspace.nbytes == private_bytes(made, 10, shared=True) < private_bytes(made, 10)


class TwiceOptions(LayerOptions):
    kind = "twice"
    layers: tuple[Any, ...] = ()


class Sum(Layer):
    """``y = a + b``."""

    reads_again = frozenset()

    def forward(self, r: Recorder) -> None:
        r.call(np.add, *r.inputs, r.y)

    def backward(self, r: Recorder) -> None:
        for dx in r.dinputs:
            if dx is not None:
                r.call(np.copyto, dx, r.dy)

    predict = forward


class Twice(Layer):
    """A sum of what goes through some layers and what goes past them, as residual networks have it."""

    Options = TwiceOptions

    @classmethod
    def build(cls, network: Builder, options: Any, x: int) -> int:
        network.fork(x)
        y = x
        for kind, inner in options.layers:
            y = network.build(kind, inner, y)
        return network.add(Sum(options, network.shapes[x], network.defaults), y, x)


def twice(dtype: str, *layers: tuple[str, LayerOptions]) -> Model:
    made = builders.config(3, loss="mse", training={"dtype": dtype})
    specs = [
        SimpleNamespace(kind="dense", options=Dense(units=5, activation="tanh")),
        SimpleNamespace(kind="twice", options=TwiceOptions.model_construct(layers=layers)),
        *made.model.layers,
    ]
    initializer = made.model.initializer
    spec = SimpleNamespace(layers=specs, frozen_layers=(), initializer=initializer, bias_initializer=initializer)
    loss: LossOptions = made.loss
    return Model(spec, loss, (4,), _kernels.load(dtype))


BLOCKS: dict[str, tuple[tuple[str, LayerOptions], ...]] = {
    "residual": (("activation", Activation(name="gelu")), ("dense", Dense(units=5))),
    "nested": (("twice", TwiceOptions.model_construct(layers=(("dense", Dense(units=5, activation="silu")),))),),
    "the same twice": (),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_add_up_where_a_tensor_has_two_readers(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against fourth-order differences; and prediction is training without dropout."""
    monkeypatch.setitem(LAYERS, "twice", Twice)
    model = twice("float64", *BLOCKS[block])
    rng = np.random.default_rng(2)
    x, targets, loss = rng.normal(size=(7, 4)), rng.normal(size=(7, 3)), np.zeros(2)
    parameters, found = builders.filled(model.layout, 1), model.layout.zeros()
    model.bind(parameters, found)
    model.reserve(7)
    program = model.kernels.program(model.record(x, targets, 1, loss, seed=0))

    def losses() -> float:
        loss[:] = 0.0
        program.run(0)
        return float(loss[0])

    at_start, gradients = losses(), found.copy()
    for tensor in model.layout:
        for i in range(tensor.offset, tensor.offset + tensor.size):
            values, start = [], parameters[i]
            for shift in (-2, -1, 1, 2):
                parameters[i] = start + shift * 1e-3
                values.append(losses())
            parameters[i] = start
            expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12e-3
            assert gradients[i] == pytest.approx(expected, abs=1e-7), (tensor.name, i)
    predicted = Workspace(model.plan.prediction, 7).rows(0, 7)
    predicted[value(0)][:] = x
    model.kernels.program(model.record_prediction(predicted)).run(0)
    errors = predicted[value(model.plan.output)] - targets
    assert float((errors**2).sum()) == pytest.approx(at_start, rel=1e-12)


def test_nothing_is_computed_within_a_layer_that_has_another_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dense layer takes the activation behind it into its pass, unless the way past it goes on with its output."""
    monkeypatch.setitem(LAYERS, "twice", Twice)
    kinds = [layer.kind for layer in twice("float32", *BLOCKS["residual"]).layers]
    assert kinds == ["dense", "activation", "dense", "twice", "dense"]


def test_a_recorded_call_gets_the_step() -> None:
    """Of a Python function as of a kernel."""
    calls: list[Any] = []
    seen: list[int] = []
    kernels = _kernels.load("float32")
    Recorder(kernels, calls, 0, (), np.empty(0), {}).call(seen.append, Live.STEP)
    kernels.program(calls).run(3, steps=2)
    assert seen == [3, 4]
