"""Layers that normalise: gradients, what they refuse, frozen ones, exported ones, whole trainings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builders
import networks
import onotrain
from kernels.oracle import central_differences
from layer_alone import LayerAlone
from onotrain import _kernels
from onotrain.errors import ConfigError, DataError
from onotrain.inference.export import export
from onotrain.inference.onnx_builder import GraphBuilder
from onotrain.inference.onnx_network import _LayerGraph
from onotrain.nn import Model
from onotrain.nn.layers import BatchNorm, GroupNorm, Layer, LayerNorm
from onotrain.nn.layers.base import ShapeError
from onotrain.runs.checkpoint_format import Checkpoint
from onotrain.runs.run_directory import find_checkpoint

KINDS: list[tuple[type[Layer], dict[str, Any]]] = [
    (LayerNorm, {}),
    (GroupNorm, {"groups": 3}),
    (BatchNorm, {}),
    (LayerNorm, {"affine": False}),
    (GroupNorm, {"groups": 2, "affine": False}),
    (BatchNorm, {"affine": False}),
]
SHAPES = [(6,), (4, 6), (2, 3, 6)]


def normal_parameters(alone: LayerAlone, rng: np.random.Generator) -> None:
    for name, value in alone.parameters.items():
        value[...] = rng.uniform(0.5, 2.0, value.shape) if name == "running_var" else rng.normal(size=value.shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_gradients_are_those_of_the_forward_pass(
    kind: type[Layer], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """By the samples and by weight and bias; once more added to something."""
    rng, alone = np.random.default_rng(1), LayerAlone(kind, shape, epsilon=0.1, **options)
    x, dy = rng.normal(size=(5, *shape)), rng.normal(size=(5, *shape))
    normal_parameters(alone, rng)
    _, dx, gradients, saved = alone.pass_over(x, dy)

    def objective() -> float:
        return float((alone.pass_over(x, dy)[0] * dy).sum())

    assert dx is not None
    np.testing.assert_allclose(dx, central_differences(objective, x), rtol=1e-6, atol=1e-7)
    for name in set(gradients) & {"weight", "bias"}:
        expected = central_differences(objective, alone.parameters[name])
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(saved[f"d{name}"].sum(axis=0), expected, rtol=1e-6, atol=1e-7)
    _, _, added, _ = alone.pass_over(x, dy, accumulate=2.0, dx=False)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(added[name], gradient + 2.0, rtol=1e-12)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_no_rows(kind: type[Layer], options: dict[str, Any]) -> None:
    """A rank may have none of a batch: gradients of zeros."""
    alone = LayerAlone(kind, (2, 3, 6), **options)
    y, _, gradients, _ = alone.pass_over(np.empty((0, 2, 3, 6)), np.empty((0, 2, 3, 6)))
    assert y.shape == (0, 2, 3, 6) and not any(gradient.any() for gradient in gradients.values())


@given(st.lists(st.integers(1, 7), max_size=2), st.integers(1, 5), st.integers(1, 9), st.integers(2, 6))
@settings(deadline=None)
def test_what_is_normalised_has_mean_0_and_variance_1(axes: list[int], groups: int, size: int, rows: int) -> None:
    """Of any shape, over the axes that each kind stands for, where there is a variance."""
    shape = (*axes, groups * size)
    x = 7 + 3 * np.random.default_rng(0).normal(size=(rows, *shape))
    positions = tuple(range(1, len(shape)))
    apart = x.reshape(rows, *axes, groups, size)
    for kind, options, over, seen in (
        (LayerNorm, {}, (-1,), x),
        (GroupNorm, {"groups": groups}, (*positions, -1), apart),
        (BatchNorm, {}, (0, *positions), x),
    ):
        y = LayerAlone(kind, shape, epsilon=1e-12, **options).pass_over(x, x)[0].reshape(seen.shape)
        assert np.abs(y.mean(axis=over)).max() < 1e-6
        if math.prod(seen.shape[axis] for axis in over) > 1:
            np.testing.assert_allclose(y.var(axis=over), 1, atol=1e-6)


def test_running_moments_follow_batches() -> None:
    """The gradients of averaged tensors are what they are above mean and unbiased variance of the batch."""
    rng, alone = np.random.default_rng(2), LayerAlone(BatchNorm, (3, 4, 5))
    normal_parameters(alone, rng)
    x = 30 + rng.normal(size=(7, 3, 4, 5))
    _, _, gradients, saved = alone.pass_over(x, x)
    for name, of_batch in (("running_mean", x.mean(axis=(0, 1, 2))), ("running_var", x.var(axis=(0, 1, 2), ddof=1))):
        expected = alone.parameters[name] - of_batch
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-8)
        np.testing.assert_allclose(saved[f"d{name}"].sum(axis=0), expected, rtol=1e-8)
    averaged = {name: (each.averaged, each.rate, each.decays) for name, each in alone.layer.parameters.items()}
    assert averaged["running_mean"] == averaged["running_var"] == (True, 0.1, False)
    assert averaged["weight"][0] is averaged["bias"][0] is False


def test_the_loss_of_each_row_depends_on_all_of_them() -> None:
    """Through a network with two batch normalisations: differences of all trained parameters in float64."""
    made = builders.config(
        {"batch_norm": {}}, builders.relu(7), {"dense": 12}, {"reshape": [3, 2, 2]}, {"batch_norm": {}},
        {"activation": "tanh"}, 4, training={"dtype": "float64"},
    )  # fmt: skip
    model, rng = builders.model(made, 5), np.random.default_rng(3)
    parameters, gradient, loss = builders.filled(model.layout, 2), model.layout.zeros(), np.zeros(2)
    model.bind(parameters, gradient)
    model.reserve(6)
    targets = rng.integers(0, 4, 6).astype(np.int32)
    program = model.kernels.program(model.record(rng.normal(size=(6, 5)), targets, 6, loss, seed=1))

    def objective() -> float:
        loss[:] = 0
        program.run(0)
        return float(loss[0]) / 6

    objective()
    found = {name: view.copy() for name, view in model.layout.views(gradient).items()}
    for name, view in model.layout.views(parameters).items():
        if "running" not in name:
            np.testing.assert_allclose(
                found[name], central_differences(objective, view, 1e-4), rtol=1e-5, atol=1e-8, err_msg=name
            )
    assert np.abs(found["dense_0/weight"]).max() > 1e-3


def test_a_frozen_batch_norm_takes_its_running_moments() -> None:
    """In training as in prediction; gradients go through it, and its tensors get none."""
    layers = [{"dense": 6}, {"batch_norm": {}}, {"dense": 3}]
    made = builders.config(*layers, model={"freeze": "batch_norm_0"}, training={"dtype": "float64"})
    model, rng = builders.model(made, 5), np.random.default_rng(3)
    parameters, gradient, loss = builders.filled(model.layout, 2), model.layout.zeros(), np.zeros(2)
    views, gradients = model.layout.views(parameters), model.layout.views(gradient)
    views["batch_norm_0/running_var"][:] = rng.uniform(0.5, 2, 6)
    model.bind(parameters, gradient)
    model.reserve(1)  # of one sample, too
    assert model.fewest_samples == 1
    program = model.kernels.program(model.record(rng.normal(size=(1, 5)), np.zeros(1, np.int32), 1, loss, seed=1))

    def objective() -> float:
        loss[:] = 0
        program.run(0)
        return float(loss[0])

    objective()
    found = gradients["dense_0/weight"].copy()
    np.testing.assert_allclose(found, central_differences(objective, views["dense_0/weight"]), rtol=1e-6, atol=1e-9)
    assert not any(gradients[name].any() for name in gradients if "batch_norm" in name)


# What is refused ------------------------------------------------------------------------------------------------------


def test_groups_must_divide_the_channels() -> None:
    """The message has the place in the configuration."""
    made = builders.config({"dense": 12}, {"reshape": [6, 1, 2]}, {"group_norm": 4}, 10)
    with pytest.raises(ConfigError, match=r"layers\.2\.group_norm\.groups: must divide the number of channels, 6"):
        Model.of(made, (5,), _kernels.load("float32"))
    with pytest.raises(ShapeError, match=r"must divide the number of channels, 6 \(got 4\)") as caught:
        LayerAlone(GroupNorm, (5, 6), groups=4)
    assert caught.value.key == "groups" and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"layer_norm": {"epsilon": 0}}, r"layers\.0\.layer_norm\.epsilon: must be greater than 0"),
        ({"group_norm": 0}, r"layers\.0\.group_norm\.groups: must be at least 1"),
        ({"group_norm": {}}, r"layers\.0\.group_norm\.groups"),
        ({"batch_norm": {"momentum": 1.5}}, r"layers\.0\.batch_norm\.momentum: must be at most 1"),
    ],
)
def test_options_that_make_no_sense(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        builders.config(layer, 10)


def test_micro_batches_have_no_moments_of_the_batch() -> None:
    """Unless the layer is frozen."""
    sections: dict[str, Any] = {"training": {"gradient_accumulation": 4}}
    with pytest.raises(
        ConfigError, match=r"gradient_accumulation: must be 1 with batch_norm, .* \(got 4\); group_norm"
    ):
        builders.config({"batch_norm": {}}, 10, **sections)
    builders.config({"batch_norm": {}}, 10, model={"freeze": "batch_norm_0"}, **sections)
    builders.config({"group_norm": 2}, {"layer_norm": {}}, 10, **sections)


@pytest.mark.parametrize(("batch_size", "left"), [(1, 1), (32, 1), (31, 3)])
def test_a_batch_of_one_sample_is_refused_at_the_start(tmp_path: Path, batch_size: int, left: int) -> None:
    """Also if it is only the last one of each epoch."""
    x = np.random.default_rng(0).normal(size=(65, 4)).astype(np.float32)
    y = np.arange(65) % 3
    made = builders.mapping({"batch_norm": {}}, 3, training={"batch_size": batch_size})
    del made["data"]
    if left > 1:
        onotrain.fit(x, y, made)
        return
    with pytest.raises(DataError, match=f"65 samples with batch_size {batch_size} leave 1") as caught:
        onotrain.fit(x, y, made)
    assert "training.batch_size" in str(caught.value.hint)


# After training -------------------------------------------------------------------------------------------------------


def trained_net(path: Path, dtype: str) -> Path:
    """Write a network of all kinds with random parameters."""
    layers = [
        {"layer_norm": {}}, {"batch_norm": {"epsilon": 0.1}}, {"dense": 12}, {"group_norm": {"groups": 4}},
        {"batch_norm": {"affine": False}}, {"layer_norm": {"affine": False}}, {"dense": 3},
    ]  # fmt: skip
    made = networks.checkpoint(layers, dtype=dtype)
    rng = np.random.default_rng(4)
    arrays = {
        name: rng.uniform(0.5, 2, each.shape).astype(each.dtype) if "running_var" in name
        else rng.normal(size=each.shape).astype(each.dtype)
        for name, each in made.arrays.items()
    }  # fmt: skip
    return networks.save(path, Checkpoint(arrays, made.metadata))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_onnxruntime_predicts_the_same(tmp_path: Path, dtype: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    net = trained_net(tmp_path / "net.h5", dtype)
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(dtype)
    session = onnxruntime.InferenceSession(export(net, "onnx", tmp_path / "net.onnx"))
    for rows in (1, 40):
        got = session.run(None, {"input": x[:rows]})[0]
        np.testing.assert_allclose(got, onotrain.load(net).predict(x[:rows]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_operators_of_any_shape(kind: type[Layer], options: dict[str, Any], shape: tuple[int, ...]) -> None:
    """In onnxruntime, with channels last as inside."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    rng, alone, graph = np.random.default_rng(5), LayerAlone(kind, shape, "float32", **options), GraphBuilder()
    normal_parameters(alone, rng)
    x = (100 + rng.normal(size=(3, *shape))).astype(np.float32)
    views = {f"it/{name}": value for name, value in alone.parameters.items()}
    last = alone.layer.export(_LayerGraph(graph, "it", views, alone.kernels.dtype), "x")
    graph.node("Identity", [last], output="y")
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("batch", *shape)) for name in ("x", "y")]
    body = onnx.helper.make_graph(graph.nodes, "it", ports[:1], ports[1:], graph.constants)
    made = onnx.helper.make_model(body, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.checker.check_model(made, full_check=True)
    got = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
    expected = alone.predict(x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected) > 1


def test_a_layer_says_what_it_is() -> None:
    said = LayerAlone(GroupNorm, (2, 3, 6), groups=3).layer.describe()
    assert said.operations[0] == {
        "kind": "group_norm", "groups": 3, "epsilon": 1e-5, "affine": True, "inputs": [6, 2, 3], "outputs": [6, 2, 3],
    }  # fmt: skip


def test_a_training_and_what_comes_of_it(tmp_path: Path) -> None:
    """Features of very different sizes, not normalised before: the running moments are those of the data."""
    rng = np.random.default_rng(6)
    means, stds = np.array([1e3, -5.0, 0.0, 20.0]), np.array([100.0, 0.1, 1.0, 3.0])
    x = (means + stds * rng.normal(size=(600, 4))).astype(np.float32)
    y = (((x - means) / stds).sum(axis=1) > 0).astype(int)
    # With this rule and rate, running moments move alike as trained parameters.
    made = builders.mapping(
        {"batch_norm": {}}, builders.relu(16), {"layer_norm": {}}, 2, optimizer={"name": "sgd", "learning_rate": 0.1},
        training={"epochs": 12, "batch_size": 60},
    )  # fmt: skip
    made["data"] = {"normalize": "none"}
    onotrain.fit(x, y, made, output=tmp_path / "run")
    predictor = onotrain.load(tmp_path / "run")
    assert np.mean(np.argmax(predictor.predict(x), axis=1) == y) > 0.95
    arrays = find_checkpoint(tmp_path / "run", "latest").checkpoint.arrays
    np.testing.assert_allclose(arrays["parameters/batch_norm_0/running_mean"], x.mean(axis=0), rtol=0.05, atol=0.2)
    np.testing.assert_allclose(np.sqrt(arrays["parameters/batch_norm_0/running_var"]), x.std(axis=0), rtol=0.15)
