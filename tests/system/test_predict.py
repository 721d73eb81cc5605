"""The commands predict, evaluate and export as a user starts them, alone and under mpirun."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import launch
import networks
import onotrain

ROWS = 9000
SIZES = (0, 5)
"""Ranks; 0 means without mpirun.  Those between are compared in tests/mpi/test_predict.py."""
NOBODY_WATCHES = {"TERM": "dumb"}
"""Whether a terminal is there or not, no bar is drawn."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network and data: `x.npy` without labels, `data.h5` with them, `bad.h5` with a NaN near its end."""
    made = tmp_path_factory.mktemp("predict")
    networks.save(made / "net.h5", networks.example("multiclass"))
    x = np.random.default_rng(0).normal(size=(ROWS, 5)).astype(np.float32)
    np.save(made / "x.npy", x)
    classes = onotrain.load(made / "net.h5").predict_classes(x)
    with h5py.File(made / "data.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(512, 5))
        file["y"] = (classes + (np.arange(ROWS) % 5 == 0)) % 3
    x[-3, 1] = np.nan
    with h5py.File(made / "bad.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(512, 5))
    return made


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".h5"])
def test_files_do_not_depend_on_the_number_of_ranks(folder: Path, suffix: str) -> None:
    contents = set()
    for ranks in SIZES:
        output = folder / f"p{ranks}{suffix}"
        command = ("predict", folder / "net.h5", folder / "x.npy", "--output", output)
        done = launch.onotrain(*command, ranks=ranks, env=NOBODY_WATCHES)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[0].startswith("9,000 samples in ") and lines[0].endswith(str(output))
        if ranks > 1:
            chunks = lines[1].removeprefix("chunks of 512 samples that each rank predicted: ").split()
            assert len(chunks) == ranks and sum(map(int, chunks)) == -(-ROWS // 512)
        contents.add(output.read_bytes())
    assert len(contents) == 1


def test_the_content_is_what_python_predicts(folder: Path) -> None:
    network, x = onotrain.load(folder / "net.h5"), np.load(folder / "x.npy")
    done = launch.onotrain(
        "predict", folder / "net.h5", folder / "data.h5", "-o", folder / "c.csv", "--stream", "true", ranks=2
    )
    assert (done.returncode, done.stderr) == (0, "")
    with open(folder / "c.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["class", *(f"p_{name}" for name in network.output.shown_names)]
    assert [row[0] for row in rows] == network.predict_names(x)
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], np.float32), network.predict(x))


def test_metrics_do_not_depend_on_the_number_of_ranks(folder: Path) -> None:
    printed = set()
    for ranks in SIZES:
        done = launch.onotrain("evaluate", folder / "net.h5", folder / "data.h5", "--json", ranks=ranks)
        assert (done.returncode, done.stderr) == (0, "")
        printed.add(done.stdout)
    (text,) = printed
    found = json.loads(text)
    assert found["metrics"]["accuracy"] == 0.8
    assert found["samples"] == ROWS
    assert np.trace(found["confusion"]) == 0.8 * ROWS


def test_tables_for_people(folder: Path) -> None:
    done = launch.onotrain(
        "evaluate", folder / "net.h5", folder / "data.h5", "--metrics", "accuracy,top_2,confusion", ranks=2
    )
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert "accuracy   0.8000" in text and "top_2" in text
    for word in ("precision", "recall", "F1", "true \\ predicted", "rose", 'täg, "x"'):
        assert word in text


@pytest.mark.parametrize("ranks", [0, 3])
def test_a_failure_in_the_middle_ends_the_job(folder: Path, ranks: int) -> None:
    """One rank meets the NaN while the others compute: one message, exit code 3, and nothing is left of the output."""
    before = sorted(path.name for path in folder.iterdir())
    done = launch.onotrain(
        "predict", folder / "net.h5", folder / "bad.h5", "-o", folder / "bad.csv", "--stream", "true", ranks=ranks
    )
    assert done.returncode == 3
    assert done.stderr.count(f"row {ROWS - 3}, column 1: the feature is nan, expected a finite number") == 1
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


def test_one_process_starts_no_mpi(folder: Path) -> None:
    code = (
        "import sys; from onotrain.cli.program import run; code = run(sys.argv[1:]);"
        "sys.exit(99 if 'mpi4py.MPI' in sys.modules else code)"
    )
    for arguments in (("predict", "net.h5", "x.npy", "-o", "alone.npy"), ("evaluate", "net.h5", "data.h5")):
        done = launch.run([sys.executable, "-c", code, *arguments], cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")


def test_export(folder: Path) -> None:
    done = launch.onotrain("export", "net.h5", "--format", "npz", "--output", "net.npz", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote net.npz (")
    with np.load(folder / "net.npz") as file:
        assert file["dense_0.weight"].shape == (16, 5)


@pytest.mark.parametrize("subcommand", ["predict", "evaluate", "export"])
def test_help_shows_examples(subcommand: str) -> None:
    done = launch.onotrain(subcommand, "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout and f"onotrain {subcommand} runs/" in done.stdout
