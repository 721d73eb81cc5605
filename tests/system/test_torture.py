"""Ranks that are killed, stopped and slowed at random: every training ends with the parameters of an undisturbed one.

Some faults in the usual suite, hundreds by `make test-faults`.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

import pytest

import launch
from onotrain.files import is_temporary

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]  # each training has a timeout of its own

FAULTS = int(os.environ.get("ONOTRAIN_FAULTS", "0"))
CONFIG = """\
data: {train: digits, validation: 0.2}
model: {layers: [{dense: {units: 24, activation: relu}}, {dropout: 0.2}, {dense: 10}]}
loss: cross_entropy
optimizer: adam
training: {epochs: 400, batch_size: 32}
checkpoint: {every_steps: 300}
"""
WATCHED = "fault_tolerance: {watchdog_seconds: 2}"
#: Sections of a case.
CASES = {
    "allreduce": f"strategy: allreduce\n{WATCHED}",
    "flat": f"strategy: flat\n{WATCHED}",
    "local_sgd": f"strategy: local_sgd\n{WATCHED}",
    "shrink": "fault_tolerance: {watchdog_seconds: 2, lost_rank: shrink}",
}


def tortured(folder: Path, ranks: int, kinds: str, faults: int, every: str, case: str) -> dict:
    """Return the report of `onotrain torture`."""
    config = folder / "config.yaml"
    config.write_text(f"{CONFIG}{CASES[case]}\n")
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


#: Ranks, case, kinds, number of faults and the mean time between two.
USUAL = [(2, "allreduce", "kill", 3, "1s"), (4, "shrink", "kill", 3, "1s")]
MORE = [
    (2, "allreduce", "kill", FAULTS, "1s"), (3, "flat", "kill", FAULTS, "1s"), (4, "allreduce", "kill", FAULTS, "1s"),
    (3, "local_sgd", "kill", FAULTS, "1s"), (4, "shrink", "kill", FAULTS, "1s"),
    (3, "allreduce", "stop,slow,kill", FAULTS // 2, "2s"),
]  # fmt: skip


@pytest.mark.parametrize(("ranks", "case", "kinds", "faults", "every"), MORE if FAULTS else USUAL)
def test_faults_change_no_bit(tmp_path: Path, ranks: int, case: str, kinds: str, faults: int, every: str) -> None:
    report = tortured(tmp_path, ranks, kinds, faults, every, case)
    assert report["compared"] and not report["differ"]
    assert len(report["faults"]) >= faults
    times = [fault["recovered"] for fault in report["faults"] if fault["recovered"] is not None]
    print(f"{ranks} ranks, {case}: next step after {statistics.median(times):.2f} s, {max(times):.2f} s at most")
    temporary = [path.name for path in tmp_path.glob("runs/run-*/**/*") if is_temporary(path.name)]
    assert temporary == []
