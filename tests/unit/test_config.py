"""The configuration as its consumers see it: short forms, defaults, digests, and the files in configs/."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.config import Config, load_config, mode_of, top_k
from onotrain.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def mapping(**sections: Any) -> dict[str, Any]:
    base = {
        "data": {"train": "digits", "validation": 0.2},
        "model": {"layers": [{"dense": {"units": 16, "activation": "relu"}}, {"dense": 10}]},
        "loss": "cross_entropy",
        "training": {"epochs": 2, "batch_size": 32},
    }
    return copy.deepcopy({**base, **sections})


def problems(**sections: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping(mapping(**sections))
    return caught.value.message.split("\n")


def test_defaults() -> None:
    config = Config.from_mapping(mapping())
    assert (config.optimizer.name, config.optimizer.learning_rate, config.optimizer.decoupled) == ("adam", 1e-3, False)
    assert (config.schedule.name, config.strategy.name, config.checkpoint.keep) == ("constant", "allreduce", 3)
    assert config.training.metrics == ("loss", "accuracy")
    assert config.model.initializer.name == "xavier_uniform"
    assert (config.model.bias_initializer.name, config.model.bias_initializer.value) == ("constant", 0.0)


def test_layers_have_kind_and_options() -> None:
    layers = [{"dense": 8}, {"activation": "leaky_relu"}, {"dropout": 0}, {"dense": {"units": 10, "bias": False}}]
    config = Config.from_mapping(mapping(model={"layers": layers}))
    assert [layer.kind for layer in config.model.layers] == ["dense", "activation", "dropout", "dense"]
    first, activation, dropout, last = (layer.options for layer in config.model.layers)
    assert (first.units, first.activation, first.bias, first.initializer) == (8, "identity", True, None)
    assert (activation.name, activation.negative_slope) == ("leaky_relu", 0.01)
    assert dropout.rate == 0.0
    assert (last.units, last.bias, config.model.outputs) == (10, False, 10)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ({"loss": "mse"}, {"loss": {"name": "mse"}}),
        ({"optimizer": "sgd"}, {"optimizer": {"name": "sgd", "learning_rate": 0.01, "momentum": 0, "nesterov": False}}),
        ({"optimizer": {"eps": 1e-8}}, {"optimizer": "adam"}),
        ({"schedule": {"warmup_epochs": 0}}, {"schedule": "constant"}),
        ({"strategy": "flat"}, {"strategy": {"name": "flat"}}),
        ({"checkpoint": {}}, {"checkpoint": {"keep": 3, "every_epochs": 1}}),
        ({"model": {"layers": [{"dense": 3}]}}, {"model": {"layers": [{"dense": {"units": 3, "bias": True}}]}}),
        (
            {"model": {"layers": [{"dense": 3}], "initializer": "kaiming_normal", "bias_initializer": 1}},
            {
                "model": {
                    "bias_initializer": {"value": 1.0, "name": "constant"},
                    "initializer": {"name": "kaiming_normal"},
                    "layers": [{"dense": {"units": 3}}],
                }
            },
        ),
        (
            {"data": {"train": "a.csv", "normalize": {"mean": 1, "std": 2}}},
            {"data": {"normalize": {"std": [2.0], "mean": [1.0]}, "train": "a.csv"}},
        ),
        (
            {"data": {"train": "mnist", "validation": "test"}, "training": {"epochs": 1, "batch_size": 1}},
            {
                "training": {"batch_size": 1, "epochs": 1, "metrics": ["loss", "accuracy"]},
                "data": {"validation": "test", "train": "mnist"},
            },
        ),
    ],
)
def test_digest_is_that_of_the_meaning(short: dict[str, Any], full: dict[str, Any]) -> None:
    one, other = Config.from_mapping(mapping(**short)), Config.from_mapping(dict(reversed(mapping(**full).items())))
    assert one == other
    assert one.canonical_json() == other.canonical_json()
    assert one.digest() == other.digest()


def test_digest_sees_every_value() -> None:
    config = Config.from_mapping(mapping())
    changed = [
        mapping(training={"epochs": 2, "batch_size": 32, "seed": 1}),
        mapping(optimizer={"learning_rate": 2e-3}),
        mapping(data={"train": "digits", "validation": 0.25}),
    ]
    assert len({config.digest(), *(Config.from_mapping(each).digest() for each in changed)}) == 4


def test_canonical_json_is_pinned() -> None:
    """A checkpoint holds this digest: it may change only together with the meaning of a configuration."""
    config = Config.from_mapping(mapping(strategy="flat"))
    assert json.loads(config.canonical_json()) == config.to_mapping()
    assert config.canonical_json().startswith(
        '{"checkpoint":{"every_epochs":1,"every_seconds":null,"every_steps":null,"keep":3},"communication":{"codec":'
        '{"name":"none"}},"data":{"columns":{},"csv":{"comment":null,"decimal":null,"delimiter":null,"encoding":null,'
        '"header":null,"missing":null,"quote":"\\"","skip":null,"thousands":null,"units_row":null},"exclude":null,"features":null,"format":"auto",'
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_file_loads_and_round_trips(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    copy_of_it = tmp_path / "config.yaml"
    copy_of_it.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(copy_of_it) == config
    assert Config.from_mapping(config.to_mapping()) == config


def test_shipped_files_are_these() -> None:
    assert [path.stem for path in CONFIGS] == [
        "binary-csv", "digits", "mnist-cnn", "mnist-lenet5", "mnist-mlp", "mnist-nielsen", "simulation-data",
        "tabular-resnet",
    ]  # fmt: skip


def test_mnist_mlp_is_the_published_setting() -> None:
    config = load_config(next(path for path in CONFIGS if path.stem == "mnist-mlp"))
    kinds = [layer.options.units if layer.kind == "dense" else layer.options.rate for layer in config.model.layers]
    assert kinds == [512, 0.2, 256, 0.2, 128, 0.2, 10]
    hidden = [layer.options.activation for layer in config.model.layers if layer.kind == "dense"]
    assert hidden == ["relu", "relu", "relu", "identity"]
    assert config.optimizer.model_dump() == {
        "name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-5, "decoupled": False, "decay_norm_and_bias": True,
        "betas": (0.9, 0.999), "eps": 1e-8,
    }  # fmt: skip
    assert (config.schedule.name, config.schedule.every_epochs, config.schedule.factor) == ("step", 3, 0.5)
    assert (config.training.epochs, config.training.batch_size, config.data.validation) == (5, 64, "test")
    assert (config.data.normalize.mean, config.data.normalize.std) == ((0.1307,), (0.3081,))


@pytest.mark.parametrize(
    ("optimizer", "clip_norm", "options", "found"),
    [
        ("lamb", 1.0, {"servers": 2, "staleness": 3}, ["training.clip_norm needs", "optimizer lamb needs"]),
        ("adam", 1.0, {"servers": 2, "staleness": "unbounded"}, ["training.clip_norm needs"]),
        ("adam", None, {"servers": 2, "staleness": "unbounded"}, []),
        ("lamb", 1.0, {"servers": 1, "staleness": 3}, []),
        ("lamb", 1.0, {"servers": 2, "staleness": 0}, []),
        ("lamb", 1.0, {"servers": 2, "staleness": 3, "push_every": 4}, []),  # workers have them
    ],
)
def test_servers_that_update_apart_have_no_norm_of_everything(
    optimizer: str, clip_norm: float | None, options: dict[str, Any], found: list[str]
) -> None:
    sections = {
        "optimizer": optimizer,
        "training": {"epochs": 2, "batch_size": 32, "clip_norm": clip_norm},
        "strategy": {"name": "parameter_server", **options},
    }
    if found:
        lines = problems(**sections)
        assert len(lines) == len(found)
        assert all(line.startswith(f"strategy.servers: {text}") for line, text in zip(lines, found, strict=True))
    else:
        assert Config.from_mapping(mapping(**sections)).strategy.servers == options["servers"]


@pytest.mark.parametrize("optimizer", [{"name": "sgd"}, {"name": "sgd", "momentum": 0.9}, {"name": "lion"}])
def test_no_codec_encodes_the_average_of_optimiser_states(optimizer: dict[str, Any]) -> None:
    sections = {"optimizer": optimizer, "strategy": "local_sgd", "communication": {"codec": "int8"}}
    if optimizer == {"name": "sgd"}:  # has no state
        assert Config.from_mapping(mapping(**sections)).strategy.inner_state == "average"
    else:
        (line,) = problems(**sections)
        assert line.startswith("strategy.inner_state: must be keep or reset with communication.codec int8")


@pytest.mark.parametrize("name", ["learning_rate", "delay", "constant_batch"])
def test_compensation_has_a_short_form_and_needs_staleness(name: str) -> None:
    strategy = {"name": "parameter_server", "staleness": 2, "compensation": name}
    assert Config.from_mapping(mapping(strategy=strategy)).strategy.compensation.name == name
    assert "never stale" in problems(strategy={**strategy, "staleness": 0})[0]


@pytest.mark.parametrize("whole", [{"staleness": 0}, {"staleness": 2, "compensation": "constant_batch"}])
def test_rates_are_scaled_only_where_updates_are_of_parts_of_batches(whole: dict[str, Any]) -> None:
    for scaling in ("root", "linear"):
        lines = problems(strategy={"name": "parameter_server", **whole, "rate_scaling": scaling})
        assert len(lines) == 1 and "needs updates of a part of a batch" in lines[0]
    for scaling in ("auto", "none"):
        strategy = {"name": "parameter_server", **whole, "rate_scaling": scaling}
        assert Config.from_mapping(mapping(strategy=strategy)).strategy.rate_scaling == scaling


@pytest.mark.parametrize("name", ["none", "learning_rate", "delay", "constant_batch"])
def test_only_some_compensations_correct_what_local_steps_push(name: str) -> None:
    strategy = {"name": "parameter_server", "staleness": 2, "push_every": 8, "compensation": name}
    if name in ("none", "learning_rate"):
        assert Config.from_mapping(mapping(strategy=strategy)).strategy.local_steps
        return
    (line,) = problems(strategy=strategy)
    assert line.startswith("strategy.compensation: must be none or learning_rate with push_every 8")
    (line,) = problems(strategy={"name": "strategy_switch", "server": strategy})
    assert line.startswith("strategy.server.compensation: must be none or learning_rate with push_every 8")


def test_a_push_that_ends_the_epoch_is_overlapped_by_nothing() -> None:
    strategy = {"name": "parameter_server", "staleness": 2, "overlap": True}
    for every in (1, 8):
        made = Config.from_mapping(mapping(strategy={**strategy, "push_every": every}))
        assert made.strategy.local_steps == (every > 1)
    (line,) = problems(strategy={**strategy, "push_every": "epoch"})
    assert line.startswith("strategy.overlap: must be false with push_every epoch")


@pytest.mark.parametrize("every", [0, -1, 1.5, "ever"])
def test_pushes_come_after_a_whole_number_of_steps(every: Any) -> None:
    (line,) = problems(strategy={"name": "parameter_server", "push_every": every})
    expected = "expected a whole number or epoch" if every == "ever" else "must be "
    assert line.startswith(f"strategy.push_every: {expected}")


@pytest.mark.parametrize("written", [{}, {"name": "parameter_server"}])
def test_the_server_of_a_switch_is_asynchronous_if_nothing_else_is_asked_for(written: dict[str, Any]) -> None:
    """Whether its name is written or not; a run's own file has all of it written."""
    strategy = Config.from_mapping(
        mapping(strategy={"name": "strategy_switch", "server": {**written, "servers": 2}})
    ).strategy
    assert (strategy.server.staleness, strategy.fewest_ranks) == ("unbounded", 3)
    bounded = {"name": "strategy_switch", "server": {**written, "staleness": 0}}
    config = Config.from_mapping(mapping(strategy=bounded))
    assert config.strategy.server.staleness == 0
    assert Config.from_mapping(config.to_mapping()) == config


