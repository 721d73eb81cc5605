"""Ranks that are killed, stopped and slowed at random: every training ends with the parameters of an undisturbed one.

Some faults in the usual suite, hundreds by `make test-faults`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import launch

FAULTS = int(os.environ.get("ONOTRAIN_FAULTS", "5"))
CONFIG = """\
data: {train: digits, validation: 0.2}
model: {layers: [{dense: {units: 24, activation: relu}}, {dropout: 0.2}, {dense: 10}]}
loss: cross_entropy
optimizer: adam
training: {epochs: 600, batch_size: 32}
checkpoint: {every_steps: 300}
fault_tolerance: {watchdog_seconds: 2}
"""
STRATEGIES = {
    "allreduce": "{name: allreduce}",
    "flat": "{name: flat}",
    "local_sgd": "{name: local_sgd}",
}


def tortured(folder: Path, ranks: int, kinds: str, faults: int, every: str, strategy: str) -> dict:
    """Return the report of `onotrain torture`."""
    config = folder / "config.yaml"
    config.write_text(f"{CONFIG}strategy: {STRATEGIES[strategy]}\n")
    words = (
        "torture",
        config,
        "-n",
        ranks,
        "--kinds",
        kinds,
        "--faults",
        faults,
        "--kill-every",
        every,
        "--seed",
        ranks,
    )
    done = launch.run(launch.onotrain_command(*words, "--output", folder / "runs"), timeout=60 + 15 * faults)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the parameters are the same" in done.stdout
    return dict(json.loads((folder / "runs" / "report.json").read_text()))


@pytest.mark.parametrize(
    ("ranks", "strategy"),
    [(2, "allreduce"), *([(3, "flat"), (4, "allreduce"), (3, "local_sgd")] if FAULTS > 5 else [])],
)
def test_killed_ranks_change_no_bit(tmp_path: Path, ranks: int, strategy: str) -> None:
    report = tortured(tmp_path, ranks, "kill", FAULTS, "1s", strategy)
    assert report["compared"] and not report["differ"]
    assert len(report["faults"]) >= FAULTS
    left = [path.name for path in tmp_path.glob("runs/run-*/**/*") if path.name.startswith(".") or "tmp" in path.name]
    assert left == []


@pytest.mark.skipif(FAULTS <= 5, reason="for hundreds of faults: make test-faults")
def test_stopped_and_slow_ranks_change_no_bit(tmp_path: Path) -> None:
    report = tortured(tmp_path, 3, "stop,slow,kill", max(10, FAULTS // 5), "2s", "allreduce")
    assert not report["differ"]
    assert all(fault["recovered"] is None or fault["recovered"] < 15 for fault in report["faults"])
