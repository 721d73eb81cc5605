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
RANKS = 5
"""Fewer are compared in tests/mpi/test_predict.py."""
NOBODY_WATCHES = {"TERM": "dumb"}
"""Whether a terminal is there or not, no bar is drawn."""
SUFFIXES = (".npy", ".csv", ".h5")


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


def lines(ranks: int) -> list[tuple[str, ...]]:
    """Return the command lines that are compared: predictions in every format, and metrics."""
    predict = [("predict", "net.h5", "x.npy", "--output", f"p{ranks}{suffix}") for suffix in SUFFIXES]
    return [*predict, ("evaluate", "net.h5", "data.h5", "--json")]


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[int, list[str]]:
    """Return what the lines print without mpirun (0), and on ranks."""
    alone = [launch.onotrain(*line, env=NOBODY_WATCHES, cwd=folder) for line in lines(0)]
    assert [(done.returncode, done.stderr) for done in alone] == [(0, "")] * len(alone)
    together = launch.several(RANKS, lines(RANKS), env=NOBODY_WATCHES, cwd=folder)
    return {0: [done.stdout for done in alone], RANKS: together}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_do_not_depend_on_the_number_of_ranks(folder: Path, printed: dict[int, list[str]], suffix: str) -> None:
    for ranks, texts in printed.items():
        first, *more = texts[SUFFIXES.index(suffix)].splitlines()
        assert first.startswith("9,000 samples in ") and first.endswith(f"p{ranks}{suffix}")
        if ranks > 1:
            chunks = more[0].removeprefix("chunks of 512 samples that each rank predicted: ").split()
            assert len(chunks) == ranks and sum(map(int, chunks)) == -(-ROWS // 512)
    alone, together = ((folder / f"p{ranks}{suffix}").read_bytes() for ranks in printed)
    assert alone == together


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


def test_metrics_do_not_depend_on_the_number_of_ranks(printed: dict[int, list[str]]) -> None:
    alone, together = (texts[-1] for texts in printed.values())
    assert alone == together
    found = json.loads(alone)
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
