"""Which columns or arrays of a file are meant: those of its training file, where nothing else is said."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from onotrain.config.columns import TextTable
from onotrain.data.dataset import Dataset, DataSpec, listed
from onotrain.data.description import DataDescription
from onotrain.data.readers import format_of_name
from onotrain.data.sources import format_of
from onotrain.data.tables.table import lacking, shown
from onotrain.errors import DataError

#: Formats whose names mean the same: of arrays, or of columns.
_ALIKE = ({"hdf5", "netcdf", "npz"}, {"csv", "tsv"})


def spec_of(section: Any, other: DataSpec | None = None) -> DataSpec:
    """Return the training file of the ``data`` section, or another file to be read as that one is.

    Parameters
    ----------
    section
        The ``data`` section.
    other
        What it leaves open is taken from the section: the format, unless its name stands for another one, and the
        names of arrays or columns, if its format is of the same kind.  A file of labels belongs to the training file
        alone.
    """
    first, *more = section.files
    train = DataSpec(
        first, section.format, section.features, section.targets, more=tuple(more), exclude=section.exclude or (),
        csv=section.csv, pixels=_pixels(section), weights=section.weights,
    )  # fmt: skip
    if other is None:
        return train
    of_name = format_of_name(train.path)
    other = replace(other, pixels=train.pixels if other.pixels is None else other.pixels)
    if other.format == "auto" and format_of_name(other.path) in (None, of_name):
        other = replace(other, format=train.format)
    kinds = {format_of(other), of_name if train.format == "auto" else train.format}
    if not any(kinds <= alike for alike in _ALIKE) and not _same_file(other.path, train.path):
        return other
    return replace(
        other,
        csv=_joined(train.csv, other.csv),
        features=train.features if other.features is None else other.features,
        weights=train.weights if other.weights is None else other.weights,
        targets=train.targets if other.targets is None else other.targets,
    )


def _pixels(section: Any) -> bool | None:
    """Return whether 8-bit features are pixels; None: as the file shows it."""
    if section.pixels != "auto":
        return bool(section.pixels)
    return True if section.shape is not None and len(section.shape) > 1 else None


def _joined(train: TextTable, given: TextTable) -> TextTable:
    """Return how a text table is written: as is given, the rest as in the training file."""
    said = {key: getattr(given, key) for key in given.model_fields_set}
    above = {"skip": 0, "units_row": False} if given.header is False else {}  # what belongs to the header goes with it
    return train.model_copy(update={**above, **said})


def _same_file(one: str, other: str) -> bool:
    one, other = os.path.expanduser(one), os.path.expanduser(other)
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def like_training(
    section: Any,
    other: DataSpec,
    feature_names: tuple[str, ...] | None,
    target_names: tuple[str, ...] | None,
    inputs: int,
) -> DataSpec:
    """Return how to read a file for a network, as `spec_of` does; columns by name where both sides have names.

    Parameters
    ----------
    section, other
        As in `spec_of`.
    feature_names, target_names, inputs
        Of the training data; None where those have no names.

    Raises
    ------
    DataError
        A column is missing, or the format cannot be given.
    """
    spec = spec_of(section, other)
    kind = format_of(spec)
    if kind not in ("csv", "tsv"):
        return spec
    from onotrain.data.tables.dialect_guess import look_at

    dialect = look_at(spec.path, kind, spec.csv)
    if not dialect.header or feature_names is None:
        named = set(listed(spec.features) or ()) <= set(dialect.names) and spec.features is not None
        if spec.labelled or named or len(dialect.names) != inputs or other.features is not None:
            return spec
        return replace(spec, features=None, targets=())  # nothing but the features
    features = listed(spec.features) or feature_names
    missing = [name for name in features if name not in dialect.names]
    if missing:
        raise DataError(f"{lacking(spec.path, missing)}; the header has {shown(dialect.names)}")
    targets = spec.targets
    if targets is None and target_names and set(target_names) <= set(dialect.names):
        targets = target_names
    return replace(spec, features=features, targets=targets)


def spec_of_part(section: Any, where: Any, train: DataDescription | Dataset, inputs: int) -> DataSpec:
    """Return where samples for validation or test are: a part of a built-in data set, named arrays, or a file.

    Parameters
    ----------
    section
        The ``data`` section.
    where
        ``test``, a section with names of arrays, or a path.
    train, inputs
        Training data, and the number of their features: a table is read by the names of its columns.
    """
    if where == "test":
        return DataSpec(section.files[0], part="test")
    if not isinstance(where, str):
        own = {} if where.path is None else {"path": where.path, "more": ()}
        return replace(spec_of(section), features=where.features, targets=where.targets, **own)
    return like_training(section, DataSpec(where, section.format), train.feature_names, train.target_names, inputs)
