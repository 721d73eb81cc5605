"""Residual blocks: shapes that meet, names, freezing; and PyTorch's values and gradients."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from onotrain.config.layers import LAYER_KINDS
from onotrain.config.layers import Residual as Options
from onotrain.config.options import LayerOptions
from onotrain.errors import ConfigError
from onotrain.nn.layers import LAYERS, Layer
from onotrain.nn.layers.base import ShapeError
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.network import Network
from onotrain.nn.plan import value
from onotrain.nn.workspace import Workspace

RELU, TANH = {"units": 6, "activation": "relu"}, {"units": 5, "activation": "tanh"}
#: A block in a block, in which a layer changes the width, and a block that is its only layer.
NESTED: list[Any] = [
    {"dense": TANH},
    {"residual": [{"dense": TANH}, {"residual": {"layers": [{"dense": RELU}], "activation": "relu"}}]},
    {"residual": [{"activation": "tanh"}]},
    4,
]


def names(made: Any) -> list[str]:
    return [tensor.name for tensor in builders.model(made, 8).layout]


def test_names_count_through_blocks() -> None:
    """Those of projections are their block's, so that no other name depends on the data."""
    made = builders.config(*NESTED)
    assert made.model.trainable_layers == ("dense_0", "dense_1", "dense_2", "dense_3")
    assert names(made) == [
        "dense_0/weight", "dense_0/bias", "dense_1/weight", "dense_1/bias", "dense_2/weight", "dense_2/bias",
        "residual_1/weight", "residual_0/weight", "dense_3/weight", "dense_3/bias",
    ]  # fmt: skip
    assert [layer.kind for layer in made.model.every_layer] == [
        "dense", "residual", "dense", "residual", "dense", "residual", "activation", "dense",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        (1, {"dense_0"}),
        (3, {"dense_0", "dense_1", "dense_2", "residual_0", "residual_1"}),
        ("all_but_head", {"dense_0", "dense_1", "dense_2", "residual_0", "residual_1"}),
        ("dense_1", {"dense_1"}),
        ("dense_2", {"dense_2", "residual_1"}),
        ("residual_1", {"dense_2", "residual_1"}),
        (["residual_0", "dense_3"], {"dense_1", "dense_2", "dense_3", "residual_0", "residual_1"}),
        ("residual_2", set()),
    ],
)
def test_a_projection_is_frozen_with_its_block(freeze: Any, frozen: set[str]) -> None:
    layout = builders.model(builders.config(*NESTED, model={"freeze": freeze}), 8).layout
    assert {tensor.name.split("/")[0] for tensor in layout if not tensor.trained} == frozen


def test_what_cannot_be_frozen_is_refused() -> None:
    expected = "dense_0, dense_1, dense_2, dense_3, residual_0, residual_1, residual_2"
    with pytest.raises(Exception, match=f"no such layer .*'residual_3'.*expected some of {expected}$"):
        builders.config(*NESTED, model={"freeze": "residual_3"})
    with pytest.raises(Exception, match="leaves no layer to train"):
        builders.config(*NESTED, model={"freeze": ["residual_0", "dense_0", "dense_3"]})


class PlaneOptions(LayerOptions):
    kind = "plane"
    shape: tuple[int, ...] = ()


