"""What a column of one of several values, or of yes and no, becomes for a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onotrain.config.columns import BooleanColumn, CategoricalColumn
from onotrain.data.tables.table import Column, Table, coded, texts_of
from onotrain.data.tables.values import entry, first_of
from onotrain.errors import DataError
from onotrain.text import quoted


def _as_known(column: Column, known: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the different texts of a column, and which each entry is; numbers are written as in `known`: 3.0 is 3."""
    codes, categories = coded(column.texts()) if column.categories is None else (column.values, column.categories)
    numbers, _ = Column(column.name, np.arange(len(categories)), categories, numbers=column.numbers).as_numbers()
    of_known, _ = Column(column.name, np.arange(len(known)), tuple(known)).as_numbers()
    by_number = dict(zip(of_known.tolist(), known, strict=True))
    texts = [
        text if text in known else by_number.get(number, text)
        for text, number in zip(categories, numbers.tolist(), strict=True)
    ]
    return np.array([*texts, ""]), codes


def spellings(known: Sequence[str]) -> dict[str, str]:
    """Return the known texts, and the usual ways to write those that are numbers, with the known text of each."""
    found: dict[str, str] = {}
    numbers, _ = Column("", np.arange(len(known)), tuple(known)).as_numbers()
    for text, number in zip(known, numbers.tolist(), strict=True):
        if np.isfinite(number):
            found |= dict.fromkeys((str(number), str(texts_of(np.array([number]))[0])), text)
    return found | {text: text for text in known}


@dataclass(frozen=True)
class CategoricalEncoder:
    """One column of 0 and 1 for each value, or one column with the number of the value.

    Parameters
    ----------
    values
        That have a column of their own.
    other, missing
        Whether there is a column for all other values, and one for missing ones.
    rare
        Other values of the training data.
    code
        Whether it is one column with numbers from 0 to `count` - 1, in the order of values, other, missing.  There is
        a number for other values then, whether or not the training data have some.
    """

    kind: ClassVar[str] = "categorical"
    values: tuple[str, ...]
    other: bool
    missing: bool
    rare: tuple[str, ...] = ()
    code: bool = False

    @classmethod
    def fit(
        cls,
        options: CategoricalColumn,
        table: Table,
        column: Column,
        rows: np.ndarray | None,
        *,
        embedded: bool = False,
    ) -> Any:
        """Return the encoder for the training part (`rows`) of a column, for a network with embeddings or without."""
        texts = column.texts() if rows is None else column.texts(rows)
        names, counts = np.unique(texts[texts != ""], return_counts=True)
        order = np.lexsort((names, -counts))[: options.most]
        often = sorted(str(names[c]) for c in order if counts[c] >= options.rare * len(texts))
        values = tuple(often) if options.values is None else options.values
        rare = tuple(sorted(set(map(str, names)) - set(values)))
        code = options.is_code(embedded)
        return cls(values, bool(rare) or code, bool((texts == "").any()), rare, code)

    @property
    def categories(self) -> tuple[str, ...]:
        """The values, other and missing, as far as there are these."""
        return (*self.values, *(["other"] if self.other else []), *(["missing"] if self.missing else []))

    @property
    def count(self) -> int:
        """Number of categories."""
        return len(self.categories)

    @property
    def missing_code(self) -> int:
        """Number of a missing value; -1: it is none of the categories."""
        return self.count - 1 if self.missing or self.code else -1

    @property
    def other_code(self) -> int:
        """Number of all other values; -1: they are none of the categories."""
        return len(self.values) if self.other else -1

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of the columns that it writes."""
        if self.code:
            return (name,)
        return tuple(f"{name} = {value}" for value in self.categories)

    def encode(self, table: Table, column: Column, out: np.ndarray, *, lenient: bool = False) -> None:
        """Write to ``out (n, columns)``; a value that was never seen is an `other`, or none at all."""
        texts, codes = _as_known(column, self.values)
        place = {value: index for index, value in enumerate(self.values)} | {"": self.missing_code}
        of_code = np.array([place.get(str(text), self.other_code) for text in texts], np.int64)
        chosen = of_code[codes]
        if self.code:
            out[:, 0] = chosen
            return
        out[:] = 0.0
        rows = np.flatnonzero(chosen >= 0)
        out[rows, chosen[rows]] = 1.0

    def unseen(self, column: Column) -> tuple[int, list[str]]:
        """Return how many entries have values that the training data lacked, and these values in sorted order."""
        known = {*self.values, *self.rare, ""}
        texts, codes = _as_known(column, (*self.values, *self.rare))
        is_new = np.array([text not in known for text in texts.tolist()])
        codes = codes[is_new[codes]]
        return len(codes), sorted({str(text) for text in texts[np.unique(codes)]})

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        rare = {"rare": list(self.rare)} if self.rare else {}
        code = {"code": True} if self.code else {}
        return {"values": list(self.values), "other": self.other, "missing": self.missing, **rare, **code}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CategoricalEncoder:
        """Return the encoder that `to_dict` wrote."""
        values, rare = (tuple(str(value) for value in data.get(key, ())) for key in ("values", "rare"))
        return cls(values, bool(data["other"]), bool(data["missing"]), rare, bool(data.get("code", False)))


@dataclass(frozen=True)
class BooleanEncoder:
    """0 for the first of two values in sorted order, 1 for the second, 0.5 for a missing one."""

    kind: ClassVar[str] = "boolean"
    values: tuple[str, str]

    @classmethod
    def fit(cls, options: BooleanColumn, table: Table, column: Column, rows: np.ndarray | None) -> Any:
        """Return the encoder for a column; its values in all rows count."""
        names = sorted({text for text in np.unique(column.texts()).tolist() if text})
        if len(names) != 2:
            raise DataError(
                f"{table.source}: column {column.name!r} has {len(names)} different values, expected 2 (boolean)",
                hint="make it categorical or ignore it in data.columns",
            )
        return cls((names[0], names[1]))

    def names(self, name: str) -> tuple[str, ...]:
        """Return the name of the column that it writes."""
        return (f"{name} = {self.values[1]}",)

    def encode(self, table: Table, column: Column, out: np.ndarray, *, lenient: bool = False) -> None:
        """Write to ``out (n, 1)``.

        Raises
        ------
        DataError
            A third value.
        """
        names, codes = _as_known(column, self.values)
        texts = names[codes]
        wrong = (texts != "") & (texts != self.values[0]) & (texts != self.values[1])
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{table.where(row, column)}: column {column.name!r} is {quoted(entry(str(texts[row])))}, expected "
                f"{self.values[0]} or {self.values[1]}{first_of(int(wrong.sum()))}"
            )
        out[:, 0] = np.where(texts == "", 0.5, texts == self.values[1])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"values": list(self.values)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BooleanEncoder:
        """Return the encoder that `to_dict` wrote."""
        first, second = data["values"]
        return cls((str(first), str(second)))