def test_nothing_can_be_changed() -> None:
    config = Config.from_mapping(mapping())
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 3  # type: ignore[misc]
    assert hash(config) == hash(Config.from_mapping(mapping()))


def test_columns_cannot_be_changed_either() -> None:
    data = {"train": "a.csv", "columns": {"age": {"name": "numeric", "missing": "mean"}, "sex": "categorical"}}
    config = Config.from_mapping(mapping(data=data))
    assert hash(config) == hash(Config.from_mapping(config.to_mapping()))
    assert hash(config) != hash(Config.from_mapping(mapping(data={**data, "columns": {"age": "numeric"}})))
    with pytest.raises(TypeError, match="cannot be changed"):
        config.data.columns["age"] = config.data.columns["sex"]


def test_python_values() -> None:
    """Tuples, paths and NumPy numbers are what YAML cannot hold and Python users have."""
    config = Config.from_mapping(
        mapping(
            data={"train": Path("a.h5"), "features": ("x",)},
            optimizer={"betas": (0.8, np.float64(0.9)), "learning_rate": np.float32(0.5)},
            training={"epochs": np.int64(3), "batch_size": 1},
        )
    )
    assert (config.data.train, config.data.features) == ("a.h5", ("x",))
    assert (config.optimizer.betas, config.optimizer.learning_rate) == ((0.8, 0.9), 0.5)
    assert type(config.training.epochs) is int


