"""A rank that stands still, in whatever way and wherever: the job ends with its name, and says where all stood."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import launch

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).resolve().parents[1] / "faulty_run.py"
SECONDS = 3
#: More of them, by `make test-faults`.
FAULTS = int(os.environ.get("ONOTRAIN_FAULTS", "0"))
#: What a reader calls the phase that a point belongs to.
PHASES = {"data": "reading data", "step": "training", "evaluation": "evaluating", "save": "saving"}


def stalled(folder: Path, ranks: int, kind: str, point: str, rank: int, **sections: Any) -> launch.Completed:
    """Run until the job ends, which it must soon."""
    arguments = (SCRIPT, folder / "run", kind, point, rank, SECONDS, json.dumps(sections))
    return launch.mpirun(ranks, sys.executable, *arguments, timeout=SECONDS * 3 + 30)


#: Ranks, the one that stands still, in which way and where, and sections of the configuration.
USUAL: list[tuple[int, int, str, str, dict[str, Any]]] = [
    (2, 1, "stop", "step", {}),
    (2, 0, "sleep", "data", {}),
    (3, 2, "deadlock", "step", {"strategy": {"name": "flat"}}),
    (4, 3, "sleep", "step", {"simulate": {"ranks_per_node": 2}}),
]
MORE: list[tuple[int, int, str, str, dict[str, Any]]] = [
    (3, 0, "stop", "evaluation", {}),
    (2, 0, "sleep", "save", {}),
    (3, 1, "read", "step", {"strategy": {"name": "parameter_server", "staleness": "unbounded"}}),
    (3, 1, "spin", "step", {"strategy": {"name": "local_sgd"}}),
    (4, 2, "deadlock", "evaluation", {}),
    *((3, rank, kind, "step", {}) for rank in range(3) for kind in ("stop", "deadlock", "read")),
    *((2, 0, kind, point, {}) for kind in ("stop", "read", "deadlock") for point in ("data", "save", "evaluation")),
    (3, 0, "sleep", "step", {"strategy": {"name": "parameter_server"}}),
    (3, 2, "stop", "step", {"strategy": {"name": "parameter_server", "staleness": 2}}),
    (3, 1, "read", "step", {"strategy": {"name": "parameter_server", "push_every": "epoch"}}),
    (3, 1, "deadlock", "step", {"strategy": {"name": "strategy_switch", "at_epoch": 1}}),
]


@pytest.mark.parametrize(
    ("ranks", "rank", "kind", "point", "sections"),
    USUAL + MORE * (FAULTS > 0),
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_rank_that_stands_still_is_named(
    ranks: int, rank: int, kind: str, point: str, sections: dict[str, Any], tmp_path: Path
) -> None:
    began = time.monotonic()
    done = stalled(tmp_path, ranks, kind, point, rank, **sections)
    said = [line for line in done.stderr.splitlines() if line.startswith("onotrain: ")]
    assert done.returncode == 124, done.stderr
    assert len(said) == 1 and said[0].startswith(f"onotrain: rank {rank} (process "), done.stderr
    assert PHASES[point] in said[0] and (("no sign of life" in said[0]) == (kind == "stop"))
    assert time.monotonic() - began < SECONDS + 20
    written = {file.name for file in (tmp_path / "run" / "stacks").iterdir()}
    assert written >= {f"rank-{other}.txt" for other in range(ranks) if other != rank and not sections.get("simulate")}
    if kind != "stop":
        assert "faulty_run.py" in (tmp_path / "run" / "stacks" / f"rank-{rank}.txt").read_text()


@pytest.mark.parametrize(("ranks", "rank"), [(2, 1), *[(2, 0), (3, 2)] * (FAULTS > 0)])
def test_a_node_that_gives_no_sign_of_life_is_named_by_another(ranks: int, rank: int, tmp_path: Path) -> None:
    """Every rank is a node of its own, so there is nobody else who could see it."""
    done = stalled(tmp_path, ranks, "stop", "step", rank, simulate={"ranks_per_node": 1})
    assert done.returncode == 124, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("onotrain: ")]
    assert len(said) == 1 and f"(rank {rank}) has given no sign of life for " in said[0], done.stderr


def test_ranks_that_wait_for_each_other_are_all_named(tmp_path: Path) -> None:
    done = stalled(tmp_path, 2, "collective", "step", 1, strategy={"name": "flat"})
    assert done.returncode == 124, done.stderr
    assert "all ranks on" in done.stderr and "rank 0 (process" in done.stderr and "rank 1 (process" in done.stderr


def test_nobody_is_named_where_ranks_fight_for_cores(tmp_path: Path) -> None:
    """With a limit that is only some times what the scheduler makes ranks wait."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "data: {train: digits, validation: 0.2}\nmodel: {layers: [{dense: 64}, {activation: relu}, {dense: 10}]}\n"
        "loss: cross_entropy\ntraining: {epochs: 40, batch_size: 32}\nfault_tolerance: {watchdog_seconds: 2}\n"
    )
    done = launch.mpirun(8, "onotrain", "train", config, "--output", tmp_path / "run", timeout=120)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run" / "stacks").exists()
