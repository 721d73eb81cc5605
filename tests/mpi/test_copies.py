"""Copies of the parameters that must be the same are found not to be, wherever one bit of one of them has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from builders import changed, mapping, relu
from onotrain.errors import NumericsError
from onotrain.parallel.world import World
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train
from onotrain.training.trainer import Trainer

pytestmark = pytest.mark.mpi
RANKS = (2, 3)

CONFIG = mapping(relu(16), 10, data={"validation": 0.2}, training={"epochs": 3, "batch_size": 96})
NODES = {"simulate": {"ranks_per_node": 1}}


@pytest.mark.parametrize(
    "sections",
    [
        {"strategy": {"name": "flat"}},
        {"strategy": {"name": "flat"}, "fault_tolerance": {"verify_steps": 5}},
        {"strategy": {"name": "allreduce"}, "fault_tolerance": {"verify_steps": 5}, **NODES},
        {"strategy": {"name": "local_sgd"}},
    ],
    ids=lambda sections: "-".join(
        [sections["strategy"]["name"], *(str(v) for v in sections.get("fault_tolerance", {}).values())]
    ),
)
def test_a_copy_that_differs_ends_the_run_and_is_not_saved(
    world: World, place: Path, sections: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit of one parameter of the last rank changes in the second epoch, behind its last update."""
    config, account = changed(CONFIG, **sections), Trainer._account
    steps = -(-1438 // 96)

    def flip(self: Trainer, *arguments: Any) -> None:
        before = self.progress.steps
        account(self, *arguments)
        if world.rank == world.size - 1 and before < 2 * steps <= self.progress.steps:
            self.components.strategy.replica.parameters.view(np.uint32)[7] ^= np.uint32(1 << 12)

    monkeypatch.setattr(Trainer, "_account", flip)
    who = f"rank {world.size - 1} \\(.*\\) has parameters that differ from those of the other {world.size - 1}"
    builders.refused(
        world,
        NumericsError,
        who if world.size > 2 else "differ from each other",
        config,
        world.comm,
        output=place / "run",
    )
    if world.rank == 0:
        assert RunDirectory.open(place / "run").checkpoint("latest").checkpoint.metadata["progress"]["steps"] == steps


@pytest.mark.parametrize("name", ["flat", "allreduce", "parameter_server", "local_sgd"])
def test_comparing_changes_nothing(world: World, place: Path, name: str) -> None:
    config = changed(CONFIG, strategy={"name": name}, **NODES)
    digests = {train(config, world.comm, output=place / "plain").summary["parameters_sha256"]}
    for verify in (1, 7, None):
        compared = changed(config, fault_tolerance={"verify_steps": verify})
        digests.add(train(compared, world.comm, output=place / f"{verify}").summary["parameters_sha256"])
    assert len(digests) == 1
