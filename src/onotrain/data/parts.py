"""Which samples train, which validate, and which test: cut from one file by class, group, order or fold, or given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onotrain.config.columns import DateColumn
from onotrain.data.npy import read_arrays
from onotrain.data.paths import reason
from onotrain.data.split import stratified_split
from onotrain.data.tables.table import Table, by_name, no_column
from onotrain.errors import DataError

TRAIN, VALIDATION, TEST = "train_index", "validation_index", "test_index"
#: Rows of the training file that are samples, where some are left out.
FILE_ROWS = "file_rows"


def cut(
    section: Any, samples: int, classes: np.ndarray | None, table: Table | None, source: str,
    file_rows: np.ndarray | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return int64 numbers of the samples of each part that is cut from the training file: sorted and disjoint.

    Parameters
    ----------
    section
        The ``data`` section.
    samples
        How many there are.
    classes
        int64 ``(n,)``, to take the same share of each; None for quantities.
    table
        With the column that ``split.column`` names; None for arrays.
    source
        Name for messages.
    file_rows
        Rows of the file that are samples, which a file with a split counts by; None: all.

    Raises
    ------
    DataError
        Too few samples or groups, or a column that is not there.
    """
    split = section.split
    if split.file is not None:
        return _read(split.file, samples, file_rows)
    wanted = {
        name: value
        for name, value in ((VALIDATION, section.validation), (TEST, section.test))
        if isinstance(value, float)
    }
    if split.folds is not None:
        return _fold(split, samples, classes, _groups(split, table, source), _key(section, table, source))
    if not wanted:
        return {}
    if split.by == "order":
        return _in_order(wanted, samples, _key(section, table, source))
    if split.by == "group":
        return _by_group(wanted, _groups(split, table, source), split.seed, source)
    return _at_random(wanted, samples, classes if split.by == "class" else None, split.seed)


def _at_random(
    wanted: Mapping[str, float], samples: int, classes: np.ndarray | None, seed: int
) -> dict[str, np.ndarray]:
    """Cut the test part first, so that it is the same whatever is left for validation."""
    rest, parts = np.arange(samples), {}
    for name in (TEST, VALIDATION):
        if name in wanted:
            share = wanted[name] if len(rest) == samples else min(wanted[name] * samples / len(rest), 1 - 1e-9)
            kept, taken = stratified_split(None if classes is None else classes[rest], len(rest), share, seed)
            parts[name], rest = rest[taken], rest[kept]
    return {TRAIN: rest, **parts}


def _in_order(wanted: Mapping[str, float], samples: int, key: np.ndarray | None) -> dict[str, np.ndarray]:
    """Take the last samples for testing, those before them for validation."""
    order = _ordered(samples, key)
    end, parts = samples, {}
    for name in (TEST, VALIDATION):
        if name in wanted:
            begin = max(end - max(round(wanted[name] * samples), 1), 0)
            parts[name] = np.sort(order[begin:end])
            end = begin
    return {TRAIN: np.sort(order[:end]), **parts}


def _by_group(wanted: Mapping[str, float], groups: Any, seed: int, source: str) -> dict[str, np.ndarray]:
    """Deal whole groups, drawn at random, until each part has its share."""
    sizes = np.bincount(groups)
    if len(sizes) < len(wanted) + 1:
        raise DataError(f"{source}: {len(sizes)} groups cannot be split in {len(wanted) + 1} parts")
    order = np.argsort(np.random.Philox(np.random.SeedSequence(seed)).random_raw(len(sizes)), kind="stable")
    part_of, begin = np.full(len(sizes), -1), 0
    parts: list[str] = []
    for name in (TEST, VALIDATION):
        if name in wanted:
            ends = np.cumsum(sizes[order[begin:]])
            left = len(wanted) - len(parts)  # parts that still need a group, training among them
            count = int(np.argmin(np.abs(ends - wanted[name] * len(groups)))) + 1
            count = min(count, len(sizes) - begin - left)
            part_of[order[begin : begin + count]] = len(parts)
            parts.append(name)
            begin += count
    of_sample = part_of[groups]
    found = {name: np.flatnonzero(of_sample == number) for number, name in enumerate(parts)}
    return {TRAIN: np.flatnonzero(of_sample == -1), **found}


