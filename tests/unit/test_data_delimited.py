"""CSV and TSV: what is understood, and where each mistake is found."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onotrain.data import Dataset, DataSpec, TargetCodec, load_dataset
from onotrain.data.delimited import read_with_missing
from onotrain.errors import DataError


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(text: str | bytes, name: str = "a.csv") -> str:
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return str(tmp_path / name)

    return write


def load(path: str, **spec: object) -> Dataset:
    return load_dataset(DataSpec(path, **spec))  # type: ignore[arg-type]


def failure(path: str, **spec: object) -> str:
    """Load what cannot be loaded, and return the message without the directory."""
    with pytest.raises(DataError) as caught:
        load(path, **spec)
    message = str(caught.value)
    assert message.startswith(path)
    return message.removeprefix(str(Path(path).parent) + "/")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "a,b,label\n1,2,x\n3.5,-4e1,y\n"),
        ("a.csv", "a,b,label\r\n1,2,x\r\n\r\n3.5,-4e1,y"),
        ("a.csv", "\ufeffa,b,label\n1,2,x\n3.5,-4e1,y\n"),
        ("a.csv", '\n"a","b","label"\n" 1 ","2","x"\n3.5,-4e1, y \n\n'),
        ("a.csv", "a;b;label\n1;2;x\n3.5;-4e1;y\n"),
        ("a.csv", "a\tb\tlabel\n1\t2\tx\n3.5\t-4e1\ty\n"),
        ("a.tsv", "a\tb\tlabel\n1\t2\tx\n3.5\t-4e1\ty\n"),
        ("a.csv", "a,label,b\n1,x,2\n3.5,y,-4e1\n"),
        ("a.csv", "Class,a,b\nx,1,2\ny,3.5,-4e1\n"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_dialects(write, name: str, text: str, zipped: bool) -> None:  # type: ignore[no-untyped-def]
    data = load(write(gzip.compress(text.encode()), f"{name}.gz") if zipped else write(text, name))
    assert data.features.dtype == np.float32
    assert data.features.tolist() == [[1, 2], [3.5, -40]]
    assert data.targets is not None
    assert data.targets.tolist() == ["x", "y"]
    assert data.feature_names == ("a", "b")
    assert data.target_names in {("label",), ("Class",)}
    assert data.feature_shape == (2,)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("1,2,0\n3,4,1\n", None),
        ("5.1,3.5,setosa\n4.9,3,setosa\n", None),
        ("5.1,oops,0\n4.9,3,1\n", "error"),
        ("a,b,c\n1,2,0\n", ("a", "b", "c")),
        ("0,1,2,label\n5,6,7,x\n", ("0", "1", "2", "label")),
        ("label,1,2,3\nx,5,6,7\n", ("label", "1", "2", "3")),
        ("a,,c\n1,2,0\n", ("a", "column_2", "c")),
    ],
)
def test_header_is_noticed(write, text: str, header: object) -> None:  # type: ignore[no-untyped-def]
    path = write(text)
    if header == "error":
        assert failure(path).startswith("a.csv:1:2: column 2 is 'oops', expected a number")
        return
    data = load(path)
    lines = len(text.splitlines())
    assert len(data) == (lines if header is None else lines - 1)
    names = None if data.feature_names is None else set(data.feature_names) | set(data.target_names or ())
    assert names == (None if header is None else set(header))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("labels", "dtype", "values"),
    [
        (["3", "-1", "10"], np.int64, [3, -1, 10]),
        (["1", "2.5", "3"], np.float32, [1, 2.5, 3]),
        (["1.0", "2.0", "0.0"], np.float32, [1, 2, 0]),
        (["1", "two", "3"], None, ["1", "two", "3"]),
        (["NA", "yes", "no"], None, ["NA", "yes", "no"]),
        (["1_0", "2", "3"], None, ["1_0", "2", "3"]),
        (["grün", "rot", "é"], None, ["grün", "rot", "é"]),
    ],
)
def test_label_types(write, labels: list[str], dtype: object, values: list[object]) -> None:  # type: ignore[no-untyped-def]
    targets = load(write("a,label\n" + "".join(f"1,{label}\n" for label in labels))).targets
    assert targets is not None
    assert targets.dtype == dtype if dtype is not None else targets.dtype.kind == "U"
    assert targets.tolist() == values


def test_choice_of_columns(write) -> None:  # type: ignore[no-untyped-def]
    path = write("name,a,b,c\nJo,1,2,3\nAl,4,5,6\n")
    assert "column 'name' is 'Jo', expected a number" in failure(path)
    data = load(path, features=["c", "a"], targets="name")
    assert data.features.tolist() == [[3, 1], [6, 4]]
    assert data.feature_names == ("c", "a")
    assert data.targets is not None
    assert data.targets.tolist() == ["Jo", "Al"]
    several = load(path, features="a", targets=["c", "b"])
    assert several.targets is not None
    assert several.targets.tolist() == [[3, 2], [6, 5]]
    assert several.target_names == ("c", "b")
    # What prediction asks for: the model's columns, without targets.
    assert load(path, features=["a", "b", "c"], targets=()).targets is None
    # Features alone are named, and the label is not there.
    assert load(path, features=["b", "c"]).targets is None
    assert "no column 'd' (data.features); the header has name, a, b, c" in failure(path, features=["a", "d"])
    assert "did you mean 'name'?" in failure(path, targets="nam")
    assert "column 'a' is both a feature and a target" in failure(path, features=["a", "b"], targets="a")
    assert "names the column 'a' twice" in failure(path, features=["a", "a"])
    assert "no column is left" in failure(path, targets=["name", "a", "b", "c"])


def test_columns_without_a_header_are_numbered(write) -> None:  # type: ignore[no-untyped-def]
    data = load(write("7,1,2\n8,3,4\n"), targets="1")
    assert data.features.tolist() == [[1, 2], [3, 4]]
    assert data.targets is not None
    assert data.targets.tolist() == [7, 8]
    assert "its columns are called 1, 2, 3" in failure(write("7,1,2\n"), targets="label")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,label\n1,2,x\n3,4\n", ":3:2: 2 fields, expected 3 as in the header"),
        ("a,b,label\n1,2,x\n3,4,y,5\n", ":3:4: 4 fields, expected 3 as in the header"),
        ("1,2,3\n3,4\n", ":2:2: 2 fields, expected 3 as in the first line"),
        ("a,b,label\n1,2,x\n\n3,,y\n1,,z\n", ":4:2: column 'b' has a missing value (the first of 2)"),
        ("a,b,label\n1,2,x\n3,NA,y\n", ":3:2: column 'b' has a missing value ('NA')"),
        ("a,b,label\n1,2,x\n3,4,\n", ":3:3: column 'label' has a missing value"),
        ("a,b,label\n1,2,0\n3,4,?\n", ":3:3: column 'label' has a missing value ('?')"),
        ("a,b,label\n1,2,x\n3,4;5,y\n", ":3:2: column 'b' is '4;5', expected a number"),
        ("a,b,label\n1,2,x\n3,0x1F,y\n", ":3:2: column 'b' is '0x1F', expected a number"),
        ("a,b,label\n1,2,x\n3,1_000,y\n", ":3:2: column 'b' is '1_000', expected a number"),
        ("a,b,label\n1,2,x\n3,inf,y\nnan,4,x\n", ":3:2: column 'b' is inf, expected a finite number (the first of 2)"),
        ("a,b,label\nnan,2,x\n", ":2:1: column 'a' has a missing value ('nan')"),
        ("a,b,label\n1e39,2,x\n", ":2:1: column 'a' is 1e39, expected a finite number"),
        ('a,b,label\n1,2,"x\n3,4,y\n', ":2:1: a quote is never closed"),
        ('a,b,label\n"1\n2",2,x\n3,oops,y\n', ":2:1: column 'a' is '1\\n2', expected a number"),
        ('a,b,label\n1,2,"x\nx"\n3,oops,y\n', ":4:2: column 'b' is 'oops', expected a number"),
        ("a,a,label\n1,2,x\n", ":1:2: two columns are named 'a'"),
        ("a,b,label\n", ": no samples, only the header line (a, b, label)"),
        ("\n \n", ": no samples, only the header line"),
        ("\n\n", ": no data, only blank lines"),
        (b"a,b,label\n1,2,gr\xfcn\n", ":2:7: not UTF-8 text: byte 0xfc"),
        ("a,b,label\n1,\x002,x\n", ":2:1: the line holds a zero byte"),
        (b"\x1f\x8bnot gzip", ": the gzip file is damaged or truncated"),
        ("a,b,label\n1,2,x\n3," + "9" * 200_000 + "z,y\n", ":3:1: field larger than field limit"),
    ],
)
def test_mistakes(write, text: str | bytes, message: str) -> None:  # type: ignore[no-untyped-def]
    assert failure(write(text)).startswith(f"a.csv{message}")


def test_first_of_several_mistakes_is_named(write) -> None:  # type: ignore[no-untyped-def]
    assert failure(write("a,label\n1,x\n,x\n2\noops,x\n")).startswith("a.csv:3:1: column 'a' has a missing value")
    assert failure(write("a,label\n1,x\n2\n,x\n")).startswith("a.csv:3:1: 1 field, expected 2")


def test_truncated_gzip(write) -> None:  # type: ignore[no-untyped-def]
    packed = gzip.compress("".join(f"{k},{k * k},{k % 3}\n" for k in range(5000)).encode())
    assert "gzip file is damaged or truncated" in failure(write(packed[: len(packed) // 2], "a.csv.gz"))


def test_one_huge_line(write, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("onotrain.data.delimited_text.MAX_LINE", 1 << 10)
    assert "a.csv:2:1: the line is longer" in failure(write("a,b\n" + "1" * 5000))


def test_label_outside_the_classes_is_named_with_its_line(write) -> None:  # type: ignore[no-untyped-def]
    path = write("label,a\n0,5\n1,6\n\n7,7\n")
    data = load(path)
    with pytest.raises(DataError, match=r"a.csv:5:1: label 7 is outside the classes, expected 0 to 2"):
        TargetCodec("multiclass", 3).encode(data)


def test_positions_survive_pickling(write) -> None:  # type: ignore[no-untyped-def]
    import pickle

    data = pickle.loads(pickle.dumps(load(write('b,"a\nx",label\n1,2,0\n3,4,1\n'))))
    assert data.where(1).endswith("a.csv:4:3")
    assert data.where(1, 0).endswith("a.csv:4:1")


def test_missing_values_can_be_kept(write) -> None:  # type: ignore[no-untyped-def]
    data = read_with_missing(DataSpec(write("a,b,label\n1,,x\nNA,inf,y\n3,4,\n-1e99,1,x\n")))
    np.testing.assert_array_equal(data.features, np.array([[1, np.nan], [np.nan, np.inf], [3, 4], [-np.inf, 1]], "f4"))
    assert data.targets is not None
    assert data.targets.tolist() == ["x", "y", "", "x"]
    numbers = read_with_missing(DataSpec(write("a,label\n1,0\n2,\n"))).targets
    assert numbers is not None
    np.testing.assert_array_equal(numbers, np.array([0, np.nan], "f4"))
    with pytest.raises(DataError, match=":3:1: column 'a' is 'oops', expected a number"):
        read_with_missing(DataSpec(write("a,label\n,0\noops,1\n")))
    with pytest.raises(DataError, match=":3:3: 3 fields, expected 2"):
        read_with_missing(DataSpec(write("a,label\n,0\n1,1,1\n")))


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
LABELS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 4).flatmap(
        lambda d: st.lists(st.tuples(st.lists(FLOATS, min_size=d, max_size=d), LABELS), min_size=1, max_size=6)
    ),
    delimiter=st.sampled_from([",", ";", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_round_trip(tmp_path: Path, rows, delimiter: str, quoting, line_end: str) -> None:  # type: ignore[no-untyped-def]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=line_end)
    writer.writerow([*(f"f{k}" for k in range(len(rows[0][0]))), "label"])
    for values, label in rows:
        # A leading t keeps a label text, whatever else it holds.
        writer.writerow([*(repr(value) for value in values), f"t{label}"])
    path = tmp_path / "round.csv"
    path.write_bytes(text.getvalue().encode())
    data = load(str(path))
    np.testing.assert_array_equal(data.features, np.array([values for values, _ in rows], np.float32))
    assert data.targets is not None
    assert data.targets.tolist() == [f"t{label}" for _, label in rows]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("height;weight\n1,70;60\n", "decimal point"),
        ("5.1 3.5 0\n4.9 3.0 1\n", "separate fields with commas, semicolons or tabs"),
        ("a,name,b,city,y\n1,Bob,2,Rome,0\n", "text in this line: 'name', 'city'"),
    ],
)
def test_hints_fit_what_is_there_instead_of_a_number(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="expected a number") as caught:
        load_dataset(DataSpec(str(path)))
    assert hint in str(caught.value.hint)
