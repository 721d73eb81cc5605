"""Files as people have them: titles, units, odd characters, ids of any name; and what they get as an answer."""

from __future__ import annotations

import lzma
import zipfile
from pathlib import Path

import numpy as np
import pytest

from onotrain.cli.program import run
from onotrain.config.csv_options import text_table_of
from onotrain.data import DataSpec, load_dataset
from onotrain.data.convert import convert_table
from onotrain.data.sources import read_table
from onotrain.data.tables.info import describe_table
from onotrain.data.tables.rows_above import units_of
from onotrain.data.tables.table import Table
from onotrain.errors import DataError
from onotrain.parallel import guard
from onotrain.text import cut, printable, width_of
from tables import columns, read, write

ROWS = "".join(f"{k / 4},{k % 3},{k}\n" for k in range(12))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# What stands above the data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "above",
    ["t,x,y\n[s],(mm),-\n", "t,x,y\ns,m/s,\n", "t,x,y\n\n[s],[m s^-2],[-]\n", "t,x,y\n# in SI\ns,kN,°C\n",
     "A title\n\nt,x,y\n[s],[mm],[1]\n", '"t\nime",x,y\nms,%,kg/m3\n'],
)  # fmt: skip
def test_a_row_of_units_is_no_sample(tmp_path: Path, above: str) -> None:
    path = write(tmp_path, above + ROWS)
    table = read(path)
    assert len(table) == 12 and not any(column.is_text for column in table)
    assert table.columns[0].units in ("s", "ms") and any("units" in note for note in table.notes)
    assert table.where(0, table.columns[1]) == f"{path}:{above.count(chr(10)) + 1}:2"
    assert read(path, units_row=False).columns[0].is_text


@pytest.mark.parametrize(
    "second", [["1", "2", "3"], ["red", "-", "m"], ["m", "n", "s"], ["", "-", ""], ["s", "unknown", "mm"]]
)
def test_a_sample_is_no_row_of_units(second: list[str]) -> None:
    def number(text: str) -> float | None:
        return float(text) if text.replace(".", "").isdigit() else None

    rest = [["blue", "1", "m"], ["red", "2", "s"]]
    assert units_of(second, rest, number, lambda text: text in ("", "-"), given=False) is None


