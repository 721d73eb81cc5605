"""Where a run took place: what `environment.json` says."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from onotrain import __version__, _kernels
from onotrain.parallel.world import World, start_mpi

_PACKAGES = ("numpy", "scipy", "mpi4py", "h5py")
_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_RESTART_COUNT",
)


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine()
            )
    except OSError:
        return platform.machine()


def describe_environment(world: World) -> dict[str, Any]:
    """Return versions, machine, ranks and what of the environment matters; JSON-able."""
    return {
        "onotrain": __version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "mpi": start_mpi().Get_library_version().splitlines()[0].strip("\0 "),
        "kernels": _kernels.path(),
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "ranks": world.size,
        "ranks_per_node": list(world.node_sizes),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
