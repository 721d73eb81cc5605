"""How much memory a job may take: of the machine, of control groups of either version, and of a batch system."""

from __future__ import annotations

from pathlib import Path

import pytest

from onotrain.memory import available_bytes

MIB = 1 << 20


@pytest.fixture(autouse=True)
def free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 1000 MiB free, without limits."""
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    write(tmp_path / "proc/meminfo", f"MemTotal: 9000000 kB\nMemAvailable:   {1000 * 1024} kB\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def group_v2(folder: Path, limit: str, used: int, cache: int = 0) -> None:
    write(folder / "memory.max", f"{limit}\n")
    write(folder / "memory.current", f"{used * MIB}\n")
    write(folder / "memory.stat", f"anon 5\ninactive_file {cache * MIB}\nactive_file 0\n")


def test_without_limits_it_is_what_the_machine_has(free: Path) -> None:
    assert available_bytes(free) == 1000 * MIB
    write(free / "proc/self/cgroup", "0::/user/job\n")
    group_v2(free / "sys/fs/cgroup/user/job", "max", 10)
    assert available_bytes(free) == 1000 * MIB


def test_version_2_counts_what_is_used_but_not_what_files_have_left(free: Path) -> None:
    write(free / "proc/self/cgroup", "0::/slurm/job_7/step_0\n")
    group_v2(free / "sys/fs/cgroup/slurm/job_7/step_0", "max", 100)
    group_v2(free / "sys/fs/cgroup/slurm/job_7", str(450 * MIB), 150, cache=50)
    group_v2(free / "sys/fs/cgroup/slurm", str(800 * MIB), 150)
    assert available_bytes(free) == 350 * MIB


def test_version_1_and_a_container_that_sees_its_own_group_as_the_root(free: Path) -> None:
    write(free / "proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n")
    folder = free / "sys/fs/cgroup/memory"
    write(folder / "memory.limit_in_bytes", f"{300 * MIB}\n")
    write(folder / "memory.usage_in_bytes", f"{120 * MIB}\n")
    write(folder / "memory.stat", f"inactive_file 1\ntotal_inactive_file {15 * MIB}\ntotal_active_file {5 * MIB}\n")
    assert available_bytes(free) == 200 * MIB
    write(folder / "memory.limit_in_bytes", "9223372036854771712\n")
    assert available_bytes(free) == 1000 * MIB


def test_a_group_that_is_full_leaves_nothing(free: Path) -> None:
    write(free / "proc/self/cgroup", "0::/a\n")
    group_v2(free / "sys/fs/cgroup/a", str(100 * MIB), 101)
    assert available_bytes(free) == 0


def test_the_batch_system(free: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "700")
    assert available_bytes(free) == 700 * MIB
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of the node
    assert available_bytes(free) == 1000 * MIB


def test_it_is_a_number_here_too() -> None:
    assert 0 < available_bytes() < 1 << 50