class Plane(Layer):
    """A layer whose output has a given shape, of which nothing is computed."""

    Options = PlaneOptions

    def __init__(self, options: Any, shape: Any, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.out = options.shape

    def forward(self, r: Recorder) -> None: ...

    backward = predict = forward


class ConvolutionOptions(LayerOptions):
    kind = "conv2d"
    filters: int
    kernel: int
    stride: int | list[int]
    bias: bool


class Convolution(Plane):
    """Of one position: its options are what matters."""

    Options = ConvolutionOptions  # type: ignore[assignment]

    def __init__(self, options: Any, shape: Any, defaults: Any) -> None:
        Layer.__init__(self, options, shape, defaults)
        stride = options.stride if isinstance(options.stride, list) else [options.stride] * 2
        self.out = (*(-(-n // s) for n, s in zip(shape, stride, strict=False)), options.filters)


def block(x: tuple[int, ...], y: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, **options: Any) -> Network:
    """Return the network of a block whose layers turn samples of shape x into such of shape y."""
    for kinds, of_kind in ((LAYERS, lambda layer: layer), (LAYER_KINDS, lambda layer: layer.Options)):
        monkeypatch.setitem(kinds, "plane", of_kind(Plane))  # type: ignore[arg-type]
        monkeypatch.setitem(kinds, "conv2d", of_kind(Convolution))  # type: ignore[arg-type]
    made = builders.config(3).model.model_copy(update={"layers": ()})
    network = Network(made, x)
    network.shapes[0] = x
    inner = type("Spec", (), {"kind": "plane", "options": PlaneOptions(shape=y)})
    network.build("residual", Options.model_construct(layers=(inner,), **{"projection": "auto", **options}), 0)
    return network


@given(n=st.tuples(st.integers(1, 40), st.integers(1, 40)), strides=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_a_stride_makes_shapes_meet(n: tuple[int, int], strides: tuple[int, int]) -> None:
    """Whatever stride a block has, with the padding `same`."""
    with pytest.MonkeyPatch.context() as patch:
        y = (*(-(-each // stride) for each, stride in zip(n, strides, strict=True)), 7)
        network = block((*n, 3), y, patch, activation="identity")
        assert network.shapes[-1] == y and network.nodes[-1].inputs == (1, 2)
        assert network.nodes[1].layer.options.model_dump(exclude={"stride"}) == {
            "filters": 7, "kernel": 1, "bias": False,
        }  # fmt: skip


@pytest.mark.parametrize(("x", "y"), [((9, 9, 3), (4, 4, 3)), ((4, 4, 3), (5, 4, 3)), ((8,), (4, 4, 2))])
def test_shapes_that_cannot_meet_are_refused(x: Any, y: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShapeError, match="the layers turn samples of shape .* into such of shape") as caught:
        block(x, y, monkeypatch, activation="identity")
    assert caught.value.key is None and caught.value.hint


def test_no_projection_where_none_is_wanted() -> None:
    made = builders.config({"residual": {"layers": [{"dense": 6}], "projection": "none"}}, 3)
    wrong = "residual.projection: is none, but the layers turn samples of shape 5 into such of shape 6"
    with pytest.raises(ConfigError, match=wrong):
        builders.model(made, 5)
    assert names(builders.config({"residual": {"layers": [{"dense": 8}], "projection": "none"}}, 3))[:2] == [
        "dense_0/weight", "dense_0/bias",
    ]  # fmt: skip


def test_prediction_is_training_without_dropout(rows: int = 9) -> None:
    made = builders.config(*NESTED, loss="mse", training={"dtype": "float64"})
    model, rng = builders.model(made, 8), np.random.default_rng(5)
    model.bind(builders.filled(model.layout, 2), model.layout.zeros())
    model.reserve(rows)
    x, targets, loss = rng.normal(size=(rows, 8)), rng.normal(size=(rows, 4)), np.zeros(2)
    model.kernels.program(model.record(x, targets, 1.0, loss, seed=0)).run(0)
    predicted = Workspace(model.plan.prediction, rows).rows(0, rows)
    predicted[value(0)][:] = x
    model.kernels.program(model.record_prediction(predicted)).run(0)
    assert ((predicted[value(model.plan.output)] - targets) ** 2).sum() == pytest.approx(loss[0], rel=1e-12)


@pytest.mark.torch
@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-6), ("float32", 1e-5)])
def test_torch_has_the_same_loss_and_gradients(dtype: str, rtol: float) -> None:
    import torch

    model = builders.model(builders.config(*NESTED, loss="mse", training={"dtype": dtype}), 8)
    flat, gradient, loss = builders.filled(model.layout, 4), model.layout.zeros(), np.zeros(2)
    model.bind(flat, gradient)
    model.reserve(30)
    rng = np.random.default_rng(6)
    x, targets = (rng.normal(size=(30, n)).astype(dtype) for n in (8, 4))
    model.kernels.program(model.record(x, targets, 30, loss, seed=0)).run(0)

    w = {name: torch.tensor(view, requires_grad=True) for name, view in model.layout.views(flat).items()}

    def dense(number: int, z: Any) -> Any:
        return torch.nn.functional.linear(z, w[f"dense_{number}/weight"], w[f"dense_{number}/bias"])

    a = torch.tanh(dense(0, torch.tensor(x)))
    b = torch.tanh(dense(1, a))
    c = torch.relu(torch.relu(dense(2, b)) + b @ w["residual_1/weight"].T)
    d = c + a @ w["residual_0/weight"].T
    out = dense(3, d + torch.tanh(d))
    expected = (out - torch.tensor(targets)).square().sum() / 30
    expected.backward()
    assert loss[0] / 30 == pytest.approx(expected.item(), rel=rtol)
    for name, found in model.layout.views(gradient).items():
        np.testing.assert_allclose(found, w[name].grad.numpy(), rtol=rtol, atol=rtol)
