"""CSV and TSV files.

A C parser (`numpy.loadtxt`) reads the numbers in one pass; only when something is wrong is the file read again, slowly,
to say where.
"""

from __future__ import annotations

import difflib
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from onotrain.data.dataset import Dataset, DataSpec, listed, make_dataset
from onotrain.data.delimited_text import (
    Layout,
    TextPositions,
    is_finite,
    is_missing,
    is_number,
    look_at,
    open_lines,
    records,
)
from onotrain.errors import DataError

_TARGET_NAMES = ("label", "target", "class", "y")
_SHOWN_CHARACTERS = 40
_SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class _Selection:
    """Columns of the file, counted from 0."""

    features: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def label(self) -> int | None:
        """The column whose values may be text: a single target."""
        return self.targets[0] if len(self.targets) == 1 else None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The columns that must be numbers: features, then several targets."""
        return self.features if self.label is not None else self.features + self.targets


def read_delimited(spec: DataSpec) -> Dataset:
    """Read a CSV or TSV file: every column but the label is a feature.

    Raises
    ------
    DataError
        Names file, line and column of the first record that has another number of fields, field that is not a number,
        or value that is missing, NaN or infinite.
    ResourceError
        Larger than the memory that is left.
    """
    return _read(spec, allow_missing=False)


def read_with_missing(spec: DataSpec) -> Dataset:
    """Read a CSV or TSV file with NaN for missing numbers (and an empty label for a missing one).

    Raises
    ------
    DataError, ResourceError
        As `read_delimited`, but for missing, NaN and infinite values.
    """
    return _read(spec, allow_missing=True)


def _read(spec: DataSpec, *, allow_missing: bool) -> Dataset:
    kind = spec.format
    if kind == "auto":
        kind = "tsv" if spec.path.lower().removesuffix(".gz").endswith(".tsv") else "csv"
    layout = look_at(spec.path, kind)
    chosen = _select(layout, spec)
    try:
        matrix, labels = _parse_fast(layout, chosen)
        clean = bool(np.isfinite(matrix).all()) and "" not in labels
    except ValueError as error:
        if not allow_missing:
            raise _problem(layout, chosen, str(error)) from error
        matrix, labels = _parse_slowly(layout, chosen)
        clean = True
    if not clean and not allow_missing:
        raise _problem(layout, chosen, "values that are not finite")
    targets: np.ndarray | None = None
    if chosen.label is not None:
        targets = _labels(labels, layout, chosen, allow_missing)
    elif chosen.targets:
        targets = matrix[:, len(chosen.features) :]
    header = layout.header
    return make_dataset(
        matrix[:, : len(chosen.features)],
        targets,
        spec.path,
        feature_names=None if header is None else [header[column] for column in chosen.features],
        target_names=None if header is None or not chosen.targets else [header[column] for column in chosen.targets],
        positions=TextPositions(layout, chosen.features, chosen.targets[0] if chosen.targets else None),
    )


def _select(layout: Layout, spec: DataSpec) -> _Selection:
    """Return which columns are features and which are targets."""
    features, named = _columns(layout, listed(spec.features), "features"), listed(spec.targets)
    if named is not None and not spec.labelled:
        named = tuple(name for name in named if name in layout.names)
    targets = _columns(layout, named, "targets")
    if targets is None:
        free = [column for column in range(layout.columns) if features is None or column not in features]
        usual = [] if layout.header is None else [c for c in free if layout.header[c].lower() in _TARGET_NAMES]
        # A file of a single column, or of features alone, has no targets.
        last = free[-1:] if free and layout.columns > 1 and free[-1] == layout.columns - 1 else []
        targets = tuple(usual[:1] or last)
    if features is None:
        features = tuple(column for column in range(layout.columns) if column not in targets)
    if not spec.labelled:
        targets = ()
    both = sorted(set(features) & set(targets))
    if both:
        raise DataError(f"{layout.path}: {layout.name(both[0])} is both a feature and a target")
    if not features:
        raise DataError(f"{layout.path}: no column is left for the features")
    return _Selection(features, targets)


def _columns(layout: Layout, wanted: tuple[str, ...] | None, what: str) -> tuple[int, ...] | None:
    """Return the columns with the wanted names; None stays."""
    if wanted is None:
        return None
    names = layout.names
    columns: list[int] = []
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            kind = "the header has" if layout.header else "the file has no header, its columns are called"
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            hint = f"did you mean {near[0]!r}?" if near else None
            several = [part.strip() for part in name.split(",")]
            if len(several) > 1 and set(several) <= set(names):
                options = " ".join(f"--{what} {part}" for part in several)
                hint = f"name several columns one by one: {options}; in a configuration [{', '.join(several)}]"
            raise DataError(f"{layout.path}: no column {name!r} (data.{what}); {kind} {shown}", hint=hint)
        if names.index(name) in columns:
            raise DataError(f"{layout.path}: data.{what} names the column {name!r} twice")
        columns.append(names.index(name))
    return tuple(columns)


def _parse_fast(layout: Layout, chosen: _Selection) -> tuple[np.ndarray, list[str]]:
    """Return float32 numbers ``(n, columns)`` and the label's text of every row.

    Raises
    ------
    ValueError
        Something is wrong somewhere.
    """
    labels: list[str] = []

    def keep(text: str) -> float:
        labels.append(text.strip())
        return 0.0

    numbers = set(chosen.numbers)
    # Columns that are not read keep their place, so that records of another length are noticed.
    converters: dict[int | str, Callable[[str], float]]
    converters = {column: (lambda text: 0.0) for column in range(layout.columns) if column not in numbers}
    if chosen.label is not None:
        converters[chosen.label] = keep
    with open_lines(layout.path) as lines:
        for _ in range(layout.header_lines):
            next(lines)
        matrix = np.loadtxt(
            lines,
            np.float32,
            comments=None,
            delimiter=layout.delimiter,
            quotechar='"',
            converters=converters or None,
            ndmin=2,
            encoding="utf-8",
        )
        if lines.quotes % 2:
            raise ValueError("a quote is not closed")
    if matrix.shape[1] != layout.columns:
        raise ValueError(f"{matrix.shape[1]} columns, the first line has {layout.columns}")
    begin, end = chosen.numbers[0], chosen.numbers[0] + len(chosen.numbers)
    in_order = chosen.numbers == tuple(range(begin, end))
    return matrix[:, begin:end] if in_order else matrix[:, list(chosen.numbers)], labels


def _rows(layout: Layout, lines: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Yield records, all of the right length."""
    for line, fields in lines:
        if len(fields) != layout.columns:
            expected = f"{layout.columns} as in the {'header' if layout.header else 'first line'}"
            raise DataError(
                f"{layout.path}:{line}:{min(len(fields), layout.columns) + (len(fields) > layout.columns)}: "
                f"{len(fields)} field{'s' * (len(fields) != 1)}, expected {expected}",
                hint=f"fields are separated by {layout.delimiter!r}; text that holds it needs double quotes",
            )
        yield line, fields


