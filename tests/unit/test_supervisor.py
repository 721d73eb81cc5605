"""When a training is launched again, and how its arguments are taken apart."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from onotrain.cli.launch import _without_output
from onotrain.cli.program import run
from onotrain.supervisor.hosts import Hosts
from onotrain.supervisor.policy import LONGEST_PAUSE_S, LostHosts, Policy, Verdict

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


@pytest.mark.parametrize(
    ("words", "slots", "rest"),
    [
        (["mpirun", "--host", "a:2,b:3", "-x", "PATH"], {"a": 2, "b": 3}, ["mpirun", "-x", "PATH"]),
        (["mpirun", "-H", "a,b,a"], {"a": 2, "b": 1}, ["mpirun"]),
        (["mpiexec", "-hosts=a:4,b"], {"a": 4, "b": 1}, ["mpiexec"]),
        (["mpirun", "--host", "a:*,b:2"], {"a": None, "b": 2}, ["mpirun"]),
        (["mpirun", "--hostfile", "FILE", "--bind-to", "none"], {"n1": 4, "n2": None}, ["mpirun", "--bind-to", "none"]),
    ],
)
def test_hosts_are_found_in_the_arguments_of_a_launcher(
    words: list[str], slots: dict[str, int | None], rest: list[str], tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("# hosts\nn1 slots=4 max_slots=8\nn2  # half of it is ours\n\n")
    found = Hosts.of([str(tmp_path / "hosts") if word == "FILE" else word for word in words])
    assert found is not None and found.slots == slots and list(found.launcher) == rest
    named = ",".join(f"{host}:{'*' if count is None else count}" for host, count in slots.items())
    assert found.command[len(rest) :][1:] == [named]


@pytest.mark.parametrize(
    "words",
    [["mpirun"], ["mpirun", "--host", "a:4"], ["mpirun", "-x", "HOSTS=a,b"], ["mpirun", "--hostfile", "nowhere"]],
)
def test_one_host_is_not_asked_for(words: list[str]) -> None:
    assert Hosts.of(words) is None


def test_hosts_that_start_nothing_are_left_out(tmp_path: Path) -> None:
    launcher = tmp_path / "mpirun"
    launcher.write_text("#!/bin/bash\n[ $2 != b:2 ]\n")
    launcher.chmod(0o755)
    found = Hosts.of([str(launcher), "--host", "a:2,b:2,c:1"])
    assert found is not None and found.alive().slots == {"a": 2, "c": 1}


def test_if_no_host_starts_anything_it_is_not_the_hosts(tmp_path: Path) -> None:
    found = Hosts.of([shutil.which("false") or "false", "--host", "a:2,b:2"])
    assert found is not None and found.alive() == found


def test_ranks_of_a_host_that_is_gone_go_if_they_may() -> None:
    assert Policy(5, 4, 2).after(KILLED, -1, LostHosts(["b"], 3)) == Verdict(True, "b is gone", 0.0, 3)
    assert Policy(5, 4, 4).after(KILLED, 10, LostHosts(["b"], 8)) == Verdict(True, "b is gone", 0.0, 4)
    refused = Policy(5, 4, 4).after(KILLED, 10, LostHosts(["b", "c"], 3))
    assert not refused.again and refused.why == "b, c are gone, and the others have 3 slots (--min-ranks 4)"
