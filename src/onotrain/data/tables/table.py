"""A table in memory: named columns, as a file has them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

import numpy as np

from onotrain.config.columns import TextTable
from onotrain.errors import DataError

_T = TypeVar("_T")

#: Code of a missing value in a column of text.
MISSING_CODE = -1
#: Text is kept in entries of one width: what is always given to it [characters, bytes].
_USUAL_CHARACTERS, _TEXT_BYTES = 64, 1 << 26
_SHOWN_NAMES = 20


class Places(Protocol):
    """Finds the place in a file that an entry of a table came from."""

    def place(self, row: int, column: int) -> str:
        """Return ``file:line:column`` of `column`, as the file counts them, of data row `row`."""
        ...


@dataclass(frozen=True, eq=False)
class Column:
    """One column.

    Parameters
    ----------
    name
        Unique within its table.
    values
        ``(n,)``: real numbers (NaN: missing), bool, datetime64 (NaT: missing), or int32 codes of text
        (`MISSING_CODE`: missing).
    categories
        What the codes of a column of text stand for; None for other columns.
    units
        Where the file says so.
    field
        Number of the column in its file.
    numbers
        Of a column of text: the number that each category stands for, NaN where it is none; None: as Python reads it.
    written
        How numbers are written in the file (`onotrain.config.number_format`); None: as programs write them.
    """

    name: str
    values: np.ndarray
    categories: tuple[str, ...] | None = None
    units: str | None = None
    field: int = 0
    numbers: np.ndarray | None = None
    written: str | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_text(self) -> bool:
        """Whether the values are codes of text."""
        return self.categories is not None

    @property
    def is_date(self) -> bool:
        """Whether the values are points in time."""
        return self.values.dtype.kind == "M"

    @property
    def missing(self) -> np.ndarray:
        """Where values are missing: bool ``(n,)``."""
        if self.is_text:
            return self.values == MISSING_CODE
        if self.is_date:
            return np.isnat(self.values)
        return np.isnan(self.values) if self.values.dtype.kind == "f" else np.zeros(len(self), bool)

    def texts(self, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return values as text, missing ones empty; of whole numbers without a fraction."""
        if self.categories is not None:
            codes = self.values[rows]
            check_widths(self.categories, len(codes), f"column {self.name!r}")
            return np.array((*self.categories, ""), dtype=object)[codes].astype(str)
        return texts_of(self.values[rows])

    def as_numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values as float64, NaN where there is none, and where an entry is something else (bool)."""
        if self.categories is None:
            values = self.values.astype(np.float64)
            return values, np.zeros(len(values), bool)
        of_category = self.numbers
        if of_category is None:
            of_category = np.array([_number(text) for text in self.categories], np.float64)
        values = np.append(of_category, np.nan)[self.values]
        return values, np.isnan(values) & ~self.missing

    def take(self, rows: np.ndarray) -> Column:
        """Return some rows."""
        return replace(self, values=self.values[rows])


def _number(text: str) -> float:
    try:
        return float(text) if "_" not in text else np.nan
    except ValueError:
        return np.nan


def is_code(text: str) -> bool:
    """Return whether digits are a code and no number: with a zero in front, as postal codes have."""
    text = text.strip()
    return len(text) > 1 and text[0] == "0" and text.isdigit()


def lose_digits(texts: Collection[str]) -> bool:
    """Return whether all texts are whole numbers, of which float64 does not tell some apart."""
    different = {text.strip() for text in texts}
    if not different or not all(len(text) > 15 and text.isdigit() for text in different):
        return False
    return len({float(text) for text in different}) < len(different)


def texts_of(values: np.ndarray) -> np.ndarray:
    """Return numbers or dates as the shortest text that stands for them; missing ones are empty."""
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < 2.0**53)
        texts = np.array([str(value) for value in values.tolist()], dtype=object)
        texts[whole] = [str(value) for value in values[whole].astype(np.int64).tolist()]
        texts[np.isnan(values)] = ""
        return texts.astype(str)
    if values.dtype.kind == "M":
        return np.where(np.isnat(values), "", np.datetime_as_string(values))
    return np.array([str(value) for value in values.tolist()], dtype=str)


def check_widths(texts: Iterable[str], count: int, source: str) -> None:
    """Refuse text of which a few entries are so long that `count` of that length would fill the memory.

    Raises
    ------
    DataError
        It is so.
    """
    lengths = [len(text) for text in texts]
    longest = max(lengths, default=0)
    if longest > _USUAL_CHARACTERS and 4 * count * longest > _TEXT_BYTES + 100 * sum(lengths):
        raise DataError(
            f"{source}: an entry has {longest:,} characters, far more than most of {count:,}",
            hint="look for a quote that is never closed, or leave the column out",
        )


def coded(texts: Sequence[str] | np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return int32 codes and sorted categories of text; what is empty is missing."""
    if not isinstance(texts, np.ndarray):
        check_widths(texts, len(texts), "text")
    names, codes = np.unique(np.asarray(texts, dtype=str), return_inverse=True)
    codes = codes.astype(np.int32)
    if len(names) and names[0] == "":
        return codes - 1, tuple(str(name) for name in names[1:])
    return codes, tuple(str(name) for name in names)


