"""Which parts of a date that go round say something about the target.

Sine and cosine of a month or a weekday on which nothing depends are noise that a network learns by heart: they name
the training samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onotrain.config.columns import DatePart
from onotrain.data.classes import are_classes
from onotrain.data.missing_targets import without_target
from onotrain.data.tables.date import VARYING, around, dates_of, parts_of
from onotrain.data.tables.dates import are_times
from onotrain.data.tables.kinds import Guess
from onotrain.data.tables.table import Table
from onotrain.seeds import generator

#: How probable a dependence at least as strong may be by chance.
_CHANCE = 1e-3
#: Samples that are looked at, and most frequent classes.
_SAMPLES = 100_000
_CLASSES = 20
#: Degree of the polynomial of time that is taken off first.
_DEGREE = 3


def with_parts(guesses: Mapping[str, Guess], table: Table, targets: np.ndarray) -> dict[str, Guess]:
    """Return the guesses, with the parts of dates on which the targets depend; see `seasonal_parts`."""
    return {
        name: _with_parts(guess, dates_of(table, table[name], None), targets) if guess.kind == "date" else guess
        for name, guess in guesses.items()
    }


def _with_parts(guess: Guess, dates: np.ndarray, targets: np.ndarray) -> Guess:
    if are_times(dates):  # nothing but parts that go round
        return guess
    parts = seasonal_parts(dates, targets)
    why = "the target depends on no part that goes round"
    if parts:
        why = f"of the parts that go round, the target depends on {', '.join(parts)}"
    return replace(guess, why=f"{guess.why}; {why}" if guess.why else why, parts=("trend", *parts))


def seasonal_parts(dates: np.ndarray, targets: np.ndarray) -> tuple[DatePart, ...]:
    """Return the parts on which the targets depend beyond a smooth trend, by an F test of sine and cosine.

    Parameters
    ----------
    dates
        datetime64 ``(n,)``.
    targets
        Text or numbers ``(n,)``, or numbers ``(n, k)``; samples that lack one do not count.
    """
    rows = np.flatnonzero(~(np.isnat(dates) | without_target(targets, "drop")))
    if len(rows) > _SAMPLES:
        rows = rows[generator(0, "seasons").integers(len(rows), size=_SAMPLES)]
    if not len(rows):
        return ()
    y, parts = responses(targets[rows]), parts_of(dates[rows])
    time = parts["trend"] - parts["trend"].mean()
    trend = np.vander(time / (np.abs(time).max() or 1.0), _DEGREE + 1)
    return tuple(part for part in VARYING if _chance(y, trend, around(part, parts[part])) < _CHANCE)


def responses(targets: np.ndarray) -> np.ndarray:
    """Return quantities as they are, classes as 0 and 1 for each: float64 ``(n, responses)``."""
    if targets.ndim == 1:
        values, codes, counts = np.unique(targets, return_inverse=True, return_counts=True)
        if targets.dtype.kind == "U" or are_classes(values, len(targets)):
            often = np.argsort(-counts, kind="stable")[:_CLASSES]
            return (codes[:, None] == often).astype(np.float64)
    return targets.reshape(len(targets), -1).astype(np.float64)


def _chance(y: np.ndarray, known: np.ndarray, more: np.ndarray) -> float:
    """Return how probable it is that `more` explains as much of any response if it explains none (Bonferroni)."""
    from scipy.special import fdtrc  # here, as it takes long to import and few data have dates

    both = np.hstack([known, more])
    rank = int(np.linalg.matrix_rank(both))
    added, free = rank - int(np.linalg.matrix_rank(known)), len(y) - rank
    if added < 1 or free < 1:
        return 1.0
    before, after = _left(y, known), _left(y, both)
    explained = np.maximum(before - after, 0.0) / added
    # Rounding: what is explained of nothing is nothing.
    real = explained > 1e-12 * np.square(y).sum(axis=0)
    ratio = explained / np.maximum(after / free, np.finfo(float).tiny)
    return float(np.min(np.where(real, fdtrc(added, free, ratio), 1.0)) * y.shape[1])


def _left(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the sum of squares of each response that least squares on `x` leaves."""
    return np.asarray(np.square(y - x @ np.linalg.lstsq(x, y, rcond=None)[0]).sum(axis=0))
