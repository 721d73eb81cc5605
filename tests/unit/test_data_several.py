"""Several files as one data set: which they are, and how they are put together."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.config.columns import TextTable
from onotrain.data import Dataset
from onotrain.data.dataset import make_dataset
from onotrain.data.several import concatenate_datasets, expand, is_several, natural
from onotrain.data.tables.joining import concatenate
from onotrain.data.tables.table import Column, Table, coded
from onotrain.data.tables.text import read_text
from onotrain.errors import DataError, ResourceError


def touch(directory: Path, *names: str, content: str = "a,b\n1,2\n") -> list[str]:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
    return [str(directory / name) for name in names]


class TestExpand:
    def test_one_file_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("a.csv", "digits", "missing.h5", "no/such/place.npz"):
            assert expand(name) == [name]
            assert not is_several(name)

    def test_patterns_in_natural_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        touch(tmp_path, "part-10.csv", "part-2.csv", "part-1.csv", "deep/part-3.csv", "other.csv")
        assert expand("part-*.csv") == ["part-1.csv", "part-2.csv", "part-10.csv"]
        assert expand(f"{tmp_path}/part-?.csv") == [f"{tmp_path}/part-1.csv", f"{tmp_path}/part-2.csv"]
        assert len(expand("**/*.csv")) == 5
        assert is_several("part-*.csv") and is_several("deep") and is_several(["a"])

    def test_a_list_keeps_its_order(self, tmp_path: Path) -> None:
        a, b, c = touch(tmp_path, "a.csv", "p1.csv", "p2.csv")
        assert expand([f"{tmp_path}/p*.csv", a]) == [b, c, a]
        assert expand((c, b)) == [c, b]

    def test_a_file_whose_name_looks_like_a_pattern(self, tmp_path: Path) -> None:
        (name,) = touch(tmp_path, "run[1].csv")
        assert expand(name) == [name]
        assert not is_several(name)

    def test_directory(self, tmp_path: Path) -> None:
        touch(tmp_path, "run-10.csv", "run-9.csv", "README.txt", ".hidden.csv", "notes.md", "deep/a.csv")
        assert expand(str(tmp_path)) == [str(tmp_path / "run-9.csv"), str(tmp_path / "run-10.csv")]
        np.save(tmp_path / "x.npy", np.zeros(3))
        with pytest.raises(DataError, match=r"files of several formats \(2 of csv, 1 of npy\)"):
            expand(str(tmp_path))

    def test_nothing_is_found(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="the list of data files is empty"):
            expand([])
        with pytest.raises(DataError, match="no file matches") as caught:
            expand(f"{tmp_path}/part-*.h5")
        assert caught.value.hint == f"the directory {tmp_path} is empty"
        touch(tmp_path, "parts-1.h5", "parts-2.h5", "unrelated")
        with pytest.raises(DataError, match="no file matches") as caught:
            expand(f"{tmp_path}/part-*.h5")
        assert f"{tmp_path} has parts-" in str(caught.value.hint)
        with pytest.raises(DataError, match="no file matches") as caught:
            expand(f"{tmp_path}/no/*.h5")
        assert "is not there" in str(caught.value.hint)
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="holds no data files"):
            expand(str(tmp_path / "empty"))

    def test_a_file_twice(self, tmp_path: Path) -> None:
        (a,) = touch(tmp_path, "a.csv")
        (tmp_path / "link.csv").symlink_to(a)
        for names in ([a, a], [a, f"{tmp_path}/*.csv"], [a, f"{tmp_path}/link.csv"]):
            with pytest.raises(DataError, match="the file is named twice"):
                expand(names)

    @given(st.lists(st.integers(0, 2000), unique=True), st.sampled_from(["p", "p-", "x1_"]))
    def test_natural_order_is_that_of_numbers(self, numbers: list[int], stem: str) -> None:
        names = [f"{stem}{number}.h5" for number in numbers]
        random.Random(0).shuffle(names)
        assert sorted(names, key=natural) == [f"{stem}{number}.h5" for number in sorted(numbers)]

    @given(st.lists(st.text(max_size=6)))
    def test_any_names_can_be_sorted(self, names: list[str]) -> None:
        sorted(names, key=natural)


def text_table(path: Path, content: str) -> Table:
    path.write_text(content)
    return read_text(str(path), "csv", TextTable.model_validate({}))


def table(source: str, **columns: object) -> Table:
    made = []
    for field, (name, values) in enumerate(columns.items()):
        array = np.asarray(values)
        if array.dtype.kind == "U":
            codes, names = coded(array)
            made.append(Column(name, codes, names, field=field))
        else:
            made.append(Column(name, array, field=field))
    return Table(tuple(made), source)


class TestTables:
    def test_columns_by_name(self) -> None:
        whole = concatenate([table("a", x=[1, 2], t=["b", "a"]), table("b", t=["c", ""], x=[2.5, 3])])
        assert whole.names == ("x", "t")
        assert whole["x"].values.tolist() == [1, 2, 2.5, 3]
        assert (whole["t"].categories, whole["t"].texts().tolist()) == (("a", "b", "c"), ["b", "a", "c", ""])
        assert whole.source == "a and 1 more"
        assert [column.field for column in whole] == [0, 1]

    def test_one_table_stays(self) -> None:
        only = table("a", x=[1])
        assert concatenate([only]) is only

    def test_types(self) -> None:
        dates = np.array(["2020-01-01"], "M8[us]")
        nothing = np.array([np.nan])
        whole = concatenate(
            [
                table("a", f=np.ones(1, "f4"), i=np.ones(1, "i2"), b=[True], d=dates, n=[5], t=["x"], m=["3"]),
                table("b", f=np.ones(1), i=np.ones(1, "i8"), b=[False], d=nothing, n=nothing, t=nothing, m=[2.0]),
            ]
        )
        assert [str(column.values.dtype) for column in whole] == [
            "float64", "int64", "bool", "datetime64[us]", "float64", "int32", "int32",
        ]  # fmt: skip
        assert [column.missing.tolist() for column in whole][3:] == [[False, True]] * 3 + [[False, False]]
        assert whole["m"].categories == ("2", "3")

    def test_columns_that_differ(self) -> None:
        with pytest.raises(DataError, match="b: no column 'speed', which a has") as caught:
            concatenate([table("a", speed=[1]), table("b", sped=[1])])
        assert caught.value.hint == "did it mean 'sped'?"
        with pytest.raises(DataError, match="b: a column 'y', which a does not have"):
            concatenate([table("a", x=[1]), table("b", x=[1], y=[1])])
        with pytest.raises(DataError, match="c: column 'x' is not a time, but a time in a"):
            concatenate([table("a", x=np.array(["2020"], "M8[us]")), table("c", x=[1])])

    def test_units(self) -> None:
        def with_units(source: str, units: str | None) -> Table:
            return Table((Column("x", np.ones(1), units=units),), source)

        assert concatenate([with_units("a", None), with_units("b", "m")])["x"].units == "m"
        with pytest.raises(DataError, match="b: column 'x' is in km, but in m in a"):
            concatenate([with_units("a", "m"), with_units("b", "km")])

    def test_messages_name_the_right_file_line_and_column(self, tmp_path: Path) -> None:
        whole = concatenate(
            [
                text_table(tmp_path / "a.csv", "x,y\n1,2\n3,4\n"),
                text_table(tmp_path / "b.csv", "# note\ny,x\n5,6\n"),
                table("c.h5", x=[7.0], y=[8.0]),
                text_table(tmp_path / "d.csv", "x,y\n9,10\n"),
            ]
        )
        assert [whole.where(row, whole["x"]) for row in range(5)] == [
            f"{tmp_path}/a.csv:2:1", f"{tmp_path}/a.csv:3:1", f"{tmp_path}/b.csv:3:2", "c.h5: row 0, column 'x'",
            f"{tmp_path}/d.csv:2:1",
        ]  # fmt: skip

    def test_what_text_stands_for_as_numbers(self, tmp_path: Path) -> None:
        whole = concatenate(
            [text_table(tmp_path / "a.csv", "x;y\n1,5;2\n<2;3\n"), text_table(tmp_path / "b.csv", "x;y\n7,5;2\n")]
        )
        values, bad = whole["x"].as_numbers()
        np.testing.assert_array_equal(values, [1.5, np.nan, 7.5])
        assert bad.tolist() == [False, True, False]

    def test_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tables = [table("a", x=np.zeros(1000)), table("b", x=np.zeros(1000))]
        monkeypatch.setattr("onotrain.memory.available_bytes", lambda: 1000)
        with pytest.raises(ResourceError, match="a and 1 more"):
            concatenate(tables)

    @given(st.lists(st.lists(st.sampled_from(["a", "b", "", "1", "2.5"]), min_size=1, max_size=5), min_size=1))
    def test_the_whole_is_the_sum_of_its_parts(self, parts: list[list[str]]) -> None:
        whole = concatenate([table(f"f{k}", t=np.array(part), n=np.arange(len(part))) for k, part in enumerate(parts)])
        assert whole["t"].texts().tolist() == [text for part in parts for text in part]
        assert whole["n"].values.tolist() == [k for part in parts for k in range(len(part))]
        row = 0
        for k, part in enumerate(parts):
            for own in range(len(part)):
                if len(parts) > 1:
                    assert whole.where(row, whole["t"]) == f"f{k}: row {own}, column 't'"
                row += 1


def dataset(source: str, rows: int = 2, targets: object = None, **more: object) -> Dataset:
    features = np.arange(rows * 4, dtype=np.float32).reshape(rows, 2, 2)
    array = np.arange(rows) if targets is None else np.asarray(targets)
    return make_dataset(features, array, source, **more)  # type: ignore[arg-type]


class TestDatasets:
    def test_samples_one_below_the_other(self) -> None:
        whole = concatenate_datasets([dataset("a"), dataset("b", 3)])
        assert (len(whole), whole.feature_shape, whole.source) == (5, (2, 2), "a and 1 more")
        np.testing.assert_array_equal(whole.features[2:], dataset("b", 3).features)
        assert whole.targets is not None
        assert whole.targets.tolist() == [0, 1, 0, 1, 2]
        assert [whole.where(row) for row in (1, 2)] == ["a: row 1", "b: row 0"]
        assert whole.where(4, 3) == "b: row 2, column 3"

    def test_features_by_name(self) -> None:
        x = np.arange(4, dtype=np.float32).reshape(2, 2)
        whole = concatenate_datasets(
            [make_dataset(x, None, "a", feature_names=["p", "q"]), make_dataset(x, None, "b", feature_names=["q", "p"])]
        )
        np.testing.assert_array_equal(whole.features[2:], x[:, ::-1])

    def test_classes_are_merged_by_name(self) -> None:
        whole = concatenate_datasets(
            [
                dataset("a", targets=[0, 1], class_names=["cat", "dog"]),
                dataset("b", targets=[0, 1], class_names=["eel", "cat"]),
            ]
        )
        assert whole.class_names == ("cat", "dog", "eel")
        assert whole.targets is not None
        assert whole.targets.tolist() == [0, 1, 2, 0]
        one = concatenate_datasets([dataset("a", class_names=["c", "d"]), dataset("b")])
        assert one.class_names == ("c", "d")
        with pytest.raises(DataError, match="c: no class_names"):
            concatenate_datasets(
                [dataset("a", class_names=["c", "d"]), dataset("b", class_names=["d", "c"]), dataset("c")]
            )
        with pytest.raises(DataError, match="b: target 7, expected one of the 2 classes"):
            concatenate_datasets(
                [dataset("a", class_names=["c", "d"]), dataset("b", targets=[0, 7], class_names=["d", "c"])]
            )

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (make_dataset(np.zeros((2, 3)), np.arange(2), "b"), r"b: a sample has the shape \(3,\), expected \(2, 2\)"),
            (make_dataset(np.zeros((2, 2, 2), "u1"), np.arange(2), "b"), "b: features are of type uint8"),
            (make_dataset(np.zeros((2, 2, 2)), None, "b"), "b: targets are missing, expected there as in a"),
            (dataset("b", targets=["x", "y"]), "b: targets are of type"),
            (dataset("b", targets=[[1.0, 2], [3, 4]]), "b: the targets of a sample have the shape"),
        ],
    )
    def test_what_does_not_fit(self, other: Dataset, message: str) -> None:
        with pytest.raises(DataError, match=message):
            concatenate_datasets([dataset("a"), other])

    def test_weights_and_units_stay(self) -> None:
        parts = [
            make_dataset(np.zeros((2, 1)), np.zeros((2, 2)), name, weights=np.full(2, number), target_units=units)
            for number, (name, units) in enumerate([("a", None), ("b", ("m", "")), ("c", ("", "Pa"))])
        ]
        whole = concatenate_datasets(parts)
        assert whole.weights is not None and whole.weights.tolist() == [0, 0, 1, 1, 2, 2]
        assert whole.target_units == ("m", "Pa")
        with pytest.raises(DataError, match="d: target 0 is in mm, but in m in [a-z]"):
            concatenate_datasets([*parts, replace(parts[1], source="d", target_units=("mm", ""))])
        with pytest.raises(DataError, match="b: samples have no weights, but those of other files have"):
            concatenate_datasets([parts[0], replace(parts[1], weights=None)])
