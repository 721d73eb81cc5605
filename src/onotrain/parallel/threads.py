"""BLAS threads: ranks times threads should be the cores of a node, neither more nor fewer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onotrain.parallel.cores import local_size, node_cores
from onotrain.parallel.world import start_mpi

#: What the usual BLAS libraries read when they are loaded, strongest first.
_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS")


def requested() -> int | None:
    """Return the number of threads that the environment asks for, if it does."""
    for name in _VARIABLES:
        value = os.environ.get(name, "").split(",")[0]
        if value.isdigit() and int(value) > 0:
            return int(value)
    return None


def set_default() -> None:
    """Ask BLAS for cores / ranks threads unless the user has asked for something; call it before NumPy is imported."""
    if requested() is None:
        threads = str(max(1, node_cores() // local_size()))
        os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = threads


def limit(threads: int) -> Any:
    """Return a context manager within which BLAS uses `threads` threads."""
    import scipy.linalg.cython_blas  # noqa: F401 - which the kernels call: what is loaded later is not limited
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads, user_api="blas")


@contextmanager
def shared(node_size: int) -> Iterator[None]:
    """Let the ranks of a node share its cores within the block, unless the user has asked for something.

    For programs that have loaded NumPy before: then `set_default` comes too late.
    """
    if node_size == 1 or requested() is not None:
        yield
        return
    with limit(max(1, node_cores() // node_size)):
        yield


def warning(node_size: int) -> str | None:
    """Return what is wrong with threads x ranks on this node, or None; MPI runs."""
    threads = requested() or 1
    if threads > 1 and threads * node_size > node_cores():
        return (
            f"{node_size} ranks x {threads} BLAS threads on {node_cores()} cores: they will fight for them; "
            f"set OPENBLAS_NUM_THREADS={max(1, node_cores() // node_size)}"
        )
    if node_size > node_cores() and start_mpi().get_vendor()[0] != "Open MPI":  # which is given to give cores away
        return (
            f"{node_size} ranks on {node_cores()} cores: they keep the cores busy while they wait for each other, "
            f"which can be a hundred times slower; start at most {node_cores()} ranks on a node"
        )
    return None
