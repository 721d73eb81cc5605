"""``--set key.path=value``."""

# ruff: noqa: E501 -- messages are compared whole, and read best so

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from onotrain.config import Config, load_config
from onotrain.config.optimizer import UPDATE_RULES
from onotrain.config.overrides import apply_overrides
from onotrain.errors import ConfigError
from schema_walk import Place, places

*MOST_RULES, LAST_RULE = UPDATE_RULES
RULES = f"{', '.join(MOST_RULES)} or {LAST_RULE}"
PLACES = list(places(Config))
TEXT = """\
data: {train: digits, validation: 0.2}
model:
  layers:
    - dense: 16
    - activation: leaky_relu
    - dropout: 0.1
    - dense: 10
loss: cross_entropy
optimizer: {name: adam, betas: [0.8, 0.9]}
training: {epochs: 2, batch_size: 32}
"""


def load(tmp_path: Path, *overrides: str) -> Config:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return load_config(path, overrides)


def wrong(tmp_path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, *overrides)
    return caught.value.message.replace(str(tmp_path / "run.yaml"), "run.yaml").split("\n")


LAYERS = "[{dense: 4}, {residual: [{dense: 16}]}]"


@pytest.mark.parametrize("layers", ["layers.", ""])
@pytest.mark.parametrize("written", [LAYERS, f"{{layers: {LAYERS}}}"], ids=["short", "long"])
def test_layers_within_a_layer(tmp_path: Path, written: str, layers: str) -> None:
    """With the key of the list and without it, however the file has it."""
    path = tmp_path / "run.yaml"
    path.write_text(TEXT.replace("    - dropout: 0.1\n", f"    - residual: {written}\n"))
    inner = f"model.layers.2.residual.{layers}1.residual.{layers}0.dense"
    changes = [f"{inner}.activation=relu", "model.layers.2.residual.activation=relu"]
    found = load_config(path, [*changes, f"model.layers.2.residual.{layers}0.dense=7"])
    block = found.model.layers[2].options
    assert (block.layers[0].options.units, block.activation) == (7, "relu")
    assert block.layers[1].options.layers[0].options.activation == "relu"
    with pytest.raises(ConfigError, match=rf"^--set {inner}.units=0: must be at least 1 \(got 0\)$"):
        load_config(path, [f"{inner}.units=0"])
    with pytest.raises(ConfigError, match="'2' is no index of a list of 2"):
        load_config(path, [f"model.layers.2.residual.{layers}2.dense=3"])


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("training.epochs=7", "training.epochs", 7),
        ("optimizer.learning_rate=1e-2", "optimizer.learning_rate", 0.01),
        ("optimizer.betas.1=0.5", "optimizer.betas", (0.8, 0.5)),
        ("optimizer.betas=[0.1, 0.2]", "optimizer.betas", (0.1, 0.2)),
        ("data.validation=", "data.validation", None),
        ("data.train=a=b.csv", "data.train", "a=b.csv"),
        ("loss=mse", "loss.name", "mse"),
        ("loss.label_smoothing=0.1", "loss.label_smoothing", 0.1),
        ("loss={name: huber, delta: 2}", "loss.delta", 2.0),
        ("schedule.warmup_epochs=2", "schedule.warmup_epochs", 2),
        ("schedule={name: cosine}", "schedule.name", "cosine"),
        ("checkpoint.every_seconds=60", "checkpoint.every_seconds", 60.0),
        ("training.early_stopping.patience=3", "training.early_stopping.patience", 3),
        ("strategy.name=flat", "strategy.name", "flat"),
        ("strategy=flat", "strategy.name", "flat"),
        ("model.layers.0.dense.units=64", "model.layers.0.options.units", 64),
        ("model.layers.0.dense.activation=tanh", "model.layers.0.options.activation", "tanh"),
        ("model.layers.1.activation.negative_slope=0.3", "model.layers.1.options.negative_slope", 0.3),
        ("model.layers.2.dropout.rate=0.3", "model.layers.2.options.rate", 0.3),
        ("model.layers.2={dense: 3}", "model.layers.2.options.units", 3),
        ("model.bias_initializer=0.5", "model.bias_initializer.value", 0.5),
        ("model.initializer.name=lecun_normal", "model.initializer.name", "lecun_normal"),
    ],
)
def test_set(tmp_path: Path, override: str, path: str, value: Any) -> None:
    got: Any = load(tmp_path, override)
    for part in path.split("."):
        got = got[int(part)] if part.isdigit() else getattr(got, part)
    assert got == value


def test_later_ones_win_and_build_on_earlier_ones(tmp_path: Path) -> None:
    config = load(tmp_path, "optimizer={name: sgd}", "optimizer.momentum=0.5", "optimizer.momentum=0.9")
    assert (config.optimizer.name, config.optimizer.momentum) == ("sgd", 0.9)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.id)