def test_units_can_be_given_for_what_is_not_recognised(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,y\nfurlong,bushel,\n" + ROWS)
    assert [column.units for column in read(path, units_row=True)] == ["furlong", "bushel", None]
    assert len(read(write(tmp_path, "a,b,y\n" + ROWS), units_row=True)) == 12  # a row of numbers holds none


@pytest.mark.parametrize(
    "above",
    ["Report 2021\nmade by hand\n\n", "Report,,\n,,\n", "Report,2021,\n", "# a comment\nReport of 2021\n"],
)
def test_titles_are_left_out(tmp_path: Path, above: str) -> None:
    table = read(write(tmp_path, above + "a,b,y\n" + ROWS))
    if above == "Report,2021,\n":  # may be a header of which a name is missing
        return
    assert table.names == ("a", "b", "y") and len(table) == 12
    assert any("above the header" in note for note in table.notes)
    settings = table.csv
    assert settings is not None and settings.skip in (1, above.count("\n"))
    again = read(table.source, **settings.model_dump(exclude_none=True))
    assert columns(again) == columns(table) and not again.notes


@pytest.mark.parametrize(
    "text", ["a,b,y\n1,,\n2,3,4\n", "a,b\n1,2\n3,4\n", ",a,b\nx,1,2\ny,3,4\n", "a,,y\n1,2,3\n4,5,6\n"]
)
def test_a_header_is_no_title(tmp_path: Path, text: str) -> None:
    table = read(write(tmp_path, text))
    assert len(table) == 2 and not any("above" in note for note in table.notes)


def test_init_writes_how_a_file_is_written(tmp_path: Path) -> None:
    """The run then guesses nothing: what is written gives the same table, without a note."""
    path = write(tmp_path, "Title\n\nx;y\n[s];[kg]\n" + "".join(f"{k},5;{k % 7}\n" for k in range(30)))
    assert run(["init", path, "-o", "c.yaml"]) == 0
    written = Path("c.yaml").read_text()
    assert (
        'csv: {delimiter: ";", decimal: ",", thousands: "", comment: "", header: true, skip: 2, units_row: true'
        in written
    )
    table = read_table(DataSpec(path))
    assert table.csv is not None
    again = read_table(DataSpec(path, csv=table.csv))
    assert columns(again) == columns(table) and not again.notes and run(["validate", "c.yaml"]) == 0


# What a person sees ---------------------------------------------------------------------------------------------------


def test_no_cell_breaks_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = "one\ntwo\t\x1b[31m" + "\u4e2d" * 60
    path = write(tmp_path, 'a,"b\nc",y\n' + "".join(f'{k},"{cell}{k % 2}",{k}\n' for k in range(12)))
    assert run(["data", "info", path]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "one\\ntwo\\t\\x1b" in out and "b\\nc" in out


def test_width_is_that_on_the_terminal() -> None:
    assert width_of("\u4e2d\u6587") == 4 and width_of("e\u0301") == 1 and width_of("abc") == 3
    assert cut("\u4e2d" * 10, 11) == "\u4e2d" * 4 + "..." and cut("\u4e2d", 2) == "\u4e2d"
    assert printable("a\nb\x00ü") == "a\\nb\\x00ü"


@pytest.mark.parametrize("text", ["y\n1\n2\n3\n", "a,b,y\n1,2,3\n", "a,b\n1,1\n1,2\n1,3\n"])
def test_info_shows_what_cannot_be_trained_on_and_init_refuses_it(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, text)
    assert run(["data", "info", path]) == 0
    assert "no column is left for the features" in capsys.readouterr().out
    assert run(["init", path]) == 3
    assert "no column is left for the features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "yaml", "option"),
    [("<0.05", '[default, "<0.05"]', "[default, <0.05]"), ("---", '[default, "---"]', "[default, ---]"),
     ('"a,b"', '[default, "a,b"]', '[default, "a,b"]'), ("n/a.", '[default, "n/a."]', "[default, n/a.]")],
)  # fmt: skip
def test_the_remedy_of_a_bad_entry_can_be_pasted(
    tmp_path: Path, entry: str, yaml: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = {7: entry, 9: "NA"}
    path = write(tmp_path, "a,b,y\n" + "".join(f"{k},{entries.get(k, k)},{k}\n" for k in range(40)))
    assert run(["init", path]) == 3
    err = capsys.readouterr().err
    assert f"csv: {{missing: {yaml}}}" in " ".join(err.split()) and f"--csv 'missing={option}'" in err
    assert run(["init", path, "--csv", f"missing={option}"]) == 0
    assert "missing: [default, " in Path("config.yaml").read_text() and run(["validate", "config.yaml"]) == 0


@pytest.mark.parametrize(
    ("pair", "key", "value"),
    [("missing=[NA, '-', \"a,b\"]", "missing", ("NA", "-", "a,b")), ("missing=NA,--", "missing", ("NA", "--")),
     ("delimiter=tab", "delimiter", "\t"), ("delimiter=';'", "delimiter", ";"), ("decimal=,", "decimal", ","),
     ("thousands='", "thousands", "'"), ("thousands=", "thousands", ""), ("comment=%", "comment", "%"),
     ("header=False", "header", False), ("header=auto", "header", None), ("skip=3", "skip", 3),
     ("units_row=true", "units_row", True), ("quote=", "quote", ""), ("encoding=latin-1", "encoding", "latin-1")],
)  # fmt: skip
def test_every_key_of_csv_is_taken_on_the_command_line(pair: str, key: str, value: object) -> None:
    assert getattr(text_table_of([pair]), key) == value


def test_messages_fit_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise DataError("one two three four five six", hint="seven eight nine ten eleven twelve")

    assert guard.run(fail, columns=lambda: 24) == 3
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 24 and lines[0].startswith("onotrain: one") and lines[-1].startswith("    ")
    assert guard.run(fail) == 3
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_one_of_a_thing_is_named_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "a,y\n" + "".join(f"{k}.5,{'' if k == 3 else k}\n" for k in range(30)))
    assert run(["init", path]) == 0 and run(["validate", "config.yaml"]) == 0
    out = capsys.readouterr().out
    assert "of 1 column;" in out and "1 sample without" in out and "of 1 feature;" in out


def test_other_containers_say_how_to_unpack_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv.xz").write_bytes(lzma.compress(b"a,y\n1,2\n"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner.csv", "a,y\n1,2\n")
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    for name, word in (("a.csv.xz", "unxz"), ("a.zip", "inner.csv"), ("a.xlsx", "CSV UTF-8")):
        with pytest.raises(DataError) as caught:
            load_dataset(DataSpec(str(tmp_path / name)))
        assert word in str(caught.value)


# Names and numbers ----------------------------------------------------------------------------------------------------


def test_ids_may_have_the_names_of_predictions(tmp_path: Path) -> None:
    path = write(tmp_path, "class,p_a,x,y\n" + "".join(f"i{k},j{k},{k}.5,{'ab'[k % 2]}\n" for k in range(30)))
    assert run(["init", path]) == 0
    assert run(["train", "config.yaml", "--set", "training.epochs=1", "--output", "r", "--quiet"]) == 0
    for suffix in ("csv", "h5"):
        assert run(["predict", "r", path, "--output", f"p.{suffix}"]) == 0
    header, first = Path("p.csv").read_text().splitlines()[:2]
    assert header == "id_class,id_p_a,class,p_a,p_b" and first.startswith("i0,j0,")


