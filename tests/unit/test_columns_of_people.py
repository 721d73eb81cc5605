"""Columns as people write them: what was tried with fresh eyes and went wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onotrain.config.columns import DateColumn
from onotrain.data import DataSpec
from onotrain.data.tables.date import DateEncoder
from onotrain.data.tables.info import describe_table
from onotrain.data.tables.kinds import guess_kind
from onotrain.data.tables.memory import column_of
from onotrain.data.tables.table import Table
from onotrain.errors import DataError
from tables import read


def one(values: list[str]) -> Table:
    return Table((column_of("when", values),), "a.csv")


def encoded(encoder: DateEncoder, values: list[str]) -> np.ndarray:
    table = one(values)
    out = np.empty((len(values), len(encoder.names("when"))))
    encoder.encode(table, table["when"], out)
    return out


def test_the_order_of_day_and_month_is_that_of_the_training_data() -> None:
    table = one(["01/02/2023", "13/04/2023", "28/12/2023"])
    options = DateColumn.model_validate({"name": "date"})
    encoder = DateEncoder.fit(options, table, table["when"], None)
    alone, with_another = encoded(encoder, ["03/04/2023"]), encoded(encoder, ["03/04/2023", "25/04/2023"])
    np.testing.assert_array_equal(alone[0], with_another[0])
    assert DateEncoder.from_dict(encoder.to_dict()) == encoder
    with pytest.raises(DataError, match="'04/13/2023', expected a date"):
        encoded(encoder, ["04/13/2023"])


def test_forms_with_the_year_in_front_may_differ() -> None:
    table = one(["2023-01-02", "2023-05-06"])
    encoder = DateEncoder.fit(DateColumn.model_validate({"name": "date"}), table, table["when"], None)
    np.testing.assert_array_equal(encoded(encoder, ["2023-02-01"]), encoded(encoder, ["2023-02-01T00:00"]))


@pytest.mark.parametrize(
    ("words", "kind"),
    [(["yes", "no"], "boolean"), (["TRUE", "FALSE"], "boolean"), (["yes", "no", "Yes", "NO"], "categorical")],
)
def test_yes_and_no_in_two_spellings_are_categories(words: list[str], kind: str) -> None:
    assert guess_kind(column_of("ok", words * 5)).kind == kind


def test_a_target_that_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,y\n1.5,\n2.5,\n")
    info = describe_table(DataSpec(str(path)))
    assert info.targets is None and info.problem.endswith("no sample has a target: y is empty")


def test_infinite_values_are_shown_with_the_place_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,y\n1.5,1\ninf,2.5\n2.5,0.5\n-inf,0.5\n")
    column = describe_table(DataSpec(str(path))).columns[0]
    assert (column.infinite, column.why) == (2, f"infinite: 2 of the entries, the first at {path}:3:1")


@pytest.mark.parametrize("values", [[True, None, False], [None, True, False]])
def test_truth_values_with_gaps_are_what_they_are_in_files(values: list[bool | None]) -> None:
    column = column_of("b", values)
    assert column.texts().tolist() == ["" if value is None else str(value) for value in values]


@pytest.mark.parametrize("values", [[b"x0", b"x1"], np.array([b"x0", b"x1"]), [b"x0", None]])
def test_bytes_are_text(values: object) -> None:
    assert column_of("c", values).texts()[0] == "x0"


def test_points_between_thousands_do_not_hide_the_decimal_comma(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b;y\n10.100;0,5;0,25\n11.137;7,5;3,25\n1.257,5;1,5;2\n")
    table = read(path)
    np.testing.assert_array_equal(table["a"].values, [10100.0, 11137.0, 1257.5])
    np.testing.assert_array_equal(table["y"].values, [0.25, 3.25, 2.0])
    assert "points stand between thousands" in table.notes


def test_codes_with_zeros_in_front_that_all_differ_are_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("code,a,y\n" + "".join(f"{n:04d},{n % 7},{n % 5}.5\n" for n in range(1, 41)))
    kinds = {column.name: column.role for column in describe_table(DataSpec(str(path))).columns}
    assert kinds == {"code": "id", "a": "numeric", "y": "target"}
