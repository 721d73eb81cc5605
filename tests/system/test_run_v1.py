"""A run of version 1, stopped in its second epoch and kept forever: it predicts and resumes in every later version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import onotrain as package
from launch import onotrain
from onotrain.data import DataSpec, load_dataset

RUN = Path(__file__).resolve().parents[1] / "data" / "run-v1"


def test_it_predicts_what_it_predicted_then() -> None:
    """Probabilities of the first digits, by the best checkpoint."""
    digits = load_dataset(DataSpec("digits")).features[:8]
    expected = np.load(RUN / "predictions.npy")
    np.testing.assert_allclose(package.load(RUN).predict(digits), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ranks", [0, 2])
def test_it_resumes(tmp_path: Path, ranks: int) -> None:
    """From step 70, in the middle of an epoch, to the figures that an uninterrupted run had."""
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    done = onotrain(
        "train", run / "config.yaml", "--output", run, "--resume", "--set", "training.max_steps=null", ranks=ranks
    )
    assert done.returncode == 0, done.stderr
    assert "after step 70" in done.stdout
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    # The kernels of another processor round otherwise.
    assert rows[-1]["train_loss"] == pytest.approx(0.4653244647673838, rel=1e-3)
