"""Tables on several ranks: the same network from the same file, and one answer from the command and from Python."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onotrain
from builders import mapping, relu
from launch import mpirun

pytestmark = pytest.mark.long

#: Trains a configuration on all ranks; every rank writes its own parameters.
SCRIPT = """
import json, sys
import numpy as np
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.trainer import Trainer

run, folder = Trainer.run, sys.argv[1]
def kept(self):
    run(self)
    made = self.components
    np.save(f"{folder}/{made.world.size}-{made.world.rank}.npy", made.strategy.replica.parameters)
Trainer.run = kept
train(json.load(open(f"{folder}/c.json")), output=f"{folder}/run-{sys.argv[2]}")
"""


def rows() -> list[str]:
    rng = np.random.default_rng(5)
    lines = ["name,size,weight,colour,wet,seen,comment,price"]
    for k in range(240):
        size, weight, colour = rng.normal(), rng.lognormal(), int(rng.integers(0, 4))
        price = 250_000 + 80_000 * (np.tanh(size) + 0.3 * colour - 0.2 * (k % 2))
        lines.append(
            f"n{k},{'' if k % 11 == 3 else round(size, 4)},{weight:.4f},{['red', 'green', '', 'blue'][colour]},"
            f"{'yes' if k % 2 else 'no'},2024-{k % 12 + 1:02}-{k % 27 + 1:02},about {k},{price:.2f}"
        )
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of 1, 2 and 4 ranks."""
    place = tmp_path_factory.mktemp("tables")
    (place / "t.csv").write_text("\n".join(rows()) + "\n")
    columns: dict[str, Any] = {
        "size": {"name": "numeric", "missing": "mean", "indicator": True},
        "weight": {"name": "numeric", "scale": "quantile"},
        "colour": "categorical", "wet": "boolean", "seen": "date", "comment": "ignore", "name": "id",
    }  # fmt: skip
    config = mapping(
        relu(16), 1,
        data={"train": str(place / "t.csv"), "columns": columns, "normalize": "standard",
              "normalize_targets": "standard", "validation": 0.2},
        loss="mse", training={"epochs": 8, "batch_size": 24, "dtype": "float64"},
    )  # fmt: skip
    (place / "c.json").write_text(json.dumps(config))
    (place / "train.py").write_text(SCRIPT)
    for ranks in (1, 2, 4):
        done = mpirun(ranks, sys.executable, place / "train.py", place, str(ranks), timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_ranks_have_the_same_parameters_whatever_their_number(folder: Path) -> None:
    """Those of one rank, but for the order of sums; on all ranks of a job, to the bit."""
    alone = np.load(folder / "1-0.npy")
    assert np.abs(alone).max() > 0.1
    for ranks in (2, 4):
        each = [np.load(folder / f"{ranks}-{rank}.npy") for rank in range(ranks)]
        for other in each[1:]:
            np.testing.assert_array_equal(other, each[0])
        np.testing.assert_allclose(each[0], alone, rtol=1e-9, atol=1e-12)


def test_preparation_and_scaling_are_the_same_on_any_number_of_ranks(folder: Path) -> None:
    alone, *others = (onotrain.load(folder / f"run-{ranks}").metadata for ranks in (1, 2, 4))
    assert alone.preparation is not None
    assert alone.preparation.ids == ("name",)
    assert {encoder.kind for _, encoder in alone.preparation.encoders} == {"numeric", "categorical", "boolean", "date"}
    for other in others:
        assert other.preparation == alone.preparation
        assert other.codec.scaling == alone.codec.scaling
        assert other.digest == alone.digest


def test_predictions_of_ranks_are_those_of_python(folder: Path) -> None:
    """With the ids, and nothing for a sample that lacks a value which has to be there."""
    lines = rows()
    lines[5] = "n4,,,red,no,2024-02-03,x,"  # a weight has to be there, a size need not
    lines[6] = "n5,1.5,0.5,violet,yes,,x,"
    (folder / "new.csv").write_text("\n".join(lines[:150]) + "\n")
    network = onotrain.load(folder / "run-1")
    for ranks in (1, 3):
        output = folder / f"p{ranks}.csv"
        command = ("-m", "onotrain", "predict", folder / "run-1", folder / "new.csv", "-o", output)
        done = mpirun(ranks, sys.executable, *command, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "new.csv:6:3" in done.stdout + done.stderr
        with open(output, newline="") as file:
            got = list(csv.DictReader(file))
        assert [row["name"] for row in got] == [f"n{k}" for k in range(149)]
        assert [k for k, row in enumerate(got) if row["price"] == ""] == [4]
        with open(folder / "new.csv", newline="") as file:
            given = list(csv.DictReader(file))
        frame = {
            name: [float(row[name] or "nan") if name in ("size", "weight") else row[name] or None for row in given]
            for name in ("size", "weight", "colour", "wet", "seen")
        }
        expected = network.predict(frame)[:, 0]
        assert np.isnan(expected).nonzero()[0].tolist() == [4]
        np.testing.assert_array_equal([float(row["price"] or "nan") for row in got], expected)
        assert 100_000 < np.nanmin(expected) < np.nanmax(expected) < 450_000
