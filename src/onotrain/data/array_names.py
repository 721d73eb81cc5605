"""Which arrays of a file (HDF5, NPZ) hold features and targets, and arrays that are put side by side."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from onotrain.data.dataset import DataSpec, listed
from onotrain.errors import DataError

__all__ = ["FEATURE_ARRAYS", "TARGET_ARRAYS", "choose_arrays", "column_names", "side_by_side"]

#: Names that features and targets have in HDF5 and NPZ files by default, in any case, in order of preference.
FEATURE_ARRAYS = ("x", "features", "images", "data", "inputs", "input")
TARGET_ARRAYS = ("y", "labels", "label", "targets", "target", "outputs", "output")
#: What stands before and behind such a name where a file has a part for training.
_TRAINING = (
    ("", ""), ("train/", ""), ("training/", ""), ("", "_train"), ("train_", ""), ("", "/train"), ("", "_training"),
)  # fmt: skip


def choose_arrays(names: Sequence[str], spec: DataSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the arrays with the features and with the targets (none: empty) among those of a file.

    Names that `spec` gives are looked for as they are, in composed form (NFC); without them `FEATURE_ARRAYS` and
    `TARGET_ARRAYS`, also as ``train/x`` or ``x_train``.  Targets are looked for beside the features: those of
    ``test/x`` are ``test/y``.

    Raises
    ------
    DataError
        Not in the file, both features and targets, or it is not clear which one.
    """
    features = _named(names, spec.features, "features", spec.path)
    targets = () if spec.without_targets else _named(names, spec.targets, "targets", spec.path)
    if features is None:
        found = next(_usual(names, FEATURE_ARRAYS, _TRAINING), None)
        features = None if found is None else (found,)
    if targets is None:
        forms = [form for form in [_form(features[0])] if form is not None] if features else []
        own = next(_usual(names, TARGET_ARRAYS, forms or _TRAINING), None)
        found = own or next(_usual(names, TARGET_ARRAYS, [("", "")]), None)
        targets = () if found is None else (found,)
    if features is None:
        features = (_only(names, {*(listed(spec.targets) or ()), *targets}, spec.path),)
    both = [name for name in features if name in targets]
    if both:
        raise DataError(f"{spec.path}: features and targets are the same array {both[0]!r}")
    return features, targets


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _usual(names: Sequence[str], usual: Sequence[str], forms: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the arrays that have a usual name, in order of preference; first those of the very same case."""
    for before, behind in forms:
        for name in usual:
            wanted = f"{before}{name}{behind}"
            if wanted in names:
                yield wanted
            yield from (other for other in names if other.lower() == wanted.lower() and other != wanted)


def _form(feature: str) -> tuple[str, str] | None:
    """Return what stands before and behind the usual name of features in a name such as ``test/x`` or ``x_test``."""
    lower = feature.lower()
    for name in sorted(FEATURE_ARRAYS, key=len, reverse=True):
        if lower == name or lower.startswith((f"{name}_", f"{name}/")):
            return "", feature[len(name) :]
        if lower.endswith((f"_{name}", f"/{name}")):
            return feature[: -len(name)], ""
    return (f"{feature.rpartition('/')[0]}/", "") if "/" in feature else None


def _only(names: Sequence[str], targets: set[str], source: str) -> str:
    """Return the only array that is not named like targets."""
    rest = [
        name for name in names if name not in targets and name.lower() not in TARGET_ARRAYS
        and not name.endswith("_names")
    ]  # fmt: skip
    if len(rest) != 1:
        raise DataError(
            f"{source}: cannot tell which array holds the features; the file has {', '.join(names) or 'none'}, "
            f"expected one of {', '.join(FEATURE_ARRAYS)}",
            hint="name it with data.features (of a command: --features)",
        )
    return rest[0]


def _named(names: Sequence[str], wanted: str | Sequence[str] | None, what: str, source: str) -> tuple[str, ...] | None:
    """Return the names of the file that the user's names stand for; None stays."""
    wanted = listed(wanted)
    if wanted is None:
        return None
    of_composed = {_composed(name): name for name in names}
    found: list[str] = []
    for word in wanted:
        name = of_composed.get(_composed(word))
        if name is None:
            raise no_array(names, word, what, source)
        if name in found:
            raise DataError(f"{source}: data.{what} names the array {name!r} twice")
        found.append(name)
    return tuple(found)


def no_array(names: Sequence[str], wanted: str, what: str, source: str) -> DataError:
    """Return the error for an array that is not there."""
    near = difflib.get_close_matches(wanted, names, n=1)
    return DataError(
        f"{source}: no array named {wanted!r} (data.{what}); the file has {', '.join(names) or 'none'}",
        hint=f"did you mean {near[0]!r}?" if near else None,
    )


def column_names(name: str, columns: int, axes: int) -> list[str]:
    """Return names for the columns of an array: its own if it has one axis, else ``name[0]``, ``name[1]``, ..."""
    return [_composed(name)] if axes == 1 else [f"{_composed(name)}[{column}]" for column in range(columns)]


def names_of_one(array: Any, name: str, *, transposed: bool = False) -> tuple[str, ...]:
    """Return names for the columns of the only array of targets: its own for a single one, else ``name[0]``, ...

    Parameters
    ----------
    array
        ``(n,)`` or ``(n, k)``; if `transposed` ``(k, n)``.
    name
        Its path in the file; groups are no part of the names, for those of ``test/y`` are those of ``train/y``.
    """
    columns = 1 if array.ndim < 2 else array.shape[0] if transposed else math.prod(array.shape[1:])
    return tuple(column_names(name.rpartition("/")[2], columns, 1 if columns == 1 else 2))


def are_places(names: Sequence[str] | None) -> bool:
    """Return whether names say no more than the places of columns in one array: ``y[0]``, ``y[1]``, ..."""
    if not names or not names[0].endswith("[0]"):
        return False
    return list(names) == column_names(names[0].removesuffix("[0]"), len(names), 2)


def side_by_side(arrays: Sequence[np.ndarray], names: Sequence[str], source: str) -> tuple[np.ndarray, list[str]]:
    """Put the columns of several arrays side by side.

    Parameters
    ----------
    arrays
        Each ``(n,)`` or ``(n, ...)`` of numbers.
    names
        One for each.

    Returns
    -------
    columns, names
        ``(n, d)`` of the type that holds all values, and d names.

    Raises
    ------
    DataError
        Lengths differ, or one does not hold numbers.
    """
    for array, name in zip(arrays, names, strict=True):
        if array.dtype.kind not in "biuf" or array.ndim == 0:
            raise DataError(
                f"{source}[{name}]: {array.dtype} of shape {array.shape} cannot be put beside other arrays, "
                "expected numbers (samples, ...)"
            )
        if len(array) != len(arrays[0]):
            raise DataError(f"{source}[{name}]: {len(array)} samples, but {names[0]} has {len(arrays[0])}")
    flat = [array.reshape(len(array), -1) for array in arrays]
    columns = [
        column
        for array, part, name in zip(arrays, flat, names, strict=True)
        for column in column_names(name, part.shape[1], array.ndim)
    ]
    return np.concatenate(flat, axis=1), columns