def test_whole_numbers_beyond_float64_stay_what_they_are(tmp_path: Path) -> None:
    """As names of samples; where float64 tells them apart they are numbers."""
    ids = [2**63 + 1000 + k for k in range(30)]
    table = read(write(tmp_path, "id,y\n" + "".join(f"{k},{k % 7}\n" for k in ids)))
    assert table["id"].texts().tolist() == list(map(str, ids))
    guess = describe_table(DataSpec(table.source)).roles.guesses["id"]
    assert guess.kind == "id" and "float64" in guess.why
    apart = read(write(tmp_path, "t,y\n" + "".join(f"{1609459200_000_000_000 + k * 10**6},{k}\n" for k in range(30))))
    assert not apart["t"].is_text


def test_targets_of_npz_keep_their_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((4, 2)), target=np.arange(4.0))
    assert load_dataset(DataSpec(str(tmp_path / "a.npz"))).target_names == ("target",)


# Conversion -----------------------------------------------------------------------------------------------------------

MIXED = "zip,when,price,kind,y\n" + "".join(
    f'0{1000 + k},{1 + k % 28}.03.2021,"{k},5 EUR",{"red" if k % 3 else ""},{k}\n' for k in range(20)
)


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather", "csv", "tsv", "csv.gz", "csv.bz2", "h5"])
def test_tables_keep_their_kinds(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path, MIXED)
    rows, notes = convert_table(DataSpec(source), tmp_path / f"b.{suffix}")
    table = read_table(DataSpec(str(tmp_path / f"b.{suffix}")))
    assert rows == len(table) == 20 and any("price" in note for note in notes)
    assert table["zip"].texts().tolist() == [f"0{1000 + k}" for k in range(20)]
    assert table["price"].values.tolist() == [k + 0.5 for k in range(20)]
    assert np.flatnonzero(table["kind"].missing).tolist() == list(range(0, 20, 3))
    assert [_day(table, k) for k in range(20)] == [f"2021-03-{1 + k:02d}" for k in range(20)]
    assert table["price"].units == (None if suffix[:3] in ("csv", "tsv") else "EUR")
    assert any("units are not kept" in note for note in notes) == (suffix[:3] in ("csv", "tsv"))


def _day(table: Table, row: int) -> str:
    return str(table["when"].texts()[row])[:10]


def test_what_a_table_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="arrays"):
        convert_table(DataSpec("digits"), tmp_path / "a.csv")
    source = write(tmp_path, "a,y\nNA,1\nb,2\nNA,3\n")
    kept = DataSpec(source, csv=text_table_of(["missing=[x]"]))
    convert_table(kept, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="stands for a missing value"):
        convert_table(kept, tmp_path / "a.tsv")


def test_a_table_is_shuffled_as_a_whole_and_columns_are_chosen(tmp_path: Path) -> None:
    spec = DataSpec(write(tmp_path, MIXED), targets="y", features="zip")
    convert_table(spec, tmp_path / "b.parquet", shuffle_seed=1)
    table = read_table(DataSpec(str(tmp_path / "b.parquet")))
    assert table.names == ("zip", "y") and table["y"].values.tolist() != list(range(20))
    assert [f"0{1000 + int(y)}" for y in table["y"].values] == table["zip"].texts().tolist()


def test_classes_that_a_part_lacks_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last samples validate: of class c all of them, of class d one."""
    classes = "ab" * 15 + "cd" * 1 + "cccc"
    path = write(tmp_path, "x,y\n" + "".join(f"{k}.5,{name}\n" for k, name in enumerate(classes)))
    assert run(["init", path]) == 0
    options = ["--set", "training.epochs=1", "--set", "data.split.by=order", "--output", "r"]
    assert run(["train", "config.yaml", *options]) == 0
    printed = capsys.readouterr()
    assert "no sample of class c, d is trained on" in printed.out + printed.err
    assert "'a' (0)" in printed.err and "'d' (1)" in printed.err
    assert run(["data", "info", path]) == 0
    assert "1 class of one sample: d;" in capsys.readouterr().out


def test_a_target_that_does_not_vary_has_no_r2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "x,y\n" + "".join(f"{k}.5,{k if k < 25 else 3.5}\n" for k in range(32)))
    assert run(["init", path]) == 0
    options = ["--set", "training.epochs=1", "--set", "data.split.by=order", "--output", "r"]
    assert run(["train", "config.yaml", *options]) == 0
    assert "r2 has no value: the targets of y do not vary in these samples" in capsys.readouterr().err
