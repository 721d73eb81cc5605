"""Several files as one data set: which files a name stands for, and how what they hold is put together."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from onotrain.data.column_order import column_order
from onotrain.data.dataset import Dataset, DataSpec
from onotrain.data.readers import detect_format
from onotrain.data.tables.joining import Origins, name_of_all
from onotrain.data.tables.table import shown
from onotrain.data.units import joined_units
from onotrain.errors import DataError
from onotrain.known_names import BUILT_IN
from onotrain.memory import check_memory

__all__ = ["concatenate_datasets", "expand", "is_several", "natural"]

_DIGITS = re.compile(r"(\d+)")
#: A format that a directory may hold beside files of labels, read-me files and the like is the one of most files.
_IGNORED = re.compile(r"^(\.|_)|\.(md|rst|json|yaml|yml|log|py|sh|pdf|png|jpg)$|^readme|^license", re.IGNORECASE)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts names as people do: ``part-2`` before ``part-10``."""
    parts = enumerate(_DIGITS.split(name))
    return (*((1, int(part), part) if place % 2 else (0, 0, part) for place, part in parts),)


def is_several(train: str | Sequence[str]) -> bool:
    """Return whether a name or names may stand for more than one file."""
    return not isinstance(train, str) or (not _is_one(train) and (_is_pattern(train) or _is_directory(train)))


def _is_one(name: str) -> bool:
    """Return whether a name is that of a file, pattern characters and all, or of a built-in data set."""
    return name in BUILT_IN or os.path.isfile(os.path.expanduser(name))


def _is_pattern(name: str) -> bool:
    return glob.has_magic(name)


def _is_directory(name: str) -> bool:
    return os.path.isdir(os.path.expanduser(name))


def expand(train: str | Sequence[str]) -> list[str]:
    """Return the files that a name, or a list of names, stands for.

    Parameters
    ----------
    train
        Each a path, a pattern such as ``part-*.h5`` (``**`` stands for any directories), a directory of files of one
        format, or the name of a built-in data set.  Files of a pattern or directory are in natural order: ``part-2``
        before ``part-10``; a list keeps its own.

    Returns
    -------
    list of str
        Paths, none twice.  One that is neither a pattern nor a directory is returned as it is, there or not.

    Raises
    ------
    DataError
        An empty list, a pattern or directory without files, a directory with files of several formats, or a file that
        is named twice.
    """
    names = [train] if isinstance(train, str) else list(train)
    if not names:
        raise DataError("the list of data files is empty, expected at least one file")
    found: list[str] = []
    seen: dict[str, str] = {}
    for name in names:
        for path in _files_of(name):
            real = path if path in BUILT_IN else os.path.realpath(os.path.expanduser(path))
            if real in seen:
                first = f" (also as {seen[real]})" if seen[real] != path else ""
                raise DataError(f"{path}: the file is named twice{first}", hint="its samples would count twice")
            seen[real] = path
            found.append(path)
    return found


def _files_of(name: str) -> list[str]:
    """Return the files that one name stands for."""
    if _is_one(name):
        return [name]
    if _is_directory(name):
        return _files_in(name)
    if not _is_pattern(name):
        return [name]
    hits = [hit for hit in glob.glob(os.path.expanduser(name), recursive=True) if os.path.isfile(hit)]
    if not hits:
        raise DataError(f"{name}: no file matches this pattern", hint=_near(name))
    return sorted(hits, key=natural)


def _near(pattern: str) -> str:
    """Return a hint that names files that the pattern may have meant."""
    directory = Path(os.path.expanduser(pattern)).parent
    while glob.has_magic(str(directory)):
        directory = directory.parent
    try:
        names = sorted((entry.name for entry in os.scandir(directory)), key=natural)
    except OSError:
        return f"the directory {directory} is not there"
    if not names:
        return f"the directory {directory} is empty"
    plain = re.sub(r"[*?\[\]]+", "", os.path.basename(pattern))
    near = difflib.get_close_matches(plain, names, n=3, cutoff=0.4) or names[:3]
    return f"{directory} has {', '.join(near)}{', ...' if len(names) > len(near) else ''}"


def _files_in(directory: str) -> list[str]:
    """Return the data files of a directory."""
    root = os.path.expanduser(directory)
    try:
        names = sorted((entry.name for entry in os.scandir(root) if entry.is_file()), key=natural)
    except OSError as error:
        raise DataError(f"{directory}: cannot be listed: {error.strerror}") from error
    by_format: dict[str, list[str]] = {}
    for name in names:
        if not _IGNORED.search(name):
            path = os.path.join(root, name)
            try:
                by_format.setdefault(detect_format(DataSpec(path)), []).append(path)
            except DataError:  # no data file
                continue
    if not by_format:
        raise DataError(
            f"{directory}: is a directory that holds no data files{': ' + shown(names) if names else ''}",
            hint="name files, a pattern such as part-*.h5, or another directory",
        )
    if len(by_format) > 1:
        several = ", ".join(f"{len(files)} of {kind}" for kind, files in sorted(by_format.items()))
        raise DataError(
            f"{directory}: the directory holds files of several formats ({several}), expected one",
            hint="name those that belong together with a pattern such as *.h5",
        )
    return next(iter(by_format.values()))


