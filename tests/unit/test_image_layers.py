"""Layers of images: the shapes that they read and write, what they refuse, and what they are exported as."""

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
from onotrain import _kernels
from onotrain.config import Config
from onotrain.errors import ConfigError, UsageError
from onotrain.inference.export import export
from onotrain.nn.layers.base import ShapeError
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.network import Network
from onotrain.nn.shapes import as_written, channels_last

Layers = list[Any]


def network(layers: Layers, shape: tuple[int, ...]) -> Network:
    """Return a network for samples of a shape, with a dense layer behind these."""
    return Network(builders.config(*layers, 3).model, shape)


def kinds(made: Network) -> list[str]:
    return [node.layer.kind for node in made.nodes]


def run(layers: Layers, shape: tuple[int, ...], x: np.ndarray) -> np.ndarray:
    """Return what layers make of data of a shape."""
    made = network(layers, shape)
    value = np.ascontiguousarray(x, np.float64).reshape(len(x), *made.shapes[0])
    kernels = _kernels.load("float64")
    nodes = made.nodes[:-1]
    if layers[-1] != "flatten" and nodes[-1].layer.kind == "flatten":  # that of the dense layer
        nodes.pop()
    for node in nodes:
        y = np.full((len(x), *node.layer.out), np.nan)
        calls: list[Any] = []
        node.layer.predict(Recorder(kernels, calls, 0, (value,), y, {}))
        kernels.program(calls).run(0)
        value = y
    return value


# ----------------------------------------------------------------------------------------------------- shapes and order


@pytest.mark.parametrize("shape", [(3, 8, 6), (1, 8, 6), (8, 6), (48,)])
@pytest.mark.parametrize("layers", [[], ["flatten"], [{"dropout": 0.2}], [{"activation": "relu"}, "flatten"]])
def test_dense_layers_get_the_data_as_it_lies(shape: tuple[int, ...], layers: Layers) -> None:
    made = network(layers, shape)
    assert made.shapes[0] == (np.prod(shape),)
    assert kinds(made) == [*(kind for layer in layers if isinstance(layer, dict) for kind in layer), "dense"]


@pytest.mark.parametrize(
    ("shape", "first", "expected"),
    [
        ((3, 8, 6), "reshape", [(144,), (8, 6, 3)]),
        ((1, 8, 6), None, [(8, 6, 1)]),
        ((8, 6), None, [(8, 6)]),
    ],
)
def test_images_are_arranged_for_layers_that_need_axes(
    shape: tuple[int, ...], first: str | None, expected: list[tuple[int, ...]]
) -> None:
    """Several channels take a transposition, one takes nothing."""
    for layers in ([{"max_pool2d": 2}], [{"dropout": 0.1}, {"max_pool2d": 2}]):
        made = network(layers, shape)
        assert made.shapes[: len(expected)] == expected
        assert kinds(made) == [*([first] if first else []), *(next(iter(each)) for each in layers), "flatten", "dense"]


