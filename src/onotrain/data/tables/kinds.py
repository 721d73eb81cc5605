"""What the columns of a table look like: a kind for each, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from onotrain.config.columns import DatePart
from onotrain.data.tables.dates import COMPACT, are_compact, other_order, parse_dates
from onotrain.data.tables.echoes import echoes
from onotrain.data.tables.table import Column, Table, is_code, lose_digits

Kind = Literal["numeric", "categorical", "boolean", "date", "id", "ignore"]

#: Text of more different values than this is not one of several values, but a text of its own in each sample.
MOST_CATEGORIES = 50
#: Numbers with a few entries that are none are several values if there are no more different ones than this.
_FEW = 20
#: Share of the samples: text that differs in more of them names the samples.
_NAMES_SHARE = 0.5
#: Share of the entries of a column of numbers that may be something else by mistake.
_MISTAKES = 0.05
_YES_NO = ({"yes", "no"}, {"y", "n"}, {"true", "false"}, {"t", "f"}, {"on", "off"})
_ID = re.compile(
    r"(^|_|\b)(id|uuid|guid|key)$|^(id|index|row_?names?|row_?number|unnamed: 0|obs|__index_level_0__)$", re.IGNORECASE
)
#: Row numbers that programs add: nobody looks for them beside predictions.
_INDEX = re.compile(r"^(index|row_?names?|row_?number|unnamed: 0|obs|__index_level_0__|column_1)$", re.IGNORECASE)
#: A column without a name, as files or pandas call it.
_NAMELESS = re.compile(r"^(column_1|unnamed: 0|__index_level_0__)$", re.IGNORECASE)
_CAMEL_ID = re.compile(r"[a-z](Id|ID)$")


@dataclass(frozen=True)
class Guess:
    """What a column seems to be.

    Parameters
    ----------
    kind
        See `onotrain.config.columns`.
    why
        What is remarkable, in words; empty if nothing is.
    parts
        Of a date, what is learned from; None: all that vary.
    """

    kind: Kind
    why: str = ""
    parts: tuple[DatePart, ...] | None = None


def guess_kinds(table: Table, targets: Sequence[str] = ()) -> dict[str, Guess]:
    """Return what each column that is no target looks like, by name."""
    goals = [table[name] for name in targets if name in table.names]
    guesses = {
        column.name: _copy(column, goals) or guess_kind(column, first=column.field == 0)
        for column in table
        if column.name not in targets
    }
    plain = [table[name] for name, guess in guesses.items() if guess.kind not in ("id", "ignore") and not guess.why]
    return guesses | {name: replace(guesses[name], why=why) for name, why in echoes(plain, goals).items()}


def guess_kind(column: Column, *, first: bool = False) -> Guess:
    """Return what one column looks like; `first` in its file."""
    missing = column.missing
    known = int(len(column) - missing.sum())
    if known == 0:
        return Guess("ignore", "every value is missing")
    if column.is_date:
        return Guess("date")
    if column.values.dtype.kind == "b":
        return Guess("boolean")
    if column.is_text:
        return _guess_text(column, known)
    values = column.values[~missing]
    lowest, highest = values.min(), values.max()
    if counts_rows(column.values) and (first or _ID.search(column.name)):
        return Guess(
            "id" if _is_id_name(column.name) and not _INDEX.search(column.name) else "ignore", "it counts the rows"
        )
    if lowest == highest and not missing.any():
        return Guess("ignore", "every value is the same")
    if values.dtype.kind in "iu" and highest >= 2**53:
        different = len(np.unique(values))
        if len(np.unique(values.astype(np.float64))) < different:
            return _long(column.name, different == len(column))
    if first and _NAMELESS.search(column.name) and not missing.any() and (values == np.floor(values)).all():
        # Whole rows of a table keep their numbers when others are left out, and when tables are put together.
        different = len(np.unique(values)) == len(values)
        return Guess("id" if different else "ignore", "a first column without a name numbers the rows")
    if are_compact(values):
        return Guess("date", f"numbers such as {lowest:.0f} are taken for days ({COMPACT})")
    if _is_id_name(column.name) and len(np.unique(values)) == len(column) and (values == np.floor(values)).all():
        return Guess("id", "every value is another one")
    return Guess("numeric")


def _guess_text(column: Column, known: int) -> Guess:
    names = column.categories or ()
    different = len(names)
    if is_numbers(column):
        if any(map(is_code, names)):
            return Guess("categorical" if 2 * different <= known else "id", "codes with zeros in front")
        if lose_digits(names):
            return _long(column.name, different == known)
        if different > _FEW or 2 * different > known:
            return Guess("numeric")
        bad = [name for name, number in zip(names, column.numbers if column.numbers is not None else (), strict=False)
               if np.isnan(number)]  # fmt: skip
        return Guess("categorical", f"few different values, of which {', '.join(bad[:3]) or 'some'} are no numbers")
    if different == 2 and {name.lower() for name in names} in _YES_NO:
        return Guess("boolean")
    if different == 1 and known == len(column):
        return Guess("ignore", "every value is the same")
    if parse_dates(names) is not None:
        orders = other_order(names)
        return Guess("date", f"read as {orders[0]}, though {orders[1]} fits as well (format)" if orders else "")
    if different == known and known > 2:
        return Guess("id", "every value is another one")
    if different > max(MOST_CATEGORIES, 2) and different > _NAMES_SHARE * known:
        return Guess("ignore", f"text with {different:,} different values")
    if different > MOST_CATEGORIES:
        return Guess(
            "categorical", f"{different:,} different values, of which the {MOST_CATEGORIES} most frequent count"
        )
    return Guess("categorical")


def _long(name: str, all_differ: bool) -> Guess:
    """Return what whole numbers are that float64 does not tell apart."""
    why = "whole numbers with more digits than float64 holds"
    return Guess("id" if all_differ or _is_id_name(name) else "categorical", why)


def _is_id_name(name: str) -> bool:
    return bool(_ID.search(name) or _CAMEL_ID.search(name))


def is_numbers(column: Column) -> bool:
    """Return whether a column holds numbers, but for missing values and few mistakes."""
    if not column.is_text:
        return not column.is_date
    values, bad = column.as_numbers()
    good = np.count_nonzero(~np.isnan(values))
    return bool(good > bad.sum() and bad.sum() <= max(1, _MISTAKES * len(values)))


def counts_rows(values: np.ndarray) -> bool:
    """Return whether numbers are 0, 1, 2, ... or 1, 2, 3, ... in the order of the rows."""
    if len(values) < 3 or values.dtype.kind not in "iuf" or values[0] not in (0, 1):
        return False
    return bool((values == values[0] + np.arange(len(values))).all())


def _copy(column: Column, targets: Sequence[Column]) -> Guess | None:
    """Return what a column is that says the same as a target."""
    target = next((target for target in targets if _same(column, target)), None)
    return None if target is None else Guess("ignore", f"it is a copy of the target {target.name!r}")


def _same(one: Column, other: Column) -> bool:
    if one.is_text != other.is_text or len(one) == 0:
        return False
    if one.is_text and one.categories != other.categories:
        return False
    if one.is_date != other.is_date:
        return False
    same = one.values == other.values
    return bool((same | (one.missing & other.missing)).all()) and not other.missing.all()
