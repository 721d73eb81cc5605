"""Sums over all ranks: through the memory of a node, by the strategies, and by MPI; and the barriers around them.

Bandwidth is the size of the vector divided by the time, whatever is sent where; it compares methods for one number of
ranks.
Before each sum every rank writes its vector anew, which is not counted: a gradient too comes from another core's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from onotrain import _kernels
from onotrain.bench.measure import Call, Say, measure
from onotrain.bench.subject import check_positive
from onotrain.config import Config
from onotrain.memory import check_memory
from onotrain.nn import ParameterLayout
from onotrain.optim import Optimizer
from onotrain.parallel import kernels as kernel_choice
from onotrain.parallel.agreement import agreed
from onotrain.parallel.barrier import STATE, Barrier
from onotrain.parallel.collectives import all_reduce
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World
from onotrain.strategies import Context, StepStatistics, build

#: Sizes that are measured unless others are asked for [bytes].
SIZES = tuple(4 << power for power in range(10, 26, 2))
#: Strategies whose steps are measured, with the simplest update: what a sum costs where it is used.
WITH_GRADIENTS: tuple[dict[str, str], ...] = ({"name": "allreduce", "share": "gradients"}, {"name": "flat"})
_DTYPE = np.dtype(np.float32)


def run(world: World, sizes: Sequence[int], budget_s: float, say: Say) -> dict[str, Any]:
    """Measure sums of float32 vectors and barriers; *collective*.

    Parameters
    ----------
    sizes
        Of the vectors [bytes], rounded up to a multiple of 64.
    budget_s
        Time for each size [s].
    """
    check_positive("sizes", sizes)
    kernels = kernel_choice.agree(world.comm, _DTYPE)
    say("barriers")
    barriers = _barriers(world, budget_s)
    results = []
    for size in sizes:
        nbytes = -(-size // 64) * 64
        say(f"{nbytes:,} bytes")
        with agreed(world.comm):
            # Rows of the node, a vector for MPI, and for the strategies parameters and gradients of each rank.
            check_memory(
                nbytes * (5 * world.node.size + 2), f"sums of {nbytes:,} bytes", hint="ask for smaller --sizes"
            )
        results.append(_sums(world, kernels, nbytes, budget_s))
    return {
        "build": kernels.path, "ranks": world.size, "nodes": world.nodes, "barriers": barriers, "sums": results
    }  # fmt: skip


def _barriers(world: World, budget_s: float) -> dict[str, Any]:
    """Return the time of the node's barrier and of MPI's, over a node and over all ranks."""
    state = allocate(world.node, {"barrier": STATE})["barrier"]
    calls: list[Call] = [Barrier(world, state), world.node.Barrier, world.barrier]
    times = measure(calls, budget_s, world.comm)
    return {
        name: time.to_dict()
        for name, time in zip(("node_seconds", "mpi_node_seconds", "mpi_seconds"), times, strict=True)
    }


def _sums(world: World, kernels: _kernels.Kernels, nbytes: int, budget_s: float) -> dict[str, Any]:
    """Measure all methods of summing vectors of one size, in turn."""
    length = nbytes // _DTYPE.itemsize
    vector = np.zeros(length, _DTYPE)
    with ExitStack() as stack:
        methods: dict[str, tuple[np.ndarray, Call]] = {
            "node": _node_sum(world, kernels, length),
            **{
                f"strategy_{options['name']}": _strategy(stack, world, kernels, options, length)
                for options in WITH_GRADIENTS
            },
            "mpi": (vector, partial(all_reduce, world.comm, vector)),
        }
        written, calls = zip(*methods.values(), strict=True)
        found = measure(calls, budget_s, world.comm, before=[partial(mine.fill, 0.0) for mine in written])
    times = dict(zip(methods, found, strict=True))
    return {
        "bytes": nbytes,
        **{f"{name}_seconds": time.to_dict() for name, time in times.items()},
        **{f"{name}_gbytes_per_s": nbytes / time.median / 1e9 for name, time in times.items()},
        "mpi_of_node": times["mpi"].of(times["node"]),
    }


def _node_sum(world: World, kernels: _kernels.Kernels, length: int) -> tuple[np.ndarray, Call]:
    """Return this rank's row, and the sum of the rows of a node, at the end of which every rank may read it."""
    arena = allocate(
        world.node, {"rows": ((world.node.size, length), _DTYPE), "sum": ((length,), _DTYPE), "barrier": STATE}
    )
    barrier = Barrier(world, arena["barrier"])
    part = ParameterLayout([("vector", (length,))], _DTYPE).shard(world.node.rank, world.node.size)
    rows, total = arena["rows"][:, part], arena["sum"][part]

    def call() -> None:
        barrier()
        kernels.sum_gradients(rows, total)
        barrier()

    return arena["rows"][world.node.rank], call


def _strategy(
    stack: ExitStack, world: World, kernels: _kernels.Kernels, options: dict[str, str], length: int
) -> tuple[np.ndarray, Call]:
    """Return this rank's gradient, and a step of a strategy with plain gradient descent at a rate of 0."""
    config = Config.from_mapping(
        {
            "data": {"train": "digits"},
            "model": {"layers": [{"dense": 1}]},
            "loss": "mse",
            "optimizer": {"name": "sgd"},
            "training": {"epochs": 1, "batch_size": 1},
            "strategy": options,
        }
    )
    layout = ParameterLayout([("vector", (length,))], _DTYPE)
    with agreed(world.comm):
        strategy = build(Context.of(config, world, layout, Optimizer(config.optimizer, None, kernels)))
    stack.callback(strategy.close)
    statistics, numbers = StepStatistics(), iter(range(1, 1 << 62))
    assert strategy.replica.gradient is not None  # noqa: S101 - for the type checker
    return strategy.replica.gradient, lambda: strategy.step(0.0, next(numbers), 1, statistics, synchronize=False)
