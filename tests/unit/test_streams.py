"""Files that stay on the disk: several HDF5 files, and Parquet, against the same data in memory."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import mapping
from many_files import COLUMNS, ROWS, write_hdf5, write_parquet
from onotrain.config import Config
from onotrain.data import streams
from onotrain.data.dataset import DataSpec
from onotrain.data.hdf5_stream import Hdf5Stream
from onotrain.data.info import describe
from onotrain.data.prepare import Prepared, prepare
from onotrain.data.sources import load_dataset, read_table
from onotrain.data.streaming import open_stream, stored_table
from onotrain.data.streams import OpenFiles, joined_blocks, spans
from onotrain.data.tables import stored
from onotrain.errors import DataError, UsageError


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 20))
def test_blocks_are_made_of_whole_strokes(sizes: list[int], least: int) -> None:
    ends = np.cumsum(sizes).tolist()
    edges = joined_blocks(sizes, least).tolist()
    assert set(edges) <= {0, *ends}
    assert (edges[0], edges[-1]) == (0, ends[-1])
    assert all(least <= size < least + max(sizes) for size in np.diff(edges)[:-1])
    assert edges == sorted(set(edges))


@given(st.lists(st.integers(0, 9), min_size=1), st.data())
def test_spans_are_the_rows(sizes: list[int], data: st.DataObject) -> None:
    ends = np.cumsum(sizes).tolist()
    begin = data.draw(st.integers(0, ends[-1]))
    end = data.draw(st.integers(begin, ends[-1]))
    own = [(number, row) for number, size in enumerate(sizes) for row in range(size)]
    found = [(number, row) for number, low, high in spans(ends, begin, end) for row in range(low, high)]
    assert found == own[begin:end]


def test_few_files_are_open_at_a_time() -> None:
    is_open: set[int] = set()

    @contextmanager
    def opener(number: int) -> Any:
        is_open.add(number)
        yield number
        is_open.remove(number)

    files = OpenFiles(opener, ["/dev/null"] * 100)
    for number in (*range(100), 99, 80, 3):
        assert files[number] == number
        assert number in is_open
        assert len(is_open) <= streams.MOST_OPEN
    assert 99 in is_open
    files.close()
    assert not is_open


# HDF5 -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [False, True])
def test_hdf5_files_are_read_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: bool) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 10 * 3 * 8)
    monkeypatch.setattr(streams, "MOST_OPEN", 2)
    spec = write_hdf5(tmp_path, names=names, weights=True)
    whole = load_dataset(spec)
    assert whole.weights is not None
    assert whole.target_units == ("m",)
    with Hdf5Stream(spec) as stream:
        targets = stream.targets_only()
        assert (stream.rows, stream.features, stream.dtype) == (ROWS, 3, whole.features.dtype)
        assert (stream.nbytes, stream.feature_names) == (whole.features.nbytes, whole.feature_names)
        assert (targets.target_units, targets.source) == (whole.target_units, whole.source)
        np.testing.assert_array_equal(targets.targets, whole.targets)
        np.testing.assert_array_equal(targets.weights, whole.weights)
        assert stream.edges.tolist() == [*range(0, 41, 10), *range(58, 169, 10), *range(183, 234, 10), 237]
        assert stream.block_rows == 18
        sent = pickle.loads(pickle.dumps(stream))
        for reader in (stream, stream.again(), sent):
            for begin, end in ((0, ROWS), (39, 42), (41, 200), (48, 48), (ROWS - 1, ROWS)):
                out = np.empty((end - begin, 3), stream.dtype)
                reader.read(begin, end, out)
                np.testing.assert_array_equal(out, whole.features[begin:end])
            reader.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((7, 4))}, r"a sample has the shape \(4,\), expected \(3,\)"),
        ({"x": np.full((7, 3), 99, "u1")}, "features are of type uint8, expected float32"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0)}, "no samples"),
        ({"y": np.zeros((7, 2))}, r"the targets of a sample have the shape \(2,\)"),
        ({"y": np.array([b"a"] * 7)}, "targets are of type"),
        ({"y": np.zeros(6)}, r"shape \(6,\), expected \(7,\)"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    """In memory or not, the message is the same, and names the file."""
    spec = write_hdf5(tmp_path)
    with h5py.File(tmp_path / "part-2.h5", "r+") as file:
        for name, values in change.items():
            del file[name]
            file[name] = values
    said = []
    for read in (load_dataset, lambda spec: Hdf5Stream(spec).targets_only()):
        with pytest.raises(DataError, match=f"part-2.*({message})") as caught:
            read(spec)
        said.append(caught.value.message)
    assert said[0] == said[1]


def test_units_and_names_that_differ(tmp_path: Path) -> None:
    spec = write_hdf5(tmp_path, names=True)
    with h5py.File(tmp_path / "part-2.h5", "r+") as file:
        file["y"].attrs["units"] = "mm"
    for read in (load_dataset, Hdf5Stream):
        with pytest.raises(DataError, match=r"part-2.h5: target 'y' is in mm, but in m in .*part-0.h5"):
            read(spec)
    with h5py.File(tmp_path / "part-1.h5", "r+") as file:
        file.attrs["feature_names"] = list("abd")
    for read in (load_dataset, Hdf5Stream):
        with pytest.raises(DataError, match=r"part-1.h5: feature names are a, b, d, expected a, b, c"):
            read(spec)


def test_messages_name_the_file_and_its_own_row(tmp_path: Path) -> None:
    spec = write_hdf5(tmp_path)
    with h5py.File(tmp_path / "part-3.h5", "r+") as file:
        file["x"][17, 1] = np.nan
    with Hdf5Stream(spec) as stream, pytest.raises(DataError, match=r"part-3.h5: row 17, column 1: the feature is nan"):
        stream.read(0, ROWS, np.empty((ROWS, 3), stream.dtype))


def test_a_file_that_is_cut_off_or_changes(tmp_path: Path) -> None:
    spec = write_hdf5(tmp_path)
    stream = Hdf5Stream(spec).again()
    with h5py.File(tmp_path / "part-3.h5", "w") as file:
        file["x"], file["y"] = np.zeros((99, 3)), np.zeros(99)
    out = np.empty((ROWS, 3), stream.dtype)
    with pytest.raises(DataError, match=r"part-3.h5: the file has changed from [0-9,]+ to [0-9,]+ bytes"):
        stream.read(0, ROWS, out)
    path = tmp_path / "part-4.h5"
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(DataError, match=r"part-4\.h5"):
        Hdf5Stream(spec)


def test_info_and_conversion_take_several_files(tmp_path: Path) -> None:
    from onotrain.data.convert import convert

    spec = write_hdf5(tmp_path)
    whole = load_dataset(spec)
    info = describe(spec)
    assert (info.samples, info.features) == (ROWS, 3)
    np.testing.assert_allclose(info.mean, whole.features.mean(axis=0))
    convert(spec, tmp_path / "one.h5")
    one = load_dataset(DataSpec(str(tmp_path / "one.h5")))
    np.testing.assert_array_equal(one.targets, whole.targets)
    np.testing.assert_array_equal(one.features, whole.features)


# Parquet --------------------------------------------------------------------------------------------------------------


def data_section(train: Any, **keys: Any) -> Any:
    return Config.from_mapping(mapping({"dense": 1}, data={"train": train, **keys}, loss="mse")).data


def prepared(train: Any, memory: int = 1 << 40, dtype: str = "float32", **keys: Any) -> Prepared:
    outputs = len(keys["targets"]) if isinstance(keys.get("targets"), list) else 1
    return prepare(data_section(train, **keys), "regression", outputs, dtype, memory)


def features_of(prepared: Prepared, part: str = "train") -> np.ndarray:
    """Return the features, in memory or not."""
    stream = prepared.streams.get(part)
    if stream is None:
        return prepared.arrays["features" if part == "train" else f"{part}_features"]
    stream = pickle.loads(pickle.dumps(stream))
    out = np.empty((stream.rows, stream.features), stream.dtype)
    for begin in range(0, stream.rows, 10):
        stream.read(begin, min(begin + 10, stream.rows), out[begin : begin + 10])
    again = np.empty_like(out)
    for begin, end in zip(stream.edges[:-1], stream.edges[1:], strict=True):
        stream.read(begin, end, again[begin:end])
    np.testing.assert_array_equal(again, out)
    stream.close()
    return out


def assert_same(one: Prepared, other: Prepared) -> None:
    assert one.notes == other.notes
    assert one.description == other.description
    for name in set(one.arrays) & set(other.arrays):
        np.testing.assert_array_equal(one.arrays[name], other.arrays[name])
    for part in ("train", *(name.removesuffix("_targets") for name in one.arrays if name.endswith("_targets"))):
        np.testing.assert_array_equal(features_of(one, part), features_of(other, part))


@pytest.mark.parametrize(("loaded", "dtype"), [(1, "float32"), (1 << 27, "float64")])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"columns": COLUMNS, "validation": 0.2, "split": {"by": "order", "column": "day"}},
        {"columns": {"name": "id"}, "weights": "w", "targets": "price", "normalize_targets": "standard"},
        {"features": ["size", "kind"], "targets": ["price", "count"]},
        {"split": {"by": "group", "column": "kind"}, "validation": 0.2, "test": 0.2, "exclude": ["d*"]},
    ],
)
def test_a_stored_table_is_prepared_as_one_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], loaded: int, dtype: str
) -> None:
    """Whether one column is loaded at a time, or all of them."""
    monkeypatch.setattr(stored, "_LOADED_BYTES", loaded)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 500)
    train = write_parquet(tmp_path)
    made = prepared(train, stream=True, dtype=dtype, **keys)
    assert "features" not in made.arrays
    assert_same(made, prepared(train, stream=False, dtype=dtype, **keys))


@pytest.mark.parametrize("columns", [{}, {"cost": {"name": "numeric", "format": "$1,234.5"}, "share": "numeric"}])
def test_numbers_that_are_written_as_text_are_numbers_in_every_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, Any]
) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 64)
    values = np.random.default_rng(3).uniform(0, 5000, (4, 60))
    for number, some in enumerate(values):
        table = {"cost": [f"${v:,.2f}" for v in some], "share": [f"{v / 50:.1f}%" for v in some], "y": some**0.5}
        pq.write_table(pa.table(table), tmp_path / f"part-{number}.parquet", row_group_size=16)
    keys = {"columns": columns, "targets": "y"}
    made = prepared(str(tmp_path / "part-*.parquet"), stream=True, **keys)
    assert_same(made, prepared(str(tmp_path / "part-*.parquet"), stream=False, **keys))
    assert made.description.feature_names == ("cost", "share")
    assert np.corrcoef(features_of(made, "train")[:, 0], values.reshape(-1))[0, 1] > 0.999999


@pytest.mark.parametrize("files", [1, 7])
def test_missing_values_and_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    """Columns have another type in a file with missing values; samples without a target are left out."""
    monkeypatch.setattr(streams, "BLOCK_BYTES", 500)
    write_parquet(tmp_path, holes=True)
    train = [str(tmp_path / f"part-{number}.parquet") for number in ((3,) if files == 1 else range(7))]
    keys = {"columns": COLUMNS, "targets": "price", "missing_targets": "drop"}
    made = prepared(train, stream=True, **keys)
    assert any("without a target" in note for note in made.notes)
    assert_same(made, prepared(train, stream=False, **keys))
    said = []
    for stream in (True, False):
        with pytest.raises(DataError, match=r"part-3.parquet: row \d+, column 'price'") as caught:
            prepared(train, stream=stream, **keys | {"missing_targets": "error"})
        said.append(caught.value.message)
    assert said[0] == said[1]


@pytest.mark.parametrize("where", ["part-5.parquet", "part-*.parquet"])
def test_parts_of_their_own_files(tmp_path: Path, where: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_parquet(other)
    train, keys = write_parquet(tmp_path), {"columns": COLUMNS, "weights": "w", "targets": "price"}
    if "*" in where:
        keys["test"] = str(other / "part-3.parquet")
    made = prepared(train, stream=True, validation=str(other / where.replace("*", "4")), **keys)
    assert "validation" in made.streams
    assert_same(made, prepared(train, stream=False, validation=str(other / where.replace("*", "4")), **keys))


def test_tables_stream_by_themselves_where_memory_is_small(tmp_path: Path) -> None:
    train = write_parquet(tmp_path)
    sizes = [prepared(train, memory=memory).streams for memory in (1 << 30, 2000)]
    assert [list(streams) for streams in sizes] == [[], ["train"]]
    table = stored_table(DataSpec(train), "auto")
    assert table is not None
    # Larger when prepared: the columns fit, and a column for each of its values does not.
    wide = {"columns": {"name": "categorical", "day": "ignore"}, "targets": "price"}
    assert "train" in prepared(train, memory=2 * table.nbytes + 2, **wide).streams
    assert_same(prepared(train, memory=2 * table.nbytes + 2, **wide), prepared(train, stream=False, **wide))


def test_one_column_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_LOADED_BYTES", 1)
    spec = DataSpec(write_parquet(tmp_path))
    table = stored_table(spec, True)
    assert table is not None
    whole = read_table(spec)
    assert table.names == whole.names
    for column in table:
        assert list(table._loaded) == [column.name]
        np.testing.assert_array_equal(column.texts(), whole[column.name].texts())
        assert (column.values.dtype, column.categories) == (
            whole[column.name].values.dtype, whole[column.name].categories
        )  # fmt: skip
        assert table.where(41, column) == whole.where(41, whole[column.name])


def test_what_is_wrong_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that is wrong only where it is read, in the file that is at fault, by its own row."""
    monkeypatch.setattr(OpenFiles, "check", lambda *_: None)  # else a file that changes is refused for that alone
    train = write_parquet(tmp_path)
    made = prepared(train, stream=True, columns={"name": "id", "count": "numeric"}, targets="price")
    stream = made.streams["train"]
    path = tmp_path / "part-3.parquet"
    table = pq.read_table(path)
    values = table["count"].to_pylist()
    values[51] = None
    place = table.schema.get_field_index("count")
    changed = table.set_column(place, "count", pa.array(values))
    pq.write_table(changed, path, row_group_size=9)
    with pytest.raises(DataError, match=r"part-3.parquet: row 51, column 'count': column 'count' has a missing value"):
        stream.read(0, ROWS, np.empty((ROWS, stream.features), stream.dtype))
    pq.write_table(changed.slice(1), path, row_group_size=9)
    with pytest.raises(DataError, match=r"part-3.parquet: has other columns, or row groups of other lengths, than"):
        stream.again().read(0, ROWS, np.empty((ROWS, stream.features), stream.dtype))
    pq.write_table(table.select(table.column_names[::-1]), path, row_group_size=9)
    with pytest.raises(DataError, match=r"part-3.parquet: has other columns"):
        stream.again().read(0, ROWS, np.empty((ROWS, stream.features), stream.dtype))
    content = bytearray((tmp_path / "part-4.parquet").read_bytes())
    content[4:600] = b"\xff" * 596
    (tmp_path / "part-4.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"part-4.parquet: row group 0 cannot be read"):
        stream.again().read(150, 160, np.empty((10, stream.features), stream.dtype))
    (tmp_path / "part-4.parquet").write_bytes(content[:-20])
    with pytest.raises(DataError, match=r"part-4.parquet"):
        prepared(train, stream=True)


@pytest.mark.parametrize("stream", [True, False])
def test_tables_that_do_not_fit_together(tmp_path: Path, stream: bool) -> None:
    train = write_parquet(tmp_path)
    pq.write_table(pa.table({"a": [1], "price": [2]}), tmp_path / "part-2.parquet")
    with pytest.raises(DataError, match=r"part-2.parquet: no column 'name', which .*part-0.parquet has"):
        prepared(train, stream=stream)


@pytest.mark.parametrize("name", ["x.csv", "x.arrow", "digits"])
def test_what_is_not_streamed_says_so(tmp_path: Path, name: str) -> None:
    if name == "x.csv":
        (tmp_path / name).write_text("a,b\n1,2\n3,4\n5,5\n")
    elif name == "x.arrow":
        with pa.OSFile(str(tmp_path / name), "wb") as file, pa.ipc.new_file(file, pa.schema({"a": pa.int64()})) as out:
            out.write_table(pa.table({"a": [1, 2, 3]}))
    spec = DataSpec(name if name == "digits" else str(tmp_path / name))
    look = open_stream if name == "digits" else stored_table
    with pytest.raises(DataError, match="only arrays in HDF5 files and Parquet files are streamed") as caught:
        look(spec, True)
    assert "data convert" in str(caught.value.hint)
    assert look(spec, "auto") is None


def test_mixed_formats_are_read_whole(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "b": [2, 3]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("a,b\n1,2\n3,4\n")
    spec = DataSpec(str(tmp_path / "a.parquet"), more=(str(tmp_path / "b.csv"),))
    assert stored_table(spec, "auto") is None
    assert len(read_table(spec)) == 4


def test_a_partition_needs_samples_in_memory(tmp_path: Path) -> None:
    """Also where nobody said that the data are to be streamed: `validate` says so as training does."""
    train = write_parquet(tmp_path)
    with pytest.raises(UsageError, match="is streamed.*partition by_rank needs samples in memory"):
        prepared(train, memory=2000, partition="by_rank")


def test_validate_looks_at_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from onotrain.cli.program import run

    path = tmp_path / "c.yaml"
    data = {"train": str(tmp_path / "part-*.parquet"), "stream": True, "targets": "price"}
    path.write_text(Config.from_mapping(mapping({"dense": 1}, data=data, loss="mse")).to_yaml())
    assert run(["validate", str(path)]) == 0  # not there yet
    assert "no file matches" in capsys.readouterr().out.replace("\n             ", " ")
    write_parquet(tmp_path)
    assert run(["validate", str(path)]) == 0
    assert f"{ROWS} samples" in capsys.readouterr().out
    pq.write_table(pa.table({"a": [1], "price": [2]}), tmp_path / "part-2.parquet")
    assert run(["validate", str(path)]) == 3
    assert "part-2.parquet" in capsys.readouterr().err


def test_large_row_groups_are_pointed_out(tmp_path: Path) -> None:
    """They are read whole, so a window may hold few of them, and shuffles these few."""
    x = np.random.default_rng(0).normal(size=(100_000, 4))
    for group, said in ((10_000, True), (1000, False)):
        pq.write_table(pa.table(dict(zip("abcd", x.T, strict=True))), tmp_path / "a.parquet", row_group_size=group)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streams, "BLOCK_BYTES", 1000)
            made = prepared(str(tmp_path / "a.parquet"), dtype="float64", stream=True, window_mib=1)
        assert any("smaller row groups" in note for note in made.notes) == said
