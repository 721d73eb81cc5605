"""Formats by content, where the suffix lies or says nothing."""

from __future__ import annotations

import bz2
import gzip
import pickle
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from onotrain.data import DataSpec, detect_format, load_dataset
from onotrain.data.readers import format_note
from onotrain.data.signatures import format_of_content
from onotrain.errors import DataError

X = np.arange(12, dtype=np.float32).reshape(4, 3)
CSV = b"a,b,label\n1,2,x\n3,4,y\n"


def make(path: Path, kind: str) -> Path:
    table = pa.table({"a": [1.0, 2.0], "label": ["x", "y"]})
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            file["x"], file["y"] = X, np.arange(4)
    elif kind == "userblock":
        with h5py.File(path, "w", userblock_size=512) as file:
            file["x"] = X
    elif kind == "npy":
        with open(path, "wb") as raw:
            np.save(raw, X)
    elif kind == "npz":
        with open(path, "wb") as raw:
            np.savez(raw, x=X, y=np.arange(4))
    elif kind == "parquet":
        pq.write_table(table, path)
    elif kind == "arrow":
        feather.write_feather(table, path)
    elif kind == "idx":
        path.write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 4) + bytes(4))
    elif kind == "idx.gz":
        path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 4) + bytes(4)))
    else:
        packed = {"gz": gzip.compress, "bz2": bz2.compress}.get(kind.partition(".")[2], lambda data: data)
        path.write_bytes(packed(CSV))
    return path


KINDS = {
    "hdf5": "hdf5", "userblock": "hdf5", "npy": "npy", "npz": "npz", "parquet": "parquet", "arrow": "arrow",
    "idx": "idx", "idx.gz": "idx", "csv": "csv", "csv.gz": "csv", "csv.bz2": "csv",
}  # fmt: skip
SUFFIXES = {
    ".h5": "hdf5", ".hdf5": "hdf5", ".mat": "hdf5", ".nc": "netcdf", ".nc4": "netcdf", ".npz": "npz", ".npy": "npy",
    ".csv": "csv", ".csv.gz": "csv", ".csv.bz2": "csv", ".txt": "csv", ".dat": "csv", ".tsv": "tsv", ".tsv.gz": "tsv",
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".idx": "idx", "": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_content_counts_for_more_than_the_suffix(tmp_path: Path, kind: str, suffix: str) -> None:
    path = make(tmp_path / f"a{suffix}", kind)
    of_name, expected = SUFFIXES[suffix], KINDS[kind]
    if (of_name, expected) in (("netcdf", "hdf5"), ("tsv", "csv")):
        expected = of_name
    spec = DataSpec(str(path))
    assert detect_format(spec) == expected
    note = format_note(spec)
    if of_name in (None, expected):
        assert note is None
    else:
        assert note == f"read as {expected}: the content is not what the suffix says ({of_name})"


@pytest.mark.parametrize("suffix", [suffix for suffix, kind in SUFFIXES.items() if kind])
def test_the_suffix_counts_where_there_is_no_file_or_no_known_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert detect_format(DataSpec(str(path))) == SUFFIXES[suffix]
    path.write_bytes(b"\x01\x02\x03" * 10)
    assert detect_format(DataSpec(str(path))) == SUFFIXES[suffix]


def test_a_format_that_is_given_is_taken(tmp_path: Path) -> None:
    spec = DataSpec(str(make(tmp_path / "a.h5", "csv")), format="npz")
    assert detect_format(spec) == "npz"
    assert format_note(spec) is None


def test_files_are_read_in_spite_of_their_names(tmp_path: Path) -> None:
    for kind, name in (("hdf5", "a.csv"), ("npz", "b.h5"), ("hdf5", "c.nc"), ("npy", "d.bin")):
        np.testing.assert_array_equal(load_dataset(DataSpec(str(make(tmp_path / name, kind)))).features, X)
    for kind, name in (("csv", "a.h5"), ("csv.gz", "b.csv"), ("csv.bz2", "c.csv.bz2"), ("csv.bz2", "d.txt")):
        data = load_dataset(DataSpec(str(make(tmp_path / name, kind))))
        np.testing.assert_array_equal(data.features, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"CDF\x01" + bytes(50), "classic netCDF"),
        (b"CDF\x05" + bytes(50), "nccopy -k nc4"),
        (b"MATLAB 5.0 MAT-file, Platform", "'-v7.3'"),
        (b"SQLite format 3\0", "SQLite"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel"),
        (pickle.dumps({"x": 1}), "a pickle of Python objects"),
    ],
)
def test_what_is_known_and_not_read(tmp_path: Path, head: bytes, message: str) -> None:
    for name in ("a.csv", "a.nc", "a"):
        (tmp_path / name).write_bytes(head)
        with pytest.raises(DataError) as caught:
            detect_format(DataSpec(str(tmp_path / name)))
        assert message in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)


def test_archives(tmp_path: Path) -> None:
    for member, message in (("xl/workbook.xml", "Excel"), ("archive/data.pkl", "pickled Python objects")):
        with zipfile.ZipFile(tmp_path / "a", "w") as archive:
            archive.writestr(member, "x")
        with pytest.raises(DataError, match=message):
            detect_format(DataSpec(str(tmp_path / "a")))
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("b.csv", CSV)
    with pytest.raises(DataError, match="a ZIP archive of b.csv"):
        detect_format(DataSpec(str(tmp_path / "a")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1 2 3\n4 5 6\n", "csv"),
        ("größe,y\n1,2\n".encode("latin-1"), "csv"),
        ("a;ü\n1;2\n".encode("utf-16"), "csv"),
        ("ü".encode() * 5000 + b",1\n", "csv"),
        (b"\n\n", None),
        (b"word", None),
        (bytes(range(256)), None),
    ],
)
def test_text(tmp_path: Path, text: bytes, expected: str | None) -> None:
    (tmp_path / "a").write_bytes(text)
    assert format_of_content(tmp_path / "a") == expected


@given(st.binary(max_size=40))
def test_any_bytes_have_a_format_or_none(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    for prefix in (b"", b"PK\x03\x04", b"\x1f\x8b", b"BZh9", b"\0\0"):
        path.write_bytes(prefix + content)
        try:
            format_of_content(path)
        except DataError as error:
            assert "not read" in str(error) or "run code" in str(error)


def test_damaged_bzip2(tmp_path: Path) -> None:
    whole = bz2.compress(CSV * 100)
    for cut in (len(whole) // 2, len(whole) - 3):
        (tmp_path / "a.csv.bz2").write_bytes(whole[:cut])
        with pytest.raises(DataError, match="the bzip2 file is damaged"):
            load_dataset(DataSpec(str(tmp_path / "a.csv.bz2")))
    flipped = bytearray(whole)
    flipped[20] ^= 0xFF
    (tmp_path / "a.csv.bz2").write_bytes(bytes(flipped))
    with pytest.raises(DataError, match="the bzip2 file is damaged"):
        load_dataset(DataSpec(str(tmp_path / "a.csv.bz2")))


def test_not_a_file(tmp_path: Path) -> None:
    assert format_of_content(tmp_path) is None
    assert format_of_content(tmp_path / "no") is None
    assert format_of_content("a\0b") is None
