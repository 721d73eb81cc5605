"""Memory that this job has left on this machine, checked before large arrays are allocated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from onotrain.control_groups import folders, read_number
from onotrain.errors import ResourceError

_KIB = 1024
#: Limits of a control group that mean "none" are numbers near the largest, rounded to pages.
_NO_LIMIT = 1 << 62

#: Files of each version: limit, what is used, and lines of ``memory.stat`` with what files have left in memory.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"),
    2: ("memory.max", "memory.current", "inactive_file", "active_file"),
}


def available_bytes(root: Path = Path("/")) -> int:
    """Return how much memory this job can still take here [bytes].

    The least of what is free on the machine, and of what is left of the limits of the control groups (v1 and v2) that
    this process is in, and of the batch system.

    Parameters
    ----------
    root
        Where ``/proc`` and ``/sys`` are, for tests.
    """
    return max(0, min(_free(root), *_left(root)))


def _free(root: Path) -> int:
    """Return what the machine has."""
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * _KIB
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left(root: Path) -> Iterator[int]:
    """Yield what is left of each limit; at least one number."""
    yield _NO_LIMIT
    for folder, version in folders("memory", root):
        limit_name, used_name, *cache_names = _FILES[version]
        limit, used = read_number(folder / limit_name), read_number(folder / used_name)
        if limit is not None and used is not None and limit < _NO_LIMIT:
            # What files have left in memory is given back when it is needed.
            yield limit - used + sum(_entry(folder / "memory.stat", name) or 0 for name in cache_names)
    if megabytes := os.environ.get("SLURM_MEM_PER_NODE", ""):
        yield int(megabytes) << 20 if megabytes.isdigit() and int(megabytes) else _NO_LIMIT


def _entry(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)


def check_memory(nbytes: int, source: str, *, hint: str | None = None) -> None:
    """Check that an array of `nbytes` bytes would fit in memory.

    Raises
    ------
    ResourceError
        It would not.
    """
    left = available_bytes()
    if nbytes > left:
        raise ResourceError(
            f"{source}: needs {nbytes / 2**20:,.0f} MiB of memory, {left / 2**20:,.0f} MiB are left",
            hint=hint or "convert the data to HDF5 (`onotrain data convert`) and stream them (data.stream: true)",
        )
