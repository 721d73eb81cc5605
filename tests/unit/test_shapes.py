"""The shape of a sample: what a configuration says of it, what the network sees, and where a layer refuses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builders
import toy_layer
from onotrain import _kernels
from onotrain.config import Config, Places, load_config
from onotrain.config.base import Problem
from onotrain.config.yaml_reader import read_yaml
from onotrain.data import Normalization
from onotrain.errors import ConfigError
from onotrain.evaluation.forward_pass import ForwardPass
from onotrain.nn import Model
from onotrain.nn.layers.activation import flat
from onotrain.nn.layers.base import ShapeError
from onotrain.nn.shapes import as_written, in_words
from onotrain.nn.workspace import SharedWorkspace


@pytest.fixture(autouse=True)
def _package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("site")
    toy_layer.install(folder)
    toy_layer.load_here(folder, monkeypatch)


def config(*layers: Any, **data: Any) -> Config:
    """Return a configuration with these layers, dropout among them, in float64."""
    return builders.config(
        *layers, {"dense": 3}, data={"train": "digits", **data}, loss="cross_entropy", training={"dtype": "float64"}
    )


# What people read -----------------------------------------------------------------------------------------------------


def test_an_image_is_written_with_its_channels_first() -> None:
    assert [as_written(shape) for shape in ((7,), (9, 2), (4, 5, 3))] == [(7,), (9, 2), (3, 4, 5)]
    assert (in_words((7,)), in_words((1, 28, 28))) == ("7", "1x28x28")


@pytest.mark.parametrize(
    ("shape", "words"),
    [((60,), "60-5-3"), ((12, 5), "12x5-5-3"), ((3, 4, 5), "3x4x5-5-3"), ((2, 2, 3, 5), "2x2x3x5-5-3")],
)
def test_a_dense_network_reads_samples_of_any_shape_alike(shape: tuple[int, ...], words: str) -> None:
    """Same parameters, gradient and predictions as with flat samples, in every bit; of no sample, zeros."""
    made = config({"activation": "tanh"}, {"dropout": 0.2}, {"dense": 5}, {"activation": "relu"})
    model, alike = builders.model(made, *shape), builders.model(made, 60)
    assert model.widths == words
    assert model.layout.digest == alike.layout.digest
    for rows in (4, 0):
        found, expected = (gradient_of(each, rows) for each in (model, alike))
        np.testing.assert_array_equal(found, expected)
        assert found.any() == (rows > 0)
    x = np.random.default_rng(5).normal(size=(7, 60))
    np.testing.assert_array_equal(logits_of(model, x), logits_of(alike, x))


def gradient_of(model: Model, rows: int, *, seed: int = 1) -> np.ndarray:
    """Return the gradient of the loss of some random samples, dropout included."""
    rng = np.random.default_rng(seed)
    x, targets = rng.normal(size=(rows, model.inputs)), rng.integers(0, 3, rows).astype(np.int32)
    gradient = model.layout.zeros()
    model.bind(builders.filled(model.layout, 2), gradient)
    model.reserve(rows)
    model.kernels.program(model.record(x, targets, 4, np.zeros(2), seed=3)).run(0)
    return gradient


def logits_of(model: Model, x: np.ndarray) -> np.ndarray:
    """Return what a network, bound to parameters, makes of flat samples."""
    forward = ForwardPass(model, Normalization.none(), _kernels.load("float64"))
    return forward.logits(x, np.arange(len(x))).copy()


# What layers read -----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 5), st.integers(1, 2))
def test_a_layer_reads_samples_with_all_their_axes(height: int, width: int, rows: int, size: int) -> None:
    """Behind the border of the network and behind another layer of several axes."""
    model = builders.model(config({"strip": size}, {"activation": "tanh"}, {"strip": 1}), height, width)
    assert [layer.out for layer in model.layers[:3]] == [(height, width - size + 1)] * 3
    parameters = builders.filled(model.layout, 4)
    model.bind(parameters)
    x = np.random.default_rng(rows).normal(size=(rows, height * width))
    first, second, weight, bias = model.layout.views(parameters).values()
    images = x.reshape(rows, height, width)
    sums = sum(first[k] * images[:, :, k : k + width - size + 1] for k in range(size))
    # The dense layer reads the last axis, as channels, first.
    hidden = (np.tanh(sums) * second).transpose(0, 2, 1).reshape(rows, height * (width - size + 1))
    np.testing.assert_allclose(logits_of(model, x), hidden @ weight.T + bias, rtol=1e-12, atol=1e-12)


def test_the_gradient_through_layers_of_several_axes_is_right() -> None:
    """Against fourth-order differences, in the first layer and behind a dense one's input."""
    model = builders.model(config({"strip": 2}, {"activation": "sigmoid"}, {"strip": 3}, {"dense": 4}), 3, 5)
    found, parameters = gradient_of(model, 6), builders.filled(model.layout, 2)
    rng = np.random.default_rng(1)
    x, targets, loss = rng.normal(size=(6, 15)), rng.integers(0, 3, 6).astype(np.int32), np.zeros(2)
    model.bind(parameters, model.layout.zeros())
    program = model.kernels.program(model.record(x, targets, 4, loss, seed=3))

    def value() -> float:
        loss[:] = 0.0
        program.run(0)
        return float(loss[0]) * 0.25

    for tensor in model.layout:
        for i in range(tensor.offset, tensor.offset + tensor.size):
            start, values = parameters[i], []
            for shift in (-2, -1, 1, 2):
                parameters[i] = start + shift * 1e-3
                values.append(value())
            parameters[i] = start
            expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12e-3
            assert found[i] == pytest.approx(expected, abs=1e-8), (tensor.name, i)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_values_of_a_sample_in_one_row(rows: int) -> None:
    array = np.arange(rows * 24.0).reshape(rows, 2, 3, 4)
    assert flat(array).shape == (rows, 24) and np.shares_memory(flat(array), array) == (rows > 0)
    assert flat(array[:, 0, 0]).shape == (rows, 4)


