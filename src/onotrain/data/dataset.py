"""A data set in memory, and how to ask for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from onotrain.config.columns import TextTable
from onotrain.errors import DataError

_CHECK_BLOCK_BYTES = 1 << 24
#: Samples that are looked at to see whether uint8 are pixels, and the largest value of what is none.
_LOOKED_AT, _LARGEST_COUNT = 4096, 15


@dataclass(frozen=True)
class DataSpec:
    """Which data to read.

    Parameters
    ----------
    path
        Name of a built-in data set (``digits``, ``mnist``) or path of a file.
    format
        ``auto`` (by suffix) or one of `onotrain.data.FORMATS`.
    features
        Name of the array (HDF5, NPZ) or names of the columns (CSV, TSV); None for the default.
    targets
        Name of the array (HDF5, NPZ), names of the columns (CSV, TSV), or path of the label file (NPY, IDX); None
        for the default, an empty tuple for data without targets.
    part
        ``train`` or ``test``, of a built-in data set.
    labelled
        Whether targets are read.  If not, those named or found are still no features, and need not be there.
    exclude
        Columns of a table that are no features.
    csv
        What is known of the dialect of a text table.
    pixels
        Whether uint8 features are pixels; None: see `are_pixels`.
    more
        Further files of the same data set; `path` may also be a pattern or a directory (`onotrain.data.sources`).
    expanded
        Whether `path` and `more` are the files themselves, and neither patterns nor directories.
    weights
        Name of the column or array that says how much each sample counts; None: all count alike.
    held
        Samples in memory, which are read in place of a file: a `Dataset` or an `onotrain.data.tables.table.Table`.
    """

    path: str
    format: str = "auto"
    features: str | Sequence[str] | None = None
    targets: str | Sequence[str] | None = None
    part: str = "train"
    labelled: bool = True
    exclude: tuple[str, ...] = ()
    csv: TextTable = field(default_factory=lambda: TextTable.model_validate({}))
    pixels: bool | None = None
    more: tuple[str, ...] = ()
    expanded: bool = field(default=False, compare=False)
    weights: str | None = None
    held: Any = field(default=None, compare=False, repr=False)

    @property
    def without_targets(self) -> bool:
        """Whether targets are not to be read."""
        return not self.labelled or listed(self.targets) == ()


def listed(names: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return one name or several as a tuple; None stays."""
    return (names,) if isinstance(names, str) else None if names is None else tuple(names)


class Positions(Protocol):
    """Finds the place in a file that a value came from."""

    def place(self, row: int, column: int | None) -> str:
        """Return ``file:line:column`` of feature `column`, or of the target, of data row `row`."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Samples and their targets.

    Parameters
    ----------
    features
        ``(n, d)``, C-contiguous: uint8 (pixels, which `Normalization` divides by 255), float32, or float64 where the
        file has numbers that float32 may not hold, for they are rounded only after shift and scale.
    targets
        As in the file: int64, float64 or text, ``(n,)`` or ``(n, k)``; None where there are none.
    feature_shape
        Shape of one sample in the file, such as ``(28, 28)``; its product is d.
    source
        Name for messages.
    feature_names, target_names, class_names
        Where the file says so.  Integer targets are indices into `class_names`.
    positions
        Finds the lines of a text file.
    target_units
        Of each target, where the file says so; empty text: of this one it does not.
    weights
        How much each sample counts, real numbers ``(n,)``; None: all alike.
    """

    features: np.ndarray
    targets: np.ndarray | None
    feature_shape: tuple[int, ...]
    source: str
    feature_names: tuple[str, ...] | None = None
    target_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    positions: Positions | None = field(default=None, compare=False, repr=False)
    weights: np.ndarray | None = None
    target_units: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.features)

    def where(self, row: int, column: int | None = None) -> str:
        """Return the place of a value for a message: ``file:line:column``, or ``file: row R``, counted from 0.

        Parameters
        ----------
        row
            Row of `features`.
        column
            Column of `features`; None means the target.
        """
        if self.positions is not None:
            return self.positions.place(row, column)
        if column is None:
            return f"{self.source}: row {row}"
        name = f" ({self.feature_names[column]})" if self.feature_names is not None else ""
        return f"{self.source}: row {row}, column {column}{name}"


