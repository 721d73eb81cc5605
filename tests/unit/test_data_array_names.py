"""Arrays of HDF5 and NPZ files by the names that programs give them, several of them, and those of MATLAB."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.data import Dataset, DataSpec, load_dataset
from onotrain.data.array_names import (
    FEATURE_ARRAYS,
    TARGET_ARRAYS,
    are_places,
    choose_arrays,
    side_by_side,
)
from onotrain.data.hdf5 import find_arrays, open_file
from onotrain.data.hdf5_stream import Hdf5Stream
from onotrain.data.targets import TargetCodec
from onotrain.errors import DataError

N = 8
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
Y = np.arange(N) % 2


@pytest.fixture(params=["a.h5", "a.npz"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.param)


def write(path: Path, **arrays: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


def load(path: Path, **spec: object) -> Dataset:
    return load_dataset(DataSpec(str(path), **spec))  # type: ignore[arg-type]


def failure(path: Path, **spec: object) -> str:
    with pytest.raises(DataError) as caught:
        load(path, **spec)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["inputs", "outputs"], ("inputs", "outputs")),
        (["X", "Y"], ("X", "Y")),
        (["Features", "LABELS"], ("Features", "LABELS")),
        (["x", "X", "y", "Y"], ("x", "y")),
        (["x_test", "x_train", "y_test", "y_train"], ("x_train", "y_train")),
        (["X_train", "X_test", "Y_train", "Y_test"], ("X_train", "Y_train")),
        (["train_x", "train_y", "test_x"], ("train_x", "train_y")),
        (["test/x", "test/y", "train/x", "train/y"], ("train/x", "train/y")),
        (["train/images", "train/labels", "valid/images"], ("train/images", "train/labels")),
        (["pictures", "label"], ("pictures", "label")),
        (["pictures", "class_names", "Y"], ("pictures", "Y")),
    ],
)
def test_usual_names(names: list[str], expected: tuple[str, str]) -> None:
    features, targets = choose_arrays(names, DataSpec("a.h5"))
    assert (features, targets) == ((expected[0],), (expected[1],))


@given(
    st.sampled_from(FEATURE_ARRAYS), st.sampled_from(TARGET_ARRAYS), st.sampled_from(["", "train/", "train_"]),
    st.permutations(["a", "b", "c_names"]), st.sampled_from([str.lower, str.upper, str.title]),
)  # fmt: skip
def test_usual_names_among_others(x: str, y: str, before: str, others: list[str], case: type[str.lower]) -> None:
    names = [others[0], case(before + y), others[1], case(before + x), others[2]]
    assert choose_arrays(names, DataSpec("a.h5")) == ((case(before + x),), (case(before + y),))


@pytest.mark.parametrize(
    ("features", "targets"),
    [("x_test", "y_test"), ("train/x", "train/y"), ("test/x", "test/y"), ("test/other", "test/y"), ("z", "label")],
)
def test_targets_are_those_beside_the_features(features: str, targets: str) -> None:
    names = ["x_test", "x_train", "y_test", "y_train", "train/x", "train/y", "test/x", "test/y", "test/other", "label",
             "z"]  # fmt: skip
    assert choose_arrays(names, DataSpec("a.h5", features=features)) == ((features,), (targets,))


def test_several_arrays_side_by_side(path: Path) -> None:
    write(path, temp=X[:, 0], wind=X[:, 1:], label=Y, a=X[:, 0], b=X[:, 1])
    data = load(path, features=["wind", "temp"])
    np.testing.assert_array_equal(data.features, X[:, [1, 2, 0]])
    assert data.feature_names == ("wind[0]", "wind[1]", "temp")
    assert data.feature_shape == (3,)
    assert data.targets is not None
    np.testing.assert_array_equal(data.targets, Y)
    both = load(path, features="wind", targets=["a", "b"])
    assert both.target_names == ("a", "b")
    np.testing.assert_array_equal(both.targets, X[:, :2])
    what = "column" if str(path).endswith(".h5") else "array"
    assert f"names the {what} 'temp' twice" in failure(path, features=["temp", "temp"])
    assert "no array named 'tmp' (data.features)" in failure(path, features=["wind", "tmp"])
    assert "did you mean 'temp'?" in failure(path, features=["wind", "tmp"])
    assert "the same array 'temp'" in failure(path, features=["wind", "temp"], targets="temp")


def test_several_arrays_of_a_stream(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", temp=X[:, 0].astype("f8"), wind=X[:, 1:], label=Y)
    spec = DataSpec(str(path), features=["wind", "temp"])
    with Hdf5Stream(spec) as stream:
        assert (stream.rows, stream.features) == (N, 3)
        out = np.empty((3, 3), np.float32)
        stream.read(2, 5, out)
        np.testing.assert_array_equal(out, X[2:5, [1, 2, 0]])


def test_several_arrays_that_do_not_fit(path: Path) -> None:
    write(path, a=X[:, 0], b=X[:5, 0], t=np.array([b"a"] * N))
    assert f"5 samples, but a has {N}" in failure(path, features=["a", "b"])
    assert "expected" in failure(path, features=["a", "t"])


def test_names_are_compared_composed(path: Path) -> None:
    write(path, **{unicodedata.normalize("NFD", "größe"): X[:, 0], "b": X[:, 1]})
    data = load(path, features=["größe", "b"])
    assert data.feature_names == ("größe", "b")


def test_side_by_side_keeps_what_all_values_fit_into() -> None:
    columns, names = side_by_side([np.arange(2), np.ones((2, 1, 2), "f4")], ["a", "b"], "s")
    assert columns.dtype == np.float64
    assert names == ["a", "b[0]", "b[1]"]


class TestTransposed:
    """Arrays of which the last axis counts samples."""

    @pytest.mark.parametrize(("y", "matlab"), [(Y, False), (Y[None], False), (Y[None], True)])
    def test_features_and_targets_of_matlab(self, tmp_path: Path, y: np.ndarray, matlab: bool) -> None:
        path = write(tmp_path / "a.h5", X=X.T, Y=y)
        with h5py.File(path, "a") as file:
            if matlab:
                for name in "XY":
                    file[name].attrs["MATLAB_class"] = np.bytes_("double")
        data = load(path)
        np.testing.assert_array_equal(data.features, X)
        np.testing.assert_array_equal(data.targets, Y)
        assert data.feature_shape == (3,)
        with open_file(str(path)) as file:
            notes = find_arrays(file, DataSpec(str(path))).notes
        assert notes == (f"the last axis of X (3, {N}) counts the samples, as in the files of MATLAB",)
        with Hdf5Stream(DataSpec(str(path))) as stream:
            out = np.empty((4, 3), np.float32)
            stream.read(1, 5, out)
            np.testing.assert_array_equal(out, X[1:5])

    def test_a_square_is_transposed_only_if_matlab_wrote_it(self, tmp_path: Path) -> None:
        square = X[:3]
        path = write(tmp_path / "a.h5", x=square.T, y=np.stack([Y[:3]] * 3))
        np.testing.assert_array_equal(load(path).features, square.T)
        with h5py.File(path, "a") as file:
            for name in "xy":
                file[name].attrs["MATLAB_class"] = np.bytes_("double")
        np.testing.assert_array_equal(load(path).features, square)

    def test_in_chunks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("onotrain.data.hdf5._BLOCK_BYTES", 30)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("x", data=X.T, chunks=(2, 3), compression="gzip")
            file["y"] = Y
        np.testing.assert_array_equal(load(tmp_path / "a.h5").features, X)

    def test_npz_is_refused(self, tmp_path: Path) -> None:
        message = failure(write(tmp_path / "a.npz", x=X.T, y=Y))
        assert f"features have shape (3, {N}) for {N} targets" in message
        assert "save them transposed" in message

    def test_what_does_not_fit_either_way(self, tmp_path: Path) -> None:
        assert f"shape ({N},), expected (5,)" in failure(write(tmp_path / "a.h5", x=X[:5], y=Y))


def test_units_of_targets(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", x=X, y=X[:, :2])
    for stored, expected in (("m", ("m", "m")), (["m", "s"], ("m", "s")), ([1, 2], None), (None, None)):
        with h5py.File(path, "a") as file:
            file["y"].attrs.pop("units", None)
            if stored is not None:
                file["y"].attrs["units"] = stored
        with open_file(str(path)) as file:
            assert find_arrays(file, DataSpec(str(path))).target_units == expected


def test_columns_of_the_only_array_of_targets_have_its_name(path: Path) -> None:
    """Without the group, so that those of another part of the file are the same."""
    many = np.random.default_rng(1).normal(size=(N, 3))
    assert load(write(path, x=X, y=many)).target_names == ("y[0]", "y[1]", "y[2]")
    assert load(path.with_name(write(path, x=X, Labels=many[:, :1]).name)).target_names == ("Labels",)


def test_of_an_array_as_matlab_writes_it_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", x=X.T, y=np.random.default_rng(1).normal(size=(2, N)))
    assert load(path).target_names == ("y[0]", "y[1]")


def test_the_group_of_targets_is_no_part_of_their_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", **{"train/x": X, "train/y": np.ones((N, 2))})
    assert load(path).target_names == ("y[0]", "y[1]")


def test_columns_of_one_one_that_have_only_places_are_numbered_classes(path: Path) -> None:
    one_hot = np.eye(3, dtype=np.float32)[np.arange(N) % 3]
    dataset = load(write(path, x=X, y=one_hot))
    assert TargetCodec.fit("multiclass", 3, dataset).class_names is None
    named = load(write(path, x=X, y=one_hot, target_names=np.array(["a", "b", "c"]))) if path.suffix == ".npz" else None
    assert named is None or TargetCodec.fit("multiclass", 3, named).class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("names", "found"),
    [(("y[0]", "y[1]"), True), (("y[0]",), True), (("y[1]", "y[0]"), False), (("a", "b"), False), ((), False)],
)
def test_names_that_say_places(names: tuple[str, ...], found: bool) -> None:
    assert are_places(names) is found and not are_places(None)
