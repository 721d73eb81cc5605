"""The package that speaks MPI, inside one job of any number of ranks."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest

from onotrain.errors import DataError, PlatformError, ResourceError, on_all_ranks
from onotrain.parallel import guard, shared_memory
from onotrain.parallel.agreement import agreed, broadcast
from onotrain.parallel.shared_memory import allocate, available_bytes, open_segment, share
from onotrain.parallel.world import World

pytestmark = pytest.mark.mpi


def test_every_rank_has_a_place(world: World) -> None:
    """Nodes partition the ranks; every shard has one owner on every node."""
    assert sum(world.node_sizes) == world.size == world.comm.allreduce(1)
    assert world.node.size == world.node_sizes[world.node_index]
    owners = world.comm.allreduce(int(world.peers is not None))
    assert owners == world.shards * world.nodes
    if world.peers is not None:
        assert world.peers.size == world.nodes


def test_the_first_failing_rank_speaks_for_all(world: World) -> None:
    """Ranks that fail, each with its own error, agree on that of the lowest; others get it too."""
    failing = [rank for rank in range(world.size) if rank % 2 == 1] or [0]
    with pytest.raises(DataError) as caught, agreed(world.comm):
        if world.rank in failing:
            raise DataError(f"rank {world.rank} cannot read", hint="try again")
    assert caught.value.message == f"rank {failing[0]} cannot read"
    assert caught.value.hint == "try again" and caught.value.agreed


def test_nobody_fails(world: World) -> None:
    """A block without a failure ends without one, and the job is still in step."""
    with agreed(world.comm):
        pass
    assert world.comm.allreduce(world.rank) == world.size * (world.size - 1) // 2


def test_lack_of_memory_is_a_resource_error(world: World) -> None:
    """MemoryError of the last rank becomes everyone's, with exit code 6."""
    with pytest.raises(ResourceError, match=f"rank {world.size - 1} ran out of memory"), agreed(world.comm):
        if world.rank == world.size - 1:
            raise MemoryError("no page left")


def test_a_bug_is_not_agreed(world: World) -> None:
    """Anything but an error of ours passes through at once: the guard aborts the job."""
    with pytest.raises(ZeroDivisionError), agreed(world.comm):
        raise ZeroDivisionError


def test_errors_are_alone_unless_marked() -> None:
    """Only what was agreed on may end without an abort."""
    assert not DataError("x").agreed
    assert on_all_ranks(DataError("x")).agreed


def test_what_else_went_wrong_is_said_too() -> None:
    """Such as a last checkpoint that could not be written after training had diverged."""

    def body() -> None:
        error = on_all_ranks(DataError("the cause", hint="fix it"))
        error.add_note("the last checkpoint was not saved either: disk full")
        raise error

    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "_world", lambda: (0, False))
        assert guard.run(body, stream) == 3
    assert stream.getvalue() == (
        "onotrain: the cause\n  hint: fix it\n  the last checkpoint was not saved either: disk full\n"
    )


def test_broadcast_takes_the_roots_value_or_its_failure(world: World) -> None:
    """`make` runs on the root alone."""
    root = world.size - 1
    assert broadcast(world.comm, lambda: world.rank, root=root) == root

    def fail() -> None:
        raise DataError("no file")

    with pytest.raises(DataError, match="no file"):
        broadcast(world.comm, fail, root=root)


