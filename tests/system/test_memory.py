"""What `validate` says of the memory of a training is what the ranks of a node use."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import launch
import memory_run

pytestmark = pytest.mark.long

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SERVER, TRAINING = {"name": "parameter_server"}, {"epochs": 1, "batch_size": 1500}


def configuration(folder: Path, width: int, strategy: Any, **sections: Any) -> Path:
    """Write a configuration of a network whose layers are `width` wide."""
    path = folder / f"{width}.yaml"
    layers = [{"dense": {"units": width, "activation": "relu"}}, {"dropout": 0.2}, {"dense": width}, {"dense": 10}]
    mapping = {
        "data": {"train": str(folder / "data.npz"), "validation": 0.25, "normalize": "standard"},
        "model": {"layers": layers},
        "loss": "cross_entropy",
        "optimizer": "adam",
        "training": TRAINING,
        "strategy": strategy,
        **sections,
    }
    path.write_text(json.dumps(mapping))
    return path


def predicted(path: Path, ranks: int) -> float:
    """Return the bytes on a node that `validate` says."""
    done = launch.onotrain("validate", path, "--ranks", str(ranks))
    assert done.returncode == 0, done.stderr
    (found,) = re.findall(r"memory +([\d.]+) (\w+) on a node with", done.stdout)
    return float(found[0]) * UNITS[found[1]]


def measured(path: Path, ranks: int) -> int:
    """Return the bytes that the ranks of a training use."""
    done = launch.mpirun(ranks, sys.executable, memory_run.__file__, path, path.with_suffix(""), timeout=150)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("ranks", "strategy", "sections"),
    [
        (1, "allreduce", {}),
        (2, "allreduce", {}),
        (2, {"name": "allreduce", "share": "gradients"}, {"training": {**TRAINING, "dtype": "float64"}}),
        (2, "flat", {"optimizer": "sgd"}),
        (2, {"name": "local_sgd", "period": 2, "inner_state": "keep", "outer": "nesterov"}, {}),
        (3, SERVER, {}),
        (3, {**SERVER, "staleness": "unbounded", "compensation": "delay"}, {}),
        (3, {**SERVER, "push_every": 2}, {}),
        (
            3,
            {**SERVER, "push_every": 2, "staleness": 2, "overlap": True},
            {"training": {**TRAINING, "batch_size": 750}},
        ),
    ],
    ids=str,
)  # fmt: skip
def test_validate_knows_the_memory(tmp_path: Path, ranks: int, strategy: Any, sections: dict[str, Any]) -> None:
    """To 5 %, between a large network and a tiny one: what the program itself takes is the same for both."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(4000, 300)).astype(np.float32), y=rng.integers(0, 10, 4000))
    small, large = (configuration(tmp_path, width, strategy, **sections) for width in (4, 1600))
    expected = predicted(large, ranks) - predicted(small, ranks)
    assert measured(large, ranks) - measured(small, ranks) == pytest.approx(expected, rel=0.05)
