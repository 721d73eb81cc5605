"""After which steps a parameter server's workers push, and how pushes are numbered."""

from __future__ import annotations

from typing import Any

import pytest

from onotrain.strategies.parameter_server.push_period import PushPeriod


def pushes(every: Any, steps: int, synchronize: set[int], first: int = 1) -> dict[int, int]:
    """Return the number of the push after each step that has one."""
    period = PushPeriod(every)
    found = {
        number: period.push_after(number, synchronize=number in synchronize) for number in range(first, first + steps)
    }
    return {number: push for number, push in found.items() if push}


def test_a_push_of_one_batch_has_its_number() -> None:
    """Also where the first is not the first of the run."""
    assert pushes(1, 9, {4, 9}, first=31) == {number: number for number in range(31, 40)}


def test_a_synchronization_point_ends_a_period() -> None:
    """Numbers are those of pushes, always greater than before, in a row between two synchronisation points."""
    assert pushes(3, 14, {5, 14}) == {3: 1, 5: 2, 8: 6, 11: 7, 14: 8}


@pytest.mark.parametrize("synchronize", [{12}, {5, 6, 12}])
def test_an_epoch_has_a_push_at_synchronization_points_alone(synchronize: set[int]) -> None:
    assert set(pushes("epoch", 12, synchronize)) == synchronize


@pytest.mark.parametrize("every", [2, 5, "epoch"])
def test_numbers_only_grow(every: Any) -> None:
    """A stop batch of before never comes again."""
    numbers = list(pushes(every, 60, {7, 8, 30, 60}).values())
    assert numbers == sorted(set(numbers))
