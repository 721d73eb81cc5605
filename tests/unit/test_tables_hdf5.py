"""HDF5 and netCDF-4 files as tables: records, one data set per variable, and what is left to the reader of arrays."""

from __future__ import annotations

import pickle
import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.data import DataSpec
from onotrain.data.tables.hdf5 import hdf5_table, holds_table
from onotrain.data.tables.hdf5_records import texts_of_pickle
from onotrain.data.tables.hdf5_values import Packing
from onotrain.data.tables.table import Table
from onotrain.errors import DataError, ResourceError

N = 6
A = np.arange(N) * 0.5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.h5"


def write(path: Path, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def table(path: Path, wanted: list[str] | None = None) -> Table:
    found = hdf5_table(str(path), wanted)
    assert found is not None
    return found


def failure(path: Path, wanted: list[str] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        hdf5_table(str(path), wanted)
    assert str(path) in str(caught.value)
    return str(caught.value)


class TestVariables:
    def test_one_data_set_per_variable(self, path: Path) -> None:
        write(path, temp=A.astype(">f4"), **{"in/pressure": np.arange(N), "label": np.arange(N) % 2 == 0})
        with h5py.File(path, "a") as file:
            file["temp"].attrs["units"] = "K"
            file["names"] = np.array(["b", "a", "", "ü", " c", "b"], h5py.string_dtype())
            file["code"] = np.array([b"x", b"y\0", b"z ", b"x", b"x", b"x"])
        back = table(path)
        assert {c.name: c.values.dtype for c in back} == {
            "temp": "f4", "in/pressure": "i8", "label": "?", "names": "i4", "code": "i4",
        }  # fmt: skip
        assert back["temp"].values.dtype.isnative
        np.testing.assert_array_equal(back["temp"].values, A)
        assert (back["temp"].units, back["label"].units) == ("K", None)
        assert back["names"].texts().tolist() == ["b", "a", "", "ü", "c", "b"]
        assert back["code"].categories == ("x", "y", "z")
        assert back.notes == ()

    def test_only_the_wanted_columns(self, path: Path) -> None:
        write(path, a=A, b=A + 1, **{unicodedata.normalize("NFD", "höhe"): A + 2})
        back = table(path, ["höhe", "a", "no"])
        assert back.names == ("a", "höhe")
        assert back["höhe"].values[0] == 2
        assert table(path)["höhe"].field == back["höhe"].field == 2

    def test_columns_of_two_axes(self, path: Path) -> None:
        write(path, energy=A, position=np.arange(3.0 * N).reshape(N, 3), wide=np.zeros((N, 300)))
        back = table(path)
        assert back.names == ("energy", "position[0]", "position[1]", "position[2]")
        np.testing.assert_array_equal(back["position[1]"].values, np.arange(N) * 3 + 1)
        assert back.notes == (f"left out, because of their shapes: wide ({N}, 300)",)
        assert table(path, ["position[2]", "energy"]).names == ("energy", "position[2]")
        assert len(table(path, ["wide"]).columns) == 300
        with h5py.File(path, "a") as file:
            file.attrs["position_names"] = ["x", "y", "z"]
        assert table(path).names == ("energy", "x", "y", "z")
        assert table(path, ["y", "energy"]).names == ("energy", "y")

    def test_lengths_that_differ(self, path: Path) -> None:
        write(path, a=A, b=A, lat=np.zeros(2), grid=np.zeros((2, 2, N)))
        back = table(path)
        assert (back.names, back.notes) == (
            ("a", "b"), ("left out, because of their shapes: grid (2, 2, 6), lat (2,)",)
        )  # fmt: skip
        assert table(path, ["lat"]).names == ("lat",)
        assert "lat (2,) cannot be a column beside others of 6 rows" in failure(path, ["a", "b", "lat"])

    def test_which_belong_together_must_be_clear(self, path: Path) -> None:
        write(path, **{"train/a": A, "train/b": A, "test/a": A[:2], "test/b": A[:2]})
        assert "cannot tell which data sets belong together" in failure(path)
        assert table(path, ["test/a", "test/b"]).names == ("test/a", "test/b")
        write(path, **{"one/a": A, "two/a": A, "c": A})
        assert "cannot tell" in failure(path)

    def test_enumerations(self, path: Path) -> None:
        kind = h5py.enum_dtype({"liquid": 1, "gas": 5}, basetype="i2")
        with h5py.File(path, "w") as file:
            file["a"], file["b"] = A, A
            file.create_dataset("phase", data=np.array([1, 5, 1, 7, 5, 5]), dtype=kind)
        assert table(path)["phase"].texts().tolist() == ["liquid", "gas", "liquid", "", "gas", "gas"]

    def test_what_cannot_be_a_column(self, path: Path) -> None:
        write(path, a=A, b=A, c=A.astype("c8"))
        assert table(path).notes == ("left out, because of their types: c",)
        assert "the column 'c' is of type complex64" in failure(path, ["a", "c"])
        write(path, a=A[:0], b=A[:0])
        assert "no samples" in failure(path)
        write(path, a=1.0, b=2.0)
        assert "no data set that could be a column" in failure(path)

    def test_text_that_is_not_utf8(self, path: Path) -> None:
        write(path, a=A, b=A, t=np.array([b"\xff"] * N))
        assert "is not UTF-8 text" in failure(path)

    def test_what_the_reader_of_arrays_reads(self, path: Path) -> None:
        x = np.zeros((N, 3))
        for arrays in (
            {"x": x, "y": A}, {"X": x, "Y": A}, {"inputs": x, "outputs": A}, {"train/x": x, "train/y": A},
            {"x": A, "y": A}, {"pictures": np.zeros((N, 3, 3)), "label": A},
        ):  # fmt: skip
            assert hdf5_table(str(write(path, **arrays))) is None
        assert table(write(path, x=A, y=A, z=A, label=A)).names == ("label", "x", "y", "z")

    def test_what_the_user_names_decides(self, path: Path) -> None:
        write(path, x=np.zeros((N, 3)), y=A, temp=A, pressure=A, label=np.arange(N))
        for features, targets, columns in (
            (None, None, False), ("x", "label", False), (["x", "temp"], "y", False),
            (["temp", "pressure"], "label", True), ("temp*", "label", True), (None, "label", False),
        ):  # fmt: skip
            assert holds_table(DataSpec(str(path), features=features, targets=targets)) is columns
        assert hdf5_table(str(path), ["temp", "label"]) is None
        back = hdf5_table(str(path), ["temp", "label"], anyway=True)
        assert back is not None
        assert back.names == ("label", "temp")
        assert holds_table(DataSpec(str(write(path, temp=A, pressure=A, label=A))))
        assert holds_table(DataSpec(str(write(path, rows=np.zeros(3, [("a", "f8"), ("b", "f8")])))))

    def test_in_blocks(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("onotrain.data.tables.hdf5._BLOCK_BYTES", 20)
        with h5py.File(path, "w") as file:
            file.create_dataset("a", data=np.arange(50), chunks=(7,), compression="gzip")
            file["b"] = np.arange(50.0)
            file["c"] = np.array([f"t{k % 7}" for k in range(50)], h5py.string_dtype())
        back = table(path)
        np.testing.assert_array_equal(back["a"].values, np.arange(50))
        np.testing.assert_array_equal(back["b"].values, np.arange(50))
        assert back["c"].texts().tolist() == [f"t{k % 7}" for k in range(50)]


class TestRecords:
    KIND = np.dtype([("id", "i4"), ("mass", ">f8"), ("name", "S3"), ("spin", "f4", (2,)), ("deep", [("k", "i2")])])

    def records(self) -> np.ndarray:
        rows = np.zeros(N, self.KIND)
        rows["id"], rows["mass"], rows["name"] = np.arange(N), A, [b"a", b"b", b"", b"a", b"c", b"c"]
        rows["spin"] = np.arange(2 * N).reshape(N, 2)
        return rows

    def test_fields_are_columns(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            data = file.create_dataset("events", data=self.records(), chunks=(4,))
            data.attrs["units"] = ["", "GeV", "", "", ""]
        back = table(path)
        assert back.names == ("id", "mass", "name", "spin[0]", "spin[1]")
        assert back["mass"].values.tolist() == A.tolist()
        assert back["mass"].units == "GeV"
        assert back["name"].texts().tolist() == ["a", "b", "", "a", "c", "c"]
        assert back["spin[1]"].values.tolist() == list(range(1, 2 * N, 2))
        assert back.notes == (
            "the columns are the fields of the data set 'events'", "left out, because of their types: deep",
        )  # fmt: skip
        assert table(path, ["name", "spin"]).names == ("name", "spin[0]", "spin[1]")
        assert "the column 'deep' is of type" in failure(path, ["deep"])

    def test_text_of_variable_length(self, path: Path) -> None:
        kind = np.dtype([("t", h5py.string_dtype()), ("v", "f8")])
        rows = np.array([("long text", 1.0), ("ü", 2.0), ("", 3.0)], kind)
        back = table(write(path, rows=rows))
        assert back["t"].texts().tolist() == ["long text", "ü", ""]
        assert table(path, ["t"])["t"].categories == ("long text", "ü")

    def test_several_tables(self, path: Path) -> None:
        other = np.zeros(2, [("id", "i4"), ("charge", "f8")])
        write(path, events=self.records(), runs=other)
        assert "holds several tables: events (6 rows), runs (2 rows)" in failure(path)
        assert "several tables" in failure(path, ["id"])
        assert len(table(path, ["id", "charge"])) == 2

    def test_table_of_pandas(self, path: Path) -> None:
        kind = np.dtype([("index", "i8"), ("values_block_0", "f8", (2,)), ("values_block_1", "i8", (1,)),
                         ("values_block_2", "S3", (1,)), ("values_block_3", "u1", (1,))])  # fmt: skip
        rows = np.zeros(2, kind)
        rows["values_block_0"], rows["values_block_1"] = [[1, 2], [3, 4]], [[86_400_000], [np.iinfo("i8").min]]
        rows["values_block_2"], rows["values_block_3"] = [[b"a"], [b"nan"]], [[1], [0]]
        names = (["é", "e"], ["when"], ["c"], ["d"])
        with h5py.File(path, "w") as file:
            file["df/table"], file["df/_i_table/index/bounds"] = rows, np.zeros(6)
            for number, (columns, meaning) in enumerate(
                zip(names, ("float64", "datetime64[ms]", "bytes24", "bool"), strict=True)
            ):
                attrs = file["df/table"].attrs
                attrs[f"values_block_{number}_kind"] = np.bytes_(pickle.dumps(columns, protocol=0))
                attrs[f"values_block_{number}_dtype"] = np.bytes_(meaning)
                attrs[f"values_block_{number}_meta"] = np.bytes_(b"N.")
        back = table(path)
        assert back.names == ("index", "é", "e", "when", "c", "d")
        assert back["e"].values.tolist() == [2, 4]
        assert back["when"].values.tolist() == np.array(["1970-01-02", "NaT"], "M8[us]").tolist()
        assert back["c"].texts().tolist() == ["a", ""]
        assert back["d"].values.tolist() == [True, False]

    def test_fixed_frame_of_pandas(self, path: Path) -> None:
        write(path, **{"df/axis0": np.array([b"a", b"b", b"t"]), "df/axis1": np.arange(N),
                       "df/block0_items": np.array([b"a", b"b"]), "df/block0_values": np.stack([A, A + 1], 1),
                       "df/block1_items": np.array([b"t"])})  # fmt: skip
        with h5py.File(path, "a") as file:
            file["df"].attrs["pandas_type"] = np.bytes_("frame")
            file.create_dataset("df/block1_values", (1,), h5py.vlen_dtype("u1"))[0] = np.zeros(9, "u1")
        back = table(path)
        assert back.names == ("index", "a", "b")
        assert back["b"].values.tolist() == (A + 1).tolist()
        assert back.notes[1] == "left out, because of their types: t"
        assert "the column 't' is of type" in failure(path, ["t"])

    def test_pickles_are_not_loaded(self) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert texts_of_pickle(pickle.dumps(["a", "ü"], protocol)) == ["a", "ü"]
        for other in (b"", b"N.", b"cos\nsystem\n(Vls\ntR.", pickle.dumps({"a": 1}), b"\x80\xff", b"(lp0\nVa\n"):
            assert texts_of_pickle(other) is None


class TestNetcdf:
    def write(self, path: Path, stored: np.ndarray, **attributes: object) -> Path:
        with h5py.File(path, "w") as file:
            file.attrs["_NCProperties"] = "version=2"
            file["time"], file["v"] = A, stored
            for key, value in attributes.items():
                file["v"].attrs[key] = value
            dimension = file.create_dataset("station", (3,), ">f4", fillvalue=0)
            dimension.attrs["NAME"] = np.bytes_("This is a netCDF dimension but not a netCDF variable         3")
        return path

    def values(self, path: Path) -> np.ndarray:
        back = table(path)
        assert back.names == ("time", "v")
        return back["v"].values

    def test_packed_numbers(self, path: Path) -> None:
        stored = np.array([0, 10, -999, -998, 5, 5], "i2")
        attributes = {"_FillValue": np.array([-999], "i2"), "missing_value": np.int16(-998),
                      "scale_factor": np.float32(0.5), "add_offset": 20.0, "units": np.bytes_("degC")}  # fmt: skip
        self.write(path, stored, **attributes)
        np.testing.assert_array_equal(self.values(path), [20, 25, np.nan, np.nan, 22.5, 22.5])
        assert table(path)["v"].units == "degC"

    def test_integers_stay_without_a_missing_one(self, path: Path) -> None:
        values = self.values(self.write(path, np.arange(N, dtype="i4"), _FillValue=np.int32(-1)))
        assert values.dtype == np.int32

    def test_fill_values_that_nobody_wrote(self, path: Path) -> None:
        stored = np.array([1, 2, 9.969209968386869e36, 3, 4, 5], "f4")
        np.testing.assert_array_equal(self.values(self.write(path, stored)), [1, 2, np.nan, 3, 4, 5])
        with h5py.File(path, "a") as file:
            del file.attrs["_NCProperties"]
        assert not np.isnan(self.values(path)).any()

    def test_fill_value_in_the_precision_of_the_values(self, path: Path) -> None:
        stored = np.array([1, 2, 1e20, 3, 4, 5], "f4")
        np.testing.assert_array_equal(self.values(self.write(path, stored, _FillValue=1e20)), [1, 2, np.nan, 3, 4, 5])

    def test_range_and_sign(self, path: Path) -> None:
        stored = np.array([0, 100, -56, -1, 5, 5], "i1")  # 0, 100, 200, 255, 5, 5
        attributes = {"_Unsigned": "true", "valid_range": np.array([0, 200]), "_FillValue": np.int8(-1)}
        np.testing.assert_array_equal(self.values(self.write(path, stored, **attributes)), [0, 100, 200, np.nan, 5, 5])
        assert "expected 2 number(s)" in failure(self.write(path, stored, valid_range=[1, 2, 3]))
        assert "the attribute scale_factor is" in failure(self.write(path, stored, scale_factor="two"))

    def test_characters(self, path: Path) -> None:
        chars = np.array([list("ab "), list("c\0\0"), *[list("ab\0")] * 4], "S1")
        assert table(self.write(path, chars))["v"].texts().tolist() == ["ab", "c", "ab", "ab", "ab", "ab"]

    @given(st.lists(st.integers(-100, 100), min_size=1), st.sampled_from(["i1", "i2", ">i4", "f4"]))
    def test_unpacked_is_scaled_in_float64(self, numbers: list[int], dtype: str) -> None:
        values, bad = Packing(missing=(7,), scale=0.1, offset=1e6).unpacked(np.array(numbers, dtype))
        assert values.dtype == np.float64
        assert bad is not None
        np.testing.assert_array_equal(bad, np.array(numbers) == 7)
        np.testing.assert_array_equal(values, np.array(numbers, "f8") * 0.1 + 1e6)


class TestHostile:
    def test_links(self, path: Path, tmp_path: Path) -> None:
        write(tmp_path / "secret.h5", a=A)
        write(path, a=A, b=A)
        with h5py.File(path, "a") as file:
            file["alias"] = h5py.SoftLink("/a")
        assert table(path).names == ("a", "b")
        assert "a soft link to /a, which is not followed" in failure(path, ["alias"])
        with h5py.File(path, "a") as file:
            file["c"] = h5py.ExternalLink("secret.h5", "a")
        assert "an external link to secret.h5" in failure(path)
        assert "an external link to secret.h5" in failure(path, ["c"])
        assert table(path, ["a"]).names == ("a",)

    def test_virtual_data_set_and_external_storage(self, path: Path, tmp_path: Path) -> None:
        write(tmp_path / "secret.h5", x=A)
        layout = h5py.VirtualLayout((2 * N,), "f8")
        layout[:N] = layout[N:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (N,))
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("a", layout)
            file["b"] = np.zeros(2 * N)
        assert "a virtual data set" in failure(path)
        (tmp_path / "secret").write_bytes(bytes(48))
        with h5py.File(path, "w") as file:
            file["b"] = A
            file.create_dataset("a", (N,), "f8", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
        assert "external storage" in failure(path)

    def test_odd_numbers_in_a_record(self, path: Path) -> None:
        odd = h5py.h5t.STD_I32LE.copy()
        odd.set_precision(19)
        kind = h5py.h5t.create(h5py.h5t.COMPOUND, 8)
        kind.insert(b"a", 0, h5py.h5t.STD_I32LE)
        kind.insert(b"b", 4, odd)
        with h5py.File(path, "w") as file:
            h5py.h5d.create(file.id, b"rows", kind, h5py.h5s.create_simple((3,)))
        assert "field b: numbers of an unusual type" in failure(path)

    def test_more_declared_than_there_is(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("a", (1 << 50,), "f8", chunks=(1 << 10,))
        assert f"holds 0 of the {1 << 40} chunks" in failure(path)

    def test_larger_than_the_memory(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(path, a=np.zeros(1000), b=np.zeros(1000))
        monkeypatch.setattr("onotrain.memory.available_bytes", lambda: 1000)
        with pytest.raises(ResourceError, match="MiB of memory"):
            table(path)

    def test_every_truncation_is_noticed(self, path: Path) -> None:
        whole = write(path, a=A, b=A).read_bytes()
        for cut in range(1, len(whole), len(whole) // 16):
            path.write_bytes(whole[:cut])
            assert "not a usable HDF5 file" in failure(path)
