"""Prediction by all ranks: chunks of rows are handed out as ranks become free, and come out in the order of the input.

Chunks are of one size for any number of ranks, and BLAS runs on one thread a rank, so that the output is the same to the
byte.  Rank 0 hands out, collects and computes.  Every rank begins with two chunks that are its own by number, so that a
reply is on its way while it computes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from onotrain.inference.predictor import CHUNK_ROWS, Predictor
from onotrain.inference.sinks import Sink
from onotrain.parallel import threads
from onotrain.parallel.world import World, start_mpi

_RESULT_TAG, _BLOCK_TAG, _NEXT_TAG = 1, 2, 3
_NO_MORE = -1

#: Returns the features of rows ``[begin, end)``.
Read = Callable[[int, int], np.ndarray]


#: Told of how many rows are done, on rank 0.
Progress = Callable[[int], None]


class _Job:
    """What one rank knows of the work: where its rows are, and how to predict a chunk."""

    def __init__(self, predictor: Predictor, rows: int, read: Read) -> None:
        self.chunks = -(-rows // CHUNK_ROWS)
        self._predictor, self._rows, self._read = predictor, rows, read
        # Two, used in turn: one may be travelling while the other is filled.
        self._out = deque(np.empty((CHUNK_ROWS, predictor.outputs), predictor.model.dtype) for _ in range(2))

    def first(self, rank: int, size: int) -> deque[int]:
        """Return the chunks that `rank` begins with."""
        return deque(chunk for chunk in (rank, rank + size) if chunk < self.chunks)

    def block(self, chunk: int) -> np.ndarray:
        """Return a buffer for a chunk's predictions; the one after the next call's is this one again."""
        self._out.rotate()
        return self._out[0][: min(CHUNK_ROWS, self._rows - chunk * CHUNK_ROWS)]

    def predict(self, chunk: int) -> np.ndarray:
        """Return a chunk's predictions, in a buffer of `block`."""
        out = self.block(chunk)
        begin = chunk * CHUNK_ROWS
        self._predictor.predict_chunk(self._read(begin, begin + len(out)), out)
        return out


def predict(
    world: World | None,
    predictor: Predictor,
    rows: int,
    read: Read,
    sink: Sink | None,
    progress: Progress = lambda rows: None,
) -> list[int]:
    """Predict `rows` rows with all ranks.

    *Collective*: same network and rows on all ranks; `sink` (needed) and `progress` on rank 0.  An exception on one rank
    leaves the others waiting, and must end the job (`onotrain.parallel.guard`).

    Parameters
    ----------
    world
        The ranks; None for this process alone, without MPI.
    predictor
        The network.
    rows
        Number of samples.
    read
        Returns the features ``(end - begin, d)`` of rows ``[begin, end)``, at most `CHUNK_ROWS` of them.
    sink
        Gets the predictions.

    Returns
    -------
    list of int
        Number of chunks that each rank predicted (on rank 0; empty elsewhere).
    """
    job = _Job(predictor, rows, read)
    with threads.limit(1):
        if world is None or world.rank == 0:
            if sink is None:
                raise ValueError("sink is None on rank 0")
            return _Coordinator(world, job, _Results(sink, progress)).run()
        _work(world.comm, job)
    return []


class _Results:
    """Finished chunks on their way to the sink."""

    def __init__(self, sink: Sink, progress: Progress) -> None:
        self._sink, self._progress = sink, progress

    def keep(self, chunk: int, block: np.ndarray) -> None:
        self._sink.write(chunk * CHUNK_ROWS, block)
        self._progress(len(block))


class _Exchange:
    """A result on its way to rank 0, and the reply on its way back."""

    def __init__(self, comm: Any, chunk: int, block: np.ndarray) -> None:
        self._reply = np.empty(1, np.int64)
        self._requests = [
            comm.Irecv(self._reply, source=0, tag=_NEXT_TAG),
            comm.Isend(np.array([chunk], np.int64), dest=0, tag=_RESULT_TAG),
            comm.Isend(block, dest=0, tag=_BLOCK_TAG),
        ]

    def finish(self) -> list[int]:
        """Wait for the reply; return the chunk that it hands out, if any."""
        start_mpi().Request.Waitall(self._requests)
        chunk = int(self._reply[0])
        return [] if chunk == _NO_MORE else [chunk]


def _work(comm: Any, job: _Job) -> None:
    """Predict chunks and send them to rank 0 until it has no more; while one travels, predict the next."""
    queue = job.first(comm.rank, comm.size)
    travelling: _Exchange | None = None
    while queue or travelling:
        block, chunk = None, _NO_MORE
        if queue:
            chunk = queue.popleft()
            block = job.predict(chunk)
        if travelling:
            queue.extend(travelling.finish())
        travelling = None if block is None else _Exchange(comm, chunk, block)


class _Coordinator:
    """Rank 0, or the only process: computes, and serves the others between its own chunks."""

    def __init__(self, world: World | None, job: _Job, results: _Results) -> None:
        self._comm: Any = None if world is None else world.comm
        self._mpi = None if world is None else start_mpi()
        size = 1 if world is None else world.size
        self._job, self._results = job, results
        self._own = job.first(0, size)
        self._next = 2 * size
        self._done = [0] * size

    def run(self) -> list[int]:
        """Return the number of chunks that each rank predicted."""
        while sum(self._done) < self._job.chunks:
            while self._comm is not None and self._comm.Iprobe(tag=_RESULT_TAG):
                self._serve()
            if self._own:
                self._compute()
            elif sum(self._done) < self._job.chunks:
                self._serve()
        return self._done

    def _take(self) -> int:
        """Return the next chunk that nobody has, or that there is none."""
        chunk = self._next
        self._next += 1
        return chunk if chunk < self._job.chunks else _NO_MORE

    def _keep(self, rank: int, chunk: int, block: np.ndarray) -> None:
        self._results.keep(chunk, block)
        self._done[rank] += 1

    def _compute(self) -> None:
        chunk = self._own.popleft()
        self._keep(0, chunk, self._job.predict(chunk))
        following = self._take()
        if following != _NO_MORE:
            self._own.append(following)

    def _serve(self) -> None:
        """Wait for one result; answer with the next chunk."""
        status, number = self._mpi.Status(), np.empty(1, np.int64)
        self._comm.Recv(number, source=self._mpi.ANY_SOURCE, tag=_RESULT_TAG, status=status)
        rank, chunk = status.Get_source(), int(number[0])
        block = self._job.block(chunk)
        self._comm.Recv(block, source=rank, tag=_BLOCK_TAG)
        self._comm.Send(np.array([self._take()], np.int64), dest=rank, tag=_NEXT_TAG)
        self._keep(rank, chunk, block)
