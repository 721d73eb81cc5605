"""Statistics of a step as records and as vectors, and a rank's clock."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onotrain.strategies.statistics import STATISTICS, StepStatistics, vectors
from onotrain.strategies.telemetry import Telemetry


def test_every_number_is_a_field_of_the_vector() -> None:
    """So that a sum of vectors is a sum of statistics, whoever reads them."""
    record = np.array((1.5, 2.0, 3.0, 4.0, 5.0), STATISTICS)
    statistics = StepStatistics(record)
    assert statistics.values.tolist() == [1.5, 2.0, 3.0, 4.0, 5.0]
    assert (statistics.loss_sum, statistics.correct, statistics.stop) == (1.5, 2.0, True)
    assert (statistics.gradient_squares, statistics.samples) == (4.0, 5)
    statistics.values += statistics.values
    assert record["loss_sum"] == 3.0 and record["samples"] == 10.0


def test_what_is_set_is_in_the_record() -> None:
    record = np.zeros((), STATISTICS)
    statistics = StepStatistics(record)
    statistics.losses[:] = 1.0, 2.0
    statistics.ask_to_stop()
    statistics.gradient_squares, statistics.samples = 4.0, 5
    assert record.item() == (1.0, 2.0, 1.0, 4.0, 5.0)
    statistics.clear()
    assert record.item() == (0.0,) * 5


def test_records_within_others_are_vectors_too() -> None:
    """As in the header of a message, with gaps between them."""
    headers = np.zeros((2, 3), np.dtype([("number", np.int64), ("statistics", STATISTICS)]))
    rows = vectors(headers["statistics"])
    assert rows.shape == (2, 3, 5)
    rows[1, 2] = range(5)
    assert headers["statistics"]["samples"].tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 4.0]]
    assert not headers["number"].any()


@pytest.mark.parametrize("name", STATISTICS.names or ())
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_any_number_that_is_not_finite_is_seen(name: str, bad: float) -> None:
    record = np.zeros((), STATISTICS)
    assert StepStatistics(record).finite
    record[name] = bad
    assert not StepStatistics(record).finite


def test_a_clock_says_where_seconds_went() -> None:
    """Of 10 s; it begins anew."""
    clock = Telemetry(iter((3.0, 5.0)).__next__).clock
    start = clock.now()
    clock.wait += clock.now() - start
    clock.communication, clock.hidden = 1.5, 4.0
    assert clock.elsewhere == 3.5
    assert clock.take(10.0) == {"compute": 6.5, "wait": 2.0, "communication": 1.5, "hidden": 4.0}
    assert clock.take(1.0) == {"compute": 1.0, "wait": 0.0, "communication": 0.0, "hidden": 0.0}
