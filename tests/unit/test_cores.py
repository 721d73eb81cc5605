"""How many cores a job has on a node: of control groups, cpusets, launchers and batch systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onotrain.parallel import cores
from onotrain.parallel.failure_detector import Process

VARIABLES = (
    "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE", "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_NODEID", "SLURM_CPUS_ON_NODE", "SLURM_NTASKS_PER_NODE",
)  # fmt: skip
LAUNCHER = 77


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[int, set[int]]:
    """16 cores, all of which this process may use, and no launcher; by process, 0 being this one."""
    allowed = {0: set(range(16))}
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed[pid])
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    launcher = lambda names: Process(0, LAUNCHER, "1") if LAUNCHER in allowed else None  # noqa: E731
    monkeypatch.setattr(cores, "find_launcher", launcher)
    return allowed


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_ranks_that_are_bound_have_the_cores_of_their_launcher(
    machine: dict[int, set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine |= {0: {3}, LAUNCHER: set(range(16))}
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4")
    assert cores.node_cores(tmp_path) == 4
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "40")
    assert cores.node_cores(tmp_path) == 16


def test_a_cpuset_that_ranks_share_is_counted_once(
    machine: dict[int, set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine |= {0: {0, 1}, LAUNCHER: {0, 1}}
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4")
    assert cores.node_cores(tmp_path) == 2


def test_a_step_of_slurm_has_what_slurm_gave_the_job(
    machine: dict[int, set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine[0] = {4, 5}
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "6(x2),3")
    monkeypatch.setenv("SLURM_NODEID", "2")
    assert cores.local_size() == 3 and cores.node_cores(tmp_path) == 6
    monkeypatch.setenv("SLURM_NODEID", "1")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    assert cores.local_size() == 6 and cores.node_cores(tmp_path) == 8


@pytest.mark.parametrize("text", ["", "x", "2(x", "(x3)", "1,2"])
def test_a_batch_script_is_one_process_whatever_it_will_start(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "32")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", text)
    monkeypatch.setenv("SLURM_NODEID", "7")
    assert cores.local_size() == 1


@pytest.mark.parametrize(("text", "expected"), [("max 100000", 16), ("250000 100000", 2), ("50000 100000", 1)])
def test_a_control_group_may_leave_a_part_of_the_time(text: str, expected: int, tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path / "sys/fs/cgroup/a/cpu.max", f"{text}\n")
    write(tmp_path / "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    assert cores.node_cores(tmp_path) == expected


def test_a_control_group_of_version_1(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n")
    folder = tmp_path / "sys/fs/cgroup/cpu"
    for group, quota in (("docker/abc", "-1"), ("", "300000")):
        write(folder / group / "cpu.cfs_quota_us", f"{quota}\n")
        write(folder / group / "cpu.cfs_period_us", "100000\n")
    assert cores.node_cores(tmp_path) == 3
