"""Parquet and Arrow files: what their columns become."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import unicodedata
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from onotrain.data import DataSpec, detect_format, load_dataset
from onotrain.data.readers import is_table
from onotrain.data.tables.arrow import read_arrow
from onotrain.data.tables.loading import read_table
from onotrain.errors import DataError, ResourceError

KINDS = ("parquet", "arrow", "feather", "stream")


def save(table: pa.Table, path: Path, kind: str = "parquet", batch_rows: int = 2) -> str:
    """Write a table in batch_rows of so many rows."""
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=batch_rows)
    elif kind == "feather":
        feather.write_feather(table, path, compression="zstd", chunksize=batch_rows)
    else:
        new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=batch_rows)
    return str(path)


@pytest.mark.parametrize("kind", KINDS)
class TestTypes:
    def test_numbers_keep_their_type(self, tmp_path: Path, kind: str) -> None:
        types = ("int8", "uint16", "int64", "uint64", "float32", "float64")
        table = pa.table({name: pa.array([1, 2, 3], name) for name in types})
        back = read_arrow(save(table, tmp_path / "a", kind))
        assert [column.values.dtype.name for column in back] == list(types)
        assert all(column.values.tolist() == [1, 2, 3] for column in back)
        assert [column.field for column in back] == list(range(6))

    def test_missing_values(self, tmp_path: Path, kind: str) -> None:
        table = pa.table(
            {
                "i": pa.array([1, 2, None], "int32"),
                "f": pa.array([None, 1.5, float("nan")], "float32"),
                "b": [True, None, False],
                "n": pa.nulls(3),
                "t": pa.array(["b", None, ""]),
                "d": pa.array([date(2020, 2, 29), None, date(1969, 12, 31)]),
            }
        )
        back = read_arrow(save(table, tmp_path / "a", kind))
        assert [column.values.dtype.kind for column in back] == list("ffifiM")
        assert [column.missing.tolist() for column in back] == [
            [False, False, True], [True, False, True], [False, True, False], [True] * 3, [False, True, True],
            [False, True, False],
        ]  # fmt: skip
        assert (back["b"].categories, back["b"].texts().tolist()) == (("False", "True"), ["True", "", "False"])
        assert back["i"].values.dtype == np.float64

    def test_text_and_dictionaries(self, tmp_path: Path, kind: str) -> None:
        words = ["b", "a", None, "b", " c ", "u\u0308"]
        columns = {"s": pa.array(words), "l": pa.array(words, pa.large_string()),
                   "d": pa.array(words).dictionary_encode(), "b": pa.array(words, pa.binary())}  # fmt: skip
        for column in read_arrow(save(pa.table(columns), tmp_path / "a", kind, batch_rows=6)):
            assert column.categories == ("a", "b", "c", "ü")
            assert column.texts().tolist() == ["b", "a", "", "b", "c", "ü"]

    def test_dictionary_of_numbers(self, tmp_path: Path, kind: str) -> None:
        table = pa.table({"n": pa.array([5, 7, 5, 9]).dictionary_encode()})
        assert read_arrow(save(table, tmp_path / "a", kind, batch_rows=4))["n"].values.tolist() == [5, 7, 5, 9]

    def test_times(self, tmp_path: Path, kind: str) -> None:
        moment = datetime(2024, 5, 6, 7, 8, 9)
        columns = {f"t_{unit}": pa.array([moment, None], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")}
        columns["zone"] = pa.array([moment, None], pa.timestamp("us", "Europe/Berlin"))  # an instant, as UTC
        columns["day"] = pa.array([time(0, 1, 2), None])
        columns["length"] = pa.array([timedelta(milliseconds=1500), None])
        back = read_arrow(save(pa.table(columns), tmp_path / "a", kind))
        for name in ("t_s", "t_ms", "t_us", "t_ns", "zone"):
            assert back[name].values.dtype == "datetime64[us]"
            assert back[name].values[0] == np.datetime64(moment)
            assert back[name].missing.tolist() == [False, True]
        assert (back["day"].values[0], back["day"].units) == (62, "s")
        assert (back["length"].values[0], back["length"].units) == (1.5, "s")

    def test_decimals(self, tmp_path: Path, kind: str) -> None:
        table = pa.table({"x": pa.array([Decimal("1.25"), None, Decimal("-3.50")])})
        values = read_arrow(save(table, tmp_path / "a", kind))["x"].values
        np.testing.assert_array_equal(values, [1.25, np.nan, -3.5])

    def test_units(self, tmp_path: Path, kind: str) -> None:
        schema = pa.schema([pa.field("x", "float64", metadata={"units": "m s⁻¹"}), pa.field("y", "float64")])
        back = read_arrow(save(pa.table({"x": [1.0], "y": [2.0]}, schema), tmp_path / "a", kind))
        assert [column.units for column in back] == ["m s⁻¹", None]

    def test_only_the_wanted_columns(self, tmp_path: Path, kind: str) -> None:
        table = pa.table({"a": [1], "a.b": [2], "n": [[1, 2]], unicodedata.normalize("NFD", "höhe"): [3]})
        path = save(table, tmp_path / "a", kind)
        assert read_arrow(path).names == ("a", "a.b", "höhe")  # n is nested
        assert read_arrow(path, ["a"]).names == ("a",)
        back = read_arrow(path, {"höhe", "a", "no"})
        assert [(column.name, column.field, column.values[0]) for column in back] == [("a", 0, 1), ("höhe", 3, 3)]

    def test_nested_columns(self, tmp_path: Path, kind: str) -> None:
        table = pa.table({"a": [1], "n": [[1, 2]], "s": [{"k": 1}]})
        path = save(table, tmp_path / "a", kind)
        back = read_arrow(path)
        assert (back.names, back.notes) == (("a",), ("left out, because their types are nested: n, s",))
        with pytest.raises(DataError, match="the column 'n' is of type list<"):
            read_arrow(path, ["a", "n"])

    def test_names_twice(self, tmp_path: Path, kind: str) -> None:
        table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["x", "x", "y"])
        back = read_arrow(save(table, tmp_path / "a", kind))
        assert {column.name: column.values[0] for column in back} == {"x": 1, "x.1": 2, "y": 3}

    def test_no_samples(self, tmp_path: Path, kind: str) -> None:
        with pytest.raises(DataError, match="no samples"):
            read_arrow(save(pa.table({"x": pa.array([], "float64")}), tmp_path / "a", kind))

    def test_every_truncation_is_noticed(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a"
        save(pa.table({"x": np.arange(1000.0), "t": ["a", "b"] * 500}), path, kind, batch_rows=100)
        whole = path.read_bytes()
        for cut in range(1, len(whole) - (8 if kind == "stream" else 0), len(whole) // 16):
            path.write_bytes(whole[:cut])
            try:
                back = read_arrow(str(path))
            except DataError as error:
                assert str(path) in str(error)
            else:  # a stream may end behind any batch
                assert kind == "stream" and len(back) % 100 == 0

    def test_larger_than_the_memory(self, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save(pa.table({"x": np.arange(1000.0)}), tmp_path / "a", kind)
        monkeypatch.setattr("onotrain.memory.available_bytes", lambda: 1000)
        with pytest.raises(ResourceError, match="MiB of memory"):
            read_arrow(path)


def test_damaged_bytes_raise_or_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for kind in KINDS:
        save(pa.table({"x": np.arange(50.0), "t": ["a", "b"] * 25}), path, kind, batch_rows=10)
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            with contextlib.suppress(DataError, ResourceError):
                read_arrow(str(path))


@given(
    numbers=st.lists(st.none() | st.integers(-(2**53), 2**53), min_size=1, max_size=20),
    texts=st.lists(st.none() | st.text(max_size=3), min_size=20, max_size=20),
    batch_rows=st.integers(1, 7),
    kind=st.sampled_from(KINDS),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    numbers: list[int | None],
    texts: list[str | None],
    batch_rows: int,
    kind: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip"
    texts = texts[: len(numbers)]
    back = read_arrow(
        save(pa.table({"n": pa.array(numbers, "int64"), "t": pa.array(texts, "string")}), path, kind, batch_rows)
    )
    expected = [np.nan if number is None else number for number in numbers]
    np.testing.assert_array_equal(back["n"].values, expected)
    assert back["t"].texts().tolist() == [unicodedata.normalize("NFC", text or "").strip() for text in texts]
    assert back["t"].categories == tuple(sorted(set(back["t"].texts().tolist()) - {""}))


def test_the_package_is_imported_without_pyarrow() -> None:
    code = "import sys, onotrain, onotrain.data.readers; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", KINDS[:3])
def test_read_where_tables_are_read(tmp_path: Path, kind: str) -> None:
    table = pa.table({"a": [1.0, 2.0], "zip": [2134, 90210], "label": ["x", "y"]})
    spec = DataSpec(save(table, tmp_path / "a.bin", kind))
    assert is_table(spec)
    back = read_table(spec, detect_format(spec), wanted={"zip", "label"}, texts={"zip"})
    assert back["zip"].categories == ("2134", "90210")
    data = load_dataset(spec)
    np.testing.assert_array_equal(data.features, [[1, 2134], [2, 90210]])
    assert (data.feature_names, data.target_names) == (("a", "zip"), ("label",))
    assert data.targets is not None
    assert data.targets.tolist() == ["x", "y"]


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_few_bytes_that_were_made_to_fill_the_memory(tmp_path: Path, kind: str) -> None:
    """A column of one value takes next to nothing in the file."""
    table = pa.table({"a": np.zeros(3_000_000, np.int64)})
    assert len(read_arrow(save(table, tmp_path / "a", kind, batch_rows=1 << 20)).columns[0].values) == 3_000_000
    made = save(pa.concat_tables([table] * 4), tmp_path / "b", kind, batch_rows=1 << 24)
    with pytest.raises(DataError, match="more than 33554432 bytes come out of the"):
        read_arrow(made)
