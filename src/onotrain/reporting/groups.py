"""Runs that differ only by their seed, and what tells them from others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.reporting.history import History

#: Sections that `onotrain.config.method.method_of` puts in words, and what changes no result.
_IN_WORDS = ("strategy.", "communication.", "simulate.", "training.load_balance")
_NO_MATTER = ("training.seed", "checkpoint.", "metrics.", "fault_tolerance.")


@dataclass(frozen=True)
class Group:
    """Runs of one label, of different seeds."""

    label: str
    runs: tuple[History, ...]

    def curve(self, axis: str, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where the epochs lie on an axis, and the mean and the spread of a value over the runs, float64.

        Of the epochs that all runs have; the spread is the sample standard deviation, 0 for one run.
        """
        epochs = min(len(run.records) for run in self.runs)
        places = np.array([run.axis(axis)[:epochs] for run in self.runs])
        values = np.array([run.series(key)[:epochs] for run in self.runs])
        return places.mean(axis=0), values.mean(axis=0), spread(values)

    def last(self, key: str) -> tuple[float, float]:
        """Return mean and spread of a value at the end of the runs."""
        return mean_and_spread([run.at_end(key) for run in self.runs])


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of numbers and their sample standard deviation."""
    return float(np.mean(values)), float(spread(np.array(values, np.float64)))


def spread(values: np.ndarray) -> np.ndarray:
    """Return the sample standard deviation over the first axis, float64; 0 of one value."""
    return np.std(values, axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])


def grouped(runs: Sequence[History], labels: Sequence[str] | None = None) -> list[Group]:
    """Return the runs in groups, in the order of the first run of each.

    Parameters
    ----------
    runs
        At least one.
    labels
        Of the runs; None: what tells them apart.
    """
    groups: dict[str, list[History]] = {}
    for run, label in zip(runs, labels or _labels(runs), strict=True):
        groups.setdefault(label, []).append(run)
    return [Group(label, tuple(members)) for label, members in groups.items()]


def _labels(runs: Sequence[History]) -> Iterator[str]:
    """Yield what tells each run from those that differ by more than their seed."""
    options = [dict(_flat(run.config.to_mapping())) for run in runs]
    keys = dict.fromkeys(key for each in options for key in each)
    differing = [
        key for key in keys
        if not key.startswith((*_IN_WORDS, *_NO_MATTER)) and len({str(each.get(key)) for each in options}) > 1
    ]  # fmt: skip
    many = {"method": len({run.method for run in runs}) > 1, "ranks": len({run.ranks for run in runs}) > 1}
    for run, each in zip(runs, options, strict=True):
        words = [run.method] if many["method"] or not (many["ranks"] or differing) else []
        words += [f"{run.ranks} rank{'s' * (run.ranks > 1)}"] if many["ranks"] else []
        words += [f"{key} {each.get(key)}" for key in differing]
        yield ", ".join(words)


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings with their dotted keys."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
