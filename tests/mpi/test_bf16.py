"""Training with products in bfloat16, on any number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from builders import changed, mapping, refused, relu
from onotrain import _kernels, load
from onotrain._kernels import cpu
from onotrain.errors import PlatformError, UsageError
from onotrain.parallel.world import World
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train

pytestmark = pytest.mark.mpi
RANKS = (1, 2, 3)
USUAL_RANKS = (1, 3)

CONFIG = mapping(
    relu(33),
    {"dropout": 0.1},
    relu(20),
    10,
    data={"validation": 0.2},
    optimizer={"name": "adam", "learning_rate": 0.003},
    training={"epochs": 3, "batch_size": 96, "precision": "bf16"},
)
#: The first convolution has filters of one channel, which are not rounded; the second has an odd number of channels.
IMAGES = changed(
    CONFIG,
    {"conv2d": {"filters": 5, "kernel": 3}},
    {"conv2d": {"filters": 6, "kernel": 3}},
    {"flatten": {}},
    10,
    data={"shape": [1, 8, 8]},
)


@pytest.fixture(params=["x86_64_v4", "reference"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have all ranks use a build that multiplies in bfloat16."""
    if request.param != "reference" and not cpu.has_bf16():
        pytest.skip("this CPU has no AVX-512 BF16")
    monkeypatch.setenv("ONOTRAIN_KERNELS", request.param)
    return request.param


def summary(world: World, made: Any, run: Path, **options: Any) -> dict[str, Any]:
    return train(made, world.comm, output=run, **options).summary


@pytest.mark.parametrize("config", [CONFIG, IMAGES], ids=["dense", "convolutions"])
def test_not_a_bit_depends_on_the_number_of_ranks(world: World, place: Path, build: str, config: Any) -> None:
    together = summary(world, config, place / "run")
    if build != "reference" or config is CONFIG:  # the reference's convolutions add up as NumPy does
        alone = builders.train_alone(world, config, place)
        assert RunDirectory.open(alone).summary()["parameters_sha256"] == together["parameters_sha256"]
    full = summary(world, changed(config, training={"precision": "full"}), place / "full")
    assert full["parameters_sha256"] != together["parameters_sha256"]


@pytest.mark.parametrize(
    "strategy", ["flat", {"name": "allreduce", "share": "gradients"}], ids=["flat", "shared gradients"]
)
def test_a_run_that_is_resumed_is_the_run_that_was_not_stopped(
    world: World, place: Path, build: str, strategy: Any
) -> None:
    """To the bit; and the checkpoint knows that it was in bfloat16."""
    whole = changed(CONFIG, strategy=strategy)
    one = summary(world, whole, place / "one")
    train(changed(whole, training={"epochs": 1}), world.comm, output=place / "two")
    two = summary(world, whole, place / "two", resume=True)
    assert one["parameters_sha256"] == two["parameters_sha256"]
    assert load(place / "two").metadata.config.training.precision == "bf16"


def test_it_learns_as_float32_does(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And predicts alike, in either precision."""
    if not cpu.has_bf16():
        monkeypatch.setenv("ONOTRAIN_KERNELS", "reference")
    longer = changed(CONFIG, training={"epochs": 15})
    ours = summary(world, longer, place / "run")
    full = summary(world, changed(longer, training={"precision": "full"}), place / "full")
    assert ours["validation_accuracy"] > 0.93
    assert abs(ours["validation_accuracy"] - full["validation_accuracy"]) < 0.02
    x = np.random.default_rng(0).uniform(0, 1, (50, 64)).astype(np.float32)
    exact, rounded = (load(place / "run", precision=precision).predict(x) for precision in ("full", "bf16"))
    assert 0 < np.abs(exact - rounded).max() < 0.05


def test_one_rank_that_cannot_is_everyones_error(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one on an older node."""
    if _kernels.path() == "reference":
        pytest.skip("the reference multiplies in bfloat16 on any CPU")
    if world.rank == world.size - 1:
        monkeypatch.setattr(cpu, "has_bf16", lambda: False)
    refused(world, PlatformError, "no AVX-512 BF16|do not use AVX-512 BF16", CONFIG, world.comm, output=place / "run")


def test_a_run_goes_on_in_its_precision(world: World, place: Path, build: str) -> None:
    train(changed(CONFIG, training={"epochs": 1}), world.comm, output=place / "run")
    other = changed(CONFIG, training={"precision": "full"})
    refused(world, UsageError, "training.precision", other, world.comm, output=place / "run", resume=True)
