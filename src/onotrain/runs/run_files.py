"""The files of a run directory by name, and which directories are a run, may become one, or are somebody's else."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

from onotrain.errors import UsageError
from onotrain.files import StrangeFileError, check_within, disk_errors, is_temporary
from onotrain.runs.checkpoint_store import CheckpointStore
from onotrain.runs.live import LIVE_NAMES
from onotrain.runs.lock import LOCK_NAME

CONFIG_NAME = "config.yaml"
ENVIRONMENT_NAME = "environment.json"
METRICS_NAME = "metrics.jsonl"
STEPS_NAME = "steps.jsonl"
SUMMARY_NAME = "summary.json"
CHECKPOINTS_NAME = "checkpoints"
SPLIT_NAME = "split.npz"
#: Folder of the event files for TensorBoard, and what their names begin with.
EVENTS_NAME = "tensorboard"
EVENTS_PREFIX = "events.out.tfevents."
#: What all ranks did in some steps.
TRACE_NAME = "trace.json.gz"
#: Which run of MLflow the run is.
MLFLOW_NAME = "mlflow.json"
#: Folder with the stacks of all ranks when one of them made no progress.
STACKS_NAME = "stacks"


def kind_of_path(path: str | Path) -> Literal["run", "checkpoint"] | None:
    """Tell by the looks what a path is: a run directory, a file that may be a checkpoint, or neither."""
    path = Path(path)
    with disk_errors("look at it", path):
        if path.is_dir():
            # A directory with a config.yaml alone may be a project's own.
            return "run" if (path / CONFIG_NAME).is_file() and (path / CHECKPOINTS_NAME).is_dir() else None
        return "checkpoint" if path.is_file() else None


def claim(name: str) -> Path:
    """Make the first directory ``runs/<name>-<number>`` that does not exist, and return it: no other run will take it.

    Raises
    ------
    ResourceError
        It cannot be made.
    """
    for number in itertools.count(1):
        path = Path("runs") / f"{name}-{number}"
        with disk_errors("make the run directory", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                path.mkdir()
                return path
    raise AssertionError("there is always a next number")


def refuse_links(path: Path) -> None:
    """Refuse a run of which a file is elsewhere: a stranger's link would be read, and in a resumed run written to."""
    with disk_errors("look at it", path):
        for file in (*path.iterdir(), *(path / CHECKPOINTS_NAME).iterdir()):
            try:
                if file.is_symlink():
                    check_within(file, path)
            except StrangeFileError as error:
                what = f"{file}: {error.strerror}"
                raise UsageError(what, hint="copy the file there, or link the whole run directory") from error


def refuse_used(path: Path) -> None:
    """Accept nothing, or a run that has nothing to lose yet: refused for its data, or killed while it began."""
    names = {name for name in os.listdir(path) if not is_temporary(name)}
    is_run = kind_of_path(path) == "run"
    if is_run and ({METRICS_NAME, STEPS_NAME, SUMMARY_NAME} & names or any((path / CHECKPOINTS_NAME).iterdir())):
        finished = "a finished run" if SUMMARY_NAME in names else "a run"
        raise UsageError(
            f"{path}: holds {finished} already",
            hint="go on with it by --resume (resume=True), replace it by --overwrite (overwrite=True), or use another "
            "--output",
        )
    foreign = names - {LOCK_NAME, ENVIRONMENT_NAME, CHECKPOINTS_NAME}
    if is_run:
        foreign -= {CONFIG_NAME, SPLIT_NAME, STACKS_NAME, EVENTS_NAME, TRACE_NAME, MLFLOW_NAME, *LIVE_NAMES}
    if LOCK_NAME not in names:
        foreign = names
    if foreign:
        raise UsageError(
            f"{path}: is not empty and not a run (holds {sorted(foreign)[0]!r}), expected a new or empty directory",
            hint="use another --output",
        )


def remove_run(path: Path) -> None:
    """Remove the files of a run, what makes it one last: who is killed meanwhile leaves a run."""
    CheckpointStore(path / CHECKPOINTS_NAME).clear()
    _remove_events(path / EVENTS_NAME)
    remove_live(path)
    for name in (
        TRACE_NAME, SUMMARY_NAME, STEPS_NAME, METRICS_NAME, SPLIT_NAME, MLFLOW_NAME, ENVIRONMENT_NAME, CONFIG_NAME
    ):  # fmt: skip
        (path / name).unlink(missing_ok=True)


def remove_live(path: Path) -> None:
    """Remove what a run has said while it went on, and was asked."""
    for name in LIVE_NAMES:
        (path / name).unlink(missing_ok=True)


def _remove_events(folder: Path) -> None:
    """Remove event files, and their folder if it holds nothing else; not where a link leads to."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for file in folder.glob(f"{EVENTS_PREFIX}*"):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
