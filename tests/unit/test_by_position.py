"""Files without a header, and values that the training data lacked, for a network that was trained on a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commands import predicted, trained, write
from onotrain.cli.program import run
from onotrain.config import text_table_of
from onotrain.data import DataSpec
from onotrain.inference.evaluation import evaluate

RNG = np.random.default_rng(5)
MATERIALS = ("steel", "copper", "glass")
#: An id, a number, a category, a target, a number.
ROWS = [
    (f"s{k}", f"{RNG.normal():.4f}", MATERIALS[k % 3], f"{RNG.normal() + k % 3:.4f}", f"{RNG.normal():.4f}")
    for k in range(90)
]
NAMES = ("name", "width", "material", "strength", "depth")


@pytest.fixture(autouse=True)
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("train.csv", ",".join(NAMES), *ROWS)
    options = ("--targets", "strength")
    trained("train.csv", "training.epochs=1", "data.columns.name=id", options=options)


def columns(*names: str, rows: list[tuple[str, ...]] = ROWS) -> list[tuple[str, ...]]:
    """Return rows of some columns."""
    return [tuple(row[NAMES.index(name)] for name in names) for row in rows]


def without_header(path: str, rows: list[tuple[str, ...]]) -> str:
    return write(path, ",".join(rows[0]), *rows[1:])


@pytest.mark.parametrize(
    "names",
    [NAMES, ("name", "width", "material", "depth"), ("width", "material", "depth"),
     ("width", "material", "strength", "depth")],
)  # fmt: skip
def test_a_file_without_a_header_is_read_by_position(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = predicted("train.csv")
    if "name" not in names:
        expected = [{key: value for key, value in row.items() if key != "name"} for row in expected]
    capsys.readouterr()
    assert predicted(without_header("new.csv", columns(*names))) == expected
    said = " ".join(capsys.readouterr().err.split())
    assert f"new.csv has no header: its columns are taken for {', '.join(names)}, in the order" in said
    assert predicted(without_header("one.csv", columns(*names)[:1])) == expected[:1]


def test_it_is_evaluated_as_the_same_file_with_a_header_is() -> None:
    found, expected = evaluate("r", DataSpec(without_header("new.csv", ROWS))), evaluate("r", DataSpec("train.csv"))
    assert found.metrics == expected.metrics and expected.notes == ()
    assert found.to_mapping()["notes"] == list(found.notes) and "has no header" in found.notes[0]


def test_the_command_line_may_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    without_header("new.csv", columns("width", "material", "depth"))
    assert run(["predict", "r", "new.csv", "-o", "a.csv", "--csv", "header=false"]) == 0
    assert run(["predict", "r", "new.csv", "-o", "b.csv"]) == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    Path("semicolons.csv").write_text(Path("new.csv").read_text().replace(",", ";").replace(".", ","))
    options = ["--csv", "header=false", "--csv", "delimiter=;", "--csv", "decimal=,"]
    assert run(["predict", "r", "semicolons.csv", "-o", "c.csv", *options]) == 0
    assert Path("c.csv").read_bytes() == Path("a.csv").read_bytes()
    capsys.readouterr()
    for command in (["predict", "r", "new.csv", "-o", "d.csv"], ["evaluate", "r", "new.csv"]):
        assert run([*command, "--csv", "heder=false"]) == 2
        assert "heder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "first",
    [
        "breadth,substance,height",  # names of other columns
        "1.5,steel",  # too few fields
        "1.5,steel,2.5,3.5,4.5,5.5",  # too many
        "steel,1.5,2.5",  # another order
    ],
)
def test_what_may_be_something_else_is_refused(first: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("new.csv", first, *[first.split(",")] * 3)
    assert run(["predict", "r", "new.csv", "-o", "p.csv"]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "3 of the columns that the network needs are missing: width, material, depth" in said
    assert "add it if it has none, or give all columns in this order: name, width, material, strength, depth" in said


def test_some_names_make_a_header(capsys: pytest.CaptureFixture[str]) -> None:
    write("new.csv", "1,material,3", "1.5,steel,2.5")
    assert run(["predict", "r", "new.csv", "-o", "p.csv"]) == 3
    assert "2 of the columns that the network needs are missing: width, depth" in capsys.readouterr().err


def test_settings_of_the_command_line_leave_the_others_as_in_training() -> None:
    from onotrain.config import load_config
    from onotrain.data.selection import spec_of

    section = load_config("c.yaml").data
    given = spec_of(section, DataSpec("new.csv", csv=text_table_of(["decimal=,"]))).csv
    assert given == section.csv.model_copy(update={"decimal": ","}) and given.header is True
    section = section.model_copy(update={"csv": section.csv.model_copy(update={"skip": 3})})
    given = spec_of(section, DataSpec("new.csv", csv=text_table_of(["header=false"]))).csv
    assert (given.header, given.skip, given.delimiter) == (False, 0, ",")


def test_values_that_the_training_data_lacked_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", "1", "Titan", "2", "3"), ("b", "1", "Z", "2", "3"), ("c", "1", "steel", "2", "3"),
            ("d", "1", "", "2", "3"), ("e", "1", "Titan", "2", "3")]  # fmt: skip
    write("new.csv", ",".join(NAMES), *rows)
    line = "3 samples have values of 'material' that the training data lacked: Titan, Z; they are taken for none"
    capsys.readouterr()
    predicted("new.csv")
    assert " ".join(capsys.readouterr().err.split()).count(line) == 1
    assert run(["evaluate", "r", "new.csv", "--json"]) == 0
    captured = capsys.readouterr()
    assert " ".join(captured.err.split()).count(line) == 1
    assert [note.startswith(line) for note in json.loads(captured.out)["notes"]] == [True]
    assert run(["data", "convert", "new.csv", "new.parquet"]) == 0
    found = evaluate("r", DataSpec("new.parquet"), stream=True)
    assert [note.startswith(line) for note in found.notes] == [True]
    write("one.csv", ",".join(NAMES), rows[1])
    predicted("one.csv")
    assert "1 sample has a value of 'material' that the training data lacked: Z; it is" in " ".join(
        capsys.readouterr().err.split()
    )


def test_rare_values_of_the_training_data_are_not_new(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(*row[:2], "brass" if k == 7 else row[2], *row[3:]) for k, row in enumerate(ROWS)]
    write("rare.csv", ",".join(NAMES), *rows)
    Path("r").rename("old")
    column = "data.columns.material={name: categorical, rare: 0.05}"
    trained("rare.csv", "training.epochs=1", column, "data.validation=null", options=("--targets", "strength"))
    assert evaluate("r", DataSpec("rare.csv")).notes == ()
    write("new.csv", ",".join(NAMES), *rows[:8], ("z", "1", "Z", "2", "3"))
    (note,) = evaluate("r", DataSpec("new.csv")).notes
    assert note.endswith("that the training data lacked: Z; it is taken for `other`")
