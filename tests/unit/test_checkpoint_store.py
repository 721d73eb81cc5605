"""The checkpoints of a run: what is visible is whole, whenever the writer dies and whatever the disk does."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onotrain.errors import CheckpointError, ResourceError
from onotrain.runs.checkpoint_encoder import encode
from onotrain.runs.checkpoint_format import Checkpoint, DamagedCheckpointError
from onotrain.runs.checkpoint_store import BackgroundWriter, CheckpointStore, read_checkpoint

pytestmark = pytest.mark.timeout(120)


def content(step: int) -> Checkpoint:
    return Checkpoint({"parameters/w": np.full(1000, step, np.float32)}, {"step": step})


DATA = {step: encode(content(step)) for step in range(30)}


def steps(store: CheckpointStore) -> list[int]:
    return [int(path.stem.removeprefix("step-")) for path in store.paths()]


def temporaries(store: CheckpointStore) -> list[str]:
    return [name for name in os.listdir(store.directory) if name.endswith(".tmp")]


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path, keep=2)


# Keeping -------------------------------------------------------------------------------------------------------------


def test_the_newest_are_kept_and_the_best_besides(store: CheckpointStore) -> None:
    for step in range(1, 8):
        path = store.save(DATA[step], step, best=step in (1, 3))
        assert path.name == f"step-00000000{step}.h5"
    assert steps(store) == [3, 6, 7]
    best, latest = store.best(), store.latest()
    assert best and best.checkpoint.metadata["step"] == 3
    assert latest and latest.checkpoint.metadata["step"] == 7 and latest.warnings == []
    assert store.load(latest.path).arrays["parameters/w"][0] == 7


def test_the_best_among_the_newest_is_kept_only_once(store: CheckpointStore) -> None:
    for step in range(1, 6):
        store.save(DATA[step], step, best=True)
    assert steps(store) == [4, 5]


def test_an_empty_or_missing_directory_has_none(store: CheckpointStore) -> None:
    assert store.latest() is None and store.best() is None
    assert CheckpointStore(store.directory / "missing").latest() is None


def test_fewer_than_two_are_not_enough(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least 2"):
        CheckpointStore(tmp_path, keep=1)


def test_files_of_others_are_left_alone(store: CheckpointStore) -> None:
    for name in ("notes.txt", "step-1.h5", "my-step-000000001.h5"):
        (store.directory / name).write_text("mine")
    for step in range(1, 5):
        store.save(DATA[step], step)
    assert {"notes.txt", "step-1.h5", "my-step-000000001.h5"} < set(os.listdir(store.directory))


# Damage --------------------------------------------------------------------------------------------------------------


def test_a_damaged_newest_is_skipped_with_a_warning_and_goes_when_the_run_has_gone_on(store: CheckpointStore) -> None:
    for step in (1, 2, 9):
        newest = store.save(DATA[step], step)
    newest.write_bytes(DATA[9][:-100])
    found = store.latest()
    assert found and found.checkpoint.metadata["step"] == 2
    assert len(found.warnings) == 1 and "step-000000009.h5: damaged" in found.warnings[0]
    store.save(DATA[3], 3)
    assert steps(store) == [2, 3]  # two sound ones, not one and a damaged one


def test_all_damaged_is_an_error_that_lists_them(store: CheckpointStore) -> None:
    for step in (1, 2):
        store.save(DATA[step], step).write_bytes(b"\0" * 3000)
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint is sound.*000000002.*000000001") as caught:
        store.latest()
    assert caught.value.hint


def test_a_damaged_best_falls_back_to_the_one_before(store: CheckpointStore) -> None:
    store.save(DATA[1], 1, best=True)
    store.save(DATA[2], 2, best=True).write_bytes(b"torn")
    found = store.best()
    assert found and found.checkpoint.metadata["step"] == 1 and "000000002" in found.warnings[0]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"checkpoint": "../../etc/passwd", "previous": null}', '{"checkpoint": 3, "previous": 4}']
)
def test_a_spoilt_record_of_the_best_names_none(store: CheckpointStore, text: str) -> None:
    store.save(DATA[1], 1, best=True)
    (store.directory / "best.json").write_text(text)
    assert store.best() is None
    store.save(DATA[2], 2, best=True)
    assert store.best() is not None


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


def test_a_header_that_promises_more_than_the_file_has_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    path.write_bytes(DATA[1][:512])
    with open(path, "r+b") as file:
        file.truncate(1 << 40)  # sparse: no disk, but no memory for it either
    with pytest.raises(DamagedCheckpointError, match="1099511627776 bytes"):
        read_checkpoint(path)


def test_an_unreadable_sector_counts_as_damage(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(DATA[1], 1)
    broken = store.save(DATA[2], 2)

    def opened(path: Path, mode: str) -> object:
        if path == broken:
            raise OSError(errno.EIO, "Input/output error")
        return open(path, mode)

    monkeypatch.setattr("onotrain.runs.checkpoint_store.open", opened, raising=False)
    found = store.latest()
    assert found and found.checkpoint.metadata["step"] == 1 and "cannot read" in found.warnings[0]


# A disk that fails ---------------------------------------------------------------------------------------------------


def fails(call: str, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, call, raising)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "link", "replace"])
@pytest.mark.parametrize("best", [False, True])
def test_a_failing_call_leaves_what_was_there(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, call: str, error: int, best: bool
) -> None:
    store.save(DATA[1], 1, best=True)
    store.save(DATA[2], 2)
    with monkeypatch.context() as patch:
        fails(call, error, patch)
        with pytest.raises(ResourceError, match=os.strerror(error)) as caught:
            store.save(DATA[3], 3, best=best)
    assert caught.value.hint and str(store.directory) in caught.value.message
    assert steps(store) == [1, 2] and temporaries(store) == []
    found, good = store.latest(), store.best()
    assert found and found.checkpoint.metadata["step"] == 2 and found.warnings == []
    assert good and good.checkpoint.metadata["step"] == 1
    store.save(DATA[4], 4)  # and when the disk is well again, it goes on
    assert steps(store) == [1, 2, 4]


def test_a_full_device(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(DATA[1], 1)
    real = os.open

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        return real("/dev/full", os.O_RDWR) if flags & os.O_TMPFILE == os.O_TMPFILE else real(path, flags, mode)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(ResourceError, match="No space left") as caught:
        store.save(DATA[2], 2)
    assert "free some space" in (caught.value.hint or "")
    assert steps(store) == [1] and temporaries(store) == []


def test_a_limit_on_the_size_of_files(store: CheckpointStore) -> None:
    store.save(DATA[1], 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(ResourceError, match="File too large"):
            store.save(DATA[2], 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert steps(store) == [1] and temporaries(store) == [] and store.latest() is not None


def test_short_writes_are_continued(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real, random = os.write, np.random.default_rng(0)
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: int(random.integers(1, 500))]))
    assert store.save(DATA[1], 1).read_bytes() == DATA[1]


def test_a_write_that_makes_no_progress_ends(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with pytest.raises(ResourceError, match="wrote nothing"):
        store.save(DATA[1], 1)


def large(rest: int) -> bytes:
    """Content of three MiB and `rest` bytes."""
    return np.random.default_rng(rest).bytes(3 * 2**20 + rest)


@pytest.mark.parametrize("rest", [0, 1, 4095])
@pytest.mark.parametrize("at_page", [True, False])
def test_large_files_of_any_length_from_any_memory(store: CheckpointStore, rest: int, at_page: bool) -> None:
    data = large(rest)
    with mmap.mmap(-1, len(data) + 16) as memory, memoryview(memory) as view:
        begin = 0 if at_page else 16
        with view[begin : begin + len(data)] as part:
            part[:] = data
            assert store.save(part, 1).read_bytes() == data


@pytest.mark.parametrize("call", ["fcntl", "write"])
def test_a_file_system_that_knows_no_direct_writes_gets_ordinary_ones(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    module = fcntl if call == "fcntl" else os
    real = getattr(module, call)
    refused = []

    def refuse(descriptor: int, *arguments: Any) -> Any:
        changes = call == "fcntl" and arguments[0] == fcntl.F_SETFL and arguments[1] & os.O_DIRECT
        direct = call == "write" and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT
        if changes or (direct and len(refused) < 2 and refused.append(len(arguments[0])) is None):
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, *arguments)

    monkeypatch.setattr(module, call, refuse)
    data = large(100)
    assert store.save(data, 1).read_bytes() == data


def test_short_direct_writes_are_continued(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real, random, data = os.write, np.random.default_rng(0), large(7)
    monkeypatch.setattr(os, "write", lambda fd, rest: real(fd, rest[: int(random.integers(1, 2**20))]))
    assert store.save(data, 1).read_bytes() == data


def test_a_file_system_without_fsync_of_directories_is_good_enough(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.save(DATA[1], 1)
    assert steps(store) == [1]


# A writer that dies --------------------------------------------------------------------------------------------------

CALLS = ("open", "write", "fsync", "close", "link", "replace", "unlink")


def traced(act: Callable[[str, int], None]) -> None:
    """Call `act` with name and number before each call that touches the disk; for a process that ends afterwards."""
    count = 0

    def wrap(name: str, real: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            act(name, count)
            if name == "write":  # in pieces, so that there are points within the file
                return real(args[0], args[1][:1500])
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, wrap(name, getattr(os, name)))


def killed_at(store: CheckpointStore, point: int) -> bool:
    """Save step 3 as the best in a child that ends before its call number `point`; False if it was done before that."""
    child = os.fork()
    if child == 0:
        exit_now = os._exit
        traced(lambda _, count: exit_now(9) if count == point else None)
        try:
            CheckpointStore(store.directory, keep=2).save(DATA[3], 3, best=True)
        except BaseException:
            exit_now(1)
        exit_now(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def test_a_kill_at_every_point_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    seen = set()
    for point in range(1, 200):
        directory = tmp_path / str(point)
        directory.mkdir()
        store = CheckpointStore(directory, keep=2)
        store.save(DATA[1], 1, best=True)
        store.save(DATA[2], 2)
        killed = killed_at(store, point)
        found, best = store.latest(), store.best()
        assert found and best and not found.warnings and not best.warnings
        # The newest state and the record of the best are of one mind: state 3 says that it is the best.
        assert (found.checkpoint.metadata["step"], best.checkpoint.metadata["step"]) in {(2, 1), (3, 3)}
        for path in store.paths():
            read_checkpoint(path)
        seen.add(found.checkpoint.metadata["step"])
        after = CheckpointStore(directory, keep=2)
        after.save(DATA[4], 4)
        assert temporaries(after) == [] and steps(after)[-1] == 4 and len(after.paths()) >= 2
        if not killed:
            break
    assert not killed and point > 12 and seen == {2, 3}


def test_the_order_of_calls_lets_no_power_cut_do_harm(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        store.save(DATA[step], step)
    calls: list[str] = []
    for name in CALLS:
        real = getattr(os, name)

        def call(*args: object, name: str = name, real: Callable = real, **kwargs: object) -> object:
            is_directory = name == "fsync" and os.path.isdir(f"/proc/self/fd/{args[0]}")
            calls.append("fsync of directory" if is_directory else name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)
    store.save(DATA[3], 3)
    order = [name for name in calls if name not in ("open", "close")]
    named = ["write", "fsync", "unlink", "link", "replace", "fsync of directory"]  # an old link of that name goes first
    assert order == [*named, "unlink", "fsync of directory"]


def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(store: CheckpointStore) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(timeout=60)
    host = os.uname().nodename
    names = {pid: f".step-000000001.h5.{host}.{pid}.tmp" for pid in (dead.pid, os.getppid())}
    for name in [*names.values(), ".step-000000001.h5.another-host.1.tmp"]:
        (store.directory / name).write_bytes(b"torn")
    store.save(DATA[1], 1)
    assert temporaries(store) == [names[os.getppid()]]


def test_a_reader_that_is_overtaken_by_two_saves_finds_the_best(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record that it has read names files that are gone when it looks for them."""
    store.save(DATA[0], 0, best=True)
    real, reads = store._best_names, iter([["step-000000070.h5", "step-000000060.h5"]])
    monkeypatch.setattr(store, "_best_names", lambda: next(reads, None) or real())
    found = store.best()
    assert found is not None and found.path.name == "step-000000000.h5"