def test_ranks_of_a_node_see_the_same_memory(world: World) -> None:
    """What one rank writes, the others read; arrays are zeroed, aligned and do not overlap."""
    fields = {
        "a": ((3,), np.uint8),
        "b": ((world.node.size, 5), np.float64),
        "empty": ((0, 4), np.float32),
        "c": ((7,), np.int32),
    }
    arrays = allocate(world.node, fields)
    assert {name: (array.shape, array.dtype) for name, array in arrays.items()} == {
        name: (shape, np.dtype(dtype)) for name, (shape, dtype) in fields.items()
    }
    assert not any(array.any() for array in arrays.values())
    assert all(array.ctypes.data % 64 == 0 for array in arrays.values())
    world.node.Barrier()
    arrays["b"][world.node.rank] = world.node.rank + 1
    if world.node.rank == 0:
        arrays["a"][:] = 255
        arrays["c"][:] = -1
    world.node.Barrier()
    np.testing.assert_array_equal(arrays["b"], np.repeat(np.arange(1.0, world.node.size + 1)[:, None], 5, axis=1))
    assert (arrays["a"] == 255).all() and (arrays["c"] == -1).all()


def test_shared_memory_leaves_no_descriptor_and_no_file(world: World) -> None:
    """Many segments come and go without using up descriptors or leaving names in /dev/shm."""
    before, names = len(os.listdir("/proc/self/fd")), set(os.listdir("/dev/shm"))
    for _ in range(20):
        allocate(world.node, {"x": ((1000,), np.float32)})
    assert len(os.listdir("/proc/self/fd")) == before
    assert set(os.listdir("/dev/shm")) - names == set()


def test_more_memory_than_there_is(world: World) -> None:
    """It is refused on all ranks before a page is touched."""
    with pytest.raises(ResourceError, match="MiB of shared memory wanted"):
        allocate(world.node, {"x": ((available_bytes() * 2,), np.uint8)})
    world.node.Barrier()


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN])
def test_memory_that_cannot_be_mapped(world: World, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A limit on the address space (ulimit -v) of one rank is not a bug of ours."""

    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    if world.node.rank == world.node.size - 1:
        monkeypatch.setattr("onotrain.parallel.shared_memory.mmap.mmap", refuse)
    with pytest.raises(ResourceError, match="cannot map"):
        allocate(world.node, {"x": ((1000,), np.float32)})


def test_another_file_is_not_taken_for_the_memory_of_the_node(tmp_path: Path) -> None:
    """In two containers the same process number may mean two processes."""
    with (tmp_path / "other").open("wb") as file, pytest.raises(PlatformError, match="cannot open the memory"):
        open_segment(os.getpid(), file.fileno(), (0, 0))


def test_ranks_that_cannot_open_each_others_memory_share_that_of_mpi(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers of their own."""

    def refused(*_: object) -> int:
        raise PlatformError("cannot open the memory")

    if world.rank == world.size - 1:
        monkeypatch.setattr(shared_memory, "open_segment", refused)
    fields = {"a": ((3, 5), np.float64), "b": ((world.node.size,), np.int64)}
    arrays = allocate(world.node, fields)
    assert not arrays["a"].any() and not arrays["b"].any()
    assert all(array.ctypes.data % 64 == 0 for array in arrays.values())
    world.node.Barrier()
    arrays["b"][world.node.rank] = world.rank + 1
    if world.node.rank == world.node.size - 1:
        arrays["a"][:] = 7
    world.node.Barrier()
    assert (arrays["a"] == 7).all() and (arrays["b"] > 0).all()
    world.node.Barrier()


def test_arrays_made_once_reach_every_rank(world: World) -> None:
    """`make` runs on the node's first rank only; its failure is everyone's."""
    calls = []

    def make() -> tuple[dict[str, np.ndarray], str]:
        calls.append(world.node.rank)
        rng = np.random.default_rng(world.node_index)
        return {"x": rng.normal(size=(13, 3)), "empty": np.empty((0, 2), np.int32)}, "extra"

    arrays, extra = share(world.node, make)
    assert extra == "extra" and calls == ([0] if world.node.rank == 0 else [])
    np.testing.assert_array_equal(arrays["x"], np.random.default_rng(world.node_index).normal(size=(13, 3)))
    assert arrays["empty"].shape == (0, 2)

    def fail() -> tuple[dict[str, np.ndarray], None]:
        raise DataError("unreadable")

    with pytest.raises(DataError, match="unreadable"):
        share(world.node, fail)
