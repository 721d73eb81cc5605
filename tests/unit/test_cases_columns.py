"""Tables as people have them: columns that are none, that lack values, or that are no numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import onotrain
from commands import evaluated, initialised, predicted, trained, write
from onotrain.cli.program import run


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


REGRESSION = "model: {layers: [{dense: 1}]}\nloss: mse\ntraining: {epochs: 1, batch_size: 4}\n"


@pytest.mark.parametrize("entry", ["<0.05", "#NUM!", "1.783 mm", "1.783\u202fmm"])
def test_one_entry_that_is_no_number_is_named_with_its_place(entry: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By init too, which makes no classification of it."""
    values = ["1.783", "2.25", "0.5", entry, "1.25", "2.75"]
    write("t.csv", "a,b,temp", *(f"0.{k},{k % 2},{value}" for k, value in enumerate(values, 1)))
    assert run(["data", "info", "t.csv"]) == 0
    assert "t.csv:5:3" in capsys.readouterr().out
    Path("c.yaml").write_text(f"data: {{train: t.csv}}\n{REGRESSION}")
    for command in (["init", "t.csv", "--force"], ["train", "c.yaml", "-o", "r"], ["validate", "c.yaml"]):
        assert run(command) == 3
        err = capsys.readouterr().err
        text = entry.strip('"')
        assert f"t.csv:5:3: column 'temp' is '{text}', expected a number" in err
        assert "csv: {missing: [default," in " ".join(err.split()) or command[0] == "init"
    assert not Path("config.yaml").exists()


def test_what_stands_for_a_missing_target_is_no_value_and_no_class(capsys: pytest.CaptureFixture[str]) -> None:
    write("reg.csv", "a,b,temp", *(f"0.{k},{k % 2},{v}" for k, v in enumerate(["1.783", "2.2", ".5", "#N/A", "1.2"])))
    Path("c.yaml").write_text(f"data: {{train: reg.csv}}\n{REGRESSION}")
    assert run(["train", "c.yaml", "-o", "r"]) == 3
    assert "reg.csv:5:3: column 'temp', the target, has a missing value" in capsys.readouterr().err
    write("classes.csv", "a,b,label", ".1,1,0", ".2,1,0", ".3,2,1", ".4,2,#N/A", ".5,1,1", ".6,2,-")
    for name, outputs in (("reg.csv", 1), ("classes.csv", 2)):
        config = initialised(name)
        assert (config.model.outputs, config.data.missing_targets) == (outputs, "drop")
        shutil.rmtree("r", ignore_errors=True)
        assert run(["train", "c.yaml", "-o", "r", "--set", "training.epochs=1", "--quiet"]) == 0
    assert onotrain.load("r").class_names is None  # 0 and 1
    assert [row["class"] in ("0", "1") for row in predicted("classes.csv")] == [True] * 6


def test_columns_of_one_one_are_one_class_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(k + d, k + 1, *(int(j == k) for j in range(3))) for k in range(3) for d in (0.1, 0.2)]
    write("t.csv", "a,b,cat,dog,fish", *rows)
    config = trained(
        "t.csv", "training.epochs=300", "data.validation=null", options=("--targets", "cat,dog", "--targets", "fish")
    )
    assert (config.loss.name, config.model.outputs) == ("cross_entropy", 3)
    assert [row["class"] for row in predicted("t.csv")] == ["cat", "cat", "dog", "dog", "fish", "fish"]
    assert evaluated("t.csv", capsys)["accuracy"] == 1.0
    # Where one row has none, or two, they are labels of their own.
    write("t.csv", "a,b,cat,dog,fish", *rows, "5,5,1,1,0")
    assert initialised("t.csv", "--targets", "cat,dog,fish").loss.name == "binary_cross_entropy"


