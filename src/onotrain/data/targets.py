"""Targets of a file to the numbers that a loss takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onotrain.config.options import LossOptions, PerTarget
from onotrain.data.class_names import are_numbers, as_written, class_names, one_column, texts
from onotrain.data.dataset import Dataset
from onotrain.data.missing_targets import REMEDY
from onotrain.data.target_scaling import TargetScaling
from onotrain.errors import DataError

TASKS = ("multiclass", "binary", "multilabel", "regression")
#: Numbers of more values than this are rather quantities than classes.
_MANY = 20


@dataclass(frozen=True)
class TargetCodec:
    """How a model's targets are written in files.

    Parameters
    ----------
    task
        One of `TASKS`.
    outputs
        Number of classes of ``multiclass``, else of targets: of the network's outputs, unless there are several of them
        for each target.
    class_names
        Names of the classes in the order of their numbers (two for ``binary``), or None if these are 0, 1, 2, ...
    scaling
        Of a regression's targets; None: they are learned as they are.
    masked
        Whether a target that is NaN was not measured, and counts for nothing.
    per_target, counts
        See `LossOptions`, from which they are taken anew whenever a codec is made.
    """

    task: str
    outputs: int
    class_names: tuple[str, ...] | None = None
    scaling: TargetScaling | None = None
    masked: bool = False
    per_target: PerTarget = PerTarget()
    counts: bool = False

    def of_loss(self, loss: LossOptions) -> TargetCodec:
        """Return the codec of a network with this loss."""
        return replace(self, per_target=loss.per_target, counts=loss.counts)

    @property
    def output_scaling(self) -> TargetScaling | None:
        """Scaling of the network's predictions, all that there are of each target; None: there is none."""
        return None if self.scaling is None else self.scaling.of_outputs(self.per_target.shifts)

    @classmethod
    def fit(cls, task: str, outputs: int, dataset: Dataset) -> TargetCodec:
        """Return the codec for the targets of the training data, without scaling.

        Text becomes classes in sorted order, numbers other than 0, 1, 2, ... become classes in the order of their size,
        and columns of zeros with a single one in each row are one class of several.

        Raises
        ------
        DataError
            No targets, text where numbers are needed, or another number of classes than outputs.
        """
        if task not in TASKS:
            raise ValueError(f"task is {task!r}, expected one of {', '.join(TASKS)}")
        targets = _required(dataset)
        if task not in ("multiclass", "binary"):
            return cls(task, outputs, dataset.class_names if task == "multilabel" else None)
        expected = outputs if task == "multiclass" else 2
        names = dataset.class_names
        if names is None:
            names = class_names(targets, dataset, expected, soft=task == "binary")
        if names is not None and len(names) != expected:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            fix = (
                f"set the units of the last dense layer to {len(names)}"
                if task == "multiclass"
                else f"use the loss cross_entropy with {len(names)} outputs"
            )
            if len(names) > _MANY and targets.dtype.kind != "U":
                fix = f"numbers of so many values are quantities: use the loss mse, or {fix}"
            unit = "network has" if task == "multiclass" else "loss needs"
            raise DataError(f"{dataset.source}: {len(names)} classes ({shown}), but the {unit} {expected}", hint=fix)
        return cls(task, outputs, names)

    def scaled(self, setting: Any, dataset: Dataset, rows: np.ndarray | None) -> TargetCodec:
        """Return the codec with the scaling that ``data.normalize_targets`` asks for, fitted on the training part.

        Raises
        ------
        DataError
            The network does no regression, or values whose logarithm does not exist.
        """
        if setting == "none":
            return self
        if self.task != "regression":
            raise DataError(
                f"{dataset.source}: data.normalize_targets is {setting!r}, but the targets are classes",
                hint="leave it out, or use a loss for quantities such as mse",
            )
        values = self._values(_two_axes(_required(dataset)), dataset)
        if setting == "log":
            self._check(
                ~(values <= 0).any(axis=1), np.where(values <= 0, values, np.nan), dataset, "a number above 0 (log)"
            )
        return replace(self, scaling=TargetScaling.fit(setting, values, rows))

    def encode(self, dataset: Dataset) -> np.ndarray:
        """Return the targets of `dataset` for the loss.

        Returns
        -------
        ndarray
            int32 ``(n,)`` for ``multiclass``, float64 ``(n, outputs)``, scaled, otherwise; NaN for what was not
            measured.

        Raises
        ------
        DataError
            No targets, another shape, a label outside the classes, or a value that is NaN and must not be; names file
            and row.
        """
        targets = _required(dataset)
        if self.task in ("multiclass", "binary"):
            labels = one_column(targets, dataset)
            if self.task == "binary" and labels.dtype.kind == "f" and self.class_names is None:
                return self._values(labels[:, None], dataset)
            one_hot = targets.ndim == 2 and targets.shape[1] > 1
            numbers = labels if one_hot else self._class_numbers(labels, dataset)
            return numbers.astype(np.int32) if self.task == "multiclass" else numbers.astype(np.float64)[:, None]
        values = self._values(_two_axes(targets), dataset)
        return values if self.scaling is None else self.scaling.apply(values)

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """Return what the network learns or gives in the units of the data."""
        return values if self.scaling is None else self.scaling.undo(values)

    def names(self, target_names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Return the names of the classes (two for ``binary``), labels or outputs; None where they are only numbers.

        Parameters
        ----------
        target_names
            Of the columns in the training file.
        """
        names = self.class_names
        if names is None and self.task in ("multilabel", "regression"):
            names = target_names
        expected = 2 if self.task == "binary" else self.outputs
        return names if names is not None and len(names) == expected else None

    def shown_names(self, target_names: tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the same; their numbers where they have no names."""
        count = 2 if self.task == "binary" else self.outputs
        return self.names(target_names) or tuple(map(str, range(count)))

    @property
    def classes(self) -> int:
        """Number of classes; 0 for regression and multi-label."""
        return {"multiclass": self.outputs, "binary": 2}.get(self.task, 0)

    def _class_numbers(self, labels: np.ndarray, dataset: Dataset) -> np.ndarray:
        """Return int64 numbers of the classes of labels ``(n,)``."""
        if labels.dtype.kind == "U":
            return self._by_name(labels, dataset)
        if dataset.class_names is None and are_numbers(self.class_names):
            return self._by_name(texts(labels), dataset)
        if labels.dtype.kind == "f":
            whole = np.isfinite(labels) & (np.floor(labels) == labels)
            # Beyond 2**53 nothing is a class number anyway, and the conversion would overflow.
            whole &= np.abs(np.where(whole, labels, 0.0)) < 2.0**53
            self._check(whole, labels, dataset)
            labels = labels.astype(np.int64)
        if dataset.class_names is not None and self.class_names is not None and dataset.class_names != self.class_names:
            inside = (labels >= 0) & (labels < len(dataset.class_names))
            self._check(inside, labels, dataset)
            return self._by_name(np.array(dataset.class_names)[labels], dataset)
        self._check((labels >= 0) & (labels < self.classes), labels, dataset)
        return labels

    def _by_name(self, labels: np.ndarray, dataset: Dataset) -> np.ndarray:
        if self.class_names is None:
            raise DataError(
                f"{dataset.where(0)}: the label is the text {str(labels[0])!r}, "
                f"but the model knows its classes only as the numbers 0 to {self.classes - 1}",
                hint="write the labels as in the training data",
            )
        names = np.array(self.class_names)
        if labels.dtype.kind == "U" and not np.isin(labels, names).all():  # 3.0 is the class 3
            labels = as_written(labels, self.class_names)
        order = np.argsort(names)
        found = order[np.minimum(np.searchsorted(names, labels, sorter=order), len(names) - 1)]
        self._check(names[found] == labels, labels, dataset)
        return found

    def _values(self, targets: np.ndarray, dataset: Dataset) -> np.ndarray:
        """Return float64 ``(n, outputs)``, checked."""
        if targets.dtype.kind == "U":
            raise DataError(
                f"{dataset.where(0)}: the target is the text {str(targets.flat[0])!r}, expected numbers ({self.task})",
                hint="choose the target column with data.targets, or a loss for classes such as cross_entropy",
            )
        if targets.shape[1] != self.outputs:
            raise self._unfit(dataset, targets.shape[1])
        valid = np.isfinite(targets)
        if self.counts:
            valid &= ~(targets < 0)
        if self.task != "regression":
            valid &= (targets >= 0) & (targets <= 1)
        if self.masked:
            valid |= np.isnan(targets)
        self._check(valid.all(axis=1), np.where(valid, np.nan, targets), dataset)
        return np.ascontiguousarray(targets, np.float64)

    def _unfit(self, dataset: Dataset, targets: int) -> DataError:
        """Return the error of another number of targets than the network has outputs for."""
        got, width = f"{targets} target{'s' * (targets != 1)} a sample", len(self.per_target.names)
        has = f"{self.outputs * width} output{'s' * (self.outputs * width != 1)}"
        fix = f"set the units of the last dense layer to {targets}" if width == 1 else self.per_target.needed(targets)
        return DataError(
            f"{dataset.source}: {got}, but the network has {has}", hint=f"{fix}, or choose others with data.targets"
        )

    def _check(self, valid: Any, labels: np.ndarray, dataset: Dataset, expected: str | None = None) -> None:
        """Raise for the first row that is not valid; of several values in it, `labels` holds NaN for the good ones."""
        if valid.all():
            return
        row, count = int(np.argmin(valid)), int(np.count_nonzero(~valid))
        more = "" if count == 1 else f" (the first of {count})"
        if self.task in ("multiclass", "binary") and labels.ndim == 1:
            got = labels[row].item()
            raise DataError(
                f"{dataset.where(row)}: label {got!r} is outside the classes, expected {self._expected()}{more}",
                hint="correct it; the classes are those of the training data",
            )
        values = labels[row]
        bad = values[~np.isnan(values)]
        got = bad[0] if len(bad) else np.nan
        if self.counts:
            expected = "a count: a finite number, 0 or more"
        expected = expected or ("a finite number" if self.task == "regression" else "a number from 0 to 1")
        raise DataError(
            f"{dataset.where(row)}: the target is {got}, expected {expected}{more}",
            hint=REMEDY if np.isnan(got) else None,
        )

    def _expected(self) -> str:
        if self.class_names is None:
            return f"0 to {self.classes - 1}"
        return f"one of {', '.join(self.class_names[:10])}" + (", ..." if len(self.class_names) > 10 else "")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        names = None if self.class_names is None else list(self.class_names)
        scaling = {} if self.scaling is None else {"scaling": self.scaling.to_dict()}
        masked = {"masked": True} if self.masked else {}
        return {"task": self.task, "outputs": self.outputs, "class_names": names, **scaling, **masked}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TargetCodec:
        """Return the codec that `to_dict` wrote.

        Raises
        ------
        KeyError, ValueError, TypeError
            `data` is something else.
        """
        if data["task"] not in TASKS:
            raise ValueError(f"task is {data['task']!r}, expected one of {', '.join(TASKS)}")
        names = data["class_names"]
        scaling = None if data.get("scaling") is None else TargetScaling.from_dict(data["scaling"])
        names = None if names is None else tuple(str(name) for name in names)
        return cls(data["task"], int(data["outputs"]), names, scaling, bool(data.get("masked", False)))


def _required(dataset: Dataset) -> np.ndarray:
    if dataset.targets is None:
        raise DataError(
            f"{dataset.source}: no targets found", hint="say where they are with data.targets (of a command: --targets)"
        )
    return dataset.targets


def _two_axes(targets: np.ndarray) -> np.ndarray:
    return targets if targets.ndim == 2 else targets[:, None]
