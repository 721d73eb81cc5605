"""Every strategy, with and without a codec, on up to 8 ranks and as many nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

import every_strategy
import launch

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("ranks", "ranks_per_node", "runs"), [(8, [], 15), (8, [3], 24), (5, [1], 24)], ids=str)
def test_every_strategy_trains(tmp_path: Path, ranks: int, ranks_per_node: list[int], runs: int) -> None:
    """On one node, on uneven ones, and where every rank is a node."""
    done = launch.mpirun(ranks, *every_strategy.command(tmp_path, *ranks_per_node), timeout=150)
    assert done.returncode == 0, done.stderr
    assert len(every_strategy.check(done.stdout)) == runs
