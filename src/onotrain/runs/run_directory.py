"""The directory of a run: its files, who may write them, and how they survive a crash.

::

    config.yaml       the resolved configuration
    environment.json  where it ran
    metrics.jsonl     one JSON object per epoch
    summary.json      one JSON object, when the run has ended
  split.npz         which samples trained, validated and tested, if they were cut from one file
    checkpoints/      see docs/checkpoint-format.md
    run.lock          who is writing

Everything that reports reads only this, so a finished, a running and a copied run look alike. JSON knows no NaN and no
infinity: they are written as null.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from onotrain.errors import CheckpointError, DataError, UsageError
from onotrain.files import (
    StrangeFileError,
    disk_errors,
    open_regular,
    remove_stale,
    sync_directory,
    write_all,
    write_atomically,
)
from onotrain.runs.checkpoint_store import CheckpointStore, Found, read_checkpoint
from onotrain.runs.json_objects import line_of, parsed, pretty
from onotrain.runs.lock import RunLock
from onotrain.runs.records import check_record
from onotrain.runs.run_files import (
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    ENVIRONMENT_NAME,
    METRICS_NAME,
    SPLIT_NAME,
    SUMMARY_NAME,
    kind_of_path,
    refuse_links,
    refuse_used,
    remove_run,
)


class RunDirectory:
    """A run's files; a context manager that gives the lock back.

    Attributes
    ----------
    path
        The directory.
    recovered_from
        Who held the lock and ended without giving it back (it was killed); None otherwise.
    """

    def __init__(self, path: Path, lock: RunLock | None = None) -> None:
        self.path = Path(path)
        self._lock = lock
        self.recovered_from = lock.recovered_from if lock else None

    @classmethod
    def create(
        cls, path: str | Path, *, config_yaml: str, environment: Mapping[str, Any], overwrite: bool = False
    ) -> RunDirectory:
        """Begin a new run, holding its lock.

        Parameters
        ----------
        path
            A directory that does not exist or is empty; parents are made.
        config_yaml
            The resolved configuration.
        environment
            What ``environment.json`` shall say.
        overwrite
            Remove a run that is there, when nobody uses it; other files in the directory stay.

        Raises
        ------
        UsageError
            It is a file, holds something else, is a run already, or is in use.
        ResourceError
            It cannot be written.
        """
        path = Path(path)
        with disk_errors("make the run directory", path):
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path}: is a file, expected a directory for the run", hint="use another --output")
            path.mkdir(parents=True, exist_ok=True)
            overwrite = overwrite and kind_of_path(path) == "run"
            if not overwrite:
                refuse_used(path)  # before a lock file is put into somebody's directory
        lock = RunLock(path)
        try:
            remove_stale(path)
            with disk_errors("make the run directory", path):
                if overwrite:
                    remove_run(path)
                else:
                    refuse_used(path)  # again: who waited for nobody and was quicker?
                (path / CHECKPOINTS_NAME).mkdir(exist_ok=True)
            run = cls(path, lock)
            run.write_environment(environment)
            write_atomically(path / CONFIG_NAME, config_yaml.encode("utf-8"))  # last: it makes the directory a run
            with disk_errors("make the run directory", path):
                sync_directory(path.absolute().parent)
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def resume(cls, path: str | Path, *, owner_died: bool = False) -> RunDirectory:
        """Go on with a run that exists, holding its lock. Errors as for :meth:`create` and :meth:`open`.

        `owner_died`: as of `RunLock`.
        """
        run = cls.open(path)
        lock = RunLock(run.path, owner_died=owner_died)
        try:
            run = cls(run.path, lock)
            remove_stale(run.path)
            run._drop_torn_line()
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Read a run that exists, whether it has ended or not; takes no lock and writes nothing.

        Raises
        ------
        UsageError
            There is no run, or one of its files is a link to another place.
        """
        path = Path(path)
        if kind_of_path(path) != "run":
            what = "not a run directory" if path.exists() else "no such run directory"
            raise UsageError(
                f"{path}: {what}: expected one with {CONFIG_NAME} and {CHECKPOINTS_NAME}/",
                hint="a run is what `onotrain train` makes",
            )
        refuse_links(path)
        return cls(path)

    def store(self, keep: int = 3) -> CheckpointStore:
        """Give access to the checkpoints of the run."""
        return CheckpointStore(self.path / CHECKPOINTS_NAME, keep)

    def checkpoint(self, which: Literal["latest", "best"] = "best") -> Found:
        """Read the best checkpoint (or the newest sound one, if none was saved as the best), or the newest.

        Raises
        ------
        CheckpointError
            There is none, or none is sound.
        """
        store = self.store()
        found = store.best() if which == "best" else None
        found = found or store.latest()
        if found is None:
            raise CheckpointError(
                f"{self.path}: the run has no checkpoint yet", hint="train it first, or wait for its first epoch"
            )
        return found

    def config_yaml(self) -> str:
        """Text of the resolved configuration."""
        with disk_errors("read it", self.path / CONFIG_NAME):
            return (self.path / CONFIG_NAME).read_text("utf-8")

    def write_config(self, config_yaml: str) -> None:
        """Replace ``config.yaml`` (a resumed run may be longer). Raises ResourceError."""
        write_atomically(self.path / CONFIG_NAME, config_yaml.encode("utf-8"))

    def environment(self) -> dict[str, Any]:
        """Read ``environment.json``; empty if there is none."""
        return self._read_json(ENVIRONMENT_NAME) or {}

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Replace ``environment.json`` (a resumed run may be elsewhere). Raises ResourceError."""
        write_atomically(self.path / ENVIRONMENT_NAME, pretty(environment))

    def summary(self) -> dict[str, Any] | None:
        """Read ``summary.json``; None if there is none yet."""
        summary = self._read_json(SUMMARY_NAME)
        if summary is not None:
            self._check(summary, str(self.path / SUMMARY_NAME))
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace ``summary.json``. Raises ResourceError."""
        write_atomically(self.path / SUMMARY_NAME, pretty(summary))

    def write_split(self, parts: Mapping[str, np.ndarray]) -> None:
        """Replace ``split.npz``: int64 numbers of the samples of each part.  Raises ResourceError."""
        data = io.BytesIO()
        np.savez(data, **dict(parts))  # type: ignore[arg-type]  # its stub takes the arrays for allow_pickle
        write_atomically(self.path / SPLIT_NAME, data.getvalue())

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a row to ``metrics.jsonl``; when this returns it is on the disk.

        Raises
        ------
        ResourceError
            Disk full and the like; the file is as it was before.
        """
        path = self.path / METRICS_NAME
        with disk_errors("append to it", path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                try:
                    write_all(descriptor, line_of(row))
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, size)
                    raise
            finally:
                os.close(descriptor)

    def metrics(self) -> list[dict[str, Any]]:
        """Read the rows of ``metrics.jsonl``; a last line that is not finished (a run killed or writing) is left out.

        Raises
        ------
        DataError
            A line is not a JSON object.
        """
        rows = []
        for number, line in enumerate(self._finished_lines(), 1):
            row = parsed(line)
            if row is None:
                raise DataError(
                    f"{self.path / METRICS_NAME}:{number}: not a JSON object: {line[:60]!r}",
                    hint="delete that line, or restore the file",
                )
            rows.append(row)
        return rows

    def records(self) -> list[dict[str, Any]]:
        """Read the same, for who counts with it: each row has what an epoch's record has.

        Raises
        ------
        DataError
            A line is not such a record.
        """
        rows = self.metrics()
        for number, row in enumerate(rows, 1):
            self._check(row, f"{self.path / METRICS_NAME}:{number}", whole=True)
        return rows

    @staticmethod
    def _check(record: dict[str, Any], place: str, *, whole: bool = False) -> None:
        try:
            check_record(record, whole=whole)
        except ValueError as error:
            raise DataError(f"{place}: {error}", hint="restore the file, or delete it") from error

    def truncate_metrics(self, after_epoch: int) -> None:
        """Drop the rows of epochs after `after_epoch`, which a resumed run does again. Raises ResourceError."""
        rows = [row for row in self.metrics() if _epoch(row) <= after_epoch]
        if (self.path / METRICS_NAME).exists():
            write_atomically(self.path / METRICS_NAME, b"".join(map(line_of, rows)))

    def close(self) -> None:
        """Give the lock back, if this object holds it."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _finished_lines(self) -> list[bytes]:
        return (self._read(METRICS_NAME) or b"").split(b"\n")[:-1]

    def _drop_torn_line(self) -> None:
        """Otherwise the next row would be appended to it."""
        path = self.path / METRICS_NAME
        lines = self._finished_lines()
        if path.exists() and path.stat().st_size != sum(len(line) + 1 for line in lines):
            write_atomically(path, b"".join(line + b"\n" for line in lines))

    def _read_json(self, name: str) -> dict[str, Any] | None:
        data = self._read(name)
        value = None if data is None else parsed(data)
        if data is not None and value is None:
            raise DataError(f"{self.path / name}: not a JSON object", hint="restore the file, or delete it")
        return value

    def _read(self, name: str) -> bytes | None:
        """Return what a file holds; None if there is none."""
        path = self.path / name
        with disk_errors("read it", path):
            try:
                with open_regular(path, within=self.path) as file:
                    return file.read()
            except FileNotFoundError:
                return None
            except StrangeFileError as error:
                raise DataError(f"{path}: {error.strerror}", hint="restore the file, or delete it") from error


def _epoch(row: Mapping[str, Any]) -> int:
    """Return the epoch of a record; 0 if it says none."""
    epoch = row.get("epoch", 0)
    return epoch if isinstance(epoch, int) else 0


def find_checkpoint(path: str | Path, which: Literal["latest", "best"] = "best") -> Found:
    """Read the checkpoint that a user means by the path of a run directory or of a checkpoint file.

    Raises
    ------
    UsageError
        It is neither.
    CheckpointError
        No sound checkpoint is there.
    """
    if kind_of_path(path) == "checkpoint":
        return Found(Path(path), read_checkpoint(Path(path)), [])
    return RunDirectory.open(path).checkpoint(which)