def test_a_reader_beside_a_writer_never_sees_half_a_file(store: CheckpointStore) -> None:
    store.save(DATA[0], 0, best=True)
    writer = os.fork()
    if writer == 0:
        try:
            for step in range(1, 200):
                store.save(DATA[step % 30], step, best=True)
        finally:
            os._exit(0 if step == 199 else 1)
    ended = 0
    while not ended:
        for found in (store.latest(), store.best()):
            assert found and found.warnings == []
        ended, status = os.waitpid(writer, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_reader_that_was_overtaken_looks_again(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        store.save(DATA[step], step)
    listing = CheckpointStore.paths

    def overtaken(self: CheckpointStore) -> list[Path]:
        paths = listing(self)
        monkeypatch.setattr(CheckpointStore, "paths", listing)
        for step in (3, 4, 5):
            store.save(DATA[step], step)
        return paths

    monkeypatch.setattr(CheckpointStore, "paths", overtaken)
    found = store.latest()
    assert found and found.checkpoint.metadata["step"] == 5


# In the background ---------------------------------------------------------------------------------------------------


@pytest.fixture
def writer(store: CheckpointStore) -> Iterator[BackgroundWriter]:
    with BackgroundWriter(store) as writer:
        yield writer


def test_the_writer_encodes_and_writes_in_its_own_thread(writer: BackgroundWriter) -> None:
    threads = []

    def build() -> bytes:
        threads.append(threading.current_thread())
        return DATA[1]

    writer.submit(build, 1, best=True)
    path = writer.wait()
    assert path and path.read_bytes() == DATA[1] and writer.wait() is None
    assert threads[0] is not threading.current_thread()
    writer.submit(content(2), 2)
    writer.close()
    assert steps(writer.store) == [1, 2]


def test_arrays_may_change_as_soon_as_submit_returns(writer: BackgroundWriter) -> None:
    go, weight, threads = threading.Event(), np.zeros(1000, np.float32), []

    def late(arrays: Mapping[str, np.ndarray], pause: Callable[[], object]) -> dict[str, float]:
        assert go.wait(60)
        threads.append(threading.current_thread())
        return {"sum": float(arrays["w"].sum())}

    for step in (1, 2, 3):
        go.clear()
        weight[:] = step
        writer.submit(Checkpoint({"w": weight}, {"step": step}, late), step)
        weight[:] = np.nan  # the next step of the training
        go.set()
        path = writer.wait()
        assert path
        assert path.read_bytes() == encode(
            Checkpoint({"w": np.full(1000, step, np.float32)}, {"step": step, "sum": 1000.0 * step})
        )
    assert threading.current_thread() not in threads


def test_files_do_not_depend_on_those_before(writer: BackgroundWriter) -> None:
    random = np.random.default_rng(0)
    contents = [
        Checkpoint({"b": random.random(5), "a/w": random.random((2, 3))}, {"text": "x" * 10}),
        Checkpoint({"b": random.random(5), "a/w": random.random((2, 3))}, {"text": "x" * 10_000}),  # more room
        Checkpoint({"b": random.random(5), "a/w": random.random((2, 3))}, {}),  # less of it again
        Checkpoint({"b": random.random(6), "a/w": random.random((2, 3))}, {}),  # another shape
        Checkpoint({"b": np.arange(6), "empty": np.empty((0, 3))}, {}),  # other arrays and types
        Checkpoint({}, {"step": 1}),
    ]
    for step, made in enumerate(contents, 1):
        writer.submit(made, step)
        path = writer.wait()
        assert path and path.read_bytes() == encode(made)


def test_submit_returns_before_the_save_is_done_and_waits_for_the_one_before(writer: BackgroundWriter) -> None:
    go = threading.Event()

    def slow() -> bytes:
        assert go.wait(60)
        return DATA[1]

    writer.submit(slow, 1)
    assert steps(writer.store) == []  # it is under way, and we are here
    second = threading.Thread(target=writer.submit, args=(content(2), 2))
    second.start()
    assert steps(writer.store) == []
    go.set()
    second.join(60)
    assert 1 in steps(writer.store)
    writer.wait()
    assert steps(writer.store) == [1, 2]


def test_an_error_of_the_thread_is_raised_once_by_the_next_call(writer: BackgroundWriter) -> None:
    def broken() -> bytes:
        raise ResourceError("disk full")

    writer.submit(broken, 1)
    with pytest.raises(ResourceError, match="disk full"):
        writer.submit(content(2), 2)
    writer.submit(content(3), 3)
    writer.wait()
    assert steps(writer.store) == [3]
    writer.submit(broken, 4)
    with pytest.raises(ResourceError, match="disk full"):
        writer.close()


def test_leaving_the_block_waits_and_raises(store: CheckpointStore) -> None:
    with BackgroundWriter(store) as writer:
        writer.submit(content(1), 1)
    assert steps(store) == [1]
    with pytest.raises(TypeError), BackgroundWriter(store) as writer:
        writer.submit(Checkpoint({}, {"a": object()}), 2)


def test_an_error_of_the_block_comes_first_and_the_writer_s_is_noted(store: CheckpointStore) -> None:
    with pytest.raises(KeyError) as caught, BackgroundWriter(store) as writer:
        writer.submit(Checkpoint({}, {"a": object()}), 2)
        raise KeyError("cause")
    assert "the last checkpoint was not saved" in caught.value.__notes__[0]
    assert not any(thread.name.startswith("checkpoint") for thread in threading.enumerate())


def test_a_save_that_somebody_waits_for_does_not_pause(writer: BackgroundWriter) -> None:
    """Else the end of a run, or a save that comes before the last one is written, would wait for nothing."""
    paused, begun = [], threading.Event()

    def late(arrays: Mapping[str, np.ndarray], pause: Callable[[], object]) -> dict[str, int]:
        paused.append(pause())
        begun.set()
        while not pause():  # false, after a pause, until `wait` has begun
            pass
        return {}

    writer.submit(Checkpoint({"w": np.zeros(3)}, {}, late), 1)
    assert begun.wait(60)
    assert writer.wait()
    assert paused == [False]


def test_getting_ready_changes_no_file(writer: BackgroundWriter) -> None:
    first = Checkpoint({"w": np.arange(1000.0)}, {"step": 0})
    writer.prepare(first)
    writer.submit(Checkpoint({"w": np.ones(1000)}, {"step": 1}), 1)
    path = writer.wait()
    assert path
    assert path.read_bytes() == encode(Checkpoint({"w": np.ones(1000)}, {"step": 1}))
    assert writer.store.paths() == [path]