def _fold(
    split: Any, samples: int, classes: np.ndarray | None, groups: np.ndarray | None, key: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Take every k-th sample of each class, or group, in a random order; or one of k spans of the order."""
    if split.folds > samples:
        raise DataError(f"{samples} samples cannot be cut in {split.folds} folds (data.split.folds)")
    of_sample = np.arange(samples) if groups is None else groups
    items = int(of_sample.max()) + 1
    draw = np.random.Philox(np.random.SeedSequence(split.seed)).random_raw(items)
    kinds = classes if classes is not None and groups is None and split.by == "class" else np.zeros(items, np.int64)
    fold_of = np.empty(items, np.int64)
    if split.by == "order":
        fold_of[_ordered(samples, key)] = np.arange(items) * split.folds // items
    else:
        fold_of[np.lexsort((draw, kinds))] = np.arange(items) % split.folds
    held_out = (fold_of == split.fold)[of_sample]
    return {TRAIN: np.flatnonzero(~held_out), VALIDATION: np.flatnonzero(held_out)}


def _column(split: Any, table: Table | None, source: str) -> Any:
    if table is None:
        raise DataError(
            f"{source}: data.split.column names a column, but the samples are an array",
            hint="give the parts with data.split.file, or convert the data to a table",
        )
    if split.column not in table.names:
        raise no_column(table.names, split.column, source, "split.column")
    return table[split.column]


def _groups(split: Any, table: Table | None, source: str) -> np.ndarray | None:
    """Return int64 numbers of the samples' groups; None if they have none."""
    if split.by != "group":
        return None
    column = _column(split, table, source)
    return np.unique(column.texts(), return_inverse=True)[1].astype(np.int64)


def _key(section: Any, table: Table | None, source: str) -> np.ndarray | None:
    """Return what the samples are ordered by; None for the order in the file.

    Raises
    ------
    DataError
        There is no such column, it is neither numbers nor dates, or an entry is missing.
    """
    split = section.split
    if split.by != "order" or split.column is None:
        return None
    from onotrain.data.tables.date import dates_of
    from onotrain.data.tables.kinds import is_numbers
    from onotrain.data.tables.values import numbers

    column, kind = _column(split, table, source), by_name(split.column, section.columns)
    assert table is not None
    if is_numbers(column) and not isinstance(kind, DateColumn):
        return numbers(table, column)
    dates = dates_of(table, column, kind.format if isinstance(kind, DateColumn) else None)
    if np.isnat(dates).any():
        raise DataError(
            f"{table.where(int(np.argmax(np.isnat(dates))), column)}: column {column.name!r} has a missing value, and "
            "the samples are ordered by it (data.split.column)",
            hint="remove these samples, or order them by another column",
        )
    return dates


def _ordered(samples: int, key: np.ndarray | None) -> np.ndarray:
    """Return the numbers of the samples in the order of their keys."""
    return np.arange(samples) if key is None else np.argsort(key, kind="stable")


def in_file(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the rows of the training file of each part that was cut from it, of arrays as `Prepared` has them."""
    rows = arrays.get(FILE_ROWS)
    return {name: index if rows is None else rows[index] for name, index in arrays.items() if name.endswith("_index")}


def _read(path: str, samples: int, file_rows: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the parts that a file gives by rows of the training file."""
    try:
        found = read_arrays(path, (TRAIN, VALIDATION, TEST))
        parts = {name: rows.reshape(-1).astype(np.int64, casting="same_kind") for name, rows in found.items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: not a split: {reason(error)}", hint="`split.npz` of a run is one") from error
    if file_rows is not None:  # those of other rows are left out
        parts = {name: np.searchsorted(file_rows, rows[np.isin(rows, file_rows)]) for name, rows in parts.items()}
    every = np.concatenate(list(parts.values())) if parts else np.empty(0, np.int64)
    if TRAIN not in parts or len(np.unique(every)) != len(every) or every.min() < 0 or every.max() >= samples:
        raise DataError(
            f"{path}: not a split of these {samples:,} samples: {TRAIN} and, if wanted, {VALIDATION} and {TEST} "
            f"must be different numbers from 0 to {samples - 1:,}"
        )
    return {name: np.sort(index) for name, index in parts.items()}