def _parse_slowly(layout: Layout, chosen: _Selection) -> tuple[np.ndarray, list[str]]:
    """Like `_parse_fast`, but with NaN for missing values.

    Raises
    ------
    DataError
        Something else is wrong.
    """
    values, labels = array("f"), []
    with open_lines(layout.path) as lines:
        for line, fields in _rows(layout, records(layout, lines, strict=True)):
            for column in chosen.numbers:
                text = fields[column]
                if is_missing(text):
                    values.append(math.nan)
                elif is_number(text):
                    values.append(float(text) if is_finite(text) else math.copysign(math.inf, float(text)))
                else:
                    raise _not_a_number(layout, line, [c for c in chosen.numbers if _is_text(fields[c])], text)
            if chosen.label is not None:
                labels.append(fields[chosen.label].strip())
    return np.frombuffer(values, np.float32).reshape(-1, len(chosen.numbers)).copy(), labels


def _labels(labels: list[str], layout: Layout, chosen: _Selection, allow_missing: bool) -> np.ndarray:
    """Return a label column as integers, real numbers or text."""
    known = [text for text in labels if not is_missing(text)]
    if known and all(is_number(text) for text in known):
        if len(known) < len(labels):
            if not allow_missing:
                raise _problem(layout, chosen, "missing labels", numeric_label=True)
            return np.array([math.nan if is_missing(text) else float(text) for text in labels], np.float32)
        try:
            return np.array(labels).astype(np.int64)
        except (ValueError, OverflowError):
            return np.array(labels).astype(np.float64)
    return np.array(labels)


