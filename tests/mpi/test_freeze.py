"""Frozen layers: no strategy and no optimiser changes a bit of them, and the others learn as they would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import BLOCKS, config, model, relu
from every_strategy import STRATEGIES
from onotrain.config import Config
from onotrain.parallel.world import World
from onotrain.runs.run_directory import find_checkpoint
from onotrain.training import train

WIDTHS = (relu(24), relu(16), 10)
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    "adamw": {"name": "adam", "weight_decay": 0.1, "decoupled": True},
    "lamb": {"name": "lamb", "weight_decay": 0.1},
}


def digits(freeze: Any, **sections: Any) -> Config:
    """Return a configuration of three layers, some of them frozen."""
    return config(*WIDTHS, model={"freeze": freeze}, **({"training": {"batch_size": 90}} | sections))


def trained(world: World, made: Config, output: Path) -> dict[str, np.ndarray]:
    """Return the tensors after a training.  *Collective*."""
    train(made, world.comm, output=output)
    arrays = find_checkpoint(output, "latest").checkpoint.arrays
    return {name.removeprefix("parameters/"): a for name, a in arrays.items() if name.startswith("parameters/")}


def at_first(made: Config) -> dict[str, np.ndarray]:
    """Return the tensors before it."""
    network = model(made, 64)
    flat = network.layout.zeros()
    network.initialize(flat, made.training.seed)
    return network.layout.views(flat)


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    """Return the layers of which any bit is another one."""
    return {name.split("/")[0] for name in before if before[name].tobytes() != after[name].tobytes()}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("layers", "freeze", "free"),
    [
        (WIDTHS, ["dense_0", "dense_1"], {"dense_2"}),
        (BLOCKS, ["dense_0", "residual_0"], {"dense_3", "residual_2", "dense_4"}),
    ],
    ids=["layers", "block"],
)
def test_no_strategy_changes_frozen_layers(
    world: World, place: Path, strategy: str, layers: tuple[Any, ...], freeze: list[str], free: set[str]
) -> None:
    """And of a frozen block neither its layers nor its projection."""
    options = STRATEGIES[strategy]
    if world.size <= (options.get("servers", 1) if options["name"] in ("parameter_server", "strategy_switch") else 0):
        pytest.skip("Test requires 3 MPI processes")
    sections: dict[str, Any] = {"strategy": options, "optimizer": OPTIMIZERS["adamw"], "training": {"batch_size": 90}}
    made = config(*layers, model={"freeze": freeze}, **sections)
    assert changed(at_first(made), trained(world, made, place / "run")) == free


@pytest.mark.parametrize("share", ["auto", "gradients"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_changes_frozen_layers(world: World, place: Path, optimizer: str, share: str) -> None:
    for number, freeze in enumerate((1, "dense_1", "all_but_head")):
        made = digits(
            freeze, strategy={"name": "allreduce", "share": share}, optimizer=OPTIMIZERS[optimizer],
            training={"batch_size": 90, "clip_norm": 0.5 if share == "gradients" else None},
        )  # fmt: skip
        frozen = set(made.model.frozen_layers)
        assert changed(at_first(made), trained(world, made, place / str(number))) == {
            "dense_0", "dense_1", "dense_2",
        } - frozen  # fmt: skip


@pytest.mark.parametrize("share", ["auto", "gradients"])
def test_a_step_of_the_other_layers_is_that_without_freezing(world: World, place: Path, share: str) -> None:
    sections: dict[str, Any] = {
        "training": {"batch_size": 90, "max_steps": 1}, "strategy": {"name": "allreduce", "share": share},
    }  # fmt: skip
    free = trained(world, digits(None, **sections), place / "free")
    frozen = trained(world, digits("dense_1", **sections), place / "frozen")
    assert changed(free, frozen) == {"dense_1"}


@pytest.mark.mpi(min_size=2)
def test_no_bit_depends_on_the_number_of_ranks(world: World, place: Path) -> None:
    made = digits(2)
    alone = world.comm.Split(world.rank)
    theirs = trained(world, made, place / "all")
    mine = {}
    train(made, alone, output=place / f"alone-{world.rank}")
    arrays = find_checkpoint(place / f"alone-{world.rank}", "latest").checkpoint.arrays
    mine = {name: arrays[f"parameters/{name}"] for name in theirs}
    alone.Free()
    assert not changed(theirs, mine)
