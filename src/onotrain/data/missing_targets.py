"""Samples of which targets are missing, and which of them are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onotrain.data.dataset import Dataset
from onotrain.errors import DataError

#: What may help where a target is missing.
REMEDY = (
    "leave such samples out with `data.missing_targets: drop`, or, of several targets, only what is missing with `mask`"
)


def without_target(values: np.ndarray, policy: str) -> np.ndarray:
    """Return which samples lack a target, one of several, or with the policy ``mask`` all of them: bool ``(n,)``.

    Parameters
    ----------
    values
        Targets as in `Dataset`: missing ones are NaN, or empty text.
    policy
        ``data.missing_targets``.
    """
    if values.dtype.kind not in "Uf":
        return np.zeros(len(values), bool)
    missing, outputs = values == "" if values.dtype.kind == "U" else np.isnan(values), tuple(range(1, values.ndim))
    return np.asarray(missing.all(axis=outputs) if policy == "mask" else missing.any(axis=outputs))


def none_left(source: str, names: Sequence[str], values: np.ndarray) -> DataError:
    """Return the error for targets of which every sample lacks one, or all."""
    shown = ", ".join(names)
    if without_target(values, "mask").all():
        return DataError(
            f"{source}: no sample has a target: {shown} is empty",
            hint="name another target with data.targets (of a command: --targets)",
        )
    return DataError(
        f"{source}: every sample lacks one of the targets {shown}",
        hint="train on what they have with `data.missing_targets: mask`, or name fewer targets with data.targets (of a "
        "command: --targets)",
    )


def labelled_samples(dataset: Dataset, policy: str) -> tuple[Dataset, np.ndarray | None]:
    """Return the samples of a data set in memory that the policy keeps, and their int64 rows; None: all of them.

    With ``error`` all are kept: what encodes the targets names the place of the one that is missing.

    Raises
    ------
    DataError
        None is kept.
    """
    if policy == "error" or dataset.targets is None:
        return dataset, None
    lost = without_target(dataset.targets, policy)
    rows = np.flatnonzero(~lost)
    if len(rows) == len(dataset):
        return dataset, None
    if not len(rows):
        outputs = dataset.targets[:1].size
        raise none_left(dataset.source, dataset.target_names or tuple(map(str, range(outputs))), dataset.targets)
    weights = None if dataset.weights is None else np.asarray(dataset.weights)[rows]
    kept = replace(
        dataset, features=dataset.features[rows], targets=dataset.targets[rows], weights=weights,
        positions=_SomeRows(dataset, rows),
    )  # fmt: skip
    return kept, rows


@dataclass(frozen=True)
class _SomeRows:
    """Places of some samples of a data set (`onotrain.data.dataset.Positions`)."""

    dataset: Dataset
    rows: np.ndarray

    def place(self, row: int, column: int | None) -> str:
        """Return the place in the file of feature `column`, or of the target, of a sample that is left."""
        return self.dataset.where(int(self.rows[row]), column)


def check_streamed(labels: Dataset, policy: str) -> None:
    """Refuse to leave out samples of a file that is streamed, given by its targets.

    Raises
    ------
    DataError
        Some would have to be.
    """
    if policy != "drop" or labels.targets is None:
        return
    lost = without_target(labels.targets, policy)
    if lost.any():
        raise DataError(
            f"{labels.where(int(np.argmax(lost)))}: the target is missing, and a file that is streamed is read whole: "
            f"no sample can be left out (the first of {int(lost.sum()):,})",
            hint="set data.stream: false, if a node has the memory, or data.missing_targets: mask",
        )


def check_measured(
    targets: np.ndarray, weights: np.ndarray | None, index: np.ndarray | None, names: Sequence[str], source: str
) -> None:
    """Refuse outputs that nothing can be learned about.

    Parameters
    ----------
    targets
        ``(n, outputs)``, NaN where not measured.
    weights
        Of the samples; None: all count alike.
    index
        Rows to train on; None for all.
    names, source
        Of the outputs and of the data.

    Raises
    ------
    DataError
        One is never measured, or only in samples of weight 0.
    """
    measured = ~np.isnan(targets)
    if weights is not None:
        measured &= weights[:, np.newaxis] > 0
    never = np.flatnonzero(~(measured if index is None else measured[index]).any(axis=0))
    if len(never):
        more = "" if len(never) == 1 else f" (the first of {len(never)} such targets)"
        raise DataError(
            f"{source}: the target {names[int(never[0])]!r} is missing in all samples to train on{more}",
            hint="leave it out of data.targets, or train on samples that have it",
        )


def left_out(count: int, policy: str) -> list[str]:
    """Return a note on samples that are left out, if there are any."""
    what = "without any target" if policy == "mask" else "without a target"
    return [f"{count:,} samples {what} are left out (data.missing_targets: {policy})"] if count else []


def measured_counts(targets: np.ndarray, names: tuple[str, ...]) -> list[str]:
    """Return a note on how many samples have a target of each output, if some are missing."""
    counts = (~np.isnan(targets)).sum(axis=0) if targets.dtype.kind == "f" else np.array([len(targets)])
    if (counts == len(targets)).all():
        return []
    shown = ", ".join(f"{name} {count:,}" for name, count in list(zip(names, counts, strict=True))[:20])
    more = ", ..." if len(names) > 20 else ""
    return [f"targets that are missing count for nothing (data.missing_targets: mask); measured of {len(targets):,} "
            f"samples: {shown}{more}"]  # fmt: skip