def test_pickles_and_copies() -> None:
    """A launcher may send a configuration to other processes."""
    made = mapping()
    made["data"] = {**made["data"], "columns": {"a": "numeric"}}
    config = Config.from_mapping(made)
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config


def test_validated_sections_can_be_handed_in() -> None:
    config = Config.from_mapping(mapping())
    again = Config.model_validate({name: getattr(config, name) for name in Config.model_fields})
    assert again == config


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"training": {"epochs": "5", "batch_size": 1}}, "training.epochs: must be a whole number (got '5')"),
        ({"training": {"epochs": True, "batch_size": 1}}, "training.epochs: must be a whole number (got true)"),
        ({"training": {"epochs": 5.0, "batch_size": 1}}, "training.epochs: must be a whole number (got 5.0)"),
        ({"optimizer": {"learning_rate": True}}, "optimizer.learning_rate: must be a number (got true)"),
        ({"optimizer": {"learning_rate": "1e-3"}}, "optimizer.learning_rate: must be a number (got '1e-3')"),
        (
            {"optimizer": {"learning_rate": float("inf")}},
            "optimizer.learning_rate: must be a finite number (got inf)",
        ),
        ({"optimizer": {"betas": [0.9, False]}}, "optimizer.betas.1: must be a number (got false)"),
        (
            {"model": {"layers": [{"dense": {"units": 2, "bias": 1}}]}},
            "model.layers.0.dense.bias: must be true or false (got 1)",
        ),
        ({"data": {"train": 5}}, "data.train: expected a name, a path or a list of paths (got 5)"),
        ({"data": {"train": "a\0b"}}, "data.train: must not have a null character (got 'a\\x00b')"),
        ({"data": {"train": "a\ud800"}}, "data.train: must be valid Unicode text (got 'a\\ud800')"),
    ],
)
def test_no_silent_conversion(sections: dict[str, Any], expected: str) -> None:
    assert problems(**sections) == [expected]


