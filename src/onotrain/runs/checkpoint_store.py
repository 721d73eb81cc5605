"""The checkpoints of one run: written so that what is visible is complete, and kept sparingly.

Writing goes: temporary file, fsync, rename, fsync of the directory, and only then are old ones removed. libhdf5 takes
no part in it; it is neither crash-safe nor safe on a full disk.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import threading
from collections import deque
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import NamedTuple

from onotrain.errors import CheckpointError
from onotrain.files import (
    disk_errors,
    open_regular,
    remove_stale,
    sync_directory,
    write_atomically,
)
from onotrain.runs.checkpoint_decoder import decode
from onotrain.runs.checkpoint_encoder import Encoder
from onotrain.runs.checkpoint_format import USER_BLOCK_BYTES, Checkpoint, DamagedCheckpointError, damaged, image_bytes
from onotrain.runs.json_objects import parsed

BEST_NAME = "best.json"
#: Pause of the writing thread between two blocks of a digest, which leaves the core to the training [s].
_PAUSE_S = 1e-3
#: Saves whose times are kept.
_TIMES = 64
_NAME = re.compile(r"step-(\d{9,18})\.h5")


class MissingCheckpointError(CheckpointError):
    """There is no file of that name, or there is none any more."""


class Found(NamedTuple):
    """A checkpoint that was read, and what had to be passed over to find it."""

    path: Path
    checkpoint: Checkpoint
    #: One line for each damaged file that was skipped; to be shown to the user.
    warnings: list[str]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint file.

    Raises
    ------
    DamagedCheckpointError
        It is not what was written, or the disk cannot read it.
    CheckpointError
        There is no such file, or it is not a checkpoint of this version.
    ResourceError
        No permission to read it.
    """
    with disk_errors("read it", path):
        try:
            # A pipe of that name would block for ever, and only a regular file's size is known.
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError(f"{path}: not a file", hint="name a run directory or a checkpoint file")
            with open(path, "rb") as file:
                # The size that the header promises against the file's own, before so much is allocated.
                expected = USER_BLOCK_BYTES + image_bytes(file.read(USER_BLOCK_BYTES), str(path))
                if status.st_size != expected:
                    raise damaged(str(path), f"it has {status.st_size} bytes, expected {expected}")
                file.seek(0)
                return decode(file.read(), str(path))
        except FileNotFoundError as error:
            raise MissingCheckpointError(
                f"{path}: no such checkpoint", hint="see what the run has: onotrain inspect RUN"
            ) from error
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise damaged(str(path), f"the disk cannot read it: {error.strerror}") from error


class CheckpointStore:
    """The directory of a run's checkpoints.

    Reading needs no lock. :meth:`save` is for the process that holds the run's lock, one thread at a time.

    Parameters
    ----------
    directory
        Exists already.
    keep
        How many of the newest to keep, at least 2: one may turn out to be damaged. The best is kept besides.
    """

    def __init__(self, directory: Path, keep: int = 3) -> None:
        if keep < 2:
            raise ValueError(f"keep is {keep}, expected at least 2")
        self.directory = Path(directory)
        self.keep = keep
        self._swept = False

    def save(self, data: bytes | memoryview, step: int, *, best: bool = False) -> Path:
        """Write a checkpoint durably, then remove those that are no longer to be kept.

        Parameters
        ----------
        data
            The file, as ``encode`` makes it.
        step
            Optimiser steps done; names the file. Checkpoints of later steps are removed: the run was resumed before
            them, so they are damaged, and would count as its newest.
        best
            Whether it is the best so far; it is kept until a better one comes.

        Returns
        -------
        Path
            The file ``step-<9 digits>.h5``.

        Raises
        ------
        ResourceError
            Disk full, I/O error, read-only and the like. The checkpoints from before are intact.
        """
        if not self._swept:
            remove_stale(self.directory)
            self._swept = True
        path = self.directory / f"step-{step:09d}.h5"
        if best:
            # Named before it is there, with the one before as a fallback: a kill between the two writes must not leave
            # a run whose newest state says "I am the best" and whose record names another.
            before = next((name for name in self._best_names() if (self.directory / name).exists()), None)
            record = {"checkpoint": path.name, "previous": before}
            write_atomically(self.directory / BEST_NAME, json.dumps(record).encode())
        write_atomically(path, data)
        self._remove_old(step)
        return path

    def paths(self) -> list[Path]:
        """List the checkpoints, oldest step first."""
        with disk_errors("list the checkpoints", self.directory):
            names = os.listdir(self.directory) if self.directory.is_dir() else []
        return [self.directory / name for name in sorted(filter(_NAME.fullmatch, names), key=step_of)]

    def clear(self) -> None:
        """Remove all of them.  Raises ResourceError."""
        with disk_errors("remove old checkpoints", self.directory):
            for path in (*self.paths(), self.directory / BEST_NAME):
                path.unlink(missing_ok=True)

    def load(self, path: Path) -> Checkpoint:
        """Read one of the checkpoints; see :func:`read_checkpoint` for the errors."""
        return read_checkpoint(path)

    def latest(self) -> Found | None:
        """Read the newest checkpoint that is sound; None if there is none at all.

        Raises
        ------
        CheckpointError
            All are damaged, or the newest sound one is of another version.
        """
        return self._first_sound(lambda: list(reversed(self.paths())))

    def best(self) -> Found | None:
        """Read the checkpoint that was saved as the best; None if none was. Errors as for :meth:`latest`."""

        def candidates() -> list[Path]:
            before, names = None, self._best_names()
            while True:
                paths = [path for name in names if (path := self.directory / name).exists()]
                if paths or names == before:
                    return paths
                before, names = names, self._best_names()  # a run that goes on may have saved two since

        return self._first_sound(candidates)

    def _first_sound(self, candidates: Callable[[], list[Path]]) -> Found | None:
        warnings: list[str] = []
        pending = candidates()
        while pending:
            path = pending.pop(0)
            try:
                return Found(path, read_checkpoint(path), warnings)
            except DamagedCheckpointError as error:
                warnings.append(error.message)
            except MissingCheckpointError:  # the run goes on and has removed it since: there are newer ones
                warnings, pending = [], candidates()
        if not warnings:
            return None
        raise CheckpointError(
            "\n  ".join([f"{self.directory}: no checkpoint is sound", *warnings]),
            hint="restore one from a copy, or start again with another --output",
        )

    def _best_names(self) -> list[str]:
        """Names of the best checkpoint and of its predecessor, if they are recorded."""
        try:
            with open_regular(self.directory / BEST_NAME) as file:
                record = parsed(file.read(4096)) or {}
        except OSError:
            return []
        names = [record.get("checkpoint"), record.get("previous")]
        return [name for name in names if isinstance(name, str) and _NAME.fullmatch(name)]

    def _remove_old(self, step: int) -> None:
        upto = [path for path in self.paths() if step_of(path.name) <= step]
        best = next((name for name in self._best_names() if (self.directory / name).exists()), None)
        kept = {path.name for path in upto[-self.keep :]} | {best}
        with disk_errors("remove old checkpoints", self.directory):
            for path in self.paths():
                if path.name not in kept:
                    with suppress(FileNotFoundError):
                        os.unlink(path)
            sync_directory(self.directory)


