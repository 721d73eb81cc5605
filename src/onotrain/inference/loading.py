"""The same network on all ranks, read once, its parameters once in the memory of each node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onotrain.inference.predictor import Predictor
from onotrain.known_names import Precision
from onotrain.parallel import kernels, launcher
from onotrain.parallel.agreement import agreed, broadcast
from onotrain.parallel.collectives import broadcast_vector
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World
from onotrain.runs.checkpoint_store import Found
from onotrain.runs.metadata import ModelMetadata, Vectors, check_size, parameters_only, read_arrays
from onotrain.runs.run_directory import find_checkpoint


def connect() -> World | None:
    """Return the job's ranks; None if this process is the only one: then MPI is not started."""
    return World.connect() if launcher.may_have_others() else None


@contextmanager
def together(world: World | None) -> Iterator[None]:
    """Run local work that fails on all ranks if it fails on one; *collective*."""
    if world is None:
        yield
    else:
        with agreed(world.comm):
            yield


def load_everywhere(world: World | None, run: str | Path, precision: Precision = "full") -> tuple[Predictor, list[str]]:
    """Load the network of a run or checkpoint on all ranks.  *Collective*: `run` of rank 0 counts.

    Returns
    -------
    predictor : Predictor
        With the kernels that all ranks have in common.
    warnings : list of str
        Damaged checkpoints that were passed over.

    Raises
    ------
    UsageError, CheckpointError, PlatformError
        See `onotrain.inference.load`.
    """
    if world is None:
        found = find_checkpoint(run)
        return Predictor.from_checkpoint(found.checkpoint, str(found.path), precision), found.warnings
    # Rank 0 alone looks for the file: a run that is still training may meanwhile have another one.
    kept: list[Found] = []

    def read() -> tuple[dict[str, Any], str, list[str]]:
        kept.append(find_checkpoint(run))
        return kept[0].checkpoint.metadata, str(kept[0].path), kept[0].warnings

    stored, source, warnings = broadcast(world.comm, read)
    with agreed(world.comm):
        metadata = ModelMetadata.from_dict(stored, source)
    chosen = kernels.agree(world.comm, metadata.config.training.dtype, precision)
    with agreed(world.comm):
        layout = metadata.model_of(chosen, source).layout
        if world.rank == 0:
            check_size(kept[0].checkpoint, layout, source)
    with agreed(world.comm):
        parameters = allocate(world.node, {"parameters": ((layout.size,), layout.dtype)})["parameters"]
        if world.rank == 0:
            read_arrays(parameters_only(kept[0].checkpoint), layout, Vectors(parameters), source)
    _send_to_nodes(world, parameters)
    return Predictor(metadata, parameters, chosen), warnings


def _send_to_nodes(world: World, parameters: np.ndarray) -> None:
    """Copy rank 0's parameters to the first rank of every other node; *collective*."""
    leaders = world.peers
    if world.node.rank == 0 and leaders is not None:
        broadcast_vector(leaders, parameters)
    world.node.Barrier()
