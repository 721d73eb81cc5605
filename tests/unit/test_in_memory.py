"""Samples that a program hands over, in all forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onotrain.data.dataset import Dataset
from onotrain.data.in_memory import InMemory
from onotrain.data.tables.memory import column_of, table_of
from onotrain.data.tables.table import Table
from onotrain.errors import DataError, UsageError
from onotrain.training.fitting import changed

COLUMNS = {"p": [1.5, 2.5, 3.5], "q": ["a", "b", "a"]}


class Frame:
    """What data frames have in common."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = np.array(list(columns))  # as pandas' Index, neither true nor false
        self._values = columns

    def __getitem__(self, name: str) -> Any:
        return self._values[name]


class Numbered(Frame):
    """A data frame of which some columns are called by numbers."""

    def __init__(self, columns: dict[Any, Any]) -> None:
        super().__init__(columns)
        self.columns = np.array(list(columns), object)


class Series(list[Any]):
    """A column with a name."""

    name = "price"


RECORDS = np.array([(1.5, "a"), (2.5, "b"), (3.5, "a")], [("p", "f8"), ("q", "U1")])


@pytest.mark.parametrize("x", [COLUMNS, Frame(COLUMNS), RECORDS], ids=["mapping", "frame", "records"])
@pytest.mark.parametrize(
    ("y", "names"),
    [
        ([1, 2, 3], ("target",)),
        (Series([1, 2, 3]), ("price",)),
        ({"u": [1, 2, 3], "v": [4, 5, 6]}, ("u", "v")),
        (np.arange(6).reshape(3, 2), ("target_0", "target_1")),
    ],
)
def test_tables(x: Any, y: Any, names: tuple[str, ...]) -> None:
    samples = InMemory.of(x, y)
    table = samples.held()
    assert isinstance(table, Table) and samples.names == names
    assert table.names == ("p", "q", *names)
    assert table["p"].values.tolist() == [1.5, 2.5, 3.5] and table["q"].texts().tolist() == ["a", "b", "a"]
    again = samples.with_arrays(samples.arrays().__getitem__).held()
    assert isinstance(again, Table)
    assert [column.texts().tolist() for column in again] == [column.texts().tolist() for column in table]


def test_columns_of_the_table_as_targets() -> None:
    for y, names in (("q", ("q",)), (("p", "q"), ("p", "q")), (None, ())):
        samples = InMemory.of(COLUMNS, y)
        assert samples.names == names and isinstance(samples.held(), Table)


@pytest.mark.parametrize(
    "y", [[0, 1, 1], np.array(["a", "b", "b"]), np.array(["a", "b", "b"], object), {"u": ["a", "b", "b"]}]
)
def test_arrays(y: Any) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    dataset = InMemory.of(x, y).held()
    assert isinstance(dataset, Dataset) and dataset.targets is not None
    assert dataset.feature_shape == (2, 2) and dataset.features.tobytes() == x.tobytes()
    assert np.unique(dataset.targets, return_inverse=True)[1].tolist() == [0, 1, 1]


