"""Columns that give the target away are learned from, for they may be real, but not without a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from commands import initialised, write
from onotrain.cli.program import run
from onotrain.data.tables.echoes import echoes
from onotrain.data.tables.memory import column_of

ROWS = 60
RANDOM = np.random.default_rng(5)
VALUES = RANDOM.normal(size=ROWS)
CLASSES = RANDOM.integers(0, 3, ROWS)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(column: Sequence[object], target: Sequence[object]) -> str:
    return echoes([column_of("c", np.asarray(column))], [column_of("t", np.asarray(target))]).get("c", "")


@pytest.mark.parametrize("unit", [1e-200, 1e-9, 1000.0, -2.0, 1e200])
@pytest.mark.parametrize("offset", [0.0, 273.15])
def test_the_target_in_another_unit(unit: float, offset: float) -> None:
    assert "'t' times a number" in found((VALUES + offset) * unit, VALUES)
    assert "'t' times a number" in found(VALUES, (VALUES + offset) * unit)
    assert found((VALUES + 0.01 * VALUES[::-1] + offset) * unit, VALUES) == ""


def test_the_target_in_another_unit_rounded_or_with_gaps() -> None:
    gaps = np.where(np.arange(ROWS) % 7 == 0, np.nan, VALUES * 1000)
    assert found(VALUES.round(4), VALUES) and found(gaps, VALUES) and found(VALUES, gaps)


@pytest.mark.parametrize("constant", [0.0, 3.1, np.inf, np.nan])
def test_what_never_changes_says_nothing(constant: float) -> None:
    assert found([constant] * ROWS, VALUES) == found(VALUES, [constant] * ROWS) == ""


def test_the_class_as_a_number_or_by_another_name() -> None:
    names = np.array(["setosa", "versicolor", "virginica"])
    codes = np.array([7, 1, 4])
    for column in (codes[CLASSES], codes[CLASSES] + 0.5, names[CLASSES]):
        for target in (names[CLASSES], CLASSES):
            expected = "" if column is target else "each of its values stands for one of the target 't'"
            assert found(column, target) == expected
    wrong = codes[CLASSES]
    wrong[-1] = codes[(CLASSES[-1] + 1) % 3]
    assert found(wrong, names[CLASSES]) == ""
    assert found(codes[CLASSES] + VALUES, names[CLASSES]) == ""
    # A class joined of two is not found; nor is anything said of a few samples, which agree by chance.
    assert found((CLASSES > 0).astype(int), names[CLASSES]) == ""
    assert found([1, 2, 1], ["a", "b", "a"]) == ""


def test_columns_that_are_one_hot_with_the_target(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(round(value, 3), *(int(k == j) for j in range(3))) for value, k in zip(VALUES, CLASSES, strict=True)]
    write("t.csv", "a,red,green,blue", *rows)
    assert run(["data", "info", "t.csv"]) == 0
    assert "--targets red,green,blue takes them all" in capsys.readouterr().out
    config = initialised("t.csv")
    out = " ".join(capsys.readouterr().out.split())
    assert "column 'red': one-hot together with the target; --targets red,green,blue takes them all" in out
    assert config.data.columns["red"].name == "numeric"
    initialised("t.csv", "--targets", "red,green,blue")
    assert "one-hot together" not in capsys.readouterr().out
    # Labels of which a sample may have several, or none, are no such thing.
    write("t.csv", "a,red,green,blue", (0.5, 1, 1, 0), *rows)
    initialised("t.csv")
    assert "one-hot together" not in capsys.readouterr().out


def test_init_says_what_it_does_about_missing_values(capsys: pytest.CaptureFixture[str]) -> None:
    write("t.csv", "a,b,y", ("", 1, 0.5), (2, 3, 1.5), (4, 5, 7.25))
    assert initialised("t.csv").data.columns["a"].missing == "median"
    assert "missing values of a: the median stands for them" in " ".join(capsys.readouterr().out.split())