def _faults(layout: Layout, chosen: _Selection, numeric_label: bool) -> Iterator[tuple[int, int, str]]:
    """Yield line, column and text of every field that is not what it should be."""
    with open_lines(layout.path) as lines:
        for line, fields in _rows(layout, records(layout, lines, strict=True)):
            for column in chosen.numbers:
                if not is_finite(fields[column]):
                    yield line, column, fields[column]
            if chosen.label is not None:
                text = fields[chosen.label].strip()
                if not text or (numeric_label and is_missing(text)):
                    yield line, chosen.label, text


def _problem(layout: Layout, chosen: _Selection, reason: str, *, numeric_label: bool = False) -> DataError:
    """Read the file again and return the error that names the first thing that is wrong, and how often it is."""
    first: tuple[int, int, str] | None = None
    count = 0
    try:
        faults = _faults(layout, chosen, numeric_label)
        for fault in faults:
            first = first or fault
            if _is_text(first[2]):
                return _not_a_number(layout, first[0], [first[1], *_text_columns(first[0], faults)], first[2])
            count += 1
    except DataError as error:
        # The first problem of the file is the one to name, even if a later one stops the reading.
        if first is None:
            return error
    if first is None:
        return DataError(f"{layout.path}: {reason}")
    line, column, text = first[0], first[1], first[2].strip()
    place = f"{layout.path}:{line}:{column + 1}"
    more = "" if count == 1 else f" (the first of {count})"
    hint = "remove these samples or fill the values in; `onotrain data info` counts them per column"
    if is_missing(text):
        shown = f" ({text!r})" if text else ""
        return DataError(f"{place}: {layout.name(column)} has a missing value{shown}{more}", hint=hint)
    return DataError(f"{place}: {layout.name(column)} is {text}, expected a finite number{more}", hint=hint)


def _is_text(text: str) -> bool:
    return not is_missing(text) and not is_number(text)


def _text_columns(line: int, faults: Iterator[tuple[int, int, str]]) -> Iterator[int]:
    """Yield the columns of a line's faults that are text."""
    with suppress(DataError):  # of a later line
        for where, column, text in faults:
            if where != line:
                return
            if _is_text(text):
                yield column


def _not_a_number(layout: Layout, line: int, columns: Sequence[int], text: str) -> DataError:
    """Return the error for the text in the first of the columns, all of which hold text in this line."""
    column = columns[0]
    hint = (
        "features are numbers; choose their columns with data.features (of a command: --features), and the label "
        "with data.targets (--targets)"
    )
    if layout.columns == 1:
        hint = "there is only one column: separate fields with commas, semicolons or tabs"
    elif is_number(text.replace(",", ".")):
        hint = "write numbers with a decimal point, not a comma"
    elif len(columns) > 1:
        names = [repr(layout.header[c]) if layout.header else str(c + 1) for c in columns[:_SHOWN_COLUMNS]]
        hint = f"text in this line: {', '.join(names)}{', ...' if len(columns) > len(names) else ''}; {hint}"
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return DataError(
        f"{layout.path}:{line}:{column + 1}: {layout.name(column)} is {shown!r}, expected a number", hint=hint
    )
