"""What is in a data file: shapes, types, classes, missing values and the spread of every column."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from onotrain.data.array_choices import ArrayChoices, array_choices
from onotrain.data.array_names import are_places
from onotrain.data.class_names import is_one_hot
from onotrain.data.classes import are_classes
from onotrain.data.dataset import Dataset, DataSpec
from onotrain.data.moments import Moments
from onotrain.data.ranges import far_apart, is_logarithmic
from onotrain.data.reading import ReadFiles, in_turn
from onotrain.data.samples import ArraySamples, Samples, StreamSamples, blocks_of
from onotrain.data.sources import expanded, format_of, load_dataset
from onotrain.text import figure

_BLOCK_BYTES = 1 << 24
#: Samples of the most frequent class for each of a rare one.
_RARE = 20
_SHOWN_RARE = 3


@dataclass(frozen=True, eq=False)
class TargetInfo:
    """Targets of a data set.

    Parameters
    ----------
    kind
        ``classes`` (text, few different whole numbers, or columns of which one is 1), ``labels`` (several columns of 0
        and 1) or ``values``.
    dtype
        ``int64``, ``float64`` or ``text``.
    shape
        ``(n,)`` or ``(n, k)``.
    names
        Names of the columns, where the file has them.
    class_counts
        (class, samples) in the order of the classes; of ``labels``, (column, samples with a 1).
    ranges
        (name, minimum, maximum, mean, standard deviation) of each output, of values.
    missing
        Samples with a target that is missing, NaN or infinite.
    units
        Of each output, of values; None if the file says none.
    logarithmic
        Whether every output that changes asks for its logarithm (`onotrain.data.ranges.is_logarithmic`).
    """

    kind: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None
    class_counts: tuple[tuple[str, int], ...] | None
    ranges: tuple[tuple[str, float, float, float, float], ...]
    missing: int
    units: tuple[str, ...] | None = None
    logarithmic: bool = False

    def notes(self) -> list[str]:
        """Return what is remarkable and what to do about it, in words."""
        if self.logarithmic:
            low = figure(min(lowest for _, lowest, *_ in self.ranges), short=True)
            high = figure(max(highest for _, _, highest, *_ in self.ranges), short=True)
            return [
                f"the targets go from {low} to {high} and are near normal in the logarithm (normalize_targets: log): "
                "errors count in proportion; standard counts them in units"
            ]
        rare = self.rare
        if not rare:
            return []
        most = max(samples for _, samples in self.class_counts or ())
        shown = ", ".join(f"{name} ({samples:,})" for name, samples in rare[:_SHOWN_RARE])
        return [
            f"rare classes: {shown}{', ...' if len(rare) > _SHOWN_RARE else ''} beside {most:,} of another; "
            "loss.class_weights: balanced lets all count alike, and validation_balanced_accuracy sees them "
            "(training.early_stopping), which accuracy does not"
        ]

    @property
    def rare(self) -> tuple[tuple[str, int], ...]:
        """Classes of which there is at most one sample for 20 of the most frequent one, the rarest first."""
        if self.kind != "classes" or not self.class_counts:
            return ()
        most = max(samples for _, samples in self.class_counts)
        found = [each for each in self.class_counts if 0 < each[1] * _RARE <= most]
        return tuple(sorted(found, key=lambda each: each[1]))

    @property
    def one_hot(self) -> bool:
        """Whether the classes are columns of which one is 1 in each sample."""
        return self.kind == "classes" and len(self.shape) == 2 and self.shape[1] > 1


@dataclass(frozen=True, eq=False)
class DataInfo:
    """A data set at a glance.

    Parameters
    ----------
    source, format
        Where from, and how stored.
    samples, features
        n and d.
    feature_shape
        Of a sample.
    dtype
        Of the features in memory: ``uint8`` (pixels), ``float32`` or ``float64``.
    feature_names
        Where the file has them.
    missing, infinite
        int64 ``(d,)``: how many values of each column are missing or NaN, or infinite.
    minimum, maximum, mean, std
        float64 ``(d,)`` of the finite values of each column, in stored units; NaN for a column without any.
    constant
        Columns with only one value.
    targets
        None if there are none.
    choices
        Which arrays of the file are taken.
    """

    source: str
    format: str
    samples: int
    features: int
    feature_shape: tuple[int, ...]
    dtype: str
    feature_names: tuple[str, ...] | None
    missing: np.ndarray
    infinite: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    constant: tuple[int, ...]
    targets: TargetInfo | None
    choices: ArrayChoices = ArrayChoices()

    @property
    def overall(self) -> tuple[float, float, float, float]:
        """Minimum, maximum, mean and standard deviation of all finite values together; NaN if there are none."""
        count = self.samples - self.missing - self.infinite
        known = count > 0
        if not known.any():
            return (float("nan"),) * 4
        total, mean, std = count[known].sum(), self.mean[known], self.std[known]
        center = float((count[known] * mean).sum() / total)
        variance = float((count[known] * (std**2 + (mean - center) ** 2)).sum() / total)
        return float(self.minimum[known].min()), float(self.maximum[known].max()), center, variance**0.5


def describe(spec: DataSpec, reader: ReadFiles = in_turn) -> DataInfo:
    """Look at arrays of features and targets (`onotrain.data.tables.info` looks at tables).

    Missing, NaN and infinite values are counted, not refused.

    One HDF5 file is read in blocks and may be larger than the memory; several files are read by `reader`.

    Raises
    ------
    DataError
        It cannot be read at all.
    """
    spec = expanded(spec)
    kind = format_of(spec)
    if kind == "hdf5":
        from onotrain.data.hdf5_stream import Hdf5Stream

        with Hdf5Stream(spec, finite=False) as stream:
            found = _describe(stream.targets_only(), kind, StreamSamples(stream, np.empty(0)), stream.block_rows)
    else:
        found = describe_dataset(load_dataset(spec, reader), kind)
    return replace(found, choices=array_choices(spec, kind))


def describe_dataset(dataset: Dataset, kind: str = "memory") -> DataInfo:
    """Look at a data set in memory; `kind` is the format that it is said to have."""
    rows = max(1, _BLOCK_BYTES // (8 * dataset.features.shape[1]))
    return _describe(dataset, kind, ArraySamples(dataset.features, np.empty(0)), rows)


def _describe(dataset: Dataset, kind: str, samples: Samples, rows: int) -> DataInfo:
    """Pass over the features once, in blocks of `rows`."""
    columns = math.prod(dataset.feature_shape)
    missing, infinite = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    moments = Moments(columns)
    for block in blocks_of(samples, rows):
        if block.dtype != np.uint8:
            missing += np.isnan(block).sum(axis=0)
            infinite += np.isinf(block).sum(axis=0)
        moments.add(block)
    known = moments.count > 0
    targets = describe_targets(dataset)
    if targets is not None and far_apart(moments.minimum, moments.maximum).any():
        # The logarithm of targets alone bends a power law, and columns of an array have no scale of their own.
        targets = replace(targets, logarithmic=False)
    return DataInfo(
        source=dataset.source,
        format=kind,
        samples=len(dataset),
        features=columns,
        feature_shape=dataset.feature_shape,
        dtype=str(samples.dtype),
        feature_names=dataset.feature_names,
        missing=missing,
        infinite=infinite,
        minimum=np.where(known, moments.minimum, np.nan),
        maximum=np.where(known, moments.maximum, np.nan),
        mean=np.where(known, moments.mean, np.nan),
        std=np.where(known, moments.std, np.nan),
        constant=tuple(int(column) for column in np.flatnonzero(moments.minimum == moments.maximum)),
        targets=targets,
    )


def describe_targets(dataset: Dataset, missing: int = 0) -> TargetInfo | None:
    """Find out what the targets are; `missing` samples without them have been left out already."""
    targets = dataset.targets
    if targets is None:
        return None
    is_text = targets.dtype.kind == "U"
    number = None if is_text else np.asarray(targets, np.float64)
    finite = targets != "" if number is None else np.isfinite(number)
    missing += int(np.count_nonzero(~finite.reshape(len(targets), -1).all(axis=1)))
    single = targets.ndim == 1 or targets.shape[1] == 1
    counts: tuple[tuple[str, int], ...] | None = None
    kind = "values"
    if single:
        counts = _class_counts(dataset, targets[finite])
        kind = "values" if counts is None else "classes"
    elif number is not None and np.isin(number[finite], (0.0, 1.0)).all():
        kind = "classes" if is_one_hot(number) else "labels"
        own = None if kind == "classes" and are_places(dataset.target_names) else dataset.target_names
        names = own or dataset.class_names or tuple(str(k) for k in range(targets.shape[1]))
        counts = tuple(zip(names, (int(ones) for ones in np.where(finite, number, 0.0).sum(axis=0)), strict=False))
    return TargetInfo(
        kind=kind,
        dtype="text" if is_text else str(targets.dtype),
        shape=targets.shape,
        names=dataset.target_names,
        class_counts=counts,
        ranges=() if number is None or kind != "values" else tuple(_ranges(dataset, number)),
        missing=missing,
        units=dataset.target_units if kind == "values" else None,
        logarithmic=kind == "values" and number is not None and _are_logarithmic(number),
    )


def _ranges(dataset: Dataset, number: np.ndarray) -> Iterator[tuple[str, float, float, float, float]]:
    if not number.size:
        return
    each = number.reshape(len(number), -1)
    names = dataset.target_names or tuple(str(k) for k in range(each.shape[1]))
    for name, column in zip(names, each.T, strict=False):
        known = column[np.isfinite(column)]
        if known.size:
            mean = float(known.mean())
            spread = float(np.sqrt(np.square(known - mean).mean()))
            yield name, float(known.min()), float(known.max()), mean, spread


def _are_logarithmic(number: np.ndarray) -> bool:
    each = (column[np.isfinite(column)] for column in number.reshape(len(number), -1).T)
    # What never changes says nothing, but must have a logarithm.
    found = [None if len(column) and column.min() == column.max() > 0 else is_logarithmic(column) for column in each]
    return any(found) and False not in found


def _class_counts(dataset: Dataset, labels: np.ndarray) -> tuple[tuple[str, int], ...] | None:
    """Return how many samples each class has, or None if the labels are not classes."""
    values, counts = np.unique(labels, return_counts=True)
    if labels.dtype.kind == "U":
        return tuple((str(value), int(count)) for value, count in zip(values, counts, strict=True))
    names = dataset.class_names
    if names is not None and len(values) and values[0] >= 0 and values[-1] < len(names):
        every = np.bincount(labels.astype(np.int64), minlength=len(names))
        return tuple((name, int(count)) for name, count in zip(names, every, strict=True))
    if not are_classes(values, len(labels)):
        return None
    return tuple((str(int(value)), int(count)) for value, count in zip(values, counts, strict=True))