def make_dataset(
    features: np.ndarray,
    targets: np.ndarray | None,
    source: str,
    *,
    feature_shape: tuple[int, ...] | None = None,
    feature_names: Sequence[str] | None = None,
    target_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    positions: Positions | None = None,
    pixels: bool | None = None,
    weights: np.ndarray | None = None,
    target_units: tuple[str, ...] | None = None,
) -> Dataset:
    """Bring arrays as they are in a file into the form of a `Dataset`.

    Parameters
    ----------
    features
        ``(n, ...)`` of a real type, which becomes `stored_dtype`; more than two axes are flattened.
    targets
        ``(n,)`` or ``(n, k)`` of integers, floats or text, or None.
    feature_shape
        Shape of one sample where it is not ``features.shape[1:]``.
    pixels
        Whether uint8 features are pixels; None: see `are_pixels`.
    weights
        How much each sample counts, ``(n,)``.
    feature_names, target_names, class_names, positions, target_units
        See `Dataset`.

    Raises
    ------
    DataError
        No samples, a type that is not a number, or lengths that differ.
    """
    shape = sample_shape(features.dtype, features.shape, source)
    if feature_shape is not None:
        if int(np.prod(feature_shape)) != int(np.prod(shape)):
            raise DataError(
                f"{source}: feature_shape {tuple(feature_shape)} does not fit {int(np.prod(shape))} features"
            )
        shape = tuple(int(extent) for extent in feature_shape)
    flat = features.reshape(len(features), -1)
    flat = np.ascontiguousarray(flat, stored_dtype(flat.dtype, are_pixels(flat, shape, pixels)))
    columns = flat.shape[1]
    if feature_names is not None and len(feature_names) != columns:
        raise DataError(f"{source}: {len(feature_names)} feature names for {columns} features")
    return Dataset(
        features=flat,
        targets=None if targets is None else canonical_targets(targets, len(flat), source),
        feature_shape=shape,
        source=source,
        feature_names=None if feature_names is None else tuple(feature_names),
        target_names=None if target_names is None else tuple(target_names),
        class_names=None if class_names is None else tuple(class_names),
        positions=positions,
        weights=weights,
        target_units=target_units,
    )


def are_pixels(features: Any, shape: tuple[int, ...], given: bool | None = None) -> bool:
    """Return whether features are pixels, which stand for their value / 255.

    Parameters
    ----------
    features
        ``(n, ...)``, an array or what gives its rows as one; only uint8 are pixels.
    shape
        Of a sample: images have two axes or more.
    given
        What is known; else flat samples are pixels if the first of them have values above 15.  Counts, ratings and
        columns of 0 and 1 do not.
    """
    if features.dtype != np.uint8 or given is False:
        return False
    return given is True or len(shape) > 1 or int(np.max(features[:_LOOKED_AT], initial=0)) > _LARGEST_COUNT


def stored_dtype(dtype: np.dtype, pixels: bool = True) -> np.dtype:
    """Return the type that features of a type have in memory: uint8, or float32 if it holds all of them, or float64."""
    if dtype == np.uint8 and pixels:
        return np.dtype(np.uint8)
    exact = dtype.kind == "b" or np.can_cast(dtype, np.float32, "safe")
    return np.dtype(np.float32 if exact else np.float64)


def sample_shape(dtype: np.dtype, shape: tuple[int, ...], source: str) -> tuple[int, ...]:
    """Return the shape of one sample of an array of features.

    Raises
    ------
    DataError
        Not an array of numbers with at least one sample of at least one feature.
    """
    if dtype.kind not in "biuf":
        raise DataError(
            f"{source}: features are of type {dtype}, expected real numbers",
            hint="name another array or other columns with data.features",
        )
    if not shape:
        raise DataError(f"{source}: features are a single number, expected an array (samples, ...)")
    if shape[0] == 0:
        raise DataError(f"{source}: no samples (features have shape {shape})")
    sample = tuple(int(extent) for extent in shape[1:]) or (1,)
    if 0 in sample:
        raise DataError(f"{source}: no features (features have shape {shape})")
    return sample


