"""CSV and TSV: what is understood, and where each mistake is found."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.config.columns import TextTable
from onotrain.data import DataSpec, TargetCodec, load_dataset
from onotrain.data.tables import dialect_guess
from onotrain.data.tables.blocks import blocks
from onotrain.data.tables.dialect_guess import look_at
from onotrain.errors import DataError
from tables import columns, prepared, read, refused, write


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "a,b,label\n1,2,x\n3.5,-4e1,y\n"),
        ("a.csv", "a,b,label\r\n1,2,x\r\n\r\n3.5,-4e1,y"),
        ("a.csv", "a,b,label\r1,2,x\r3.5,-4e1,y\r"),
        ("a.csv", "\ufeffa,b,label\n1,2,x\n3.5,-4e1,y\n"),
        ("a.csv", '\n"a","b","label"\n" 1 ","2","x"\n3.5,-4e1, y \n\n'),
        ("a.csv", '"a", "b", "label"\n1, 2, "x"\n3.5, -4e1, "y"\n'),
        ("a.csv", "a;b;label\n1;2;x\n3.5;-4e1;y\n"),
        ("a.csv", "sep=;\na;b;label\n1;2;x\n3.5;-4e1;y\n"),
        ("a.csv", "a|b|label\n1|2|x\n3.5|-4e1|y\n"),
        ("a.csv", "a\tb\tlabel\n1\t2\tx\n3.5\t-4e1\ty\n"),
        ("a.tsv", "a\tb\tlabel\n1\t2\tx\n3.5\t-4e1\ty\n"),
        ("a.csv", "a,label,b\n1,x,2\n3.5,y,-4e1\n"),
        ("a.csv", "label,a,b\nx,1,2\ny,3.5,-4e1\n"),
        ("a.csv", "# made by hand\n#\na,b,label\n1,2,x\n# more\n3.5,-4e1,y\n"),
        ("a.csv", "a,b,label\n1,2,x\n# more\n,,\n3.5,-4e1,y\n , ,\n"),
        ("a.csv", "a,b,label,\n1,2,x,\n3.5,-4e1,y,\n"),
        ("a.csv", "a,b,label\n1,2,x,\n3.5,-4e1,y,\n"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_dialects(tmp_path: Path, name: str, text: str, zipped: bool) -> None:
    data = write(tmp_path, gzip.compress(text.encode()), f"{name}.gz") if zipped else write(tmp_path, text, name)
    assert columns(read(data)) == {"a": [1, 3.5], "b": [2, -40], "label": ["x", "y"]}


def test_numbers_are_read_in_double_precision(tmp_path: Path) -> None:
    text = "t,label\n1700000000000.25,0.1\n1e-310,-76543.213\n123456789012345678,5e300\n"
    table = columns(read(write(tmp_path, text)))
    assert table == {"t": [1700000000000.25, 1e-310, 123456789012345678.0], "label": [0.1, -76543.213, 5e300]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, "größe,label\n1,é\n2,ü\n3,é\n".encode(encoding))
    given = {"encoding": encoding} if encoding == "latin-1" else {}
    assert columns(read(path, **given)) == {"größe": [1, 2, 3], "label": ["é", "ü", "é"]}


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("a;b\n1,5;2\n3;4,25\n", {}, {"a": [1.5, 3], "b": [2, 4.25]}),
        ("a;b\n1.234,5;2\n3;4\n", {"thousands": ".", "decimal": ","}, {"a": [1234.5, 3], "b": [2, 4]}),
        ('a,b\n"1,234.5",2\n3,4\n', {"thousands": ","}, {"a": [1234.5, 3], "b": [2, 4]}),
        ("a,b\n1,2\n3,4\n", {"header": False}, {"1": ["a", "1", "3"], "2": ["b", "2", "4"]}),
        ("1,2\n3,4\n5,7\n", {"header": True}, {"1": [3, 5], "2": [4, 7]}),
        ("%x\na,b\n1,2\n%y\n3,4\n", {"comment": "%"}, {"a": [1, 3], "b": [2, 4]}),
        ("a,b\n'1,5',2\n'3',4\n", {"quote": "'"}, {"a": ["1,5", "3"], "b": [2, 4]}),
        ('a,b\n"x,2\ny",4\n', {"quote": ""}, {"a": ['"x', 'y"'], "b": [2, 4]}),
        ("a,b\n-999,2\n3,NA\n", {"missing": ["-999"]}, {"a": [None, 3], "b": ["2", "NA"]}),
        ("a,b\nNONE,2\n3,#N/A\n", {}, {"a": [None, 3], "b": [2, None]}),
        ("a:b\n1:2\n3:4\n", {"delimiter": ":"}, {"a": [1, 3], "b": [2, 4]}),
        ("  a   b\n 1 2\n  3    4\n", {}, {"a": [1, 3], "b": [2, 4]}),
    ],
)
def test_what_can_be_said(
    tmp_path: Path, text: str, given: dict[str, object], expected: dict[str, list[object]]
) -> None:
    assert columns(read(write(tmp_path, text), **given)) == expected


def test_blocks_join(tmp_path: Path) -> None:
    """Wherever a block ends: within a number, a quoted line break, a row of nothing; text may come late."""
    rows = [f'{k},"{"x" * (k % 5)}\n{k % 3}"' for k in range(300)]
    path = write(tmp_path, "a,b\n" + "\n,,\n".join(rows).replace(",,", ",") + "\nlate,z\n")
    whole = columns(read(path))
    assert whole["a"][-1] == "late"
    assert whole["b"][:3] == ["0", "x\n1", "xx\n2"]
    for block_bytes in (1, 7, 200):
        assert columns(read(path, block_bytes=block_bytes)) == whole


@pytest.mark.parametrize("block_bytes", [1, 16, 64, 1 << 20])
@pytest.mark.parametrize(
    "cell",
    ['27" monitor', '27"', 'a 5"x7" frame', '"5"" pipe"', '"two\nlines"', '"x,""y"', '""', ' "a, "" b"', '"a"b'],
)
def test_quotes_open_fields_only_at_their_beginning(tmp_path: Path, cell: str, block_bytes: int) -> None:
    """Wherever a block ends, the csv module is the oracle; an inch mark holds no records back."""
    lines = "".join(f"{k},{cell if k % 3 else 'plain'},z{k}\n" for k in range(40))
    path = write(tmp_path, "n,what,s\n" + lines)
    expected = list(csv.reader(io.StringIO(lines), skipinitialspace=True))
    found = columns(read(path, block_bytes=block_bytes))
    assert found["n"] == list(range(40))
    assert found["what"] == [what.strip() or None for _, what, _ in expected]
    assert found["s"] == [last for _, _, last in expected]


def test_an_inch_mark_does_not_make_blocks_longer(tmp_path: Path) -> None:
    path = write(tmp_path, "n,what\n" + "".join("{k},27{inch}\n".format(k=k, inch='"' * (k == 7)) for k in range(999)))
    found = list(map(bytes, blocks(look_at(path, "csv", TextTable(header=True)), 100)))
    assert max(map(len, found)) < 120
    assert all(block.endswith(b"\n") for block in found)
    assert b"".join(found).count(b"\n") == 999


@pytest.mark.parametrize("block_bytes", [1, 50, 1 << 20])
def test_a_quote_that_is_never_closed(tmp_path: Path, block_bytes: int) -> None:
    """Its record is blamed, and not an inch mark before it."""
    path = write(tmp_path, 'n,what\n1,27"\n' + "2,x\n" * 50 + '3,"y\n' + "4,z\n" * 50)
    with pytest.raises(DataError, match=":53:1: a quote is never closed"):
        read(path, block_bytes=block_bytes)


def test_comments_do_not_open_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n" + '1,x\n# see\n#,"never closed\n' * 30 + "2,y")
    for block_bytes in (1, 20, 1 << 20):
        assert columns(read(path, comment="#", block_bytes=block_bytes))["a"] == [1] * 30 + [2]


@given(rows=st.lists(st.lists(st.floats(), min_size=3, max_size=3), min_size=1), block_bytes=st.integers(1, 200))
def test_numbers_are_those_of_python(rows: list[list[float]], block_bytes: int) -> None:
    """To the bit, however the file is cut; also with more digits than a float64 holds."""
    texts = [[repr(a), f"{b:.25g}", f"{c:.3e}"] for a, b, c in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), "a,b,c\n" + "".join(",".join(row) + "\n" for row in texts))
        table = read(path, block_bytes=block_bytes)
    expected = np.array([[float(text) for text in row] for row in texts])
    found = np.stack([column.values for column in table], axis=1)
    missing = np.isnan(expected)
    assert np.array_equal(np.isnan(found), missing)
    assert np.array_equal(found[~missing].view(np.uint64), expected[~missing].view(np.uint64))


def test_records_without_numbers(tmp_path: Path) -> None:
    """One of nothing but delimiters is none; one that lacks all its numbers is."""
    path = write(tmp_path, "a,b,c\n" + "1,2,x\n,,\n,3,y\nNA,,z\n" * 20)
    for block_bytes in (1, 20, 1 << 20):
        found = columns(read(path, block_bytes=block_bytes))
        assert found == {"a": [1, None, None] * 20, "b": [2, 3, None] * 20, "c": ["x", "y", "z"] * 20}


@pytest.mark.parametrize("word", ["NA", "-", "n/a", "nan", "-999", "0"])
def test_a_missing_value_may_come_late(tmp_path: Path, word: str) -> None:
    """Words that stand for one are looked for from the first on, those that are numbers always."""
    said = {"missing": ["-999", "0"]} if word.strip("-").isdigit() else {}
    path = write(tmp_path, "a,b\n" + "".join(f"{k},{word if k == 500 else k}\n" for k in range(1, 900)))
    for block_bytes in (50, 1 << 20):
        table = read(path, block_bytes=block_bytes, **said)
        assert np.flatnonzero(table.columns[1].missing).tolist() == [499]
        assert not table.columns[1].is_text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,label\n1,2,x\n3,4\n", ":3:2: 2 fields, expected 3 as in the header"),
        ("a,b,label\n1,2,x\n3,4,y,5\n", ":3:4: 4 fields, expected 3 as in the header"),
        ("7,1,2\n3,4\n7,1,5\n", ":2:2: 2 fields, expected 3 as in the first line"),
        ("a,label\n1,x\n,x\n2\noops,x\n", ":4:1: 1 field, expected 2"),
        ('a,b,label\n1,2,"x\n3,4,y\n', ":2:1: a quote is never closed"),
        ("a,b,label\n", ": no samples, only the header line (a, b, label)"),
        ("\n \n", ": no data, only blank lines"),
        ("# x\n\n", ": no data, only blank lines and comments"),
        ("", ": the file is empty"),
        (b"a,b,label\n1,2,gr\x81n\n", ":2:7: not UTF-8 text: byte 0x81"),
        ("a,b,label\n1,\x002,x\n", ":2:1: the line holds a zero byte"),
        (b"\x1f\x8bnot gzip", ": the gzip file is damaged or truncated"),
        (b"a,b\n" + 99_000 * b"1,2\n" + b"1,\xff\n", ":99002:3: not UTF-8 text: byte 0xff"),
        (b"a,b\n" + 99_000 * b"1,2\n" + b"1\n", ":99002:1: 1 field, expected 2"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(path + message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,y\n1,2,1\n\n3,,2\n1,,3\n", ":4:2: column 'b' has a missing value (the first of 2)"),
        ("a,b,y\n1,2,1\n3,NA,2\n4,5,6\n", ":3:2: column 'b' has a missing value"),
        ("a,b,y\n1,2,1\n3,4,\n", ":3:3: column 'y', the target, has a missing value"),
        ("a,b,y\n1,2,0\n3,4,?\n5,6,NaN\n", ":3:3: column 'y', the target, has a missing value (the first of 2)"),
        ("a,b,y\n1,2,1\n3,4;5,2\n4,5,3\n5,6,4\n", ":3:2: column 'b' is '4;5', expected a number"),
        ("a,b,y\n1,2,1\n3,0x1F,2\n4,5,3\n5,6,4\n", ":3:2: column 'b' is '0x1F', expected a number"),
        ("a,b,y\n1,2,1\n3,1_000,2\n4,5,3\n5,6,4\n", ":3:2: column 'b' is '1_000', expected a number"),
        ("a,b,y\n1,2,1\n3,4,2\n4,5,<0.05\n5,6,4\n", ":4:3: column 'y' is '<0.05', expected a number"),
        ('a,b,y\n1,2,1\n"1\n2",4,2\n4,5,3\n5,6,4\n', ":3:1: column 'a' is '1\\n2', expected a number"),
        ('a,y,n\n1,1,"x\nx"\n3,2,z\noops,3,z\n4,5,z\n', ":5:1: column 'a' is 'oops', expected a number"),
        ("a,b,y\n1,2,1\n3,inf,2\n4,-inf,2\n", ":3:2: column 'b' is inf, expected a finite number (the first of 2)"),
        ("a,b,y\n1,2,1\n3,4,inf\n4,6,2\n", ":3:3: column 'y' is inf, expected a finite number"),
        ("a,b,y\n1e39,2,1\n4,3,2\n", ":2:1: column 'a' is 1e+39, which float32 does not hold"),
        ("a,b\n" + 1500 * "1,2\n2,3\n" + "3,x\n" + 50 * "1,2\n", ":3002:2: column 'b' is 'x', expected a number"),
    ],
)
def test_what_cannot_be_trained_on(tmp_path: Path, text: str, message: str) -> None:
    assert refused(write(tmp_path, text)).startswith(f"a.csv{message}")


def test_truncated_gzip(tmp_path: Path) -> None:
    packed = gzip.compress("".join(f"{k},{k * k},{k % 3}\n" for k in range(5000)).encode())
    assert "gzip file is damaged or truncated" in refused(write(tmp_path, packed[: len(packed) // 2], "a.csv.gz"))


def test_a_very_long_field(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,label\n1,2,x\n3," + "9" * 200_000 + "z,y\n")
    assert "field larger than field limit" in refused(path)


def test_a_table_of_many_columns(tmp_path: Path) -> None:
    """As of genes: the header alone is longer than the beginning that is looked at first."""
    names = [f"gene_number_{number:09}{'_of_many' * 12}" for number in range(3_000)]
    values = np.random.default_rng(0).normal(size=(3, 3_000)).round(6)
    lines = [",".join(names), *(",".join(map(str, row)) for row in values.tolist())]
    assert len(lines[0]) > dialect_guess._SAMPLE_BYTES
    table = read(write(tmp_path, "\n".join(lines) + "\n"))
    assert table.names == tuple(names)
    np.testing.assert_array_equal(np.stack([column.values for column in table], axis=1), values)


@pytest.mark.timeout(20)
def test_an_inch_mark_costs_nothing(tmp_path: Path) -> None:
    """A quote within a field is a character; looking for records that it might open must not take the square."""
    rows = "".join(f"{k},pipe {k % 7}\n" for k in range(400_000))
    table = read(write(tmp_path, 'a,b\n0,5" pipe\n' + rows))
    assert len(table) == 400_001
    assert table["b"].texts(np.array([0]))[0] == '5" pipe'


def test_label_outside_the_classes_is_named_with_its_line(tmp_path: Path) -> None:
    data = load_dataset(DataSpec(write(tmp_path, "label,a\n0,5\n1,6\n\n7,7\n")))
    with pytest.raises(DataError, match=r"a.csv:5:1: label 7 is outside the classes, expected 0 to 2"):
        TargetCodec("multiclass", 3).encode(data)


def test_positions_survive_pickling(tmp_path: Path) -> None:
    data = pickle.loads(pickle.dumps(load_dataset(DataSpec(write(tmp_path, 'b,"a\nx",label\n1,2,0\n3,4,1\n')))))
    assert data.where(1).endswith("a.csv:4:3")
    assert data.where(1, 0).endswith("a.csv:4:1")


def test_samples_without_a_target_can_be_left_out(tmp_path: Path) -> None:
    """Places are still those of the file."""
    path = write(tmp_path, "a,y\n1,2\n2,\n4,5\noops,6\n7,8\n")
    assert refused(path, missing_targets="drop").startswith("a.csv:5:1: column 'a' is 'oops'")
    made = prepared(write(tmp_path, "a,y\n1,2\n2,\n4,5\n7,8\n"), missing_targets="drop")
    assert made.arrays["targets"].tolist() == [[2], [5], [8]]
    assert made.arrays["features"].tolist() == [[1], [4], [7]]
    assert any("without a target" in note and note.startswith("1 ") for note in made.notes)


def test_western_text_is_read_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("Straße;Preis\nNord;1,5\nSüd;2,5\nSüd;3\n".encode("latin-1"))
    table = read(path)
    assert table.names == ("Straße", "Preis")
    assert table["Straße"].categories == ("Nord", "Süd")
    np.testing.assert_array_equal(table["Preis"].values, [1.5, 2.5, 3.0])
    assert "it is no UTF-8 and is read as Western text (cp1252)" in table.notes
