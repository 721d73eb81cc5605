"""Batches from files that are larger than the node's memory.

The node holds two windows of them in shared memory: one that its ranks take samples from, and one that they read
meanwhile in the background, each rank its share of the blocks, so that every block is read by one rank of the node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np

from onotrain._kernels import Kernels
from onotrain._kernels.recording import Live, PythonCall
from onotrain.data.batches import Batch
from onotrain.data.normalization import Normalization
from onotrain.data.stream import BlockOrder
from onotrain.data.streams import Stream
from onotrain.errors import UsageError, on_all_ranks
from onotrain.seeds import key

_MIB = 1 << 20

#: Epoch, and number of the window in it.
_Place = tuple[int, int]


class StreamFeed:
    """Samples that are streamed; see `onotrain.data.feed.Feed`.

    *Collective* over the node: made, and asked for the same batches, by all its ranks, which wait for each other where
    a window takes the place of another.

    Parameters
    ----------
    node
        Communicator of the ranks that share memory.
    allocate
        Returns zeroed arrays of these shapes and dtypes in memory that they share.  *Collective* over the node.
    stream
        What is streamed, opened by this rank.
    targets
        Encoded targets of all rows.
    index
        Sorted rows to train on, or None for all.
    window_mib
        Memory for one window; there are two unless all fits in one [MiB].
    batch_size
        Largest batch; a window holds at least as many samples.
    normalization, seed, kernels
        As for `onotrain.data.feed.ArrayFeed`.
    weights
        How much each row counts, ``(rows,)`` in the dtype to compute in; None: all alike.
    output_weights
        As for `onotrain.data.feed.ArrayFeed`.
    """

    def __init__(
        self,
        node: Any,
        allocate: Callable[[Mapping[str, tuple[tuple[int, ...], np.dtype]]], dict[str, np.ndarray]],
        stream: Stream,
        targets: np.ndarray,
        index: np.ndarray | None,
        window_mib: int,
        batch_size: int,
        normalization: Normalization,
        seed: int,
        kernels: Kernels,
        weights: np.ndarray | None = None,
        output_weights: np.ndarray | None = None,
    ) -> None:
        self._node, self._stream, self._targets, self._kernels = node, stream, targets, kernels
        self._weights, self.weighted, self.output_weights = weights, weights is not None, output_weights
        self._epoch = 0
        self._shift, self._scale = normalization.for_storage(stream.dtype, stream.features, kernels.dtype)
        largest = np.sort(np.diff(stream.edges))[::-1]
        window_rows = window_mib * _MIB // (stream.features * stream.dtype.itemsize)
        # A batch may begin in one window and end in the next, but not reach into a third.
        batch_rows = batch_size * (stream.rows // (stream.rows if index is None else len(index)) + 1)
        least = int(np.searchsorted(np.cumsum(largest[::-1]), batch_rows)) + 2
        blocks = max(least, int(np.searchsorted(np.cumsum(largest), window_rows, side="right")))
        self.order = lru_cache(maxsize=2)(partial(self._order, stream.edges, blocks, partial(key, seed), index))
        self.samples, self.windows = self.order(0).samples, len(self.order(0).windows)
        self.pools: tuple[int, ...] = ()
        buffer = (int(largest[:blocks].sum()), stream.features), stream.dtype
        self._buffers = list(allocate({str(n): buffer for n in range(min(2, self.windows))}).values())
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stream")
        self._reading: dict[_Place, Future[None]] = {}
        self._loaded: list[_Place | None] = [None, None]
        self._rows_of: list[np.ndarray] = [np.empty(0, np.int64)] * 2

    def _order(self, edges: np.ndarray, blocks: int, keys: Any, index: np.ndarray | None, epoch: int) -> BlockOrder:
        return BlockOrder(edges, blocks, epoch, keys, self._kernels.shuffle_positions, index)

    def begin_epoch(self, epoch: int) -> None:
        """Take the samples in the order of this epoch from now on."""
        self._epoch = epoch

    def record(
        self, samples: int, part: Batch, x: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
    ) -> list[Any]:
        """Take the samples from the windows, which all ranks of the node enter: Python."""

        def fill(position: int) -> None:
            batch = Batch(position, position + samples)
            self.fill(self._epoch, batch, Batch(position + part.begin, position + part.end), x, targets, weights)

        return [PythonCall(fill, Live.POSITION)]

    def fill(
        self,
        epoch: int,
        batch: Batch,
        part: Batch,
        x: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> None:
        """Take the samples from the windows, which all ranks of the node enter.  *Collective* over the node."""
        order = self.order(epoch)
        first, last = order.window_at(batch.begin), order.window_at(batch.end - 1)
        needed = [number for number in range(first, last + 1) if order.windows[number].samples]
        if len(needed) > 2:
            raise on_all_ranks(
                UsageError(
                    f"a batch of {len(batch)} samples reaches over {len(needed)} windows", hint="raise data.window_mib"
                )
            )
        for number in needed:
            self._enter(self._place(epoch, number))
        # Nobody needs the window before the batch's first any more; if the batch needs one window only, read ahead.
        if len(needed) == 1:
            self._read_ahead(self._following(epoch, first))
        for chunk in order.chunks(part.begin, part.end):
            rows = slice(chunk.begin - part.begin, chunk.end - part.begin)
            slot = self._loaded.index(self._place(epoch, chunk.window))
            self._kernels.gather(self._buffers[slot], chunk.rows, self._shift, self._scale, x[rows])
            numbers = self._rows_of[slot][chunk.rows]
            np.take(self._targets, numbers, axis=0, out=targets[rows], mode="clip")
            if weights is not None and self._weights is not None:
                np.take(self._weights, numbers, out=weights[rows], mode="clip")

    def _place(self, epoch: int, number: int) -> _Place:
        """Return what tells windows apart; what fits in one window is the same in every epoch."""
        return (epoch, number) if len(self.order(epoch).windows) > 1 else (0, 0)

    def _following(self, epoch: int, number: int) -> _Place:
        """Return the window that will be needed after this one."""
        later = [window.number for window in self.order(epoch).windows[number + 1 :] if window.samples]
        if later:
            return self._place(epoch, later[0])
        return self._place(epoch + 1, self.order(epoch + 1).window_at(0))

    def _enter(self, place: _Place) -> None:
        """Have a window in memory, whole.  *Collective* over the node."""
        if place in self._loaded and place not in self._reading:
            return
        self._read_ahead(place)
        self._reading.pop(place).result()
        self._node.Barrier()

    def _read_ahead(self, place: _Place) -> None:
        """Begin to read this rank's blocks of a window, in place of the older one.  *Collective* over the node."""
        if place in self._loaded:
            return
        self._node.Barrier()  # a rank that is batches behind still takes samples from the older one
        known = [loaded for loaded in self._loaded if loaded is not None]
        slot = self._loaded.index(min(known)) if len(known) == 2 else self._loaded.index(None)
        self._loaded[slot] = place
        blocks = self.order(place[0]).windows[place[1]].blocks
        self._rows_of[slot] = np.concatenate([np.arange(*block) for block in blocks])
        self._reading[place] = self._reader.submit(self._read, slot, blocks)

    def _read(self, slot: int, blocks: tuple[tuple[int, int], ...]) -> None:
        offset = 0
        for number, (begin, end) in enumerate(blocks):
            if number % self._node.size == self._node.rank:
                self._stream.read(begin, end, self._buffers[slot][offset : offset + end - begin])
            offset += end - begin

    def close(self) -> None:
        """Wait for what is being read, and close the files."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._stream.close()
