"""HDF5 files: reading, streaming, converting, and what hostile ones may not do."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from onotrain.data import Dataset, DataSpec, check_finite, load_dataset
from onotrain.data.convert import convert, shuffled
from onotrain.data.dataset import make_dataset
from onotrain.data.hdf5_stream import Hdf5Stream
from onotrain.errors import DataError, ResourceError

X = np.random.default_rng(0).normal(size=(50, 4, 3)).astype(np.float32)
Y = np.arange(50) % 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.h5"


def write(path: Path, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def load(path: Path, **spec: object) -> Dataset:
    return load_dataset(DataSpec(str(path), **spec))  # type: ignore[arg-type]


def failure(path: Path, **spec: object) -> str:
    """Load what cannot be loaded, whole and as a stream, and return the message."""
    with pytest.raises(DataError) as caught:
        load(path, **spec)
    with pytest.raises(DataError), Hdf5Stream(DataSpec(str(path), **spec)) as stream:  # type: ignore[arg-type]
        stream.targets_only()
        stream.read(0, stream.rows, np.empty((stream.rows, stream.features), stream.dtype))
    assert str(path) in str(caught.value)
    return str(caught.value)


class TestReading:
    def test_default_names(self, path: Path) -> None:
        data = load(write(path, features=X, label=Y))
        assert data.features.dtype == np.float32
        assert data.feature_shape == (4, 3)
        np.testing.assert_array_equal(data.features, X.reshape(50, 12))
        assert data.targets is not None
        assert data.targets.dtype == np.int64
        np.testing.assert_array_equal(data.targets, Y)
        assert load(path, targets=()).targets is None

    def test_names_in_groups(self, path: Path) -> None:
        write(path, **{"train/a": X, "train/b": Y, "test/a": X[:5], "test/b": Y[:5]})
        assert len(load(path, features="test/a", targets="test/b")) == 5
        assert "did you mean 'train/a'?" in failure(path, features="train/aa")
        assert "cannot tell which data sets belong together" in failure(path)

    @pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "u4", "i8", "f2", "f4", "f8", ">f8", "?"])
    @pytest.mark.parametrize("options", [{}, {"chunks": (7, 2, 3)}, {"chunks": True, "compression": "gzip"}])
    def test_types_and_layouts(self, path: Path, dtype: str, options: dict[str, object]) -> None:
        values = (X * 50 > 0 if dtype == "?" else np.abs(X * 50)).astype(dtype)
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=values, **options)
        data = load(path)
        wide = {"u1": "u1", "u4": "f8", "i8": "f8", "f8": "f8", ">f8": "f8"}
        assert data.features.dtype == wide.get(dtype, "f4")
        np.testing.assert_array_equal(data.features, values.reshape(50, 12))

    @pytest.mark.parametrize("compression", ["lzf", "gzip"])
    def test_filters_of_hdf5(self, path: Path, compression: str) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=X, compression=compression, shuffle=True, fletcher32=True)
        np.testing.assert_array_equal(load(path).features, X.reshape(50, 12))

    @pytest.mark.parametrize("labels", [["no", "ja", "über"], [b"no", b"yes", "ü".encode()]])
    def test_text_labels(self, path: Path, labels: list[object]) -> None:
        with h5py.File(path, "w") as file:
            file["x"] = X[:3]
            file["y"] = np.array(labels, dtype=h5py.string_dtype()) if isinstance(labels[0], str) else np.array(labels)
        targets = load(path).targets
        assert targets is not None
        assert targets.dtype.kind == "U"
        assert targets.tolist() == [label.decode() if isinstance(label, bytes) else label for label in labels]

    def test_damaged_chunk(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=X, chunks=(10, 4, 3), fletcher32=True)
        raw = bytearray(path.read_bytes())
        raw[raw.index(X[20:22].tobytes()) + 3] ^= 1
        path.write_bytes(bytes(raw))
        failure(path)

    def test_every_truncation_is_noticed(self, path: Path) -> None:
        whole = write(path, x=X, y=Y).read_bytes()
        for cut in range(1, len(whole), len(whole) // 16):
            path.write_bytes(whole[:cut])
            assert "not a usable HDF5 file" in failure(path)

    def test_not_hdf5(self, path: Path) -> None:
        path.write_bytes(bytes(range(100)))
        assert "not a usable HDF5 file" in failure(path)

    def test_what_is_not_features(self, path: Path) -> None:
        assert "expected real numbers" in failure(write(path, x=X.astype("c8")))
        assert "expected real numbers" in failure(write(path, x=["a", "b"]))
        assert "a single number" in failure(write(path, x=1.0))
        assert "no samples" in failure(write(path, x=X[:0]))
        assert "no features" in failure(write(path, x=X[:, :, :0]))
        assert "without a shape" in failure(write(path, x=h5py.Empty("f4")))
        assert "shape (49,), expected (50,)" in failure(write(path, x=X, y=Y[:49]))
        assert "targets are of type" in failure(write(path, x=X, y=X[:, 0, 0].astype("c8")))
        assert "the same array 'x'" in failure(path, targets="x")
        assert "the same array 'y'" in failure(path, features=["x", "y"])
        assert "names the array 'x' twice" in failure(path, features=["x", "x"])

    def test_attributes(self, path: Path) -> None:
        write(path, x=X.reshape(50, 12), y=Y)
        with h5py.File(path, "a") as file:
            file.attrs["feature_shape"] = [2, 6]
            file.attrs["class_names"] = ["a", "b", "c"]
        assert load(path).feature_shape == (2, 6)
        assert load(path).class_names == ("a", "b", "c")
        for key, value, message in (
            ("feature_shape", [5, 5], "feature_shape is [5, 5], but a sample has shape (12,)"),
            ("feature_shape", [-2, -6], "expected positive integers"),
            ("class_names", [1, 2, 3], "class_names is not a list of text"),
        ):
            with h5py.File(path, "a") as file:
                before = file.attrs[key]
                file.attrs[key] = value
            assert message in failure(path)
            with h5py.File(path, "a") as file:
                file.attrs[key] = before

    def test_version_of_our_own_files(self, path: Path) -> None:
        write(path, x=X)
        with h5py.File(path, "a") as file:
            file.attrs["filetype"], file.attrs["version"] = np.bytes_("onotrain-data"), 2
        assert "onotrain-data version 2, expected 1" in failure(path)


class TestHostile:
    def test_external_link(self, path: Path, tmp_path: Path) -> None:
        write(tmp_path / "secret.h5", x=X)
        with h5py.File(path, "w") as file:
            file["x"] = h5py.ExternalLink("secret.h5", "x")
        assert "an external link to secret.h5, which is not followed" in failure(path)
        with h5py.File(path, "w") as file:
            file["group"] = h5py.ExternalLink("secret.h5", "/")
        assert "no array named 'group/x'" in failure(path, features="group/x")

    def test_soft_link(self, path: Path, tmp_path: Path) -> None:
        write(path, real=X)
        for target in ("/real", "/nothing"):
            with h5py.File(path, "a") as file:
                file["x"] = h5py.SoftLink(target)
            assert f"a soft link to {target}, which is not followed" in failure(path)
            with h5py.File(path, "a") as file:
                del file["x"]

    def test_external_storage(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(bytes(48))
        with h5py.File(path, "w") as file:
            file.create_dataset("x", (4, 3), "f4", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
        assert "external storage" in failure(path)

    def test_virtual_data_set(self, path: Path, tmp_path: Path) -> None:
        write(tmp_path / "secret.h5", x=X)
        layout = h5py.VirtualLayout(X.shape, "f4")
        layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", X.shape)
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("x", layout)
        assert "a virtual data set" in failure(path)

    def test_foreign_filter(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((10, 12))
            plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
            h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((50, 12)), plist)
        assert "(32015), which is not part of HDF5" in failure(path)

    def test_huge_declared_shape(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", (1 << 40, 1 << 10), "f4", chunks=(1, 1 << 10))
        assert f"holds 0 of the {1 << 40} chunks" in failure(path)
        with h5py.File(path, "w") as file:
            file.create_dataset("x", (1 << 40, 1 << 10), "f4")
        assert f"holds 0 bytes, expected {1 << 52}" in failure(path)

    def test_larger_than_the_memory(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(path, x=X)
        monkeypatch.setattr("onotrain.memory.available_bytes", lambda: 1000)
        with pytest.raises(ResourceError, match="MiB of memory") as caught:
            load(path)
        assert "data.stream" in (caught.value.hint or "")

    def test_huge_chunk(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", (1, 1), "f4", chunks=(1 << 20, 1), maxshape=(None, 1), compression="gzip")[:] = 1
        monkeypatch.setattr("onotrain.memory.available_bytes", lambda: 1 << 20)
        with pytest.raises(ResourceError, match="one chunk"):
            load(path)

    def test_huge_attribute(self, path: Path) -> None:
        with h5py.File(path, "w", libver="latest") as file:
            file["x"] = X
            file.attrs.create("class_names", np.zeros(1 << 21, "S8"))
        assert "the attribute class_names is larger than 16 MiB" in failure(path)

    def test_groups_in_a_circle(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_group("a")["again"] = file["/"]
        assert "8 levels of groups" in failure(path)


class TestStream:
    @pytest.mark.parametrize("options", [{}, {"chunks": (7, 4, 3), "compression": "gzip"}])
    @pytest.mark.parametrize("dtype", ["u1", "f8"])
    def test_reads_what_the_reader_reads(self, path: Path, dtype: str, options: dict[str, object]) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=np.abs(X * 50).astype(dtype), **options)
            file["y"] = Y
            file.attrs["class_names"] = ["a", "b", "c"]
        whole = load(path)
        with Hdf5Stream(DataSpec(str(path))) as stream:
            assert (stream.rows, stream.features, stream.dtype) == (50, 12, whole.features.dtype)
            assert stream.feature_shape == (4, 3)
            assert stream.nbytes == whole.features.nbytes
            for begin, end in ((0, 50), (0, 0), (13, 29), (49, 50)):
                out = np.empty((end - begin, 12), stream.dtype)
                stream.read(begin, end, out)
                np.testing.assert_array_equal(out, whole.features[begin:end])
            targets = stream.targets_only()
            np.testing.assert_array_equal(targets.targets, whole.targets)
            assert (len(targets), targets.class_names, targets.feature_shape) == (50, ("a", "b", "c"), (4, 3))
            with pytest.raises(ValueError, match="rows 0 to 51 of 50"):
                stream.read(0, 51, np.empty((51, 12), stream.dtype))

    def test_blocks_are_whole_chunks(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("onotrain.data.streams.BLOCK_BYTES", 10 * 48)
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=X, chunks=(4, 4, 3))
        with Hdf5Stream(DataSpec(str(path))) as stream:
            assert stream.block_rows == 12

    def test_only_hdf5(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", X)
        with pytest.raises(DataError, match="only arrays in HDF5 files and Parquet files are streamed"):
            Hdf5Stream(DataSpec(str(tmp_path / "a.npy")))


class TestConvert:
    @pytest.mark.parametrize("targets", [None, Y, Y.astype("f4"), X[:, :2, 0], np.array(["é", "b", "c"])[Y]])
    @pytest.mark.parametrize("dtype", ["u1", "f4"])
    def test_round_trip(self, path: Path, targets: np.ndarray | None, dtype: str) -> None:
        names = [f"f{k}" for k in range(12)]
        data = make_dataset(
            np.abs(X * 50).astype(dtype), targets, "memory", feature_names=names, class_names=["a", "b", "c"]
        )
        calls: list[tuple[int, int]] = []
        assert convert(data, path, progress=lambda *args: calls.append(args)) == 50
        back = load(path)
        assert calls[-1] == (50, 50)
        assert back.features.dtype == data.features.dtype
        np.testing.assert_array_equal(back.features, data.features)
        assert (back.feature_shape, back.feature_names, back.class_names) == ((4, 3), tuple(names), ("a", "b", "c"))
        if targets is None:
            assert back.targets is None
        else:
            np.testing.assert_array_equal(back.targets, data.targets)
        with h5py.File(path) as file:
            assert (file.attrs["filetype"], file.attrs["version"]) == (b"onotrain-data", 1)
            assert file["x"].shape == (50, 4, 3)

    def test_from_csv_and_digits(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,b,label\n1,2,x\n3,4,y\n")
        convert(DataSpec(str(tmp_path / "a.csv")), path)
        back = load(path)
        assert back.targets is not None
        assert (back.feature_names, back.target_names, back.targets.tolist()) == (("a", "b"), ("label",), ["x", "y"])
        convert(DataSpec("digits"), path, compression="gzip", chunk_rows=100)
        np.testing.assert_array_equal(load(path).features, load_dataset(DataSpec("digits")).features)

    def test_many_long_names(self, path: Path) -> None:
        names = [f"a rather long name of column number {k}" for k in range(4000)]
        convert(make_dataset(np.ones((2, 4000), np.float32), None, "memory", feature_names=names), path)
        assert load(path).feature_names == tuple(names)

    @pytest.mark.parametrize("memory_bytes", [1, 480, 1000, 1 << 20])
    def test_shuffled_in_little_memory(self, path: Path, tmp_path: Path, memory_bytes: int) -> None:
        source = write(tmp_path / "source.h5", x=X, y=Y)
        convert(DataSpec(str(source)), path, shuffle_seed=5, memory_bytes=memory_bytes, chunk_rows=7)
        order = shuffled(50, 5)
        assert sorted(order) == list(range(50))
        assert (order != np.arange(50)).any()
        back = load(path)
        np.testing.assert_array_equal(back.features, X.reshape(50, 12)[order])
        np.testing.assert_array_equal(back.targets, Y[order])

    def test_in_place(self, path: Path) -> None:
        write(path, x=X, y=Y)
        convert(DataSpec(str(path)), path, shuffle_seed=1)
        np.testing.assert_array_equal(load(path).features, X.reshape(50, 12)[shuffled(50, 1)])

    def test_a_failure_leaves_nothing(self, path: Path, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "source.h5", "w") as file:
            file.create_dataset("x", data=X, chunks=(10, 4, 3), fletcher32=True)
        raw = bytearray((tmp_path / "source.h5").read_bytes())
        raw[raw.index(X[20:22].tobytes()) + 3] ^= 1
        (tmp_path / "source.h5").write_bytes(bytes(raw))
        path.write_text("old")
        with pytest.raises(DataError, match="rows 0 to 50 cannot be read"):
            convert(DataSpec(str(tmp_path / "source.h5")), path)
        assert path.read_text() == "old"
        assert sorted(file.name for file in tmp_path.iterdir()) == ["a.h5", "source.h5"]

    def test_a_full_disk(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from collections import namedtuple

        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr("shutil.disk_usage", lambda place: usage(100, 90, 10))
        with pytest.raises(ResourceError, match="are free on the disk"):
            convert(make_dataset(X, Y, "memory"), path)
        assert list(path.parent.iterdir()) == []

    def test_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="could not make the file: No such file or directory"):
            convert(make_dataset(X, Y, "memory"), tmp_path / "no" / "a.h5")
        with pytest.raises(DataError, match="compression is 'blosc'"):
            convert(make_dataset(X, Y, "memory"), tmp_path / "a.h5", compression="blosc")

    def test_values_are_checked_only_in_training(self, path: Path) -> None:
        bad = X.copy()
        bad[3, 1, 1] = np.nan
        convert(make_dataset(bad, Y, "memory"), path)
        with pytest.raises(DataError, match=r"a.h5: row 3, column 4: the feature is nan"):
            check_finite(load(path))
