"""Samples of which every rank has some rows, made whole on each node."""

from __future__ import annotations

import numpy as np

from onotrain.data.identity import digest_of
from onotrain.data.in_memory import InMemory
from onotrain.errors import DataError, UsageError, on_all_ranks
from onotrain.memory import check_memory
from onotrain.parallel.agreement import agreed
from onotrain.parallel.collectives import broadcast_vector, move_vector
from onotrain.parallel.world import World


def gathered(world: World, mine: InMemory) -> InMemory:
    """Return the samples of all ranks in the order of the ranks; on others than the first rank of a node, `mine`.

    *Collective*.  Rank 0 receives all rows and sends them to one rank of every other node: each of these holds them
    once besides its own ones.

    Raises
    ------
    DataError
        The ranks' samples do not fit together.
    ResourceError
        They do not fit in the memory of a node.
    """
    arrays = mine.arrays()
    kinds = [(mine.is_table, mine.names, *((name, array.shape[1:]) for name, array in arrays.items()))]
    seen = world.comm.allgather(kinds)
    if any(other != seen[0] for other in seen):
        rank = next(rank for rank, other in enumerate(seen) if other != seen[0])
        raise on_all_ranks(
            DataError(
                f"samples of rank {rank} have other columns or shapes than those of rank 0",
                hint="give every rank the same columns in the same order",
            )
        )
    whole = {name: _rows(world, _alike(world, mine, name)) for name in arrays}
    return mine.with_arrays(whole.__getitem__) if world.node.rank == 0 else mine


def _alike(world: World, mine: InMemory, name: str) -> np.ndarray:
    """Return this rank's rows of an array in a type that holds those of all ranks.  *Collective*."""
    array = mine.arrays()[name]
    types: list[np.dtype] = world.comm.allgather(array.dtype)
    texts, dates = (any(each.kind in kinds for each in types) for kinds in ("US", "M"))
    if (texts or dates) and len({each.kind in "US" or each.kind for each in types}) > 1:
        array = mine.texts(name)
        types = world.comm.allgather(array.dtype)
    return np.ascontiguousarray(array, np.result_type(*types))


def _rows(world: World, array: np.ndarray) -> np.ndarray:
    """Return the rows of all ranks on the first rank of each node; on others this rank's.  *Collective*."""
    lengths = world.comm.allgather(len(array))
    row = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    leads, nbytes = world.node.rank == 0, sum(lengths) * row
    with agreed(world.comm):
        if leads:
            check_memory(nbytes, "the samples of all ranks", hint="give all ranks files, which are read once per node")
    mine = array.reshape(-1).view(np.uint8)
    whole = np.empty(nbytes if leads else 0, np.uint8)
    begin = 0
    for rank, length in enumerate(lengths):
        end = begin + length * row
        if world.rank == 0:
            part = whole[begin:end]
            if rank == 0:
                part[:] = mine
            else:
                move_vector(world.comm, part, rank, 0)
        elif world.rank == rank:
            move_vector(world.comm, mine, rank, 0)
        begin = end
    peers = world.peers
    if leads and peers is not None:
        broadcast_vector(peers, whole)
    return whole.view(array.dtype).reshape(-1, *array.shape[1:]) if leads else array


def check_same(world: World, mine: InMemory) -> None:
    """Refuse ranks with other samples than those of rank 0.  *Collective*.

    Raises
    ------
    UsageError
        Some have.
    """
    if world.size == 1:
        return
    digests = world.comm.allgather(digest_of(mine.arrays().values()))
    other = next((rank for rank, digest in enumerate(digests) if digest != digests[0]), None)
    if other is not None:
        raise on_all_ranks(
            UsageError(
                f"rank {other} has other samples than rank 0",
                hint="give all ranks the same, or each its own ones with rows='own'",
            )
        )


def of_all_ranks(world: World, mine: InMemory, rows: str) -> InMemory:
    """Return the samples to train on, whole on the first rank of each node.  *Collective*: same `rows`."""
    if rows == "own":
        return gathered(world, mine) if world.size > 1 else mine
    check_same(world, mine)
    return mine