def test_every_short_form_can_be_opened(place: Place) -> None:
    """A key that is set within a short form must not lose what the short form said."""
    for short, full in place.short_forms:
        data = place.data(short)
        overrides, problems = apply_overrides(data, [f"{place.dotted}.other=1"], Config)
        assert (len(overrides), problems) == (1, [])
        assert data == place.data({**full, "other": 1})


def test_the_schema_was_walked() -> None:
    """All places that have short forms, those within choices too."""
    found = {place.dotted for place in PLACES if place.short_forms}
    assert {"loss", "data.partition", "communication.codec", "strategy.period", "strategy.server.compensation"} <= found
    assert {"model.layers.0.dense", "model.layers.0.dense.initializer", "model.bias_initializer"} <= found


@pytest.mark.parametrize(
    ("short", "key", "value", "expected"),
    [
        ("communication.codec=topk", "fraction", 0.02, {"name": "topk", "fraction": 0.02}),
        ("data.partition=by_label", "alpha", 2.0, {"name": "by_label", "alpha": 2.0}),
        ("strategy.period=adaptive", "steps", 8, {"name": "adaptive", "steps": 8}),
        ("strategy.period=8", "name", "adaptive", {"name": "adaptive", "steps": 8}),
        ("model.bias_initializer=0.5", "value", 0.25, {"name": "constant", "value": 0.25}),
    ],
)
def test_a_key_within_a_short_form(tmp_path: Path, short: str, key: str, value: Any, expected: dict[str, Any]) -> None:
    place = short.partition("=")[0]
    got: Any = load(
        tmp_path, "strategy={name: local_sgd, inner_state: keep}", short, f"{place}.{key}={value}"
    ).to_mapping()
    for part in place.split("."):
        got = got[part]
    assert got == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["optimizer.nme=x"], ["--set optimizer.nme=x: unknown key of optimizer 'adam'; did you mean 'name'?"]),
        (["traning.epochs=1"], ["--set traning.epochs=1: traning: unknown key; did you mean 'training'?"]),
        (["epochs"], ["--set epochs: expected key.path=value, such as optimizer.learning_rate=1e-3"]),
        (["=3"], ["--set =3: expected key.path=value, such as optimizer.learning_rate=1e-3"]),
        (["a..b=3"], ["--set a..b=3: expected key.path=value, such as optimizer.learning_rate=1e-3"]),
        (["training.epochs=[1"], ["--set training.epochs=[1: value: not YAML: expected ',' or ']', but got '<stream end>' while parsing a flow sequence"]),
        (["training.epochs=&x 1"], ["--set training.epochs=&x 1: value: anchors are not allowed (got &x)"]),
        (["training.epochs.x=1"], ["--set training.epochs.x=1: training.epochs is 2, which has no keys"]),
        (["model.layers.4.dropout=0"], ["--set model.layers.4.dropout=0: '4' is no index of a list of 4 (expected 0 to 3)"]),
        (["model.layers.x.dropout=0"], ["--set model.layers.x.dropout=0: 'x' is no index of a list of 4 (expected 0 to 3)"]),
        (["model.layers.-1.dense=0"], ["--set model.layers.-1.dense=0: '-1' is no index of a list of 4 (expected 0 to 3)"]),
        (["model.layers.0.dense.units=-5"], ["--set model.layers.0.dense.units=-5: must be at least 1 (got -5)"]),
        (["model.layers.0.dense=-5"], ["--set model.layers.0.dense=-5: model.layers.0.dense.units: must be at least 1 (got -5)"]),
        (["schedule={name: step, factor: 0}"], [
            "--set schedule={name: step, factor: 0}: schedule.every_epochs: required key of schedule 'step' is missing",
            "--set schedule={name: step, factor: 0}: schedule.factor: must be greater than 0 (got 0)",
        ]),
        (["schedule.name=exponential"], ["--set schedule.name=exponential: schedule.factor: required key of schedule 'exponential' is missing"]),
        (["training.early_stopping.min_delta=1"],
         ["--set training.early_stopping.min_delta=1: training.early_stopping.patience: required key is missing"]),
        (["optimizer.name=sgd"],
         ["run.yaml:9:25: optimizer.betas: unknown key of optimizer 'sgd'; known keys are name, learning_rate, weight_decay, decoupled, decay_norm_and_bias, momentum and nesterov"]),
        (["optimizer.name=sdg"], ["--set optimizer.name=sdg: unknown optimizer (got 'sdg'); did you mean 'sgd'?"]),
        (["training.epochs=0", "optimizer.name=3"], [
            "--set training.epochs=0: must be at least 1 (got 0)",
            f"--set optimizer.name=3: unknown optimizer (got 3); expected {RULES}",
        ]),
        ([".".join("a" * 17) + "=1"], [f"--set {'.'.join('a' * 17)}=1: path is more than 16 keys deep"]),
        (["data.train=\ud800"], ["--set data.train=\ud800: value: not UTF-8 (got byte 0xed)"]),
    ],
)  # fmt: skip
def test_messages(tmp_path: Path, overrides: list[str], expected: list[str]) -> None:
    assert wrong(tmp_path, *overrides) == expected
