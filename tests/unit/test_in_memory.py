"""Samples that a program hands over, in all forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onotrain.data.dataset import Dataset
from onotrain.data.in_memory import InMemory
from onotrain.data.tables.table import Table
from onotrain.errors import DataError, UsageError
from onotrain.training.fitting import changed

COLUMNS = {"p": [1.5, 2.5, 3.5], "q": ["a", "b", "a"]}


class Frame:
    """What data frames have in common."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = list(columns)
        self._values = columns

    def __getitem__(self, name: str) -> Any:
        return self._values[name]


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
