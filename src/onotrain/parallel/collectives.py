"""Collectives on whole vectors: MPI counts end at 2^31, so long ones go in pieces."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onotrain.parallel.world import Comm, start_mpi

#: Bytes of one message.
PIECE_BYTES = 1 << 30


def _pieces(vector: np.ndarray) -> Iterator[np.ndarray]:
    step = PIECE_BYTES // vector.itemsize
    return (vector[begin : begin + step] for begin in range(0, len(vector), step))


def all_reduce(comm: Comm, vector: np.ndarray) -> None:
    """Sum a vector over the ranks, in place.  *Collective*: same dtype and length on all ranks."""
    for piece in _pieces(vector):
        comm.Allreduce(start_mpi().IN_PLACE, piece)


def broadcast_vector(comm: Comm, vector: np.ndarray) -> None:
    """Copy rank 0's vector to all ranks.  *Collective*: same dtype and length on all ranks."""
    for piece in _pieces(vector):
        comm.Bcast(piece, root=0)
