"""Probes of the environment: each finds out one thing, says whether it is well, and if not how to fix it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from onotrain.errors import OnotrainError
from onotrain.parallel.agreement import agreed
from onotrain.parallel.cores import node_cores
from onotrain.parallel.world import World, start_mpi

if TYPE_CHECKING:
    from mpi4py import MPI

Level = Literal["ok", "warn", "FAIL"]
#: What the self-test moves, about the gradient of a small network [bytes].
MESSAGE_BYTES = 2 << 20
#: How long latency and bandwidth are measured, together [s].
SELF_TEST_S = 1.0
#: Slower collectives between the ranks of one node mean that ranks compete for cores [us].
_SLOW_US = 2000.0
_LEAST_MEMORY_BYTES = 1 << 30
_LEAST_DISK_BYTES = 1 << 30
_LEAST_FILES = 256


@dataclass(frozen=True)
class Finding:
    """What one probe found."""

    level: Level
    subject: str
    text: str
    #: How to fix it, if it is not well.
    hint: str | None = None


def examine(world: World) -> Iterator[Finding]:
    """Yield findings about this job, those about MPI first.  *Collective*: the same on all ranks."""
    for probe in (_mpi, _places, _blas, _kernel_level, _memory, _limits, _disk, _shared_memory, _self_test):
        yield from _merged(world, probe)


Probe = Callable[[World], list[Finding]]


def _merged(world: World, probe: Probe) -> list[Finding]:
    """Run a probe on all ranks; return what rank 0 found, and what is wrong elsewhere; *collective*."""
    try:
        mine = probe(world)
    except OnotrainError as error:
        mine = [Finding("FAIL", probe.__name__.strip("_").replace("_", " "), error.message, error.hint)]
    everyone = world.comm.allgather((platform.node(), mine))
    merged = list(everyone[0][1])
    for host, findings in everyone[1:]:
        for finding in findings:
            if finding.level != "ok" and all(finding.text not in known.text for known in merged):
                merged.append(Finding(finding.level, finding.subject, f"{host}: {finding.text}", finding.hint))
    return merged


def _mpi(world: World) -> list[Finding]:
    """Vendor, version and thread level of MPI; whether all ranks have the same."""
    mpi = start_mpi()
    library = mpi.Get_library_version().splitlines()[0].strip("\0 ").removesuffix(",")
    vendor, version = mpi.get_vendor()
    found = [Finding("ok", "MPI", f"{vendor} {'.'.join(map(str, version))}, mpi4py {metadata.version('mpi4py')}")]
    libraries = set(world.comm.allgather(library))
    if len(libraries) > 1:
        found.append(
            Finding(
                "FAIL",
                "MPI",
                f"ranks run different libraries: {'; '.join(sorted(libraries))}",
                "install one on all nodes",
            )
        )
    level = mpi.Query_thread()
    names = {mpi.THREAD_SINGLE: "single", mpi.THREAD_FUNNELED: "funneled", mpi.THREAD_SERIALIZED: "serialized"}
    name = names.get(level, "multiple")
    if level < mpi.THREAD_FUNNELED:
        hint = "use an MPI library that was built with threads; checkpoints are written by a thread"
        found.append(Finding("FAIL", "MPI threads", f"{name}, expected funneled or better", hint))
    else:
        found.append(Finding("ok", "MPI threads", name))
    return found


def _places(world: World) -> list[Finding]:
    """Ranks against cores on every node."""
    sizes = world.node_sizes
    text = f"{world.size} on {world.nodes} node{'s' * (world.nodes > 1)}"
    if world.nodes > 1:
        text += f" ({', '.join(str(size) for size in sizes[:16])}{', ...' * (len(sizes) > 16)})"
    found = [Finding("ok", "ranks", text)]
    if len(set(sizes)) > 1:
        hint = (
            f"give all nodes the same number of ranks: the others wait, and only {world.shards} ranks of a node update"
        )
        found.append(Finding("warn", "ranks", f"nodes have between {min(sizes)} and {max(sizes)}", hint))
    cores, mine = node_cores(), world.node.size
    if mine > cores:
        hint = f"start at most {cores} ranks on a node (mpirun -n {cores}), or ask for more cores"
        found.append(Finding("warn", "cores", f"{mine} ranks on {cores} cores: they take turns", hint))
    else:
        found.append(Finding("ok", "cores", f"{cores} for {mine} rank{'s' * (mine > 1)} on this node"))
    return found


def _blas(world: World) -> list[Finding]:
    """BLAS libraries and their threads."""
    import numpy  # noqa: F401 - loads its BLAS, which threadpoolctl then sees
    import scipy.linalg.cython_blas  # noqa: F401 - the one that the kernels call
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        hint = "this is a BLAS that threadpoolctl does not know: set OMP_NUM_THREADS yourself"
        return [Finding("warn", "BLAS", "number of threads unknown", hint)]
    shown = {f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')})" for pool in pools}
    most = max(int(pool["num_threads"]) for pool in pools)
    found = [Finding("ok", "BLAS", f"{', '.join(sorted(shown))}, {most} thread{'s' * (most > 1)} a rank")]
    cores = node_cores()
    fair = max(1, cores // world.node.size)
    if most > 1 and most * world.node.size > cores:
        text = f"{world.node.size} ranks x {most} BLAS threads on {cores} cores: they fight for them"
        found.append(Finding("warn", "BLAS threads", text, f"set OPENBLAS_NUM_THREADS={fair}"))
    elif most * 2 <= fair:
        text = f"{most} a rank, so that {cores - most * world.node.size} of {cores} cores are idle"
        found.append(
            Finding("warn", "BLAS threads", text, f"start {cores // most} ranks, or set OPENBLAS_NUM_THREADS={fair}")
        )
    return found


def _kernel_level(world: World) -> list[Finding]:
    """Which build of the kernels runs, and which could."""
    from onotrain import _kernels

    with agreed(world.comm):
        chosen, usable = _kernels.path(), _kernels.available()
    found = [Finding("ok", "kernels", f"{chosen} (can run: {', '.join(usable)})")]
    if chosen == "reference":
        hint = "unset ONOTRAIN_KERNELS; the reference is for tests"
        return [Finding("warn", "kernels", "the NumPy reference is in use, which is many times slower", hint)]
    if chosen != usable[0]:
        hint = "unset ONOTRAIN_KERNELS"
        found.append(Finding("warn", "kernels", f"{chosen} is forced, {usable[0]} would be faster", hint))
    levels = set(world.comm.allgather(chosen))
    if len(levels) > 1:
        hint = "nothing to fix: all ranks use the best that they have in common"
        found.append(Finding("warn", "kernels", f"processors differ: {', '.join(sorted(levels))}", hint))
    return found


def _memory(world: World) -> list[Finding]:
    """Memory of the node."""
    from onotrain.memory import available_bytes

    left, total = available_bytes(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = f"{left / 2**30:.1f} GiB free of {total / 2**30:.1f} GiB"
    if left < _LEAST_MEMORY_BYTES:
        return [Finding("warn", "memory", text, "end other programs, or use a node with more memory")]
    return [Finding("ok", "memory", text)]


def _limits(world: World) -> list[Finding]:
    """Limits of the process that break jobs: memory, open files, locked memory."""
    limits = {
        "address space (ulimit -v)": (resource.RLIMIT_AS, _LEAST_MEMORY_BYTES * 4),
        "file size (ulimit -f)": (resource.RLIMIT_FSIZE, _LEAST_DISK_BYTES),
        "open files (ulimit -n)": (resource.RLIMIT_NOFILE, _LEAST_FILES),
        "stack (ulimit -s)": (resource.RLIMIT_STACK, 1 << 20),
    }
    found = []
    for name, (kind, least) in limits.items():
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and limit < least:
            found.append(
                Finding("warn", "limits", f"{name} is {limit}, expected {least} or more", "raise it with ulimit")
            )
    return found or [Finding("ok", "limits", "address space, file size, open files and stack suffice")]


def _disk(world: World) -> list[Finding]:
    """Space for runs (here) and for temporary files."""
    found = []
    for name, path in (("disk", os.getcwd()), ("temporary files", tempfile.gettempdir())):
        free = shutil.disk_usage(path).free
        text = f"{free / 2**30:.1f} GiB free in {path}"
        if not os.access(path, os.W_OK):
            found.append(Finding("warn", name, f"{path} cannot be written", "use another directory, or set TMPDIR"))
        elif free < _LEAST_DISK_BYTES:
            found.append(Finding("warn", name, text, "remove files; checkpoints need room"))
        else:
            found.append(Finding("ok", name, text))
    return found


def _shared_memory(world: World) -> list[Finding]:
    """Write in memory that the ranks of a node share, and read what the others wrote."""
    import numpy as np

    from onotrain.parallel.shared_memory import allocate

    node = world.node
    array = allocate(node, {"test": ((node.size, MESSAGE_BYTES // 8), np.float64)})["test"]
    array[node.rank] = node.rank + 1
    node.Barrier()
    right = bool((array == np.arange(1, node.size + 1)[:, np.newaxis]).all())
    if not all(node.allgather(right)):
        hint = "run all ranks of a node in one container and as one user"
        return [Finding("FAIL", "shared memory", "the ranks of a node do not see what the others wrote", hint)]
    return [Finding("ok", "shared memory", f"{node.size} rank{'s' * (node.size > 1)} of a node share it")]


def _self_test(world: World) -> list[Finding]:
    """Check collectives on all ranks, then measure an all-reduce of 8 bytes and of 2 MiB."""
    import numpy as np

    mpi, comm = start_mpi(), world.comm
    with agreed(comm):
        wrong = _wrong_collectives(mpi, comm)
    failures = [f"rank {rank}: {names}" for rank, names in enumerate(comm.allgather(wrong)) if names]
    if failures:
        text = f"wrong results: {'; '.join(failures[:4])}"
        return [
            Finding("FAIL", "collectives", text, "this MPI cannot be trusted here: try another one, or other hosts")
        ]
    if world.size == 1:
        return [Finding("ok", "collectives", "right (one rank; start more with mpirun -n N)")]
    latency = _seconds(comm, np.ones(1))
    large = _seconds(comm, np.ones(MESSAGE_BYTES // 4, np.float32))
    text = f"right; all-reduce of 8 bytes {latency * 1e6:,.0f} us, of 2 MiB {large * 1e3:.2f} ms"
    text += f" ({MESSAGE_BYTES / large / 2**20:,.0f} MiB/s)"
    if latency * 1e6 > _SLOW_US:
        hint = "ranks compete for cores (see above), or hosts are joined by a slow network"
        return [Finding("warn", "collectives", f"slow: {text}", hint)]
    return [Finding("ok", "collectives", text)]


def _wrong_collectives(mpi: Any, comm: MPI.Comm) -> str:
    """Return the names of the collectives that give a wrong result on this rank."""
    import numpy as np

    rank, size = comm.rank, comm.size
    wrong = []
    numbers = np.arange(1000, dtype=np.float32) + rank
    comm.Allreduce(mpi.IN_PLACE, numbers)
    if not np.array_equal(numbers, np.arange(1000, dtype=np.float32) * size + size * (size - 1) / 2):
        wrong.append("Allreduce")
    root = size - 1
    sent = np.full(100, rank, np.int64)
    comm.Bcast(sent, root=root)
    if (sent != root).any():
        wrong.append("Bcast")
    gathered = np.empty((size, 3), np.int64)
    comm.Allgather(np.array([rank, rank + 1, -rank]), gathered)
    expected = np.arange(size)
    if not np.array_equal(gathered, np.stack([expected, expected + 1, -expected], axis=1)):
        wrong.append("Allgather")
    if comm.allreduce(rank, op=mpi.MAX) != size - 1:
        wrong.append("allreduce of objects")
    return ", ".join(wrong)


def _seconds(comm: MPI.Comm, data: Any) -> float:
    """Return the time of one in-place all-reduce [s]: the median of as many as fit in half of the self-test."""
    import numpy as np

    mpi = start_mpi()
    times: list[float] = []
    comm.Allreduce(mpi.IN_PLACE, data)
    begin, go_on = perf_counter(), True
    while go_on:
        data[...] = 1
        comm.Barrier()
        start = perf_counter()
        comm.Allreduce(mpi.IN_PLACE, data)
        times.append(perf_counter() - start)
        # Rank 0's clock decides for all.
        go_on = comm.bcast(perf_counter() - begin < SELF_TEST_S / 2, root=0)
    return float(np.median(times))
