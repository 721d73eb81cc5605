"""What columns become, against scikit-learn where it means the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from onotrain.config.columns import TextTable
from onotrain.data.dataset import DataSpec
from onotrain.data.for_network import table_for
from onotrain.data.tables.memory import table_of
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.table import Table
from onotrain.errors import DataError
from tables import fitted, kinds, preparation_of, prepared, read, write

N = 300


def quantity(seed: int = 0) -> np.ndarray:
    """Return numbers of a long tail, some of them alike."""
    return np.random.default_rng(seed).lognormal(3, 1, N).round(1)


def with_holes(values: np.ndarray, seed: int = 1) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(len(values)) < 0.2, np.nan, values)


def table(**columns: Any) -> Table:
    return table_of(columns, list(columns))


def matrix(made: Preparation, of: Table) -> np.ndarray:
    return made.transform(of, "float64")


@pytest.mark.parametrize(
    ("scale", "judge"),
    [
        ("none", FunctionTransformer()),
        ("standard", StandardScaler()),
        ("minmax", MinMaxScaler()),
        ("robust", RobustScaler()),
        ("log", make_pipeline(FunctionTransformer(np.log1p), StandardScaler())),
    ],
)
@pytest.mark.parametrize("missing", ["error", "mean", "median", {"constant": -4.5}])
def test_numbers_are_those_of_scikit_learn(scale: str, judge: Any, missing: Any) -> None:
    """Fitted on some rows, for all of them."""
    values = quantity() if missing == "error" else with_holes(quantity())
    if scale == "log" and isinstance(missing, dict):
        missing = {"constant": 4.5}
    rows = np.arange(0, N, 3)
    filled, indicator = values[:, None], np.empty((N, 0))
    if missing != "error":
        name, constant = ("constant", missing["constant"]) if isinstance(missing, dict) else (missing, None)
        imputer = SimpleImputer(strategy=name if name != "mean" else "mean", fill_value=constant).fit(filled[rows])
        filled, indicator = imputer.transform(filled), np.isnan(values)[:, None]
    expected = np.hstack([judge.fit(filled[rows]).transform(filled), indicator])
    options = {"name": "numeric", "scale": scale, "missing": missing, "indicator": missing != "error"}
    made = fitted(table(a=values), {"a": options}, rows=rows)
    np.testing.assert_allclose(matrix(made, table(a=values)), expected, rtol=1e-12, atol=1e-12)
    assert made.names == (("a",) if missing == "error" else ("a", "a is missing"))


def test_quantiles_are_those_of_scikit_learn() -> None:
    """But for the ends of the distribution, which lie at 3.09 instead of 5.2 standard deviations."""
    rng = np.random.default_rng(0)
    values, other = rng.lognormal(3, 1, N), np.concatenate([rng.lognormal(3, 1, N), [-1e9, 1e9]])
    made = fitted(table(a=values), {"a": {"name": "numeric", "scale": "quantile"}})
    judge = QuantileTransformer(n_quantiles=N, output_distribution="normal", subsample=None).fit(values[:, None])
    encoder: Any = made.encoders[0][1]
    got = matrix(made, table(a=other))[:, 0] * encoder.scale + encoder.shift
    end = 3.090232306167813
    np.testing.assert_allclose(got, judge.transform(other[:, None])[:, 0].clip(-end, end), rtol=1e-9, atol=1e-12)
    assert got[-2:].tolist() == pytest.approx([-end, end])


def test_a_value_that_comes_often_lies_halfway() -> None:
    values = np.array([0.0] * 50 + [1.0] * 50)
    made = fitted(table(a=values), {"a": {"name": "numeric", "scale": "quantile"}})
    encoder: Any = made.encoders[0][1]
    got = matrix(made, table(a=np.array([0.0, 1.0, 0.5])))[:, 0] * encoder.scale + encoder.shift
    # A quarter and three quarters of the distribution: half of what is there lies on each side.
    np.testing.assert_allclose(got, [-0.6745, 0.6745, 0], atol=0.02)


def test_clipped_numbers() -> None:
    values = np.array([-5.0, 0, 3, 50])
    made = fitted(table(a=values), {"a": {"name": "numeric", "scale": "minmax", "clip": [0, 10]}})
    np.testing.assert_allclose(matrix(made, table(a=values))[:, 0], [0, 0, 0.3, 1])


def test_a_constant_column_becomes_zero() -> None:
    for scale in ("standard", "minmax", "robust"):
        made = fitted(table(a=np.full(7, 0.1)), {"a": {"name": "numeric", "scale": scale}})
        np.testing.assert_allclose(matrix(made, table(a=np.array([0.1, 1.1])))[:, 0], [0, 1], atol=1e-15)


def test_given_means_go_by_the_columns() -> None:
    options = {"a": "numeric", "b": "numeric"}
    made = fitted(table(a=[1.0, 2], b=[3.0, 4]), options, scale=((1.0, 2.0), (1.0, 4.0)))
    assert matrix(made, table(a=[3.0], b=[4.0])).tolist() == [[2, 0.5]]
    with pytest.raises(DataError, match="data.normalize.std: 3 values, expected 1 or 2"):
        fitted(table(a=[1.0, 2], b=[3.0, 4]), options, scale=((1.0,), (1.0, 4.0, 5.0)))


@pytest.mark.parametrize("unseen", [[], ["violet", "ultra"]])
def test_categories_are_those_of_scikit_learn(unseen: list[str]) -> None:
    colours = np.array(["red", "green", "blue", "blue", "red", "blue"])
    judge = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(colours[:, None])
    made = fitted(table(c=colours), {"c": "categorical"})
    asked = np.array([*colours, *unseen])
    np.testing.assert_array_equal(matrix(made, table(c=asked)), judge.transform(asked[:, None]))
    assert made.names == ("c = blue", "c = green", "c = red")


def test_rare_categories_share_a_column_with_unseen_ones() -> None:
    words = np.array(list("aaaaaabbbbbcccddeff"))
    judge = OneHotEncoder(max_categories=4, handle_unknown="infrequent_if_exist", sparse_output=False)
    judge.fit(words[:, None])
    asked = np.array([*words, "z"])
    expected = judge.transform(asked[:, None])
    made = fitted(table(c=words), {"c": {"name": "categorical", "most": 3}})
    np.testing.assert_array_equal(matrix(made, table(c=asked)), expected)
    made = fitted(table(c=words), {"c": {"name": "categorical", "rare": 0.15}})
    np.testing.assert_array_equal(matrix(made, table(c=asked)), expected)
    made = fitted(table(c=words), {"c": {"name": "categorical", "values": ["a", "b", "c"]}})
    np.testing.assert_array_equal(matrix(made, table(c=asked)), expected)


def test_missing_categories_have_a_column() -> None:
    made = fitted(table(c=["x", "", "y", "x"]), {"c": "categorical"})
    assert made.names == ("c = x", "c = y", "c = missing")
    assert matrix(made, table(c=["", "y", "new"])).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    # Where none was missing, one that is missing is like nothing that is known.
    made = fitted(table(c=["x", "y", "x"]), {"c": "categorical"})
    assert matrix(made, table(c=["", None])).tolist() == [[0, 0], [0, 0]]


def test_yes_and_no() -> None:
    made = fitted(table(c=["no", "yes", "no"]), {"c": "boolean"})
    assert made.names == ("c = yes",)
    assert matrix(made, table(c=["yes", "", "no"]))[:, 0].tolist() == [1, 0.5, 0]
    with pytest.raises(DataError, match="row 1, column 'c': column 'c' is 'maybe', expected no or yes"):
        matrix(made, table(c=["yes", "maybe"]))
    with pytest.raises(DataError, match="column 'c' has 3 different values, expected 2"):
        fitted(table(c=["a", "b", "c"]), {"c": "boolean"})


def test_numbers_in_a_file_are_the_categories_of_numbers_in_memory(tmp_path: Path) -> None:
    """However they are written: 3.0 is the class 3, in training, prediction and memory."""
    text = "floor,wet,y\n" + "".join(f"{k % 3}.0,{k % 2}.0,{k}\n" for k in range(12))
    path = write(tmp_path, text)
    options = {"floor": "categorical", "wet": "boolean"}
    made = prepared(path, columns=options, validation=path)
    np.testing.assert_array_equal(made.arrays["validation_features"], made.arrays["features"])
    assert made.arrays["features"][:3].tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    of_numbers = table(floor=np.arange(3), wet=np.array([0.0, 1, 0]))
    np.testing.assert_array_equal(matrix(preparation_of(made), of_numbers), made.arrays["features"][:3])


def test_kinds_that_a_column_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,y\n1,x,1\n2,y,2\n3,x,3\n4,y,5\n")
    for options, message in [
        ({"b": "numeric"}, r":2:2: column 'b' is 'x', expected a number \(the first of 4\)"),
        ({"a": "date"}, ":2:1: column 'a' is '1', expected a date"),
        ({"b": "date"}, ":2:2: column 'b' is 'x', expected a date"),
        ({"a": "boolean"}, "column 'a' has 4 different values, expected 2"),
        ({"a": {"name": "numeric", "scale": "log", "missing": "mean"}, "q": "numeric"}, "no column 'q'"),
    ]:
        with pytest.raises(DataError, match=message):
            prepared(path, columns=options)
    with pytest.raises(DataError, match="column 'a' is -2, and scale log is for values that are not negative"):
        prepared(write(tmp_path, "a,y\n1,1\n-2,2\n"), columns={"a": {"name": "numeric", "scale": "log"}})


#: A table with a column of every kind.
EVERY_KIND = "id,size,colour,wet,seen,note,y\n" + "".join(
    f"n{k},{'' if k % 7 == 3 else k * 1.7},{['red', 'green', '', 'blue'][k % 4]},{'no' if k % 3 else 'yes'},"
    f"2024-{k % 12 + 1:02}-{k % 27 + 1:02} {k % 24:02}:30,note {k},{k * 0.31}\n"
    for k in range(60)
)
OPTIONS = {"size": {"name": "numeric", "scale": "quantile", "missing": "median", "indicator": True}, "note": "ignore"}


def test_every_kind_comes_back_from_json(tmp_path: Path) -> None:
    path = write(tmp_path, EVERY_KIND)
    made = prepared(path, columns=OPTIONS, normalize="standard")
    assert kinds(made) == {"size": "numeric", "colour": "categorical", "wet": "boolean", "seen": "date"}
    preparation = preparation_of(made)
    assert preparation.ids == ("id",)
    again = Preparation.from_dict(json.loads(json.dumps(preparation.to_dict())))
    assert again == preparation
    for dtype in ("float32", "float64"):
        features = again.transform(read(path), dtype)
        assert features.dtype == dtype
        np.testing.assert_array_equal(features, preparation.transform(read(path), dtype))
    np.testing.assert_array_equal(again.transform(read(path), "float32"), made.arrays["features"])


def test_a_file_and_memory_give_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, EVERY_KIND)
    preparation = preparation_of(prepared(path, columns=OPTIONS, normalize="standard"))
    columns = read(path)
    frame = {
        "wet": columns["wet"].texts().astype(object), "colour": columns["colour"].texts().tolist(),
        "size": columns["size"].values, "seen": np.array(columns["seen"].texts(), "datetime64[m]"),
    }  # fmt: skip
    expected = preparation.transform(columns, "float64")
    np.testing.assert_array_equal(preparation.transform(table_of(frame, preparation.inputs), "float64"), expected)
    structured = np.empty(60, [("seen", "datetime64[s]"), ("size", "f8"), ("colour", "U8"), ("wet", "U3")])
    for name in structured.dtype.names or ():
        structured[name] = frame[name]
    np.testing.assert_array_equal(preparation.transform(table_of(structured, preparation.inputs), "float64"), expected)
    with pytest.raises(DataError, match="2 of the columns that the network needs are missing: wet, seen"):
        table_of({"size": [1.0], "colour": ["red"]}, preparation.inputs)


def test_a_file_without_a_header_gets_other_advice_than_one_that_lacks_columns(tmp_path: Path) -> None:
    made, path = fitted(table(a=[1.0, 2], b=[1.0, 3]), {"a": "numeric", "b": "numeric"}), tmp_path / "new.csv"
    for text, advice in (("0.5,2\n1.5,3\n", True), ("a,c\n0.5,2\n", False)):
        path.write_text(text)
        with pytest.raises(DataError, match="of the columns that the network needs (is|are) missing") as caught:
            table_for(DataSpec(str(path), csv=TextTable(header=True)), made, ())
        assert ("add it if it has none" in str(caught.value.hint)) == advice


def test_a_missing_number_is_an_error_in_training_and_nan_in_a_prediction() -> None:
    made = fitted(table(a=[1.0, 2]), {"a": "numeric"})
    with pytest.raises(DataError, match="row 1, column 'a': column 'a' has a missing value"):
        made.transform(table(a=[1.0, np.nan]), "float32")
    assert np.isnan(made.transform(table(a=[1.0, np.nan]), "float32", lenient=True))[:, 0].tolist() == [False, True]


@pytest.mark.parametrize("word", ["code", "co*"])
def test_a_pattern_reads_columns_as_their_names_do(tmp_path: Path, word: str) -> None:
    """Text that looks like numbers stays text; a name counts before a pattern, and targets are no features."""
    codes = ["1.0", "1.00", "300", "3e2"]
    text = "code,cost,coy\n" + "".join(f"{codes[row % 4]},{row + 0.5},{row}\n" for row in range(12))
    made = prepared(write(tmp_path, text), columns={word: "categorical", "cost": "numeric"}, targets="coy")
    assert preparation_of(made).names == (*(f"code = {code}" for code in codes), "cost")
    assert made.arrays["features"][:, :4].tolist() == np.tile(np.eye(4), (3, 1)).tolist()
    assert made.arrays["targets"][:, 0].tolist() == [*range(12)]


def test_classes_that_are_equal_numbers_stay_apart_in_other_files(tmp_path: Path) -> None:
    """Where the target is said to be categorical: also of a validation file."""
    text = "x,target\n" + "".join(f"{row % 5},{('1.0', '1.00', '3')[row % 3]}\n" for row in range(12))
    path, other = write(tmp_path, text), write(tmp_path, text, "other.csv")
    made = prepared(path, "multiclass", 3, columns={"target": "categorical"}, validation=other)
    assert made.arrays["validation_targets"].tolist() == made.arrays["targets"].tolist() == [0, 1, 2] * 4
