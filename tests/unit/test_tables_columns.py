"""Columns that are filled part by part, and their names."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.data.tables.columns import NumberColumn, TextColumn, as_text
from onotrain.data.tables.naming import nfc, nfc_names, places_of
from onotrain.data.tables.table import Column


def test_integers_become_float64_when_one_is_missing() -> None:
    column = NumberColumn(4, np.dtype(">i2"))
    column.add(np.array([1, 2], ">i2"))
    column.add(np.array([3, 4]), np.array([False, True]))
    np.testing.assert_array_equal(column.column("x", 0, None).values, [1, 2, 3, np.nan])


def test_a_column_that_is_not_full_is_an_error() -> None:
    for column in (NumberColumn(2, np.dtype("f4")), TextColumn(2)):
        with pytest.raises(ValueError, match="0 rows, expected 2"):
            column.column("x", 0, None)


@given(st.lists(st.lists(st.sampled_from(["", " a", "a", "b", "\u00e9", "e\u0301"]), min_size=1), min_size=1))
def test_text_in_parts_is_text_in_one(parts: list[list[str]]) -> None:
    column = TextColumn(sum(map(len, parts)))
    for part in parts:
        column.add_texts(np.array(part))
    done = column.column("t", 3, "m")
    expected = [unicodedata.normalize("NFC", text).strip() for part in parts for text in part]
    assert done.texts().tolist() == expected
    assert done.categories == tuple(sorted(set(expected) - {""}))
    assert (done.name, done.field, done.units) == ("t", 3, "m")


def test_any_column_as_text() -> None:
    for values, texts in (
        (np.array([2.0, np.nan, 1.5, 10]), ["2", "", "1.5", "10"]),
        (np.array([True, False]), ["True", "False"]),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), ["2020-01-01", ""]),
    ):
        column = as_text(Column("x", values, units="m", field=3))
        assert column.texts().tolist() == texts
        assert column.categories == tuple(sorted(set(texts) - {""}))
        assert (column.units, column.field) == ("m", 3)
        assert as_text(column) is column


def test_names() -> None:
    assert nfc("e\u0301") == "é"
    names = nfc_names(["e\u0301", " é", "", "b"])
    assert names == ("é", "é.1", "column_3", "b")
    assert places_of(names, None) == [0, 1, 2, 3]
    assert places_of(names, ["b", "e\u0301", "x"]) == [0, 3]
