"""Which samples a rank trains on, where ``data.partition`` gives each its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from onotrain._kernels import Kernels
from onotrain.config import Config
from onotrain.data.batches import Batch
from onotrain.data.partition import label_counts, pool_by_label, pool_by_rank
from onotrain.data.sample_pool import Pool, Positions
from onotrain.memory import check_memory
from onotrain.parallel.agreement import agreed, broadcast
from onotrain.parallel.world import World


def make_pool(
    world: World, config: Config, arrays: Mapping[str, np.ndarray], part: Callable[[Batch], Batch], kernels: Kernels
) -> Pool | None:
    """Return this rank's samples, or None if they are not partitioned.  *Collective*: same arguments but for `part`.

    Parameters
    ----------
    world
        All ranks.
    config
        Of the run.
    arrays
        Of `onotrain.data.prepare.prepare`.
    part
        This rank's slice of a batch.
    kernels
        Kernels of any dtype.

    Raises
    ------
    ResourceError
        The ranks' lists of samples do not fit in memory.
    """
    options, seed = config.data.partition, config.training.seed
    if options.name == "none":
        return None
    targets, index = arrays["targets"], arrays.get("train_index")
    positions = Positions(len(targets) if index is None else len(index), config.training.batch_size, part)
    everyone = world.comm.allgather(len(positions))
    # Those that compute nothing have no pool: others get the same ones with servers among them as without.
    sizes, number = tuple(size for size in everyone if size), sum(size > 0 for size in everyone[: world.rank])
    with agreed(world.comm):
        check_memory(
            sum(world.node.allgather(len(positions))) * np.dtype(np.int64).itemsize,
            f"numbers of the samples of {world.node.size} ranks",
            hint="use data.partition: none",
        )
    rows = slice(None) if index is None else index
    counts = None
    if options.name == "by_label":
        kinds = max(2, config.model.outputs)  # yes and no have one output
        counts = broadcast(
            world.comm,
            lambda: label_counts(np.bincount(_classes(targets[rows]), minlength=kinds), sizes, options.alpha, seed),
        )
    if not len(positions):
        own = np.empty(0, np.int64)
    elif counts is None:
        own = pool_by_rank(number, sizes, seed, kernels)
    else:
        own = pool_by_label(
            number, counts, lambda samples: _classes(targets[samples if index is None else index[samples]]), seed,
            kernels,
        )  # fmt: skip
    return Pool(number, own if index is None else index[own], sizes, positions, counts)


def _classes(targets: np.ndarray) -> np.ndarray:
    """Return the classes of targets, int64 ``(n,)``; a number between no and yes is the nearer one."""
    return np.rint(targets).astype(np.int64).reshape(-1)
