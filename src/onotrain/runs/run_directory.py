"""The directory of a run: its files, who may write them, and how they survive a crash.

::

    config.yaml       the resolved configuration
    environment.json  where it ran
    metrics.jsonl     one JSON object per epoch
    steps.jsonl       one JSON object per so many steps, if metrics.every_steps asks for them
    summary.json      one JSON object, when the run has ended
    split.npz         which samples trained, validated and tested, if they were cut from one file
    trace.json.gz     what all ranks did in some steps, if metrics.profile asks for it
    tensorboard/      event files, if metrics.tensorboard asks for them
    progress.json     where the run stands; events.jsonl: what has happened (`onotrain.runs.live`)
    mlflow.json       which run of MLflow it is, if metrics.mlflow asks for one
    checkpoints/      see docs/checkpoint-format.md
    run.lock          who is writing

Everything that reports reads only this, so a finished, a running and a copied run look alike. JSON knows no NaN and no
infinity: they are written as null.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from onotrain.errors import CheckpointError, DataError, UsageError
from onotrain.files import disk_errors, remove_stale, sync_directory, write_atomically
from onotrain.runs.checkpoint_store import CheckpointStore, Found, read_checkpoint
from onotrain.runs.json_lines import JsonLines, read_within
from onotrain.runs.json_objects import parsed, pretty
from onotrain.runs.live import EVENT_LOG_NAME, forget_requests
from onotrain.runs.lock import RunLock
from onotrain.runs.records import check_record, check_step
from onotrain.runs.run_files import (
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    ENVIRONMENT_NAME,
    METRICS_NAME,
    MLFLOW_NAME,
    SPLIT_NAME,
    STEPS_NAME,
    SUMMARY_NAME,
    kind_of_path,
    refuse_links,
    refuse_used,
    remove_live,
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
                    remove_live(path)  # of a beginning that failed
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
            for lines in (run.epochs, run.steps, run.events):
                lines.drop_torn_line()
            forget_requests(run.path)
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
            self._check(summary, str(self.path / SUMMARY_NAME), check_record)
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace ``summary.json``. Raises ResourceError."""
        write_atomically(self.path / SUMMARY_NAME, pretty(summary))

    def mlflow_run(self) -> dict[str, Any]:
        """Read ``mlflow.json``; empty if there is none. Raises DataError."""
        return self._read_json(MLFLOW_NAME) or {}

    def write_mlflow_run(self, run: Mapping[str, Any]) -> None:
        """Replace ``mlflow.json``. Raises ResourceError."""
        write_atomically(self.path / MLFLOW_NAME, pretty(run))

    def write_split(self, parts: Mapping[str, np.ndarray]) -> None:
        """Replace ``split.npz``: int64 numbers of the samples of each part.  Raises ResourceError."""
        data = io.BytesIO()
        np.savez(data, **dict(parts))  # type: ignore[arg-type]  # its stub takes the arrays for allow_pickle
        write_atomically(self.path / SPLIT_NAME, data.getvalue())

    @property
    def epochs(self) -> JsonLines:
        """``metrics.jsonl``: a row for each epoch."""
        return JsonLines(self.path / METRICS_NAME)

    @property
    def steps(self) -> JsonLines:
        """``steps.jsonl``: rows within epochs, if they are asked for."""
        return JsonLines(self.path / STEPS_NAME)

    @property
    def events(self) -> JsonLines:
        """``events.jsonl``: a row for what has happened, such as a checkpoint."""
        return JsonLines(self.path / EVENT_LOG_NAME)

    def records(self) -> list[dict[str, Any]]:
        """Read the rows of epochs, for who counts with them: each has what an epoch's record has.

        Raises
        ------
        DataError
            A line is not such a record.
        """
        rows = self.epochs.rows()
        for number, row in enumerate(rows, 1):
            self._check(row, f"{self.path / METRICS_NAME}:{number}", partial(check_record, whole=True))
        return rows

    @staticmethod
    def _check(record: dict[str, Any], place: str, check: Callable[[dict[str, Any]], None]) -> None:
        try:
            check(record)
        except ValueError as error:
            raise DataError(f"{place}: {error}", hint="restore the file, or delete it") from error

    def step_records(self) -> list[dict[str, Any]]:
        """Read the rows within epochs, for who counts with them. Raises DataError as `records`."""
        rows = self.steps.rows()
        for number, row in enumerate(rows, 1):
            self._check(row, f"{self.path / STEPS_NAME}:{number}", check_step)
        return rows

    def forget(self, after_epoch: int, after_step: int) -> None:
        """Drop the rows of what a resumed run does again. Raises ResourceError."""
        self.epochs.keep(lambda row: _count(row, "epoch") <= after_epoch)
        self.steps.keep(lambda row: _count(row, "step") <= after_step)

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

    def _read_json(self, name: str) -> dict[str, Any] | None:
        data = read_within(self.path / name)
        value = None if data is None else parsed(data)
        if data is not None and value is None:
            raise DataError(f"{self.path / name}: not a JSON object", hint="restore the file, or delete it")
        return value


def _count(row: Mapping[str, Any], name: str) -> int:
    """Return a count of a record; 0 if it says none."""
    found = row.get(name, 0)
    return found if isinstance(found, int) else 0


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