@dataclass(frozen=True)
class _Places:
    """Finds the file that a sample came from, and its place there (`onotrain.data.dataset.Positions`)."""

    origins: Origins
    #: The data sets, without samples.
    parts: tuple[Dataset, ...]

    def place(self, row: int, column: int | None) -> str:
        """Return the place of feature `column`, or of the target, of a row of the whole."""
        part, own = self.origins.find(row)
        return self.parts[part].where(own, column)


def concatenate_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """Put the samples of several data sets one below the other.

    Parameters
    ----------
    datasets
        With the same shape of a sample and the same kind of targets; at least one.  Where both have names, columns are
        matched by name, and classes too: integer targets are translated.

    Returns
    -------
    Dataset
        Features and targets of the type that holds those of all.

    Raises
    ------
    DataError
        One does not fit the first; names both.
    ResourceError
        Larger than the memory that is left.
    """
    first = datasets[0]
    if len(datasets) == 1:
        return first
    for other in datasets[1:]:
        _check_alike(first, other)
    source = name_of_all([each.source for each in datasets])
    rows = sum(map(len, datasets))
    dtype = np.result_type(*(each.features.dtype for each in datasets))
    check_memory(rows * first.features.shape[1] * dtype.itemsize, source)
    features = np.empty((rows, first.features.shape[1]), dtype)
    ends = tuple(accumulate(map(len, datasets)))
    for end, each in zip(ends, datasets, strict=True):
        order = column_order(first.feature_names, each.feature_names) if each.features.shape[1] else None
        features[end - len(each) : end] = each.features if order is None else each.features[:, order]
    targets, class_names = _joined_targets(datasets)
    without_samples = tuple(
        replace(each, features=each.features[:0].copy(), targets=None, weights=None) for each in datasets
    )
    return Dataset(
        features=features,
        targets=targets,
        feature_shape=first.feature_shape,
        source=source,
        feature_names=first.feature_names,
        target_names=first.target_names,
        class_names=class_names,
        positions=_Places(Origins(ends), without_samples),
        weights=_joined_weights(datasets),
        target_units=joined_units(datasets),
    )


def _check_alike(first: Dataset, other: Dataset) -> None:
    """Refuse a data set that does not fit the first."""

    def refuse(what: str, got: object, expected: object) -> None:
        raise DataError(
            f"{other.source}: {what} {got}, expected {expected} as in {first.source}",
            hint="the files of one data set have the same arrays",
        )

    if other.feature_shape != first.feature_shape:
        refuse("a sample has the shape", other.feature_shape, first.feature_shape)
    if (other.features.dtype == np.uint8) != (first.features.dtype == np.uint8):  # pixels beside other numbers
        refuse("features are of type", other.features.dtype, first.features.dtype)
    for key in ("feature_names", "target_names"):
        names, expected = getattr(other, key), getattr(first, key)
        if (
            names
            and expected
            and (key == "feature_names" or len(names) == len(expected))  # else their shape is what is wrong
            and (sorted(names) if key == "feature_names" else names)
            != (sorted(expected) if key == "feature_names" else expected)
        ):
            refuse(f"{key.replace('_', ' ')} are", shown(names), shown(expected))
    if (other.targets is None) != (first.targets is None):
        refuse("targets are", *(("missing", "there") if other.targets is None else ("there", "none")))
    if other.targets is not None and first.targets is not None:
        if other.targets.shape[1:] != first.targets.shape[1:]:
            refuse("the targets of a sample have the shape", other.targets.shape[1:], first.targets.shape[1:])
        if (other.targets.dtype.kind == "U") != (first.targets.dtype.kind == "U"):
            refuse("targets are of type", other.targets.dtype, first.targets.dtype)


def _joined_weights(datasets: Sequence[Dataset]) -> np.ndarray | None:
    """Return the weights of all samples; None if they have none."""
    weights = [each.weights for each in datasets if each.weights is not None]
    if weights and len(weights) < len(datasets):
        lacking = next(each.source for each in datasets if each.weights is None)
        raise DataError(f"{lacking}: samples have no weights, but those of other files have")
    return np.concatenate(weights) if weights else None


def _joined_targets(datasets: Sequence[Dataset]) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Return all targets, and the names of all classes."""
    parts = [each.targets for each in datasets if each.targets is not None]
    own = [each.class_names for each in datasets]
    known = [names for names in own if names is not None]
    merged = tuple(dict.fromkeys(name for names in known for name in names)) or None
    if not parts or merged is None or all(names == merged for names in own):
        return (np.concatenate(parts) if parts else None), merged
    if parts[0].dtype.kind not in "iu":
        return np.concatenate(parts), merged
    if len(known) < len(own) and any(names != merged for names in known):
        unnamed = datasets[own.index(None)].source
        raise DataError(
            f"{unnamed}: no class_names, but other files name their classes in different orders",
            hint="give each file class_names",
        )
    code_of = {name: code for code, name in enumerate(merged)}
    found = []
    for each, targets in zip(datasets, parts, strict=True):
        names = each.class_names or merged
        if targets.size and not 0 <= targets.min() <= targets.max() < len(names):
            raise DataError(
                f"{each.source}: target {targets.max() if targets.min() >= 0 else targets.min()}, expected one of the "
                f"{len(names)} classes"
            )
        found.append(np.array([code_of[name] for name in names], np.int64)[targets])
    return np.concatenate(found), merged