def test_text_without_names_is_a_table() -> None:
    table = InMemory.of(np.array([["a", 1], ["b", 2]], object), [0, 1]).held()
    assert isinstance(table, Table) and table.names == ("column_0", "column_1", "target")
    assert table["column_1"].values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (np.zeros((3, 2)), [1, 2], "2 targets for 3 samples"),
        (COLUMNS, [1, 2], "2 targets for 3 samples"),
        ({"p": [1, 2], "q": [1]}, [1, 2], "1 column 'q' for 2 samples"),
        ({}, [1, 2], "without columns"),
        (COLUMNS, "z", "no column 'z' to predict"),
        (COLUMNS, {"p": [1, 2, 3]}, "both a feature and a target"),
        (np.zeros((3, 2)), "y", "must be an array too"),
        (np.zeros((3, 2)), None, "must be an array too"),
        (np.zeros((0, 2)), [], "no samples"),
        (np.zeros(3, "M8[D]"), [1, 2, 3], "expected real numbers"),
        (3.0, [1.0], "features are a single number"),
        (np.zeros((3, 2)), 1.0, "targets are a single value"),
        (COLUMNS, 1.5, "targets are a single value"),
        (COLUMNS, 7, "no column '7' to predict"),
        (COLUMNS, ["p", "q"], r"give names of columns as a tuple: y=\('p', 'q'\)"),
        ({1: [1, 2], "1": [3, 4]}, [1, 2], "two columns are called '1'"),
    ],
)
def test_what_does_not_fit(x: Any, y: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        InMemory.of(x, y).held()


def test_changes_of_a_configuration() -> None:
    made = {
        "optimizer": "adam",
        "loss": {"name": "mse"},
        "training": {"epochs": 3, "batch_size": 8},
        "strategy": "flat",
    }
    found = changed(
        made,
        {
            "optimizer": {"learning_rate": 0.1}, "loss": {"name": "huber", "delta": 2}, "training": {"epochs": 5},
            "strategy": "allreduce", "data": {"validation": None},
        },
    )  # fmt: skip
    assert found == {
        "optimizer": {"name": "adam", "learning_rate": 0.1},
        "loss": {"name": "huber", "delta": 2},
        "training": {"epochs": 5, "batch_size": 8},
        "strategy": "allreduce",
        "data": {"validation": None},
    }
    assert made["training"] == {"epochs": 3, "batch_size": 8}


def test_words_for_rows() -> None:
    from onotrain.data.in_memory import check_rows

    with pytest.raises(UsageError, match="rows is 'all'"):
        check_rows("all")


def test_weights_of_samples() -> None:
    """Numbers, or of a table a column; they lie beside the samples in all that ranks send each other."""
    of_array = InMemory.of(np.zeros((3, 2)), [1, 2, 3], [1, 0, 2])
    assert of_array.arrays()["weights"].tolist() == [1.0, 0.0, 2.0]
    held = of_array.held()
    assert isinstance(held, Dataset) and held.weights is not None and held.weights.tolist() == [1, 0, 2]
    twice = of_array.with_arrays(lambda name: np.repeat(of_array.arrays()[name], 2, axis=0)).held()
    assert isinstance(twice, Dataset) and twice.weights is not None and twice.weights.tolist() == [1, 1, 0, 0, 2, 2]
    named = InMemory.of(COLUMNS, [1, 2, 3], "p")
    assert named.weight_column == "p" and list(named.arrays()) == ["p", "q", "target"]
    beside = InMemory.of({**COLUMNS, "weights": [0, 0, 0]}, [1, 2, 3], np.array([1, 0, 2]))
    assert beside.weight_column == "weights_" and beside.arrays()["weights_"].tolist() == [1, 0, 2]
    assert beside.with_arrays(beside.arrays().__getitem__).weight_column == "weights_"


@pytest.mark.parametrize(
    ("x", "weights", "message"),
    [
        (np.zeros((3, 2)), [1, 2], "2 weights for 3 samples"),
        (COLUMNS, [1, 2], "2 weights for 3 samples"),
        (np.zeros((3, 2)), [[1], [2], [3]], r"weights have shape \(3, 1\), expected one number for each sample"),
        (np.zeros((3, 2)), ["a", "b", "c"], "weights are no numbers"),
        (np.zeros((3, 2)), "w", "an array of features has no columns with names"),
        (COLUMNS, "w", "no column 'w' with weights"),
    ],
)
def test_weights_that_are_none(x: Any, weights: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        InMemory.of(x, [1, 2, 3], weights)


def test_columns_that_are_called_by_numbers() -> None:
    samples = InMemory.of(Numbered({"p": [1.5, 2.5], 7: [3.0, 4.0]}), 7)
    assert samples.names == ("7",)
    assert isinstance(table := samples.held(), Table) and table["7"].values.tolist() == [3.0, 4.0]
    given = table_of(Numbered({"p": [1.5, 2.5], 7: [3.0, 4.0]}), ["7", "p"])
    assert given["7"].values.tolist() == [3.0, 4.0] and given["p"].values.tolist() == [1.5, 2.5]
    assert table_of({7: [3.0]}, ["7"])["7"].values.tolist() == [3.0]


@pytest.mark.parametrize("x", [COLUMNS, Frame(COLUMNS), RECORDS], ids=["mapping", "frame", "records"])
def test_tables_to_predict(x: Any) -> None:
    table = table_of(x, ["q", "p"])
    assert table.names == ("q", "p") and table["p"].values.tolist() == [1.5, 2.5, 3.5]
    with pytest.raises(DataError, match="columns that the network needs is missing: z"):
        table_of(x, ["p", "z"])


HIDDEN = [False, True, False]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1.0, 2.0, 3.0], ["1", "", "3"]),
        ([1, 2, 3], ["1", "", "3"]),
        (["a", "b", "c"], ["a", "", "c"]),
        (np.array(["a", None, "c"], object), ["a", "", "c"]),
        (np.array(["2020-01-01"] * 3, "M8[D]"), ["2020-01-01", "", "2020-01-01"]),
        ([True, False, True], ["True", "", "True"]),
    ],
    ids=["float", "int", "text", "object", "date", "bool"],
)
def test_what_is_masked_is_missing(values: Any, texts: list[str]) -> None:
    column = column_of("c", np.ma.masked_array(values, HIDDEN))
    assert column.missing.tolist() == HIDDEN
    assert [text[:10] for text in column.texts().tolist()] == texts


def test_masked_arrays_of_numbers() -> None:
    x = np.ma.masked_array(np.arange(6).reshape(3, 2), [[True, False], [False, False], [False, False]])
    y = np.ma.masked_array([1, 2, 3], HIDDEN)
    samples = InMemory.of(x, y)
    assert isinstance(samples.features, np.ndarray) and samples.values is not None
    assert np.isnan(samples.features).tolist() == [[True, False], [False, False], [False, False]]
    assert np.isnan(samples.values).tolist() == HIDDEN
    assert np.isnan(InMemory.of(np.zeros((3, 2)), [1, 2, 3], y).arrays()["weights"]).tolist() == HIDDEN
    assert InMemory.of(np.ma.masked_array(np.arange(6).reshape(3, 2)), [1, 2, 3]).arrays()["x"].dtype.kind == "i"
    hidden = np.ma.masked_array(RECORDS, [(True, False), (False, True), (False, False)])
    assert isinstance(table := InMemory.of(hidden, "q").held(), Table)
    assert table["p"].missing.tolist() == [True, False, False] and table["q"].missing.tolist() == HIDDEN
