"""Whole vectors on their way between ranks: MPI counts end at 2^31, so long ones go in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onotrain.parallel.world import Comm, start_mpi

#: Bytes of one message.
CHUNK_BYTES = 1 << 30
#: Of the messages of `move_vector`.
_MOVE_TAG = 2


def chunks(vector: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a vector in views that are short enough for one message; none if it is empty."""
    step = CHUNK_BYTES // vector.itemsize
    return (vector[begin : begin + step] for begin in range(0, len(vector), step))


def all_reduce(comm: Comm, vector: np.ndarray) -> None:
    """Sum a vector over the ranks, in place.  *Collective*: same dtype and length on all ranks."""
    for chunk in chunks(vector):
        comm.Allreduce(start_mpi().IN_PLACE, chunk)


def broadcast_vector(comm: Comm, vector: np.ndarray, root: int = 0) -> None:
    """Copy the vector of rank `root` to all ranks.  *Collective*: same dtype, length and root on all ranks."""
    for chunk in chunks(vector):
        comm.Bcast(chunk, root=root)


def move_vector(comm: Comm, vector: np.ndarray, source: int, target: int) -> None:
    """Copy the vector of rank `source` to that of rank `target`; both call it, with the same dtype and length."""
    for chunk in chunks(vector):
        if comm.rank == source:
            comm.Send(chunk, target, _MOVE_TAG)
        elif comm.rank == target:
            comm.Recv(chunk, source, _MOVE_TAG)
