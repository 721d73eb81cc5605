"""When a training is launched again, and how its arguments are taken apart."""

from __future__ import annotations

import os

import pytest

from onotrain.cli.launch import _without_output
from onotrain.cli.program import run
from onotrain.supervisor.policy import LONGEST_PAUSE_S, Policy, Verdict

KILLED = 137


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 6, 7, 75, 130])
def test_what_would_end_in_the_same_way_is_not_launched_again(code: int) -> None:
    assert not Policy(5, 2, 2).after(code, 10).again


@pytest.mark.parametrize("code", [1, 124, 134, KILLED, 143, 255])
def test_what_may_go_better_is_launched_again_at_once_if_it_got_on(code: int) -> None:
    assert Policy(5, 4, 2).after(code, 10) == Verdict(True, "", 0.0, 4)


def test_restarts_are_counted() -> None:
    policy = Policy(2, 2, 2)
    assert [policy.after(KILLED, steps).again for steps in (10, 20, 30)] == [True, True, False]


def test_without_progress_pauses_grow_ranks_go_and_then_hope() -> None:
    policy = Policy(100, 4, 3)
    verdicts = [policy.after(KILLED, -1) for _ in range(3)]
    assert [(each.again, each.pause, each.ranks) for each in verdicts[:2]] == [(True, 1.0, 3), (True, 2.0, 3)]
    assert not verdicts[2].again and "saved nothing new" in verdicts[2].why


def test_progress_brings_hope_back_but_no_ranks() -> None:
    policy = Policy(100, 4, 1, steps=5)
    assert policy.after(KILLED, 5).ranks == 3
    assert policy.after(KILLED, 6) == Verdict(True, "", 0.0, 3)
    assert policy.after(KILLED, 6).pause == 1.0
    assert LONGEST_PAUSE_S >= 1.0


@pytest.mark.parametrize(
    "words",
    [
        ["c.yaml", "--output", "x", "-q"],
        ["--output=x", "c.yaml", "-q"],
        ["c.yaml", "-q", "-o", "x"],
        ["-ox", "c.yaml", "-q"],
    ],
)
def test_the_output_is_taken_out(words: list[str]) -> None:
    assert _without_output(words) == ["c.yaml", "-q"]


@pytest.mark.parametrize(("subcommand", "inherits"), [("launch", False), ("torture", False), ("train", True)])
def test_ranks_do_not_inherit_the_threads_of_a_process_that_is_alone(
    subcommand: str, inherits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them would take all cores."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # put back afterwards
        monkeypatch.delenv(name)
    assert run([subcommand, "--help"]) == 0
    assert ("OPENBLAS_NUM_THREADS" in os.environ) == inherits
