"""How many cores, and how many ranks share them, as far as it is known before MPI has started."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from onotrain.control_groups import folders, read_number
from onotrain.parallel.failure_detector import MPI_LAUNCHERS, find_launcher

#: Where launchers say how many ranks of the job share this node, before MPI has started.
_LOCAL_SIZE_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE")


def local_size() -> int:
    """Return how many ranks the launcher put on this node; 1 without a launcher.  Starts no MPI."""
    for name in _LOCAL_SIZE_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return _tasks_of_step() or 1


def _tasks_of_step() -> int | None:
    """Return how many tasks of a step of Slurm (srun) are on this node: ``2(x3),1`` is one number for each node."""
    counts = list[int]()
    for part in os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if found is not None:
            counts += [int(found[1])] * min(int(found[2] or 1), 1 << 20)
    node = os.environ.get("SLURM_NODEID", "0")
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else None


def _share(root: Path) -> int:
    """Return how many cores the control groups leave, which may be a part of the time of many."""
    return max(1, min((int(limit) for limit in _limits(root)), default=os.cpu_count() or 1))


def _limits(root: Path) -> Iterator[float]:
    for folder, version in folders("cpu", root):
        if version == 1:
            quota, period = read_number(folder / "cpu.cfs_quota_us"), read_number(folder / "cpu.cfs_period_us")
            if quota and period:
                yield quota / period
            continue
        with suppress(OSError, ValueError):
            most, every = (folder / "cpu.max").read_text().split()
            yield int(most) / int(every)


def node_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that the ranks of this node have together.

    A launcher may bind each rank to a core of its own; itself it has all that the job has here.

    Parameters
    ----------
    root
        Where ``/proc`` and ``/sys`` are, for tests.
    """
    # Not a batch system's, which may keep to cores of its own.
    found, mine = find_launcher(MPI_LAUNCHERS), len(os.sched_getaffinity(0))
    together = min(os.cpu_count() or 1, local_size() * mine)
    if os.environ.get("SLURM_CPUS_ON_NODE", "").isdigit():
        together = min(together, int(os.environ["SLURM_CPUS_ON_NODE"]))
    if found is not None:
        with suppress(OSError):
            together = min(together, len(os.sched_getaffinity(found.pid)))
    return min(max(mine, together), _share(root))
