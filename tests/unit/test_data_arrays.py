"""NPY, NPZ and IDX files: what they give, and what is said of broken and hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from onotrain.data import Dataset, DataSpec, check_finite, load_dataset
from onotrain.data.info import describe
from onotrain.errors import DataError, ResourceError

X = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
Y = np.array([0, 1, 1, 0])


def failure(path: Path | str, **spec: object) -> str:
    """Load what cannot be loaded, and return the message."""
    with pytest.raises(DataError) as caught:
        load_dataset(DataSpec(str(path), **spec))  # type: ignore[arg-type]
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value)
    return str(caught.value)


def save_idx(path: Path, array: np.ndarray, code: int) -> Path:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    data = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


class TestNpy:
    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i1", "i2", "<u4", "i8", "?", "u1"])
    def test_every_number_type(self, tmp_path: Path, dtype: str) -> None:
        values = (X % 2 if dtype == "?" else X).astype(dtype)
        np.save(tmp_path / "x.npy", values)
        data = load_dataset(DataSpec(str(tmp_path / "x.npy")))
        # float64 where float32 does not hold every number of the type
        assert data.features.dtype == {"u1": "u1", "f8": "f8", ">f8": "f8", "<u4": "f8", "i8": "f8"}.get(dtype, "f4")
        assert data.features.flags.c_contiguous
        assert data.feature_shape == (2, 3)
        assert data.targets is None
        np.testing.assert_array_equal(data.features, values.reshape(4, 6))

    def test_fortran_order_and_one_axis(self, tmp_path: Path) -> None:
        np.save(tmp_path / "f.npy", np.asfortranarray(X))
        np.testing.assert_array_equal(load_dataset(DataSpec(str(tmp_path / "f.npy"))).features, X.reshape(4, 6))
        np.save(tmp_path / "one.npy", X[:, 0, 0])
        one = load_dataset(DataSpec(str(tmp_path / "one.npy")))
        assert (one.features.shape, one.feature_shape) == ((4, 1), (1,))

    def test_label_file_beside_the_features(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", X)
        np.save(tmp_path / "y.npy", Y)
        for targets in ("y.npy", str(tmp_path / "y.npy"), ["y.npy"]):
            data = load_dataset(DataSpec(str(tmp_path / "x.npy"), targets=targets))
            assert data.targets is not None
            assert data.targets.dtype == np.int64
            np.testing.assert_array_equal(data.targets, Y)

    def test_lengths_that_differ(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", X)
        np.save(tmp_path / "y.npy", Y[:3])
        assert "3 targets for 4 samples" in failure(tmp_path / "x.npy", targets="y.npy")

    def test_pickle_is_not_loaded(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(tmp_path / "pwned"),)

        np.save(tmp_path / "x.npy", np.array([Evil()], dtype=object), allow_pickle=True)
        assert "pickled Python objects" in failure(tmp_path / "x.npy")
        assert not (tmp_path / "pwned").exists()

    def test_truncated(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", X)
        data = (tmp_path / "x.npy").read_bytes()
        (tmp_path / "x.npy").write_bytes(data[:-10])
        message = failure(tmp_path / "x.npy")
        assert "truncated: got 86 bytes of data, expected 96 for shape (4, 2, 3) of float32" in message
        (tmp_path / "x.npy").write_bytes(data + b"!")
        assert "more bytes than its header declares" in failure(tmp_path / "x.npy")

    @pytest.mark.parametrize("cut", [1, 5, 6, 9, 40])
    def test_truncated_in_its_header(self, tmp_path: Path, cut: int) -> None:
        np.save(tmp_path / "x.npy", X)
        (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:cut])
        assert "not a usable NPY file" in failure(tmp_path / "x.npy")

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000000, 1000), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3), }",
            "{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
            "(" * 5000,
            "__import__('os')",
        ],
    )
    def test_hostile_header(self, tmp_path: Path, header: str) -> None:
        text = header.ljust(117) + "\n"
        raw = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1") + bytes(8)
        (tmp_path / "x.npy").write_bytes(raw)
        failure(tmp_path / "x.npy")

    def test_text_features(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.array([["a"], ["b"]]))
        assert "expected real numbers" in failure(tmp_path / "x.npy")

    def test_not_finite_is_found_when_asked_for(self, tmp_path: Path) -> None:
        bad = X.copy()
        bad[2, 1, 0], bad[3, 0, 0] = np.nan, np.inf
        np.save(tmp_path / "x.npy", bad)
        data = load_dataset(DataSpec(str(tmp_path / "x.npy")))
        with pytest.raises(DataError, match=r"row 2, column 3: the feature is nan, expected a finite .*first of 2"):
            check_finite(data)

    def test_numbers_beyond_float32_stay(self, tmp_path: Path) -> None:
        values = np.array([[1.0], [1e300], [2**60 + 1]])
        np.save(tmp_path / "x.npy", values)
        data = load_dataset(DataSpec(str(tmp_path / "x.npy")))
        np.testing.assert_array_equal(data.features, values)
        data.features[1] = np.inf
        with pytest.raises(DataError, match="row 1, column 0: the feature is inf"):
            check_finite(data)

    def test_signalling_nan(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.array([[0x7FA00000]], "u4").view("f4"))
        with pytest.raises(DataError, match="row 0, column 0: the feature is nan"):
            check_finite(load_dataset(DataSpec(str(tmp_path / "x.npy"))))
        assert describe(DataSpec(str(tmp_path / "x.npy"))).missing.tolist() == [1]


class TestNpz:
    def load(self, path: Path, **spec: object) -> Dataset:
        return load_dataset(DataSpec(str(path), **spec))  # type: ignore[arg-type]

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_default_names(self, tmp_path: Path, save: object) -> None:
        save(tmp_path / "d.npz", x=X, labels=Y, class_names=np.array(["no", "yes"]))  # type: ignore[operator]
        data = self.load(tmp_path / "d.npz")
        assert data.class_names == ("no", "yes")
        np.testing.assert_array_equal(data.features, X.reshape(4, 6))
        np.testing.assert_array_equal(data.targets, Y)
        assert self.load(tmp_path / "d.npz", targets=()).targets is None

    def test_given_names(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", pictures=X, kinds=np.array(["a", "b", "a", "b"]), y=Y)
        data = self.load(tmp_path / "d.npz", features="pictures", targets="kinds")
        assert data.targets is not None
        assert data.targets.tolist() == ["a", "b", "a", "b"]
        message = failure(tmp_path / "d.npz", features="picture", targets="kinds")
        assert "no array named 'picture'" in message
        assert "did you mean 'pictures'?" in message

    def test_which_array_is_not_clear(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", a=X, b=X)
        assert "cannot tell which array holds the features; the file has a, b" in failure(tmp_path / "d.npz")

    def test_pickle_is_not_loaded(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", allow_pickle=True, x=np.array([{}], dtype=object))
        assert "pickled Python objects" in failure(tmp_path / "d.npz")

    def test_every_truncation_is_noticed(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X, y=Y)
        whole = (tmp_path / "d.npz").read_bytes()
        for cut in range(1, len(whole), 37):
            (tmp_path / "cut.npz").write_bytes(whole[:cut])
            assert "not a usable NPZ file" in failure(tmp_path / "cut.npz")

    def test_flipped_bit_is_noticed(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X, y=Y)
        raw = bytearray((tmp_path / "d.npz").read_bytes())
        raw[raw.index(X.tobytes()) + 5] ^= 1
        (tmp_path / "d.npz").write_bytes(bytes(raw))
        assert "CRC" in failure(tmp_path / "d.npz")

    def test_more_declared_than_a_small_member_can_hold(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 8)}
        )
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("x.npy", buffer.getvalue())
        assert "truncated" in failure(tmp_path / "d.npz")


class TestIdx:
    @pytest.mark.parametrize(
        ("dtype", "code"), [("u1", 8), ("i1", 9), ("i2", 0x0B), ("i4", 0x0C), ("f4", 0x0D), ("f8", 0x0E)]
    )
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_every_type(self, tmp_path: Path, dtype: str, code: int, suffix: str) -> None:
        path = save_idx(tmp_path / f"some-images-idx3-ubyte{suffix}", X.astype(dtype), code)
        save_idx(tmp_path / "some-labels-idx1-ubyte", Y.astype("u1"), 8)
        data = load_dataset(DataSpec(str(path)))
        assert data.features.dtype == {"u1": "u1", "f8": "f8", "i4": "f8"}.get(dtype, "f4")
        assert data.feature_shape == (2, 3)
        np.testing.assert_array_equal(data.features, X.reshape(4, 6))
        np.testing.assert_array_equal(data.targets, Y)
        assert load_dataset(DataSpec(str(path), targets=())).targets is None

    def test_label_file_of_another_name(self, tmp_path: Path) -> None:
        path = save_idx(tmp_path / "pictures.idx", X, 0x0D)
        assert load_dataset(DataSpec(str(path))).targets is None
        save_idx(tmp_path / "kinds.idx", Y.astype("u1"), 8)
        np.testing.assert_array_equal(load_dataset(DataSpec(str(path), targets="kinds.idx")).targets, Y)
        assert "no such file" in str(pytest.raises(DataError, load_dataset, DataSpec(str(path), targets="x.idx")).value)

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_truncated(self, tmp_path: Path, suffix: str) -> None:
        path = save_idx(tmp_path / "a.idx", X, 0x0D)
        cut = path.read_bytes()[:-7]
        other = tmp_path / f"b.idx{suffix}"
        other.write_bytes(gzip.compress(cut) if suffix else cut)
        assert "truncated: got 105 bytes, expected 112 for shape (4, 2, 3)" in failure(other)

    def test_truncated_gzip(self, tmp_path: Path) -> None:
        path = save_idx(tmp_path / "a.idx.gz", X, 0x0D)
        path.write_bytes(path.read_bytes()[:-12])
        assert "gzip file is damaged or truncated" in failure(path)

    def test_longer_than_declared(self, tmp_path: Path) -> None:
        path = save_idx(tmp_path / "a.idx", X, 0x0D)
        path.write_bytes(path.read_bytes() + b"x")
        assert "longer than the 112 bytes" in failure(path)

    @pytest.mark.parametrize("raw", [b"\0", b"\0\0\x08", b"GIF89a..", b"\0\0\x07\x01\0\0\0\x01\0", b"\0\0\x08\0"])
    def test_wrong_magic(self, tmp_path: Path, raw: bytes) -> None:
        (tmp_path / "a.idx").write_bytes(raw)
        message = failure(tmp_path / "a.idx")
        assert "not an IDX file" in message
        assert raw[:4].hex(" ") in message

    def test_truncated_header(self, tmp_path: Path) -> None:
        (tmp_path / "a.idx").write_bytes(b"\0\0\x08\x03\0\0\0\x01")
        assert "truncated in its header: got 8 bytes, expected 16" in failure(tmp_path / "a.idx")

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_huge_declared_shape(self, tmp_path: Path, suffix: str) -> None:
        raw = struct.pack(">BBBB4I", 0, 0, 8, 4, *[0xFFFFFFFF] * 4)
        path = tmp_path / f"a.idx{suffix}"
        path.write_bytes(gzip.compress(raw) if suffix else raw)
        assert "truncated" in failure(path)

    def test_more_than_the_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save_idx(tmp_path / "a.idx", X, 0x0D)
        monkeypatch.setattr("onotrain.memory.available_bytes", lambda: 50)
        with pytest.raises(ResourceError, match="memory") as caught:
            load_dataset(DataSpec(str(path)))
        assert caught.value.exit_code == 6


class TestPaths:
    @pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.tsv", "a.h5", "a.idx", "a.csv.gz"])
    def test_bad_files(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        assert "no such file" in failure(path)
        path.touch()
        assert "the file is empty (0 bytes)" in failure(path)
        path.unlink()
        path.mkdir()
        assert "is a directory" in failure(path)
        path.rmdir()
        os.mkfifo(path)
        assert "not a regular file" in failure(path)

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        np.save(tmp_path / "a.npy", X)
        monkeypatch.setattr("os.access", lambda path, mode: False)  # root may read everything
        assert "permission denied" in failure(tmp_path / "a.npy")

    def test_similar_name_is_proposed(self, tmp_path: Path) -> None:
        np.save(tmp_path / "train.npy", X)
        assert f"did you mean {tmp_path / 'train.npy'}?" in failure(tmp_path / "trian.npy")

    def test_unknown_format(self, tmp_path: Path) -> None:
        (tmp_path / "a.xls").write_text("?")
        assert "known suffixes are .h5" in failure(tmp_path / "a.xls")
        assert "unknown format 'xls'" in failure(tmp_path / "a.xls", format="xls")
        assert "no such file" in failure(tmp_path / "mnits")

    def test_format_beats_suffix(self, tmp_path: Path) -> None:
        path = save_idx(tmp_path / "a.dat", X, 0x0D)
        assert len(load_dataset(DataSpec(str(path), format="idx"))) == 4
        assert "not a usable NPY file" in failure(path, format="npy")

    def test_a_file_has_no_test_part(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", X)
        assert "no test part" in failure(tmp_path / "a.npy", part="test")
