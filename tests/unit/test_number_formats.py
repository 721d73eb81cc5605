"""Numbers as people write them, with currencies, units and marks between thousands: what they are read as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from onotrain.cli.program import run
from onotrain.config.number_format import NumberFormat
from onotrain.data import DataSpec
from onotrain.data.sources import read_table
from onotrain.data.tables.info import describe_table
from onotrain.data.tables.number_formats import guess_format
from onotrain.data.tables.table import Table
from onotrain.errors import ConfigError, DataError
from tables import write


def read(path: str, **options: Any) -> Table:
    """Read all columns of a table."""
    return read_table(DataSpec(path), **options)


#: Texts of one column -> how 1234.5 is written there, and what the texts stand for.
WRITTEN = {
    ("18,85 EUR", "3,5 EUR"): ("1234,5 EUR", [18.85, 3.5]),
    ("$1,234.50", "-$3", "$-4", "($4.5)", "$0"): ("$1,234.5", [1234.5, -3, -4, -4.5, 0]),
    ("€ 3", "€ 4,25"): ("€1234,5", [3, 4.25]),
    ("30%", "5 %"): ("1234.5%", [30, 5]),
    ("1,000", "250", "12,500"): ("1,234.5", [1000, 250, 12500]),
    ("0,125", "1,250"): ("1234,5", [0.125, 1.25]),
    ("12 mm", "3.5 mm", "1e3 mm"): ("1234.5 mm", [12, 3.5, 1000]),
    ("5 kg/m3", "6 kg/m3"): ("1234.5 kg/m3", [5, 6]),
    ("1 234,5", "1\u202f000\u00a0000,5", "3,25"): ("1 234,5", [1234.5, 1000000.5, 3.25]),
    ("(1,200)", "300"): ("1,234.5", [-1200, 300]),
    ("1.5D+03", "-2d-4"): ("1234.5", [1500, -0.0002]),
    ("CHF 1'200.50", "CHF 3"): ("CHF 1'234.5", [1200.5, 3]),
    ("1,00,000", "5"): ("1,234.5", [100000, 5]),
    ("\u22125.5", "1200-"): ("1234.5", [-5.5, -1200]),
}


@pytest.mark.parametrize("texts", WRITTEN, ids=lambda texts: texts[0])
def test_numbers_are_read_as_they_are_written(texts: tuple[str, ...]) -> None:
    example, expected = WRITTEN[texts]
    form = guess_format(texts)
    assert form is not None and form.example == example
    assert NumberFormat.of_example(example) == form
    assert [form.number(text) for text in texts] == expected


@pytest.mark.parametrize(
    "texts",
    [("T1", "T2"), ("12:00", "13:00"), ("2021W05", "2021W06"), ("<0.05", "1"), ("1/2", "3/4"), ("4-5", "5-6"),
     ("0x1F", "0xA0"), ("red", "blue"), ("00123 ", "00456"), ("1.2.3", "1.2.4"), ("12 mm", "3 kg", "4 m", "5 s")],
    ids=lambda texts: texts[0],
)  # fmt: skip
def test_other_text_is_none(texts: tuple[str, ...]) -> None:
    assert guess_format(texts) is None


def test_a_column_of_a_file_becomes_numbers_with_a_unit_and_a_note(tmp_path: Path) -> None:
    path = write(tmp_path, "price;share;y\n18,85 EUR;5%;1\n1.020,00 EUR;20%;2,5\n;3%;4\n")
    table = read(path)
    np.testing.assert_array_equal(table["price"].values, [18.85, 1020, np.nan])
    assert [(column.units, column.written) for column in table] == [
        ("EUR", "1.234,5 EUR"), ("%", "1234,5%"), (None, None),
    ]  # fmt: skip
    assert [note for note in table.notes if "share" in note] == [
        "column 'share' is read as numbers: '5%' as 5.0 (format: \"1234,5%\")"
    ]


def test_few_mistakes_stay_mistakes_with_their_places(tmp_path: Path) -> None:
    path = write(tmp_path, "a,price\n" + "".join(f"{k},{k}.5 EUR\n" for k in range(30)) + "30,31 USD\n")
    column = next(column for column in describe_table(DataSpec(path)).columns if column.name == "price")
    assert "'31 USD'" in column.why and ":32:2" in column.why


def test_init_train_and_predict_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New files are read as the training file was, where a file of its own would be read in another way."""
    monkeypatch.chdir(tmp_path)
    rows = [f'"{k}.{k:03d},5 EUR",{k % 3},{k}.5 mm\n' for k in range(1, 41)]
    Path("t.csv").write_text("price,b,size\n" + "".join(rows))
    assert run(["init", "t.csv", "-o", "c.yaml"]) == 0
    text = Path("c.yaml").read_text()
    assert 'price: {name: numeric, format: "1.234,5 EUR"}' in text
    assert 'size: {name: numeric, format: "1234.5 mm"}' in text
    assert run(["validate", "c.yaml"]) == 0
    assert run(["train", "c.yaml", "--set", "training.epochs=1", "--output", "r", "--quiet"]) == 0
    predictions = set()
    for entry in ("1.001", '"1.001,0 EUR"', '"1001,0 EUR"'):  # the first is another number where nothing is known
        Path("new.csv").write_text(f"price,b\n{entry},1\n")
        assert run(["predict", "r", "new.csv", "--output", "out.csv"]) == 0
        predictions.add(Path("out.csv").read_text())
    assert len(predictions) == 1


def test_a_format_is_checked_and_given_by_pattern(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must show how 1234\.5 is written"):
        builders.config(data={"columns": {"a": {"name": "numeric", "format": "#,##0.00"}}})
    path = write(tmp_path, "p_1,y\n1.250,1\n2.500,2\n")
    np.testing.assert_array_equal(read(path, formats={"p_*": "1.234,5"})["p_1"].values, [1250, 2500])
    np.testing.assert_array_equal(read(path)["p_1"].values, [1.25, 2.5])


def test_points_between_thousands_make_no_numbers_of_dates(tmp_path: Path) -> None:
    rows = "".join(f"{1 + k % 28:02d}.02.2021;-{k + 1}.000.{k:03d},50;{k}\n" for k in range(30))
    table = read(write(tmp_path, "day;amount;y\n" + rows))
    assert table["amount"].values.tolist() == [-(k + 1) * 1e6 - k - 0.5 for k in range(30)]
    assert [column.role for column in describe_table(DataSpec(table.source)).columns] == ["date", "numeric", "target"]


def test_totals_below_the_data_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,y\n" + "".join(f"{k},{k % 5}.5,{k}\n" for k in range(30)) + "Total,,435\n")
    column = next(column for column in describe_table(DataSpec(path)).columns if column.name == "a")
    assert ":32:1" in column.why and "totals" in column.remedy


def test_files_of_one_data_set_are_written_alike(tmp_path: Path) -> None:
    """1.250 is a thousand in one file if it is in the other, which only `format` can say."""
    first, second = write(tmp_path, "p,y\n1.250 EUR,1\n2.500 EUR,2\n"), tmp_path / "b.csv"
    second.write_text('p,y\n"1.250,50 EUR",1\n"20,5 EUR",2\n')
    both = DataSpec(first, more=(str(second),))
    with pytest.raises(DataError, match=r"b\.csv: column 'p' is written as '1\.234,5 EUR', but as '1234\.5 EUR'"):
        read_table(both)
    table = read_table(both, formats={"p": "1.234,5 EUR"})
    np.testing.assert_array_equal(table["p"].values, [1250, 2500, 1250.5, 20.5])