def test_what_gradients_are_made_of_has_one_row_for_each_sample() -> None:
    """Also of a layer that reads several axes, which ranks share."""
    model = builders.model(config({"activation": "tanh"}, {"dense": 5}), 3, 4)

    def allocate(fields: Any) -> dict[str, np.ndarray]:
        return {name: np.zeros(shape, dtype) for name, (shape, dtype) in fields.items()}

    factors = dict(SharedWorkspace(model.plan, 2, 4, allocate, list).factors(4))
    dz, x, _ = factors["dense_0/weight"]
    assert x is not None and (dz.shape, x.shape) == ((4, 5), (4, 12))


# Where a layer refuses ------------------------------------------------------------------------------------------------

YAML = """\
data: {train: digits}
model:
  layers:
    - activation: relu
    - strip: {size: 4}
    - strip:
        size: 6
    - dense: 10
loss: cross_entropy
training: {epochs: 1, batch_size: 50}
"""


def refusal(made: Config, *shape: int) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        builders.model(made, *shape)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(YAML)
    return path


def test_a_refusal_has_the_place_in_the_file(file: Path) -> None:
    found = refusal(load_config(file), 8, 8)
    assert found.message == f"{file}:7:15: model.layers.2.strip.size: is 6, more than the width of the image, 5"
    assert found.hint is None
    found = refusal(load_config(file), 64)
    assert found.message == f"{file}:5:14: model.layers.1.strip: reads samples of two axes (got 1)"
    assert found.hint == "give data.shape"


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("model.layers.2.strip.size=7", "is 7, more than the width of the image, 5"),
        ("model.layers.2.strip=7", "model.layers.2.strip.size: is 7, more than the width of the image, 5"),
        (
            "model.layers=[{strip: 9}, {dense: 10}]",
            "model.layers.0.strip.size: is 9, more than the width of the image, 8",
        ),
    ],
)
def test_a_refusal_of_what_the_command_line_says(file: Path, override: str, found: str) -> None:
    assert refusal(load_config(file, [override]), 8, 8).message == f"--set {override}: {found}"


def test_a_refusal_where_there_is_no_file(file: Path) -> None:
    """Of a mapping: the key; of a checkpoint: its name and the key."""
    mapping = load_config(file).to_mapping()
    text = "model.layers.2.strip.size: is 6, more than the width of the image, 5"
    assert refusal(Config.from_mapping(mapping), 8, 8).message == text
    assert refusal(Config.from_mapping(mapping, Places("run/step-1.h5")), 8, 8).message == f"run/step-1.h5: {text}"


def test_configurations_are_equal_wherever_they_are_written(file: Path) -> None:
    """And copies keep their place."""
    one = load_config(file)
    other = Config.from_mapping(one.to_mapping())
    assert one == other and hash(one) == hash(other) and one.digest() == other.digest()
    assert "places" not in one.to_mapping() and one.resolved().places.name == str(file)
    assert {path[0] for path in one.places.values} == {"model"}


def test_a_layer_that_builds_others_extends_the_path() -> None:
    """A layer that is not in the configuration is refused in the place of the one that builds it."""
    for options, shape, path in (
        (7, (8, 8), ("model", "layers", 1, "nest", "layers", 1, "strip", "size")),
        (1, (8, 1), ("model", "layers", 1, "nest")),
    ):
        made = config({"activation": "tanh"}, {"nest": options + 1})
        with pytest.raises(ShapeError) as caught:
            Model(made.model, made.loss, shape, _kernels.load("float64"))
        assert caught.value.path == path


def test_a_list_that_is_short_for_a_key_is_found() -> None:
    """``residual: [...]`` means ``residual: {layers: [...]}``; the message has the keys that are written."""
    text = "model:\n  layers:\n    - residual:\n        - dense: 3\n        - conv2d: {kernel: 7}\n"
    document = read_yaml(text)
    places = Places("c.yaml", document.keys, document.values)
    path = ("model", "layers", 0, "residual", "layers", 1, "conv2d", "kernel")
    assert places.lines([Problem(path, "is wrong")]) == [
        "c.yaml:5:28: model.layers.0.residual.1.conv2d.kernel: is wrong"
    ]
    deep = ("model", "layers", 0, "residual", "layers", 0, "dense", "units")
    assert places.lines([Problem(deep, "is wrong")]) == ["c.yaml:4:11: model.layers.0.residual.0.dense.units: is wrong"]


# What a configuration says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ([], "data.shape: must not be empty"),
        (64, "data.shape: expected a list such as [1, 28, 28] or null (got 64)"),
        ([8, 0], "data.shape.1: must be at least 1 (got 0)"),
        ([1, 1, 8, 8], "data.shape: has too many axes (got 4); expected [channels, height, width] at most"),
    ],
)
def test_a_shape_that_is_none(shape: Any, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(shape=shape)
    assert caught.value.message == found


def test_a_shape_is_written_and_read_again() -> None:
    made = config(shape=[1, 8, 8])
    assert made.data.shape == (1, 8, 8)
    assert Config.from_mapping(read_yaml(made.to_yaml()).data) == made