@given(st.integers(0, 3), st.integers(1, 4), st.integers(2, 6), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_images_have_the_channels_last_and_are_flattened_channel_by_channel(
    rows: int, channels: int, height: int, width: int
) -> None:
    x = np.random.default_rng(1).normal(size=(rows, channels, height, width))
    shape = channels, height, width
    np.testing.assert_array_equal(run([{"avg_pool2d": 1}], shape, x), _last(x))
    np.testing.assert_array_equal(run([{"avg_pool2d": 1}, "flatten"], shape, x), x.reshape(rows, math.prod(shape)))


def _last(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1)


def test_a_reshape_takes_values_as_users_have_them() -> None:
    """NumPy's reshape of samples with the channels first, from every number of axes to every number."""
    x = np.random.default_rng(1).normal(size=(2, 24))
    shapes: list[list[int]] = [[24], [6, 4], [4, 3, 2], [1, 4, 6], [2, 3, 4]]
    for first in shapes:
        for second in shapes:
            expected = x.reshape(2, *second)
            expected = _last(expected) if len(second) == 3 else expected
            np.testing.assert_array_equal(run([{"reshape": first}, {"reshape": second}], (24,), x), expected)
    assert channels_last((4, 3, 2)) == (3, 2, 4) and as_written((3, 2, 4)) == (4, 3, 2)


def test_sequences_are_flattened_channel_by_channel_too() -> None:
    x = np.random.default_rng(1).normal(size=(2, 7, 3))
    np.testing.assert_array_equal(run([{"avg_pool1d": 1}, "flatten"], (7, 3), x), x.transpose(0, 2, 1).reshape(2, 21))


def test_means_over_all_positions() -> None:
    rng = np.random.default_rng(1)
    image, sequence = rng.normal(size=(3, 5, 4, 6)), rng.normal(size=(3, 7, 2))
    np.testing.assert_allclose(run(["global_avg_pool"], (5, 4, 6), image), image.mean(axis=(2, 3)), rtol=1e-12)
    np.testing.assert_allclose(run(["global_avg_pool"], (7, 2), sequence), sequence.mean(axis=1), rtol=1e-12)


def test_pools_of_sequences_and_of_images_without_channels() -> None:
    x = np.random.default_rng(1).normal(size=(3, 6))
    pairs = x.reshape(3, 3, 2)
    np.testing.assert_array_equal(run([{"max_pool1d": 2}], (6,), x), pairs.max(axis=2)[..., None])
    np.testing.assert_allclose(run([{"avg_pool1d": 2}], (6, 1), x), pairs.mean(axis=2)[..., None], rtol=1e-15)
    image = x.reshape(3, 1, 2, 3)
    expected = image[:, 0, :, :2].max(axis=(1, 2)).reshape(3, 1, 1, 1)
    np.testing.assert_array_equal(run([{"max_pool2d": 2}], (2, 3), image), expected)


def test_augmentation_changes_nothing_after_training() -> None:
    x = np.random.default_rng(1).normal(size=(3, 2, 5, 4))
    layers: Layers = [{"random_shift": 1}, {"random_crop": {"padding": 2, "fill": "edge"}}, "random_flip"]
    np.testing.assert_array_equal(run(layers, (2, 5, 4), x), _last(x))


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("layer", "shape", "key", "message"),
    [
        ({"reshape": [2, 5]}, (12,), "shape", "2 x 5 are 10 values (got samples of 12 values)"),
        ({"max_pool2d": 2}, (12,), None, "reads images, channels x height x width (got samples of 12)"),
        ({"random_flip": {}}, (12,), None, "reads images, channels x height x width (got samples of 12)"),
        ({"avg_pool1d": 2}, (2, 3, 4), None, "reads sequences, length x channels (got samples of 2 x 3 x 4)"),
        ({"global_avg_pool": {}}, (12,), None, "means over positions (got samples of 12 values without axes)"),
        ({"max_pool2d": {"size": [5, 2]}}, (2, 4, 6), "size", "a window of 5 x 2 is larger than the image (got 4 x 6 "),
        ({"avg_pool2d": {"size": 7, "padding": 1}}, (4, 9), "size", "7 x 7 is larger than the image (got 6 x 11 "),
        ({"max_pool1d": 9}, (8, 2), "size", "a window of 1 x 9 is larger than the image (got 1 x 8 "),
        ({"random_shift": 4}, (2, 4, 6), "pixels", "less than height and width of the image (got 4 x 6 pixels)"),
        ({"random_crop": 6}, (1, 8, 6), "padding", "less than height and width of the image (got 8 x 6 pixels)"),
    ],
)
def test_samples_that_a_layer_cannot_read_are_refused(
    layer: dict[str, Any], shape: tuple[int, ...], key: str | None, message: str
) -> None:
    with pytest.raises(ShapeError) as caught:
        network([layer], shape)
    assert caught.value.key == key and message in caught.value.message
    assert isinstance(caught.value, UsageError) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"max_pool2d": {"size": 3, "padding": 2}}, "must be at most half the size (got 2 x 2 for windows of 3 x 3)"),
        ({"avg_pool1d": {"size": 1, "padding": 1}}, "padding: must be at most half the size (got 1 for windows of 1)"),
        ({"max_pool2d": 17}, "max_pool2d.size: must be at most 256 pixels in all (got 17 x 17)"),
        ({"max_pool1d": 257}, "max_pool1d.size: must be at most 256 pixels in all (got 257)"),
        ({"max_pool2d": {"size": [2, 2, 2]}}, "max_pool2d.size: has too many entries (got a list of 3, at most 2)"),
        ({"max_pool2d": {"size": 2.5}}, "max_pool2d.size: must be a whole number (got 2.5)"),
        ({"max_pool2d": "2x2"}, "max_pool2d.size: expected a whole number or [height, width] (got '2x2')"),
        ({"max_pool2d": {"size": 0}}, "max_pool2d.size: must be at least 1 (got 0)"),
        ({"max_pool2d": {"size": 2, "padding": -1}}, "max_pool2d.padding: must be at least 0 (got -1)"),
        ({"max_pool2d": {"size": 2, "stride": [1, 0]}}, "max_pool2d.stride.1: must be at least 1 (got 0)"),
        ({"max_pool2d": {}}, "max_pool2d.size: required key of layer 'max_pool2d' is missing"),
        ({"reshape": []}, "reshape.shape: must not be empty"),
        ({"reshape": [1, 2, 3, 4]}, "reshape.shape: must have 1 to 3 axes (got 4)"),
        ({"random_flip": {"horizontal": False}}, "random_flip: flips nothing: horizontal or vertical must be true"),
        ({"random_shift": {"pixels": 2, "fill": "edges"}}, "fill: unknown name (got 'edges'); did you mean 'edge'?"),
        ({"flatten": {"axis": 1}}, "flatten.axis: unknown key of layer 'flatten'; it has no keys"),
        ("max_pool2d", "must be a mapping of one kind of layer to its options, such as 'dense: 10' (got 'max_pool2d')"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(layer: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        builders.config(layer, 3)
    assert message in caught.value.message


def test_options_survive_being_written() -> None:
    """Also kinds that stand alone, and windows given by one number."""
    layers: Layers = [
        {"reshape": [2, 8, 8]}, {"random_shift": 2}, {"random_crop": {"padding": 3, "fill": "reflect"}}, "random_flip",
        {"max_pool2d": {"size": [3, 2], "stride": 1}}, {"avg_pool2d": 2}, "flatten", {"max_pool1d": 2},
        {"avg_pool1d": {"size": 3, "padding": 1}}, "global_avg_pool",
    ]  # fmt: skip
    made = builders.config(*layers, 3)
    assert Config.from_mapping(made.model_dump(mode="json", by_alias=True)) == made
    assert made.model.layers[5].options.size == (2, 2)


# --------------------------------------------------------------------------------------------------------------- export

EXPORTED: dict[str, Layers] = {
    "max": [{"reshape": [3, 9, 7]}, {"max_pool2d": {"size": [3, 2], "stride": 2, "padding": [1, 0]}}, {"dense": 4}],
    "mean": [
        {"reshape": [3, 9, 7]}, {"avg_pool2d": {"size": 3, "stride": 2, "padding": 1}}, {"activation": "tanh"},
        {"max_pool2d": 2}, {"dense": 4},
    ],
    "one channel": [{"reshape": [1, 21, 9]}, {"avg_pool2d": 3}, "flatten", {"dense": 4}],
    "without channels": [{"reshape": [21, 9]}, {"max_pool2d": 3}, {"dense": 4}],
    "sequence": [
        {"reshape": [27, 7]}, {"max_pool1d": {"size": 3, "stride": 2}}, {"avg_pool1d": {"size": 3, "padding": 1}},
        {"dense": 4},
    ],
    "global": [{"reshape": [21, 3, 3]}, "global_avg_pool", {"dense": 4}],
    "augmentation": [{"reshape": [21, 9]}, {"random_shift": 2}, "random_flip", {"max_pool2d": 2}, {"dense": 4}],
    "there and back": [{"reshape": [7, 3, 9]}, {"reshape": [3, 7, 9]}, {"reshape": [9, 21]}, "flatten", {"dense": 4}],
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", EXPORTED)
def test_onnx(tmp_path: Path, case: str, dtype: str) -> None:
    """What onnxruntime computes from the file is what the network predicts."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    made = networks.checkpoint(EXPORTED[case], shape=(189,), dtype=dtype)
    net = networks.save(tmp_path / "net.h5", made)
    path = export(net, "onnx", tmp_path / "net.onnx")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(13, 189)).astype(dtype)
    for rows in (1, 13):
        got = session.run(None, {session.get_inputs()[0].name: x[:rows]})[0]
        np.testing.assert_allclose(got, onotrain.load(net).predict(x[:rows]), rtol=1e-5, atol=1e-5)


def test_a_description_tells_windows_and_shapes_with_the_channels_first() -> None:
    made = network([{"max_pool2d": {"size": 3, "stride": 2}}, {"random_shift": 1}], (3, 9, 7))
    described = [node.layer.describe() for node in made.nodes]
    assert described[1].operations == (
        {
            "kind": "max_pool2d", "size": [3, 3], "stride": [2, 2], "padding": [0, 0], "inputs": [3, 9, 7],
            "outputs": [3, 4, 3],
        },
    )  # fmt: skip
    assert described[2].title == "random_shift" and described[2].operations == ()
