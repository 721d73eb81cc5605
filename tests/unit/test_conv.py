"""Convolutional layers: shapes, what they refuse, gradients, and what is said and exported of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import builders
from kernels.oracle import central_differences
from onotrain.config import Config
from onotrain.errors import ConfigError
from onotrain.inference.onnx_builder import GraphBuilder
from onotrain.inference.onnx_network import _LayerGraph
from onotrain.nn.layers.base import Layer, ShapeError
from stack import Stack, network

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((6, 5, 3), {"conv2d": {"filters": 4, "kernel": 3}}),
    "same": ((6, 5, 3), {"conv2d": {"filters": 4, "kernel": [2, 4], "padding": "same", "stride": [2, 1]}}),
    "one channel": ((6, 5), {"conv2d": {"filters": 4, "kernel": 2, "padding": [1, 0], "activation": "tanh"}}),
    "groups": ((6, 5, 4), {"conv2d": {"filters": 6, "kernel": 3, "groups": 2, "padding": 1, "dilation": [2, 1]}}),
    "depthwise": ((5, 5, 3), {"conv2d": {"filters": 6, "kernel": 3, "groups": 3, "stride": 2, "activation": "gelu"}}),
    "pointwise": ((3, 4, 5), {"conv2d": {"filters": 3, "kernel": 1, "activation": "silu", "bias": False}}),
    "sequence": ((9, 2), {"conv1d": {"filters": 3, "kernel": 4, "padding": "same", "activation": "tanh"}}),
    "numbers": ((9,), {"conv1d": {"filters": 3, "kernel": 3, "stride": 2, "dilation": 2, "padding": 1}}),
}


@pytest.mark.parametrize(
    "behind", [[], [{"activation": "tanh"}, {"dropout": 0.3}], [{"dropout": 0.3}, {"activation": "softplus"}]]
)
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_forward_pass(case: str, behind: list[dict[str, Any]]) -> None:
    """Of the samples and of every parameter, against fourth-order differences, absorbed layers included."""
    shape, layer = CASES[case]
    stack = Stack([layer, *behind], shape, rows=2)
    dy = np.random.default_rng(3).standard_normal(stack.values[-1].shape)

    def objective() -> float:
        return float((stack.forward() * dy).sum())

    arrays = [stack.values[0], *(p for each in stack.parameters for p in each.values())]
    expected = [central_differences(objective, array) for array in arrays]
    objective()
    stack.backward(dy)
    got = [stack.gradients[0], *(p for each in stack.dparameters for p in each.values())]
    for mine, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-6, atol=1e-7)
        assert np.abs(mine).max() > 1e-3, "a gradient of zeros would prove nothing"


def test_activation_and_dropout_are_computed_in_the_same_pass() -> None:
    layers = network(
        [{"conv2d": {"filters": 2, "kernel": 3}}, {"activation": "relu"}, {"dropout": 0.2}], (8, 8, 1)
    ).nodes
    assert [node.layer.kind for node in layers] == ["conv2d"]
    assert (layers[0].layer.describe().activation, layers[0].layer.describe().dropout) == ("relu", 0.2)


@pytest.mark.parametrize(
    ("shape", "options", "out"),
    [
        ((28, 28), {"filters": 6, "kernel": 5}, (24, 24, 6)),
        ((28, 28, 3), {"filters": 6, "kernel": 5, "padding": 2}, (28, 28, 6)),
        ((28, 27, 3), {"filters": 6, "kernel": [4, 3], "padding": "same", "stride": 2}, (14, 14, 6)),
        ((28, 27, 3), {"filters": 6, "kernel": 3, "stride": [3, 2], "padding": [0, 1]}, (9, 14, 6)),
        ((9, 9, 3), {"filters": 6, "kernel": 3, "dilation": 4}, (1, 1, 6)),
        ((9, 9, 3), 6, (7, 7, 6)),
    ],
)
def test_shapes(shape: tuple[int, ...], options: Any, out: tuple[int, ...]) -> None:
    assert network([{"conv2d": options}], shape).shapes[-1] == out


def test_same_puts_an_odd_zero_at_the_end() -> None:
    layer: Any = only(network([{"conv2d": {"filters": 1, "kernel": [4, 2], "padding": "same"}}], (5, 5)))
    assert layer.describe().operations[0]["padding"] == [[1, 2], [0, 1]]


def test_fans_are_those_of_a_group() -> None:
    parameters = only(network([{"conv2d": {"filters": 8, "kernel": [3, 2], "groups": 2}}], (5, 5, 6))).parameters
    assert parameters["weight"].shape == (8, 3, 3, 2)
    assert {each.fans for each in parameters.values()} == {(8 * 6 // 2, 3 * 6)}
    assert parameters["weight"].decays and not parameters["bias"].decays
    assert only(network([{"conv1d": {"filters": 8, "kernel": 3}}], (5, 6))).parameters["weight"].shape == (8, 6, 3)


def only(made: Any) -> Layer:
    (node,) = made.nodes
    return node.layer


@pytest.mark.parametrize(
    ("shape", "layer", "key", "message"),
    [
        ((4, 4, 1), {"conv2d": {"filters": 2, "kernel": 7}}, "kernel", "over 7 x 7, larger than the image of 4 x 4"),
        (
            (4, 9, 1),
            {"conv2d": {"filters": 2, "kernel": [3, 2], "dilation": 3, "padding": 1}},
            "kernel",
            "7 x 4, .* 6 x 11",
        ),
        ((4, 1), {"conv1d": {"filters": 2, "kernel": 7}}, "kernel", "over 7, larger than the sequence of 4"),
        ((9, 9, 3), {"conv2d": {"filters": 2, "kernel": 3, "groups": 2}}, "groups", "must divide the 3 channels"),
        ((9,), {"conv2d": {"filters": 2, "kernel": 3}}, None, r"channels x height x width \(got samples of 9\)"),
        ((9, 9, 3), {"conv1d": {"filters": 2, "kernel": 3}}, None, r"length x channels \(got samples of 3 x 9 x 9\)"),
    ],
)
def test_samples_of_another_shape_are_refused(
    shape: tuple[int, ...], layer: dict[str, Any], key: str | None, message: str
) -> None:
    with pytest.raises(ShapeError, match=message) as error:
        network([layer], shape)
    assert (error.value.key, error.value.exit_code) == (key, 2)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"conv2d": {"kernel": 3}}, "conv2d.filters: required key"),
        ({"conv2d": {"filters": 8, "kernel": [3]}}, "conv2d.kernel: has too few entries"),
        ({"conv2d": {"filters": 8, "kernel": "3x3"}}, "conv2d.kernel: expected a whole number or .height, width."),
        ({"conv2d": {"filters": 8, "kernel": 0}}, "conv2d.kernel: must be at least 1"),
        (
            {"conv2d": {"filters": 8, "kernel": 3, "padding": "sane"}},
            "conv2d.padding: unknown name.*did you mean 'same'",
        ),
        ({"conv2d": {"filters": 8, "kernel": 3, "padding": [-1, 0]}}, "conv2d.padding.0: must be at least 0"),
        ({"conv2d": {"filters": 8, "kernel": 3, "groups": 3}}, "conv2d.filters: must be a multiple of groups .got 8"),
        (
            {"conv2d": {"filters": 8, "kernel": 3, "negative_slope": 0.1}},
            "conv2d.negative_slope: is for leaky_relu only",
        ),
        ({"conv1d": {"filters": 8, "kernel": [3, 3]}}, "conv1d.kernel: must be a whole number"),
    ],
)
def test_options_that_make_no_sense_are_located(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model.layers.0.{message}"):
        Config.from_mapping(builders.mapping(layer, 10))


def test_options_can_be_written_and_read_again() -> None:
    layers = [layer for _, layer in CASES.values()]
    config = Config.from_mapping(builders.mapping(*layers, 10))
    assert Config.from_mapping(config.to_mapping()) == config


@pytest.mark.parametrize("case", CASES)
def test_onnx_computes_the_same(case: str) -> None:
    """Values in the graph are channels-last, as they are inside."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    shape, layer = CASES[case]
    stack = Stack([layer, {"activation": "tanh"}], shape, rows=3, dtype="float32")
    graph = GraphBuilder()
    value = "x"
    for each, tensors in zip(stack.layers, stack.parameters, strict=True):
        views = {f"{each.name}/{name}": tensor for name, tensor in tensors.items()}
        value = each.export(_LayerGraph(graph, each.name, views, np.dtype("float32")), value)
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", *sizes])
        for name, sizes in (("x", shape), (value, stack.network.shapes[-1]))
    ]
    made = onnx.helper.make_graph(graph.nodes, "conv", ports[:1], ports[1:], graph.constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    (got,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": stack.values[0]})
    np.testing.assert_allclose(got, stack.predict(), rtol=0, atol=1e-5)
