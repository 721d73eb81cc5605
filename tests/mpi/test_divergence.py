"""What is said of a training that has diverged can be done."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

import builders
from builders import config, refused, relu
from onotrain.config import Config, load_config
from onotrain.errors import NumericsError
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.components import Components


def digits(rate: float = 0.01, epochs: int = 1, strategy: str = "allreduce") -> Config:
    """Return a training of 15 steps an epoch."""
    return config(
        relu(8), 10, optimizer={"name": "sgd", "learning_rate": rate}, strategy={"name": strategy},
        training={"epochs": epochs, "batch_size": 120},
    )  # fmt: skip


def strategies(world: World) -> list[str]:
    """Return those that can run."""
    return ["allreduce", "flat", "local_sgd", *(["parameter_server"] if world.size > 1 else [])]


def test_without_a_checkpoint_nobody_speaks_of_one(world: World, place: Path) -> None:
    for strategy in strategies(world):
        made = digits(1e30, strategy=strategy)
        error = refused(world, NumericsError, "diverged", made, world.comm, output=place / strategy)
        assert error.hint is not None
        hints = world.comm.allgather(error.hint)
        assert set(hints) == {error.hint}
        assert "no checkpoint yet" in error.hint and "--set optimizer.learning_rate=1e+29" in error.hint
        assert "--from" not in error.hint


def test_the_command_of_the_hint_goes_on(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for strategy in strategies(world):
        output = place / f"{strategy} run"  # to be quoted
        train(digits(strategy=strategy), world.comm, output=output)
        with monkeypatch.context() as patch:

            def ruin(components: Components) -> None:
                components.strategy.replica.parameters[:8] = np.nan

            builders.at_start(patch, ruin)
            longer = digits(epochs=2, strategy=strategy)
            error = refused(world, NumericsError, "diverged", longer, world.comm, output=output, resume=True)
        assert error.hint is not None
        words = shlex.split(error.hint[error.hint.index("onotrain train") :].splitlines()[0])
        path, origin, change = words[2], words[4], words[6]
        assert words[3] == "--from" and words[5] == "--set" and change == "optimizer.learning_rate=0.001"
        made = load_config(path, [f"model.from={origin}", change])
        result = train(made, world.comm, output=place / f"{strategy} again")
        assert result.summary["origin"]["step"] == 15 and result.summary["finished"]
