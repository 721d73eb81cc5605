"""What is in a table: every column, what it would be taken for, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.config.columns import ColumnOptions, DateColumn, NumericColumn, TextTable
from onotrain.data.dataset import DataSpec
from onotrain.data.info import TargetInfo, describe_targets
from onotrain.data.missing_targets import none_left, without_target
from onotrain.data.ranges import is_logarithmic
from onotrain.data.reading import ReadFiles, in_turn
from onotrain.data.sources import expanded, format_of, read_table
from onotrain.data.tables.date import dates_of
from onotrain.data.tables.dates import COMPACT, are_times, form_of
from onotrain.data.tables.kinds import is_numbers
from onotrain.data.tables.labelled import targets_dataset
from onotrain.data.tables.patterns import with_patterns
from onotrain.data.tables.roles import (
    Roles,
    choose_roles,
    formats_of,
    no_features,
    section_of,
)
from onotrain.data.tables.series import time_column
from onotrain.data.tables.table import Column, Table
from onotrain.data.tables.values import entry, remedy
from onotrain.data.yaml_text import scalar
from onotrain.errors import DataError
from onotrain.text import DIGITS, count, figure, quoted

_TOP = 4


@dataclass(frozen=True)
class ColumnInfo:
    """One column.

    Parameters
    ----------
    name, units
        As in the file.
    role
        ``target``, or the kind that it is taken for: ``numeric``, ``categorical``, ...
    why
        What is remarkable, in words.
    missing, infinite, different
        Numbers of entries, and of different values among those that are there.
    summary
        Its values in short: range, mean and standard deviation, or the most frequent ones.
    """

    name: str
    role: str
    why: str
    missing: int
    infinite: int
    different: int
    summary: str
    units: str | None = None
    #: How its numbers or dates are written, where that is not plain.
    written: str | None = None
    #: What to do about entries that are no numbers.
    remedy: str = ""
    #: What it asks for beside targets that are learned as logarithms; None: nothing but what all get.
    scale: str | None = None


@dataclass(frozen=True)
class TableInfo:
    """A table at a glance.

    Parameters
    ----------
    source, format
        Where from, and how stored.
    samples
        Number of rows.
    notes
        What was guessed about the file.
    columns
        In the order of the file.
    roles
        What they would be taken for.
    targets
        None if there are none.
    problem
        Why it cannot be trained on as it is; empty if it can.
    csv
        How a text table is written, with nothing left open.
    time
        Column of time that orders rows of which neighbours are alike; None if there is none.
    """

    source: str
    format: str
    samples: int
    notes: tuple[str, ...]
    columns: tuple[ColumnInfo, ...]
    roles: Roles
    targets: TargetInfo | None
    problem: str = ""
    csv: TextTable | None = None
    time: str | None = None

    def advice(self) -> list[str]:
        """Return what to look at before training, in words."""
        if self.time is None:
            return []
        split = f"split: {{by: order, column: {scalar(self.time)}}}"
        return [
            f"the rows are in the order of {self.time!r} and neighbours are alike: samples drawn at random flatter the "
            f"network; to validate on the last ones write {split} (section data)"
        ]

    @property
    def features(self) -> int:
        """Number of columns that would be learned from."""
        return len(self.roles.features)


def describe_table(
    spec: DataSpec, given: Mapping[str, ColumnOptions] | None = None, reader: ReadFiles = in_turn
) -> TableInfo:
    """Look at a table; nothing but an unreadable file is refused.

    Parameters
    ----------
    spec
        Which file, and what is known of it.
    given
        What is known of columns.
    reader
        Reads the files.

    Raises
    ------
    DataError
        It cannot be read at all, or a column that is named is not there.
    """
    spec, given = expanded(spec), given or {}
    table, kind = read_table(spec, formats=formats_of(given), reader=reader), format_of(spec)
    roles = choose_roles(table, spec, given, anyway=True)
    problem, targets, values = "", None, None
    try:
        dataset = targets_dataset(table, roles, given)
        values = dataset.targets
        if values is not None:
            lost = without_target(values, "drop")
            if lost.all():
                raise none_left(table.source, roles.targets, values)
            known = table.take(np.flatnonzero(~lost)) if lost.any() else table
            targets = describe_targets(targets_dataset(known, roles, given), missing=int(lost.sum()))
    except DataError as error:
        problem = error.message
    if not roles.features:
        problem = problem or no_features(table.source).message
    columns = tuple(_describe(table, column, roles) for column in table)
    time = time_column(table, roles, values)
    return TableInfo(table.source, kind, len(table), table.notes, columns, roles, targets, problem, table.csv, time)


def _describe(table: Table, column: Column, roles: Roles) -> ColumnInfo:
    if column.name in roles.targets:
        role, why = "target", roles.why_targets
    elif column.name in roles.kinds:
        options = roles.kinds[column.name]
        guess = roles.guesses.get(column.name)
        role, why = options.name, "" if guess is None else guess.why
    else:
        role, why = "unused", ""
    missing, infinite, written, advice, scale = int(column.missing.sum()), 0, column.written, "", None
    if role == "date" and not column.is_date:
        written = form_of(column.categories) if column.categories else COMPACT
    as_text = column.is_text and role in ("id", "categorical")
    if is_numbers(column) and role != "date" and not as_text:
        values, bad = column.as_numbers()
        infinite = int(np.isinf(values).sum())
        if infinite:
            place = table.where(int(np.argmax(np.isinf(values))), column)
            why = f"infinite: {infinite:,} of the entries, the first at {place}"
        finite = values[np.isfinite(values)]
        different, summary, scale = len(np.unique(finite)), _range(finite), _straight(finite)
        if bad.any():
            row = int(np.argmax(bad))
            text = entry(str(column.texts(np.array([row]))[0]))
            place = table.where(row, column)
            many = f"{count(int(bad.sum()), 'entry is no number', 'entries are no numbers')}"
            why = f"{many}, such as {quoted(text)} ({place})"
            advice = remedy(table, column)
    else:
        different, summary = _top(table, column, role)
    return ColumnInfo(column.name, role, why, missing, infinite, different, summary, column.units,
                      written, advice, scale)  # fmt: skip


def _straight(values: np.ndarray) -> str | None:
    """Return the scaling that makes wide values near normal; ``log``, which is of 1 + x, does so above 1."""
    if not is_logarithmic(values):
        return None
    return "log" if np.median(values) > 1 else "quantile"


def _range(values: np.ndarray) -> str:
    if not len(values):
        return ""
    spread = np.sqrt(np.square(values - values.mean()).mean())
    low, high = float(values.min()), float(values.max())
    digits = DIGITS
    if high > low:  # as many as tell the least from the largest
        digits = min(max(digits, math.ceil(math.log10(max(abs(low), abs(high)) / (high - low))) + 2), 17)
    return f"{low:.{digits}g} to {high:.{digits}g}, sd {figure(spread, short=True)}, mean {values.mean():.{digits}g}"


def _top(table: Table, column: Column, role: str) -> tuple[int, str]:
    if role == "date":
        try:
            dates = dates_of(table, column, None)
        except DataError:
            return len(column.categories or ()), ""
        known = dates[~np.isnat(dates)]
        if are_times(known):
            first, last = (np.datetime_as_string(each, "s")[11:] for each in (known.min(), known.max()))
            return len(np.unique(known)), f"{first} to {last}"
        return len(np.unique(known)), f"{np.datetime_as_string(known.min(), 'm')} to {known.max().astype('M8[m]')}"
    names, counts = np.unique(column.texts()[~column.missing], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_TOP]
    shown = ", ".join(f"{entry(str(names[c]))} ({counts[c]:,})" for c in order) + (", ..." if len(names) > _TOP else "")
    return len(names), shown


def kinds_of(info: TableInfo) -> dict[str, dict[str, Any]]:
    """Return ``data.columns`` as `onotrain init` writes it: a kind for every column, or for many of one pattern."""
    found: dict[str, dict[str, Any]] = {}
    for column in info.columns:
        options = info.roles.kinds.get(column.name)
        if options is None and column.role == "target" and column.written:
            options = section_of("numeric")
        if options is None:
            continue
        entry: dict[str, Any] = {"name": options.name}
        if isinstance(options, NumericColumn) and column.missing and column.role != "target":
            entry |= {"missing": "median", "indicator": True}
        if isinstance(options, NumericColumn) and column.scale and info.targets and info.targets.logarithmic:
            # A power law is a line between logarithms of both; of one alone it is bent more than before.
            entry["scale"] = column.scale
        if column.written and options.name in ("numeric", "date"):
            entry["format"] = column.written
        if isinstance(options, DateColumn) and options.parts is not None:
            entry["parts"] = list(options.parts)
        found[column.name] = entry
    return with_patterns(found, [column.name for column in info.columns])
