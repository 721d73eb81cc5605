"""What `onotrain data info` shows: facts, and tables of columns, classes and targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from onotrain.cli.tables import table
from onotrain.data.info import DataInfo, TargetInfo
from onotrain.data.info import describe as describe_arrays
from onotrain.data.sources import expanded, is_table
from onotrain.data.tables.table import shown
from onotrain.text import count, figure

if TYPE_CHECKING:
    from onotrain.data import DataSpec
    from onotrain.data.reading import ReadFiles
    from onotrain.data.tables.info import ColumnInfo, TableInfo

#: Rows of the tables of columns and classes that are shown.
SHOWN_ROWS = 20
#: Of a table's columns.
SHOWN_COLUMNS = 60
#: Columns of statistics, the least important first.
_LEAST = ("std", "mean")
#: Characters of the longest bar.
_BAR = 20


def describe(spec: DataSpec, reader: ReadFiles) -> tuple[Iterable[tuple[str, str]], Iterable[Any]]:
    """Return facts (name, text), and tables to be printed."""
    spec = expanded(spec)
    if not is_table(spec):
        found = describe_arrays(spec, reader)
        return _facts(found), _tables(found)
    from onotrain.data.tables.info import describe_table

    columns = describe_table(spec, reader=reader)
    return _table_facts(columns), _table_tables(columns)


def _table_facts(found: TableInfo) -> Iterator[tuple[str, str]]:
    yield "source", f"{found.source} ({found.format})"
    for note in found.notes:
        yield "", note
    yield "samples", f"{found.samples:,}"
    yield "columns", f"{len(found.columns):,}, of which {found.features:,} would be learned from"
    lost = sum(column.missing for column in found.columns)
    if lost:
        yield "missing", count(lost, "entry", "entries")
    yield from _target_facts(found.targets)
    if found.roles.targets:
        yield (
            "",
            f"taken: {', '.join(found.roles.targets)} ({found.roles.why_targets or 'named'}); others: --targets NAME",
        )
    for note in found.advice():
        yield "order", note
    if found.problem:
        yield "problem", found.problem


def _target_facts(targets: TargetInfo | None) -> Iterator[tuple[str, str]]:
    if targets is None:
        yield "targets", "none"
        return
    shape = "x".join(str(extent) for extent in targets.shape)
    yield "targets", f"{_target_kind(targets)}, {targets.dtype} of shape {shape}"
    if targets.missing:
        yield "", f"{count(targets.missing, 'sample')} without target"
    single = [name for name, samples in targets.class_counts or () if samples == 1 and targets.kind == "classes"]
    if single:
        yield (
            "",
            (
                f"{count(len(single), 'class', 'classes')} of one sample: {shown(single)}; none can be learned and "
                "validated: add samples, join classes that are alike, or leave them out"
            ),
        )
    constant = [name for name, low, high, *_ in targets.ranges if low == high]
    if constant:
        yield "", f"{shown(constant)} never changes: there is nothing to learn, and R2 has no value"
    for note in targets.notes():
        yield "", note


def _target_kind(targets: TargetInfo) -> str:
    known = len(targets.class_counts or ())
    words = {"classes": count(known, "class", "classes"), "labels": f"{count(known, 'label')}, each yes or no"}
    return words.get(targets.kind, "values") + (" (one-hot)" if targets.one_hot else "")


def _table_tables(found: TableInfo) -> Iterator[Any]:
    yield from _target_tables(found.targets, found.samples)
    rows = [
        [column.name, column.units or "", column.role, _many(column.missing), f"{column.different:,}",
         column.summary or column.why]
        for column in found.columns[:SHOWN_COLUMNS]
    ]  # fmt: skip
    title = _title("columns", len(rows), len(found.columns))
    columns = ["column", "unit", "kind", "missing", "different", "values"]
    words, least = ["unit", "kind", "values"], ["different", "missing"]
    yield table(title, columns, rows, text=words, least=least, optional=["unit", "missing"])
    remarks = [[column.name, column.why] for column in found.columns if _is_remarkable(column)]
    if remarks:
        yield table("worth a look", ["column", "why"], remarks[:SHOWN_COLUMNS], text=["why"])


def _is_remarkable(column: ColumnInfo) -> bool:
    return bool(column.why) and column.role != "target"


def _target_tables(targets: TargetInfo | None, samples: int) -> Iterator[Any]:
    if targets is None:
        return
    counts = targets.class_counts
    if counts:
        width = max(count for _, count in counts) or 1
        known = samples - targets.missing
        rows = [
            [name, f"{count:,}", f"{100 * count / known:.1f} %", "#" * round(_BAR * count / width)]
            for name, count in counts[:SHOWN_ROWS]
        ]
        title = _title("classes or labels", len(rows), len(counts))
        yield table(title, ["name", "samples", "share", ""], rows, least=[""])
    if targets.ranges:
        numbers = (str(number) for number in range(len(targets.units or ())))
        units = dict(zip(targets.names or numbers, targets.units or (), strict=False))
        rows = [
            [name, units.get(name, ""), *(figure(value, short=True) for value in values)]
            for name, *values in targets.ranges[:SHOWN_ROWS]
        ]
        title = _title("targets", len(rows), len(targets.ranges))
        columns = ["target", "unit", "minimum", "maximum", "mean", "std"]
        yield table(title, columns, rows, text=["unit"], least=_LEAST, optional=["unit"])


def _facts(found: DataInfo) -> Iterator[tuple[str, str]]:
    yield "source", f"{found.source} ({found.format})"
    for note in found.choices.notes:
        yield "", note
    yield "samples", f"{found.samples:,}"
    shape = "x".join(str(extent) for extent in found.feature_shape)
    meaning = " (pixels: counted as 0 to 1; data.pixels: false if they are numbers)" if found.dtype == "uint8" else ""
    yield "features", f"{found.features:,} of {found.dtype}{meaning}, shape {shape}"
    minimum, maximum, mean, std = found.overall
    low, high, middle, spread = (figure(value, short=True) for value in (minimum, maximum, mean, std))
    yield "values", f"{low} to {high}, mean {middle}, std {spread}"
    missing, infinite = int(found.missing.sum()), int(found.infinite.sum())
    yield "missing", f"{missing:,}" + (f", and {infinite:,} infinite" if infinite else "")
    if found.constant:
        yield "constant", f"{len(found.constant):,} of {found.features:,} features never change"
    yield from _target_facts(found.targets)


def _tables(found: DataInfo) -> Iterator[Any]:
    yield from _target_tables(found.targets, found.samples)
    columns = _columns(found)
    if columns:
        rows = [
            [
                found.feature_names[column] if found.feature_names else str(column),
                *(
                    figure(values[column], short=True)
                    for values in (found.minimum, found.maximum, found.mean, found.std)
                ),
                _many(found.missing[column]),
                _many(found.infinite[column]),
            ]
            for column in columns[:SHOWN_ROWS]
        ]
        title = _title("columns", len(rows), len(columns)) + ("" if found.feature_names else " with missing values")
        yield table(title, ["column", "minimum", "maximum", "mean", "std", "missing", "infinite"], rows,
                    least=("infinite", *_LEAST, "missing"))  # fmt: skip


def _columns(found: DataInfo) -> list[int]:
    """Return the columns worth a row: those with names, or those where something is missing."""
    if found.feature_names is not None:
        return list(range(found.features))
    return [int(column) for column in (found.missing + found.infinite).nonzero()[0]]


def _title(what: str, shown: int, known: int) -> str:
    return what if shown == known else f"{shown:,} of {known:,} {what}"


def _many(number: int) -> str:
    return f"{number:,}" if number else ""
