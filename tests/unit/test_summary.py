"""What a summary says of a run as a whole."""

from __future__ import annotations

import pytest

from onotrain.training.run_position import Progress
from onotrain.training.summary import slower_than_one_rank, summary_of


def seconds(compute: list[float], wait: list[float], communication: list[float]) -> dict[str, list[float]]:
    return {"compute": compute, "wait": wait, "communication": communication, "hidden": [0.0] * len(wait)}


@pytest.mark.parametrize(
    ("times", "slower"),
    [
        (seconds([5.0], [0.0], [0.0]), False),
        (seconds([5.0, 5.0], [1.0, 1.0], [0.0, 0.0]), False),  # one: 10 s, two: 6 s
        (seconds([1.0, 1.0], [4.0, 4.0], [0.0, 0.0]), True),  # one: 2 s, two: 5 s
        (seconds([1.0, 1.0], [0.0, 0.0], [4.0, 4.0]), True),
        (seconds([2.0, 2.0], [2.0, 2.0], [0.0, 0.0]), False),  # as long
        (seconds([0.1, 0.1], [1.0, 1.0], [0.0, 0.0]), False),  # too short to say
        (seconds([0.0, 3.0, 3.0], [6.1, 3.1, 3.1], [0.0, 0.0, 0.0]), False),  # a server computes nothing
        (seconds([0.0, 2.0, 2.0], [6.0, 4.0, 4.0], [0.0, 0.0, 0.0]), True),
    ],
)
def test_ranks_that_make_a_run_slower(times: dict[str, list[float]], slower: bool) -> None:
    assert (slower_than_one_rank(times) is not None) == slower


def test_the_warning_stands_beside_those_of_the_last_epoch() -> None:
    times = seconds([1.0, 1.0], [4.0, 4.0], [0.0, 0.0])
    record = {"epoch": 1, "ranks": 2, "ranks_seconds": times, "warnings": ["R2 IS BELOW 0"]}
    found = summary_of(Progress(), [record, {**record, "epoch": 2}], 100, restored=False)["warnings"]
    assert found[0] == "R2 IS BELOW 0"
    assert found[1].startswith("2 RANKS ARE SLOWER THAN ONE: they took 10.000 s, of which each computed 2.0000 s")
    assert "at most 4.0000 s" in found[1]


def test_runs_whose_times_are_unknown_have_no_warning() -> None:
    assert slower_than_one_rank(None) is None