def canonical_targets(targets: np.ndarray, samples: int, source: str) -> np.ndarray:
    """Return targets as int64, float64 or text.

    Raises
    ------
    DataError
        Another type, more than two axes, or not one per sample.
    """
    kind = targets.dtype.kind
    if kind not in "biufUS":
        raise DataError(f"{source}: targets are of type {targets.dtype}, expected integers, real numbers or text")
    if targets.ndim not in (1, 2):
        raise DataError(f"{source}: targets have shape {targets.shape}, expected (samples,) or (samples, outputs)")
    if len(targets) != samples:
        raise DataError(
            f"{source}: {len(targets)} targets for {samples} samples of features",
            hint="check that features and targets come from the same part of the data",
        )
    if kind == "S":
        try:
            return np.char.decode(targets, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{source}: target labels are not UTF-8 text: {error}") from error
    if kind == "U":
        return np.ascontiguousarray(targets)
    if kind == "f":
        return np.ascontiguousarray(targets, np.float64)
    if targets.dtype == np.uint64 and targets.size and int(targets.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{source}: target {int(targets.max())} is larger than {np.iinfo(np.int64).max}")
    return np.ascontiguousarray(targets, np.int64)


def check_finite(dataset: Dataset) -> None:
    """Check that every feature is a finite number; needs little memory.

    Raises
    ------
    DataError
        Names the first value that is NaN or infinite, and how many there are.
    """
    features = dataset.features
    if features.dtype == np.uint8:
        return
    rows = max(1, _CHECK_BLOCK_BYTES // (features.itemsize * max(features.shape[1], 1)))
    count, first = 0, (-1, -1)
    for begin in range(0, len(features), rows):
        bad = ~np.isfinite(features[begin : begin + rows])
        found = int(np.count_nonzero(bad))
        if found and not count:
            row, column = divmod(int(np.argmax(bad)), bad.shape[1])
            first = (begin + row, column)
        count += found
    if count:
        raise not_finite(dataset.where(*first), features[first], count)


def not_finite(place: str, value: object, count: int) -> DataError:
    """Return the error for features that are NaN or infinite."""
    more = "" if count == 1 else f" (the first of {count})"
    return DataError(
        f"{place}: the feature is {value}, expected a finite number{more}",
        hint="remove these samples or fill the values in; `onotrain data info` counts them per column",
    )


def first_no_code(features: np.ndarray, codes: Mapping[int, int]) -> tuple[int, int] | None:
    """Return row and column of the first feature that is no code though it should be; None: all are.

    Parameters
    ----------
    features
        ``(n, d)``.
    codes
        Columns that are codes of categories, whole numbers from 0, and how many categories each has.
    """
    for column, categories in codes.items():
        values = features[:, column]
        wrong = ~((values >= 0) & (values < categories) & (values == np.trunc(values)))  # NaN is wrong
        if wrong.any():
            return int(np.argmax(wrong)), column
    return None


def no_code(place: str, value: object, categories: int) -> DataError:
    """Return the error for a feature that is no code of a category."""
    return DataError(
        f"{place}: the feature is {value}, expected a whole number from 0 to {categories - 1}, for it is one of "
        f"{categories} categories",
        hint="layer embedding says which features are codes, from 0, and how many categories each has (columns)",
    )


def check_codes(dataset: Dataset, codes: Mapping[int, int]) -> None:
    """Check that features are codes of categories that should be; see `first_no_code`.

    Raises
    ------
    DataError
        Names the first value that is none.
    """
    wrong = first_no_code(dataset.features, codes)
    if wrong is not None:
        raise no_code(dataset.where(*wrong), dataset.features[wrong], codes[wrong[1]])