@dataclass(frozen=True)
class SomeRows:
    """Places of some rows of a table (`Places`)."""

    places: Places
    rows: np.ndarray

    def place(self, row: int, column: int) -> str:
        """Return the place of an entry, `row` being the place in `rows`."""
        return self.places.place(int(self.rows[row]), column)


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of the same length.

    Parameters
    ----------
    columns
        In the order of the file.
    source
        Name for messages.
    places
        Finds the lines of a text file; None for other files.
    notes
        What was guessed about the file, in words, to be shown.
    csv
        How a text table is written, with nothing left open; None of other files.
    """

    columns: tuple[Column, ...]
    source: str
    places: Places | None = None
    notes: tuple[str, ...] = field(default=())
    csv: TextTable | None = None

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Notes on the table and its columns."""
        return self.notes

    @property
    def on_disk(self) -> bool:
        """Whether most columns are on the disk."""
        return False

    def __getitem__(self, name: str) -> Column:
        return self.columns[self.names.index(name)]

    def select(self, names: Sequence[str]) -> Table:
        """Return a table of these columns."""
        by_name = {column.name: column for column in self.columns}
        return replace(self, columns=tuple(by_name[name] for name in names))

    def take(self, rows: np.ndarray) -> Table:
        """Return some rows, whose places are still those of the file."""
        places = None if self.places is None else SomeRows(self.places, rows)
        return replace(self, columns=tuple(column.take(rows) for column in self), places=places)

    def type_of(self, name: str) -> np.dtype | None:
        """Return the type of the values of a column; None for text."""
        column = self[name]
        return None if column.is_text else column.values.dtype

    def where(self, row: int, column: Column) -> str:
        """Return the place of an entry for a message."""
        if self.places is not None:
            return self.places.place(row, column.field)
        return f"{self.source}: row {row}, column {column.name!r}"


def matching(names: Sequence[str], wanted: Sequence[str], source: str, what: str) -> list[str]:
    """Return the names that are wanted, in the order in which they are: names, patterns such as ``p_*``, comma lists.

    Raises
    ------
    DataError
        One stands for no column, or a column is named twice; `what` is the key that names it.
    """
    found: list[str] = []
    for word in wanted:
        for name in [word] if word in names else [part.strip() for part in word.split(",")]:
            hits = [name] if name in names else [each for each in names if fnmatchcase(each, name)]
            if not hits:
                raise no_column(names, name, source, what)
            is_pattern = name not in names
            for hit in hits:
                if hit not in found:
                    found.append(hit)
                elif not is_pattern:
                    raise DataError(f"{source}: data.{what} names the column {hit!r} twice")
    return found


def by_name(name: str, words: Mapping[str, _T]) -> _T | None:
    """Return what is said of a column: by its name before by a pattern; None if nothing is."""
    if name in words:
        return words[name]
    return next((said for word, said in words.items() if fnmatchcase(name, word)), None)


def text_columns(names: Iterable[str], texts: Collection[str]) -> set[str]:
    """Return which columns are to be read as text: those of `texts`, or a mapping of names and patterns to whether."""
    return {name for name in names if (by_name(name, texts) if isinstance(texts, Mapping) else name in texts)}


def no_column(names: Sequence[str], name: str, source: str, what: str) -> DataError:
    """Return the error for a column that is not there."""
    near = difflib.get_close_matches(name, names, n=1)
    return DataError(
        f"{source}: no column {name!r} (data.{what}); the columns are {shown(names)}",
        hint=f"did you mean {near[0]!r}?" if near else None,
    )


def lacking(source: str, names: Sequence[str]) -> str:
    """Return a message about columns that a network needs and a table does not have."""
    are = "is" if len(names) == 1 else "are"
    return f"{source}: {len(names)} of the columns that the network needs {are} missing: {shown(names)}"


def shown(names: Sequence[str]) -> str:
    """Return names for a message, the first ones of many."""
    return ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
