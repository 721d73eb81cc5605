"""What several files of tests/mpi need: vectors that differ from rank to rank, files, runs' records, nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from onotrain.data import DataSpec, load_dataset
from onotrain.nn import ParameterLayout
from onotrain.parallel.world import Comm, World
from onotrain.runs.run_directory import RunDirectory


def filled(layout: ParameterLayout, *seed: int) -> np.ndarray:
    """Return a flat vector of normal numbers, with zeros in the gaps; a rank in the seed makes it that rank's own."""
    flat, rng = layout.zeros(), np.random.default_rng(seed)
    for view in layout.views(flat).values():
        view[...] = rng.normal(size=view.shape)
    return flat


def records(place: Path) -> list[dict[str, Any]]:
    """Return the epochs of a run."""
    return [dict(record) for record in RunDirectory.open(place).metrics()]


def write_digits(world: World, path: Path, samples: int = 600) -> None:
    """Write an HDF5 file with some of the digits.  *Collective*."""
    if world.rank == 0:
        digits = load_dataset(DataSpec("digits"))
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=digits.features[:samples], chunks=(50, 64))
            file["y"] = digits.targets[:samples]
    world.barrier()


def two_nodes(comm: Comm) -> World:
    """Return a job as if its last third of ranks were another node.  *Collective*."""
    first = comm.size - comm.size // 3
    if first == comm.size:
        pytest.skip("Test requires 3 MPI processes")
    index = int(comm.rank >= first)
    return World(comm, comm.Split(index, key=comm.rank), index, (first, comm.size - first))
