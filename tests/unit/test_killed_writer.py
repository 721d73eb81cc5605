"""A process that is killed at any point while it writes: what was there stays whole, and the next one tidies up."""

from __future__ import annotations

import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onotrain.files import is_temporary
from onotrain.runs.checkpoint_encoder import encode
from onotrain.runs.checkpoint_format import Checkpoint
from onotrain.runs.run_directory import RunDirectory

#: What a writer asks of the kernel.
CALLS = ("open", "write", "pwrite", "fsync", "link", "replace", "unlink", "ftruncate", "mkdir")


def killed_at(number: int, write: Callable[[], Any]) -> bool:
    """Write in a process that is killed before its call of this number; return whether it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork while there are threads, which it does not use
        child = os.fork()
    if child == 0:
        calls = count()
        for name in CALLS:
            setattr(os, name, _killing(getattr(os, name), lambda: next(calls) == number))
        try:
            write()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return status == 0


def _killing(function: Callable[..., Any], now: Callable[[], bool]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if now():
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return call


def made(folder: Path, step: int) -> bytes:
    return encode(Checkpoint({"parameters/a": np.full(1000, step, np.float32)}, {"step": step}))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one checkpoint."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with RunDirectory.create(path, config_yaml="a: 1\n", environment={"a": 1}) as run:
        run.store().save(made(path, 1), 1)
        run.epochs.append({"epoch": 1}, durable=True)
    return path


def write_all(path: Path) -> None:
    """Do what a resumed run does until its next checkpoint."""
    with RunDirectory.resume(path) as run:
        run.write_config("a: 2\n")
        run.write_environment({"a": 2})
        run.epochs.append({"epoch": 2}, durable=True)
        run.store(keep=2).save(made(path, 2), 2, best=True)
        run.write_summary({"steps": 2})


def test_every_point_of_a_resumed_run(begun: Path) -> None:
    for number in count():
        finished = killed_at(number, lambda: write_all(begun))
        with RunDirectory.resume(begun) as run:
            store = run.store()
            found = store.latest()
            assert found is not None and found.checkpoint.metadata["step"] in (1, 2) and not found.warnings
            assert run.config_yaml() in ("a: 1\n", "a: 2\n") and run.environment() in ({"a": 1}, {"a": 2})
            epochs = [row["epoch"] for row in run.epochs.rows()]
            assert epochs[0] == 1 and set(epochs) <= {1, 2}
            store.save(made(begun, 1), 1)  # the next writer
        left = [path.name for path in begun.rglob("*") if is_temporary(path.name)]
        assert left == [], (number, left)
        if finished:
            assert number > 20 and json.loads((begun / "summary.json").read_text()) == {"steps": 2}
            return


def test_every_point_of_a_beginning(tmp_path: Path) -> None:
    for number in count():
        path = tmp_path / f"run-{number}"
        finished = killed_at(number, lambda: RunDirectory.create(path, config_yaml="a: 1\n", environment={}).close())  # noqa: B023
        with RunDirectory.create(path, config_yaml="a: 3\n", environment={}) as run:
            assert run.config_yaml() == "a: 3\n"
        assert not any(is_temporary(each.name) for each in path.rglob("*"))
        if finished:
            assert number > 5
            return
