"""Streaming: every sample once an epoch, the same for any number of ranks, from windows smaller than the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from feeding import batches, fill
from onotrain import _kernels
from onotrain.data import streams
from onotrain.data.dataset import DataSpec
from onotrain.data.feed import ArrayFeed
from onotrain.data.hdf5_stream import Hdf5Stream
from onotrain.data.normalization import Normalization
from onotrain.data.stream_feed import StreamFeed
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World

pytestmark = pytest.mark.mpi

ROWS, COLUMNS, BLOCK_ROWS = 203, 3, 8


@pytest.fixture
def file(world: World, tmp_path: Path) -> Path:
    """A file whose first column is the number of the row."""
    path = world.comm.bcast(tmp_path / "stream.h5", root=0)
    if world.rank == 0:
        features = np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
        features[:, 0] = np.arange(ROWS)
        with h5py.File(path, "w") as out:
            out.create_dataset("x", data=features, chunks=(4, COLUMNS))
            out["y"] = np.arange(ROWS)
    world.barrier()
    return path


def stream_feed(
    world: World,
    file: Path,
    batch_size: int,
    *,
    index: np.ndarray | None = None,
    window_mib: int = 0,
    kernels: _kernels.Kernels | None = None,
    made: list[str] | None = None,
) -> StreamFeed:
    """Return the feed of the file; `made` gets the names of the arrays that its ranks share."""

    def shared(fields: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if made is not None:
            made.extend(fields)
        return allocate(world.node, fields)

    kernels = kernels or _kernels.load("float32")
    stream, targets = Hdf5Stream(DataSpec(str(file))), np.arange(ROWS, dtype=np.int32)
    nothing = Normalization.none()
    return StreamFeed(world.node, shared, stream, targets, index, window_mib, batch_size, nothing, 7, kernels)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("batch_size", [1, 10, 24, 200, 203])
def test_every_sample_once_an_epoch_in_the_order_of_the_seed(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, split: bool
) -> None:
    """Three epochs from the middle of the first; batches straddle windows, the read-ahead crosses epochs."""
    monkeypatch.setattr(streams, "BLOCK_BYTES", BLOCK_ROWS * COLUMNS * 4)
    index = np.flatnonzero(np.arange(ROWS) % 5) if split else None
    assert Hdf5Stream(DataSpec(str(file))).block_rows == BLOCK_ROWS
    feed = stream_feed(world, file, batch_size, index=index)
    start = batch_size * (feed.samples // batch_size // 2)
    for epoch in range(3):
        seen: list[int] = []
        for batch in batches(feed.samples, batch_size, start if epoch == 0 else 0):
            part = batch.slice(world.rank, world.size)
            x, y = np.empty((len(part), COLUMNS), np.float32), np.empty(len(part), np.int32)
            for chunk in part.micro_batches(2):
                rows = slice(chunk.begin - part.begin, chunk.end - part.begin)
                fill(feed, epoch, batch, chunk, x[rows], y[rows])
            np.testing.assert_array_equal(x[:, 0], y)
            np.testing.assert_array_equal(x[:, 1], y * COLUMNS + 1)
            for rows_of_rank in world.comm.allgather(y.tolist()):
                seen += rows_of_rank
        order = feed.order(epoch)
        expected: list[int] = []
        for chunk in order.chunks(start if epoch == 0 else 0, feed.samples):
            buffer = np.concatenate([np.arange(*block) for block in order.windows[chunk.window].blocks])
            expected += buffer[chunk.rows].tolist()
        assert seen == expected
        if epoch > 0:
            assert sorted(seen) == (list(range(ROWS)) if index is None else index.tolist())
            assert seen != sorted(seen)
    if batch_size <= 24:
        assert len(feed.order(0).windows) > 2, "a test of one window would show little"
    feed.close()


@pytest.mark.parametrize("batch_size", [10, 24])
def test_a_rank_that_lags_finds_its_samples(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """Without a word between the steps, as in local SGD: nobody overwrites a window that another still needs."""
    monkeypatch.setattr(streams, "BLOCK_BYTES", BLOCK_ROWS * COLUMNS * 4)

    def late(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def gather(*arguments: Any) -> None:
            if world.rank == world.size - 1:
                time.sleep(0.003)
            kernel(*arguments)

        return gather if name == "gather" else kernel

    feed = stream_feed(world, file, batch_size, kernels=_kernels.load("float32").wrapped(late))
    for epoch in range(2):
        for batch in batches(feed.samples, batch_size):
            part = batch.slice(world.rank, world.size)
            x, y = np.empty((len(part), COLUMNS), np.float32), np.empty(len(part), np.int32)
            fill(feed, epoch, batch, part, x, y)
            np.testing.assert_array_equal(x[:, 0], y)
    feed.close()


def test_a_file_that_fits_in_one_window_is_in_the_order_of_memory(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streaming or not, the same samples in the same order; and the file is read once, not once an epoch."""
    targets = np.arange(ROWS, dtype=np.int32)
    features = np.repeat(targets[:, None].astype(np.float32), COLUMNS, axis=1)
    memory = ArrayFeed(features, targets, None, Normalization.none(), 7, _kernels.load("float32"))
    reads: list[tuple[int, int]] = []
    original = Hdf5Stream.read

    def read(self: Hdf5Stream, begin: int, end: int, out: np.ndarray) -> None:
        reads.append((begin, end))
        original(self, begin, end, out)

    monkeypatch.setattr(Hdf5Stream, "read", read)
    windows: list[str] = []
    feed = stream_feed(world, file, 50, window_mib=1, made=windows)
    for epoch in range(3):
        for batch in batches(ROWS, 50):
            part = batch.slice(world.rank, world.size)
            orders = []
            for source in (memory, feed):
                x, y = np.empty((len(part), COLUMNS), np.float32), np.empty(len(part), np.int32)
                fill(source, epoch, batch, part, x, y)
                orders.append(y)
            np.testing.assert_array_equal(*orders)
            world.barrier()
    assert len(reads) == (1 if world.node.rank == 0 else 0)
    assert len(windows) == 1, "memory for a second window would never be used"
    feed.close()