class BackgroundWriter:
    """Encodes and writes checkpoints in one thread, so that saving does not stop the training.

    At most one checkpoint is under way: :meth:`submit` waits for the one before. So memory for one file is enough; it
    is kept from save to save. Files appear in the order of their steps, and none is dropped. What goes wrong in the
    thread is raised by the next call. A context manager; leaving it waits.

    Parameters
    ----------
    store
        Where to write.
    saved
        Called in the thread with the step of each checkpoint that is on the disk, and whether it is the best.
    """

    def __init__(self, store: CheckpointStore, saved: Callable[[int, bool], None] = lambda step, best: None) -> None:
        self.store, self._saved = store, saved
        self._encoder = Encoder()
        #: Whether somebody waits for the save under way.
        self._hurry = threading.Event()
        self._thread = futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: futures.Future[Path] | None = None
        #: When the last saves began and ended (`time.perf_counter`), the one under way not yet [s].
        self.times: deque[tuple[float, float | None]] = deque(maxlen=_TIMES)

    def prepare(self, content: Checkpoint) -> None:
        """Get all memory that saving such a checkpoint takes, so that the first one stops nobody for longer."""
        self._encoder.take(content.arrays)
        self._encoder.finish(replace(content, late=None))

    def submit(self, content: Checkpoint | Callable[[], bytes], step: int, best: bool = False) -> None:
        """Start to save `content`, after the save before has ended.

        Parameters
        ----------
        content
            The checkpoint, whose arrays are copied before this returns; or a function that makes the file's bytes and
            is called in the thread.
        step, best
            As in :meth:`CheckpointStore.save`.

        Raises
        ------
        ResourceError
            The save before failed; this one is not started.
        """
        self.wait()
        if isinstance(content, Checkpoint):
            self._encoder.take(content.arrays)
        self._hurry.clear()
        self._pending = self._thread.submit(self._save, content, step, best)

    def wait(self) -> Path | None:
        """Wait for the save under way; return its file, or None if there was none. Raises what went wrong, once."""
        if self._pending is None:
            return None
        self._hurry.set()
        futures.wait([self._pending])  # an interrupt here leaves it pending, for close()
        done, self._pending = self._pending, None
        return done.result()

    def close(self) -> None:
        """Wait for the save under way and end the thread. Raises what went wrong."""
        try:
            self.wait()
        finally:
            self._thread.shutdown(wait=True)

    def _save(self, content: Checkpoint | Callable[[], bytes], step: int, best: bool) -> Path:
        began = perf_counter()
        self.times.append((began, None))
        try:
            return self._encode_and_save(content, step, best)
        finally:
            self.times[-1] = began, perf_counter()

    def _encode_and_save(self, content: Checkpoint | Callable[[], bytes], step: int, best: bool) -> Path:
        pause = partial(self._hurry.wait, _PAUSE_S)
        data = self._encoder.finish(content, pause) if isinstance(content, Checkpoint) else content()
        path = self.store.save(data, step, best=best)
        self._saved(step, best)
        return path

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as own:
            if error is None:
                raise
            error.add_note(f"the last checkpoint was not saved either: {own}")  # the error that came first is the cause


def step_of(name: str) -> int:
    """Return the step that the name of a checkpoint says; -1: it is no such name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else -1
