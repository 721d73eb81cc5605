"""The data subcommands and inspect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onotrain.cli.program import run
from onotrain.text import size


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("d.csv").write_text("a,b,kind\n" + "".join(f"{2 * n},{n * n},{'xyz'[n % 3]}\n" for n in range(12)))
    return tmp_path


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "info", "d.csv", "digits"]) == 0
    out = capsys.readouterr().out
    for word in ("d.csv (csv)", "3 classes", "33.3 %", "121", "digits (builtin)", "8x8", "1,797"):
        assert word in out


@pytest.mark.parametrize("name", ["n.npz", "n.h5", "converted.h5"])
def test_info_counts_what_is_missing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import h5py

    x, y = np.ones((10, 3), np.float32), np.arange(10) % 2
    x[2, 1], x[3, 1], x[4, 2] = np.nan, np.nan, np.inf
    np.savez("n.npz", x=x, y=y)
    with h5py.File("n.h5", "w") as file:
        file["x"], file["y"] = x, y
    assert run(["data", "convert", "n.h5", "converted.h5"]) == 0
    capsys.readouterr()
    assert run(["data", "info", name]) == 0
    out = capsys.readouterr().out
    assert "missing   2, and 1 infinite" in out
    assert "columns with missing values" in out


def test_convert_keeps_or_shuffles_the_samples(capsys: pytest.CaptureFixture[str]) -> None:
    import h5py

    assert run(["data", "convert", "d.csv", "plain.h5"]) == 0
    assert run(["data", "convert", "d.csv", "mixed.h5", "--shuffle", "5", "--compress"]) == 0
    with h5py.File("plain.h5") as plain, h5py.File("mixed.h5") as mixed:
        assert plain["x"][:, 0].tolist() == list(range(0, 24, 2))
        assert mixed["x"][:, 0].tolist() != list(range(0, 24, 2))
        assert sorted(mixed["x"][:, 0].tolist()) == list(range(0, 24, 2))
    assert "12 samples" in capsys.readouterr().out
    assert run(["data", "convert", "d.csv", "plain.h5"]) == 2
    assert "--force" in capsys.readouterr().err
    assert run(["data", "convert", "d.csv", "plain.h5", "--force", "--shuffle"]) == 0


@pytest.mark.parametrize("name", ["d2.npz", "d2"])
def test_convert_writes_under_a_name_that_says_the_format(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "convert", "d.csv", name]) == 2
    err = capsys.readouterr().err
    assert f"onotrain: {name}: " in err and "expected .h5, .hdf5, .csv" in err
    assert not Path(name).exists()


def test_a_seed_that_is_none_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "convert", "--shuffle", "d.csv", "d.h5"]) == 2
    err = capsys.readouterr().err
    assert "'d.csv' is no seed, expected a whole number from 0" in err and "put --shuffle after" in err


def test_numbers_and_nouns_agree(capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.csv").write_text("a,b,kind\n1,2,x\n1,3,\n")
    assert run(["data", "info", "one.csv"]) == 0
    out = capsys.readouterr().out
    assert "1 class, text" in out and "1 sample without target" in out


@pytest.mark.parametrize(
    ("options", "learned"),
    [
        (["--features", "a,b"], ["a", "b"]),
        (["--features", "a", "--features", "b"], ["a", "b"]),
        (["--features", "?"], ["a", "b"]),
        (["--features", "b", "--targets", "k*"], ["b"]),
        (["--exclude", "a"], ["b"]),
        (["--exclude", "[a]"], ["b"]),
    ],
)
def test_columns_are_named_one_by_one_in_lists_and_by_patterns(
    options: list[str], learned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "info", "d.csv", *options]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [words[0] for words in lines if words[1:2] == ["numeric"]] == learned
    assert [words[0] for words in lines if words[1:2] == ["target"]] == ["kind"]


def test_a_name_that_stands_for_no_column(capsys: pytest.CaptureFixture[str]) -> None:
    for option, wrong in (("--features", "a,q"), ("--targets", "q"), ("--exclude", "q*")):
        assert run(["data", "info", "d.csv", option, wrong]) == 3
        err = capsys.readouterr().err
        assert "no column 'q" in err and "the columns are a, b, kind" in err


def test_hints_name_the_options_too(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("odd.npz", p=np.ones((3, 2)), q=np.ones(3))
    for arguments in (["odd.npz"], ["d.csv", "--exclude", "a,b"]):
        assert run(["init", *arguments]) == 3
        assert "--features" in capsys.readouterr().err


def test_fetch_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "fetch", "mnist", "--from", "nowhere", "--data-dir", "data"]) == 3
    assert run(["data", "fetch", "imagenet"]) == 3
    assert "expected mnist" in capsys.readouterr().err


def test_inspect(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(
        "data: {train: d.csv}\nmodel: {layers: [{dense: {units: 4, activation: tanh}}, {dropout: 0.25}, {dense: 3}]}\n"
        "loss: cross_entropy\ntraining: {epochs: 3, batch_size: 4}\n"
    )
    assert run(["train", "c.yaml", "--output", "r", "--quiet"]) == 0
    assert run(["inspect", "r"]) == 0
    out = capsys.readouterr().out
    for word in (
        "3 of 3 epochs, 9 steps",
        "compute ",
        "dense_0",
        "tanh",
        "0.25",
        "2 -> 4",
        "27",
        "step-000000009.h5",
        "yes",
    ):
        assert word in out
    assert run(["inspect", "r", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == 27
    assert [record["epoch"] for record in facts["metrics"]] == [1, 2, 3]
    assert facts["arrays"]["parameters/dense_0/weight"] == ["float32", [4, 2]]
    newest = Path("r/checkpoints/step-000000009.h5")
    assert run(["inspect", str(newest)]) == 0
    assert "9 steps" in capsys.readouterr().out
    newest.write_bytes(newest.read_bytes()[:-1])
    assert run(["inspect", "r"]) == 0
    assert "NO: " in capsys.readouterr().out
    assert run(["inspect", str(newest)]) == 4


def test_inspect_of_a_run_that_stopped_early(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(
        "data: {train: d.csv, validation: d.csv}\nmodel: {layers: [{dense: 3}]}\nloss: cross_entropy\n"
        "training: {epochs: 9, batch_size: 4, early_stopping: {patience: 2, min_delta: 1000}}\n"
    )
    assert run(["train", "c.yaml", "--output", "r", "--quiet"]) == 0
    assert run(["inspect", "r"]) == 0
    out = capsys.readouterr().out
    assert "3 of 9 epochs, 9 steps (stopped early)" in out
    assert "network     step-000000003.h5, the best" in out
    assert run(["inspect", "r", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["progress"]["finished"]
    assert facts["checkpoint"].endswith("step-000000003.h5")
    assert facts["parameters_sha256"] == facts["summary"]["parameters_sha256"]


@pytest.mark.parametrize(("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3072.0 GiB")])
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text