def test_a_column_that_counts_the_rows_is_not_learned_from(capsys: pytest.CaptureFixture[str]) -> None:
    """As pandas writes its index; of noise, sorted by class, it says all."""
    noise = np.random.default_rng(1).normal(size=(200, 3)).round(3)
    write("t.csv", ",a,b,c,label", *((k, *row, "low" if k < 100 else "high") for k, row in enumerate(noise.tolist())))
    trained("t.csv")
    out = capsys.readouterr().out
    assert "column 'column_1' is not learned from: it counts the rows" in out
    assert onotrain.load("r").metadata.feature_names == ("a", "b", "c")
    assert evaluated("t.csv", capsys)["accuracy"] < 0.9
    best = max(record["validation_accuracy"] for record in records("r"))
    assert best < 0.75
    assert run(["data", "info", "t.csv"]) == 0
    assert "it counts the rows" in capsys.readouterr().out
    # Who names it wants it.
    assert initialised("t.csv", "--features", "column_1,a").data.columns["column_1"].name == "numeric"


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([7, 2, 9, 0, 4, 3], "id"),  # of a part of a table, or of a shuffled one
        ([0, 1, 2, 5, 6, 9], "id"),
        ([0, 1, 2, 0, 1, 2], "ignore"),  # of tables put one under the other
        ([0.0, 0.5, 1.5, 2.0, 2.5, 3.0], "numeric"),  # times
    ],
)
@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_whole_numbers_without_a_name_are_an_index(
    numbers: list[float], kind: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As pandas writes it after rows were left out, shuffled or put together."""
    write("t.csv", f"{name},a,y", *((number, k**2 % 7 + 0.5, k + 0.25) for k, number in enumerate(numbers)))
    assert initialised("t.csv").data.columns[name or "column_1"].name == kind
    assert ("is not learned from: " in capsys.readouterr().out) == (kind != "numeric")
    # Who names it wants it.
    assert initialised("t.csv", "--features", f"{name or 'column_1'},a").data.columns[
        name or "column_1"
    ].name == "numeric"  # fmt: skip


def records(run_directory: str) -> list[dict[str, float]]:
    from builders import records as of_run

    return of_run(Path(run_directory))


PEOPLE = (
    'Id,Survived,Pclass,Name,Sex,Age,Fare,Port\n1,0,3,"Doe, Mr. A",male,22,7.25,S\n'
    '2,1,1,"Doe, Mrs. B",female,38,71.28,C\n3,1,3,"Roe, Miss C",female,,7.92,S\n'
    '4,1,1,"Poe, Mrs. D",female,35,53.1,S\n5,0,3,"Moe, Mr. E",male,,8.05,Q\n'
)


def test_an_everyday_table_is_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_text(PEOPLE)
    assert run(["data", "info", "t.csv"]) == 0
    of_columns = capsys.readouterr().out.rpartition("\ncolumns ")[2].partition("\nworth a look")[0]
    lines = {line.split()[0]: line.split() for line in of_columns.splitlines() if line.split()}
    assert lines["Age"][1:3] == ["numeric", "2"] and lines["Sex"][1] == "categorical"
    assert lines["Name"][1] == "id" and lines["Id"][1] in ("id", "ignore")
    config = trained("t.csv", "training.epochs=3", options=("--targets", "Survived"))
    assert config.data.columns["Age"].missing != "error" and config.data.columns["Age"].indicator
    names = onotrain.load("r").metadata.feature_names
    assert names is not None
    assert [name for name in names if name.partition(" =")[0] in ("Sex", "Port")] == [
        "Sex = female", "Sex = male", "Port = C", "Port = Q", "Port = S",
    ]  # fmt: skip
    assert not any(name.startswith(("Id", "Name")) for name in names)
    rows = predicted("t.csv")
    assert [row["Name"] for row in rows][:2] == ["Doe, Mr. A", "Doe, Mrs. B"]
    assert evaluated("t.csv", capsys)["loss"] > 0
    # One person alone, whose port nobody has seen, in a file and in memory.
    write("one.csv", "Port,Fare,Sex,Pclass,Age", "X,9.5,male,3,")
    one = {"Port": ["X"], "Fare": [9.5], "Sex": ["male"], "Pclass": [3], "Age": [np.nan]}
    expected = onotrain.load("r").predict(one)
    got = [[float(text) for name, text in row.items() if name.startswith("p_")] for row in predicted("one.csv")]
    np.testing.assert_array_equal(np.array(got, np.float32), expected)
    assert np.isfinite(expected).all()
    # A chosen column that is needed, and is not there.
    write("two.csv", "Port,Fare,Sex,Pclass", "X,9.5,male,3")
    assert run(["predict", "r", "two.csv", "-o", "p.csv"]) == 3
    assert "columns that the network needs is missing: Age" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "target", "why"),
    [
        ("x,y,z,energy", "energy", "the last column"),
        ("x,energy,y", "y", "by its name"),
        ("a,class,survived", "survived", "the last column"),
        ("a,b,class", "class", "by its name"),
        ("Class,a,b", "Class", "by its name"),
        ("a,Label,b", "Label", "by its name"),
    ],
)
def test_the_target_is_named_with_the_reason(
    header: str, target: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    write("t.csv", header, *rng.normal(size=(8, len(header.split(",")))).round(3).tolist())
    assert run(["data", "info", "t.csv"]) == 0
    assert f"taken: {target} ({why})" in capsys.readouterr().out
    assert initialised("t.csv").data.targets == target
    assert f"target: {target} ({why})" in capsys.readouterr().out
    Path("c.yaml").write_text(f"data: {{train: t.csv}}\n{REGRESSION}")
    assert run(["train", "c.yaml", "-o", "r"]) == 0
    assert f"target: {target} ({why})" in capsys.readouterr().out
    assert onotrain.load("r").metadata.target_names == (target,)


BEFORE = [(k / 10, k % 2, k / 5) for k in range(10)]


@pytest.mark.parametrize("change", ["order", "value", "type"])
@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_a_run_is_not_resumed_on_other_data(change: str, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    def save(rows: np.ndarray) -> None:
        if suffix == "npz":
            np.savez("t.npz", x=rows[:, :2], y=rows[:, 2])
        else:
            write("t.csv", "a,b,y", *rows.tolist())

    other = np.array(BEFORE)
    if change == "order":
        other = other[::-1]
    elif change == "value":
        other[7, 0] += 1e-9
    else:
        other[:, 2] = np.round(other[:, 2] * 10)
    save(np.array(BEFORE))
    Path("c.yaml").write_text(f"data: {{train: t.{suffix}, validation: 0.3}}\n{REGRESSION}")
    assert run(["train", "c.yaml", "-o", "r", "--quiet"]) == 0
    again = ["train", "c.yaml", "-o", "r", "--resume", "--quiet", "--set", "training.epochs=2"]
    save(other)
    assert run(again) == 3
    assert "the data have changed since the run began: other values or order of the samples" in capsys.readouterr().err
    save(np.array(BEFORE))
    assert run(again) == 0


def test_small_whole_numbers_are_no_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(6)
    x = rng.integers(1, 6, (2000, 12))
    s = x @ rng.normal(size=12)
    best = []
    for dtype in (np.uint8, np.int64):
        np.savez("t.npz", x=x.astype(dtype), y=(s > np.median(s)).astype(int))
        config = trained("t.npz", "optimizer={name: sgd, learning_rate: 0.05, momentum: 0.9}", "training.epochs=15")
        assert config.data.normalize == "standard"
        best.append(max(record["validation_accuracy"] for record in records("r")))
        shutil.rmtree("r")
    assert best[0] == pytest.approx(best[1], abs=0.01)
    assert min(best) > 0.95
    # Images, and flat ones with larger values, are pixels still; who knows it better can say so.
    np.savez("t.npz", x=rng.integers(0, 200, (40, 12)).astype(np.uint8), y=np.arange(40) % 2)
    assert initialised("t.npz").data.normalize == "none"
    np.savez("t.npz", x=rng.integers(0, 2, (40, 3, 4)).astype(np.uint8), y=np.arange(40) % 2)
    assert initialised("t.npz").data.normalize == "none"
    assert run(["train", "c.yaml", "-o", "r", "--quiet", "--set", "data.pixels=false"]) == 0
    assert onotrain.load("r").metadata.feature_dtype == "float32"