def test_mapping_that_is_none() -> None:
    with pytest.raises(ConfigError, match="must be a mapping of sections"):
        Config.from_mapping([1])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a key must be text"):
        Config.from_mapping(mapping(data={1.5: 2}))
    endless: dict[str, Any] = {}
    endless["data"] = endless
    with pytest.raises(ConfigError, match="nested more than 32 deep"):
        Config.from_mapping(endless)


@pytest.mark.parametrize(
    ("loss", "units", "metrics", "expected"),
    [
        ("cross_entropy", 10, "auto", ("loss", "accuracy")),
        ("binary_cross_entropy", 1, "auto", ("loss", "accuracy")),
        ("huber", 2, "auto", ("loss", "mae", "rmse", "r2")),
        ("cross_entropy", 10, ["top_3"], ("top_3",)),
    ],
)
def test_metrics_are_resolved(loss: str, units: int, metrics: Any, expected: tuple[str, ...]) -> None:
    training = {"epochs": 1, "batch_size": 1, "metrics": metrics}
    config = Config.from_mapping(mapping(loss=loss, model={"layers": [{"dense": units}]}, training=training))
    assert config.training.metrics == expected


def test_what_is_monitored_is_measured() -> None:
    training = {"epochs": 1, "batch_size": 1, "early_stopping": {"metric": "validation_top_3", "patience": 1}}
    config = Config.from_mapping(mapping(training=training))
    assert config.training.metrics == ("loss", "accuracy", "top_3")
    assert config.training.early_stopping is not None
    assert config.training.early_stopping.mode == "max"
    assert Config.from_mapping(config.to_mapping()) == config


def test_direction_of_metrics() -> None:
    assert [mode_of(name) for name in ("train_loss", "validation_rmse", "validation_mae")] == ["min"] * 3
    assert [mode_of(name) for name in ("train_accuracy", "validation_r2", "validation_top_5")] == ["max"] * 3
    assert [top_k(name) for name in ("top_5", "top_12", "top_0", "top_", "accuracy")] == [5, 12, None, None, None]
    plateau = {"name": "plateau", "metric": "validation_accuracy", "patience": 1, "factor": 0.1}
    assert Config.from_mapping(mapping(schedule=plateau)).schedule.mode == "max"


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20) | st.sampled_from(
    [
        "1e-3",
        "yes",
        "null",
        "~",
        "0x10",
        "0o17",
        "1_000",
        ".inf",
        "=",
        "2020-01-01",
        "# no",
        " ",
        "a: b",
        "\n",
        "test.",
        "é",
    ]
)


@given(train=_TEXTS, features=st.lists(_TEXTS, min_size=1, max_size=3), rate=st.floats(1e-300, 1e300))
def test_any_value_survives_yaml(train: str, features: list[str], rate: float) -> None:
    from onotrain.config.yaml_reader import read_yaml

    if train in ("digits", "mnist"):
        return
    config = Config.from_mapping(
        mapping(data={"train": train, "features": features}, optimizer={"name": "sgd", "learning_rate": rate})
    )
    assert Config.from_mapping(read_yaml(config.to_yaml()).data) == config


def test_import_is_light() -> None:
    code = "import onotrain.config, sys; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert not {"numpy", "scipy", "h5py", "mpi4py", "click", "rich"} & set(json.loads(modules.replace("'", '"')))
