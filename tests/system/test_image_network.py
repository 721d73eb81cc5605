"""A network of all layers for images, under the numerical contract: any ranks, any strategy, stopped or not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from launch import mpirun

DRIVER = Path(__file__).with_name("train_driver.py")

LAYERS: list[Any] = [
    {"random_shift": 1},
    {"conv2d": {"filters": 6, "kernel": 3, "padding": "same", "bias": False}},
    "batch_norm",
    {"activation": "relu"},
    {"max_pool2d": 2},
    {
        "residual": {
            "layers": [
                {"conv2d": {"filters": 12, "kernel": 3, "padding": "same"}},
                "batch_norm",
                {"activation": "relu"},
                {"conv2d": {"filters": 12, "kernel": 3, "padding": "same", "groups": 3}},
                {"group_norm": 4},
            ],
            "activation": "relu",
        }
    },
    {"dropout": 0.1},
    "flatten",
    "layer_norm",
    {"dense": {"units": 32, "activation": "tanh"}},
    {"dense": 10},
]


def config(strategy: str = "allreduce", **training: Any) -> dict[str, Any]:
    """Return a training of 50 steps, whose last batch of an epoch is short."""
    return {
        "data": {"train": "digits", "validation": 0.2, "shape": [1, 8, 8]},
        "model": {"layers": LAYERS},
        "loss": "cross_entropy",
        "optimizer": {
            "name": "adamw", "learning_rate": 2e-3, "weight_decay": 1e-3, "decay_norm_and_bias": False,
        },
        "training": {"epochs": 3, "max_steps": 50, "batch_size": 60, "seed": 1, **training},
        "strategy": strategy,
    }  # fmt: skip


def trained(folder: Path, ranks: int, configs: dict[str, Any], *options: str) -> dict[str, dict[str, Any]]:
    """Return what the driver wrote of each training."""
    for name, made in configs.items():
        (folder / f"{name}.yaml").write_text(json.dumps(made))
    done = mpirun(ranks, sys.executable, DRIVER, folder, *configs, *options, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in configs}


def digest(result: dict[str, Any]) -> str:
    return str(result["summary"]["parameters_sha256"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the training on one rank."""
    return trained(tmp_path_factory.mktemp("alone"), 1, {"alone": config()})["alone"]


@pytest.mark.parametrize(
    "ranks", [2, 3, pytest.param(4, marks=pytest.mark.long), pytest.param(7, marks=pytest.mark.long)]
)
def test_not_a_bit_depends_on_the_number_of_ranks(ranks: int, alone: dict[str, Any], tmp_path: Path) -> None:
    """Statistics of the whole batch, gradients of blocks and random shifts included."""
    found = trained(tmp_path, ranks, {"many": config()})["many"]
    assert digest(found) == digest(alone)
    assert found["losses"] == pytest.approx(alone["losses"], rel=1e-12)  # a loss is a sum over ranks


def test_only_the_strategy_differs(alone: dict[str, Any], tmp_path: Path) -> None:
    """To summation error, also where statistics go through messages."""
    shared = {"name": "allreduce", "share": "gradients"}
    configs = {
        "flat": config("flat"),
        "server": config("parameter_server"),
        "gradients": {**config(), "strategy": shared},
    }
    for name, found in trained(tmp_path, 3, configs).items():
        if found["losses"]:
            assert found["losses"] == pytest.approx(alone["losses"], rel=1e-4), name
        assert found["summary"]["validation_accuracy"] == pytest.approx(
            alone["summary"]["validation_accuracy"], abs=0.01
        ), name


def test_a_stopped_run_goes_on_to_the_same_bits(alone: dict[str, Any], tmp_path: Path) -> None:
    """Running means and the state of every layer are in the checkpoint."""
    trained(tmp_path, 2, {"run": config(max_steps=17)})
    rest = trained(tmp_path, 3, {"run": config()}, "--resume")["run"]
    assert digest(rest) == digest(alone)
    assert rest["losses"] == pytest.approx(alone["losses"][17:], rel=1e-12)
