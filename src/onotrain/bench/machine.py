"""The machine that a measurement is about, in as many words as another one needs to compare itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onotrain.parallel.world import World
from onotrain.training.environment import describe_environment

#: Of the environment of a run: paths and names of this machine, which say nothing about its speed.
_PRIVATE = ("command", "host")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def describe(world: World) -> dict[str, Any]:
    """Return processor, caches, ranks, versions, libraries and kernels; JSON-able, without names of hosts and paths."""
    described = {key: value for key, value in describe_environment(world).items() if key not in _PRIVATE}
    return {**described, "caches": caches(), "blas": blas()}


def caches() -> dict[str, str]:
    """Return the sizes of the caches that the first core sees, such as ``{"L1d": "32K"}``; empty if unknown."""
    found = {}
    for index in sorted(_CACHES.glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        found[f"L{level}{ {'Data': 'd', 'Instruction': 'i'}.get(kind, '') }"] = size
    return found


def blas() -> list[dict[str, Any]]:
    """Return the BLAS libraries of this process, that of the kernels first: name, version, architecture, threads."""
    import scipy.linalg.cython_blas  # noqa: F401 - the one that the kernels call
    from threadpoolctl import threadpool_info

    # SciPy's wheel brings one of its own; elsewhere NumPy and SciPy share the system's.
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    pools.sort(key=lambda pool: "scipy" not in pool["filepath"])
    return [
        {
            "library": pool["internal_api"],
            "version": pool["version"],
            "architecture": pool.get("architecture"),
            "threads": pool["num_threads"],
        }
        for pool in pools
    ]
