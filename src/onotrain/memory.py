"""Memory that the machine has left, checked before large arrays are allocated."""

from __future__ import annotations

import os

from onotrain.errors import ResourceError


def available_bytes() -> int:
    """Return how much memory the machine can still give [bytes]."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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
