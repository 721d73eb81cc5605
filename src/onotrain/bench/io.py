"""Checkpoints and data files: how fast they are written and read, and what saving costs a training that goes on.

Files are in the cache of the system when they are read, so that it is the reader that is measured and not the disk; a
checkpoint is written to the disk (fsync) each time.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from onotrain.bench.measure import Say, Timing, measure, others_asleep, spread
from onotrain.bench.subject import Subject, check_positive
from onotrain.data import DataSpec, load_dataset
from onotrain.data.convert import convert
from onotrain.files import disk_errors
from onotrain.optim import Optimizer
from onotrain.parallel.agreement import broadcast
from onotrain.parallel.world import World
from onotrain.runs.checkpoint_format import Checkpoint
from onotrain.runs.checkpoint_store import BackgroundWriter, CheckpointStore, read_checkpoint
from onotrain.runs.metadata import Vectors, arrays_of
from onotrain.training import train
from onotrain.training.observers import Observer, StepEnd

#: Trainings with checkpoints, each beside one without, and checkpoints in each that are looked at.
REPEATS, SAVES = 3, 3
#: Most bytes of the samples that are trained on.
_SAMPLE_BYTES = 64 << 20


def run(
    world: World, subject: Subject, directory: Path, samples: int, every_steps: int, budget_s: float, say: Say
) -> dict[str, Any]:
    """Measure files; *collective*.

    Parameters
    ----------
    directory
        On the file system that is to be measured; gets a temporary directory.
    samples
        Of the data files.
    every_steps
        Steps between two checkpoints of the training.
    budget_s
        Time for each measurement of a file [s].

    Returns
    -------
    dict
        Complete on rank 0 alone.
    """
    check_positive("samples", [samples])
    check_positive("every_steps", [every_steps])
    result: dict[str, Any] = {**subject.describe(), "build": subject.kernels.path, "ranks": world.size}
    with _scratch(world, directory) as folder:
        with others_asleep(world):
            if world.rank == 0:
                result["checkpoint"] = _checkpoint(subject, folder, budget_s, say)
                result["data"] = _data(subject, folder, samples, budget_s, say)
                _write_npz(subject, folder / "train.npz", _samples_to_train_on(subject, every_steps))
        result["saving"] = _saving(world, subject, folder, every_steps, say)
    return result


@contextmanager
def _scratch(world: World, directory: Path) -> Iterator[Path]:
    """Give a directory that is removed in the end; *collective*."""

    def make() -> str:
        with disk_errors("make a directory in it", directory):
            return tempfile.mkdtemp(prefix="onotrain-bench-", dir=directory)

    folder = Path(broadcast(world.comm, make))
    try:
        yield folder
    finally:
        if world.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


def _checkpoint(subject: Subject, folder: Path, budget_s: float, say: Say) -> dict[str, Any]:
    """Measure one checkpoint: parameters and optimiser state."""
    say("checkpoints")
    layout = subject.model().layout
    names = Optimizer(subject.config.optimizer, None, subject.kernels).state_names
    draw = np.random.default_rng(0)
    parameters, *state = (draw.standard_normal(layout.size).astype(layout.dtype) for _ in range(1 + len(names)))
    arrays = arrays_of(layout, Vectors(parameters, dict(zip(names, state, strict=True))))
    checkpoint = Checkpoint(arrays, subject.metadata.to_dict())
    with BackgroundWriter(CheckpointStore(folder)) as writer:

        def save_and_wait() -> Path:
            writer.submit(checkpoint, 1)
            return writer.wait() or folder

        path = save_and_wait()
        nbytes = path.stat().st_size
        save, load = measure([save_and_wait, partial(read_checkpoint, path)], budget_s)
    return {"bytes": nbytes, "save": _speed(nbytes, save), "load": _speed(nbytes, load)}


def _data(subject: Subject, folder: Path, samples: int, budget_s: float, say: Say) -> dict[str, Any]:
    """Measure readers of data files of the same samples."""
    say(f"files of {samples:,} samples")
    with disk_errors("write files of samples", folder):
        _write_npz(subject, folder / "samples.npz", samples)
        convert(DataSpec(str(folder / "samples.npz")), folder / "samples.h5")
        _write_idx(folder / "samples-idx2", subject.features(samples))
        _write_idx(folder / "labels-idx1", np.zeros(samples, np.uint8))
    specs = {
        "npz": DataSpec(str(folder / "samples.npz")),
        "hdf5": DataSpec(str(folder / "samples.h5")),
        "idx": DataSpec(str(folder / "samples-idx2"), "idx", targets=str(folder / "labels-idx1")),
    }
    nbytes = samples * subject.inputs * subject.storage.itemsize
    times = measure([partial(load_dataset, spec) for spec in specs.values()], budget_s)
    return {"bytes": nbytes, **{kind: _speed(nbytes, time) for kind, time in zip(specs, times, strict=True)}}


def _speed(nbytes: int, time: Timing) -> dict[str, Any]:
    return {"seconds": time.to_dict(), "mbytes_per_s": nbytes / time.median / 1e6}


def _write_npz(subject: Subject, path: Path, samples: int) -> None:
    features, targets = subject.features(samples).reshape(samples, *subject.shape), subject.targets(samples)
    with disk_errors("write samples", path):
        np.savez(path, x=features, y=targets[:, 0] if targets.shape[1:] == (1,) else targets)


def _write_idx(path: Path, array: np.ndarray) -> None:
    code = {"uint8": 0x08, "float32": 0x0D}[array.dtype.name]
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(array.dtype.newbyteorder(">")).tobytes())


class _Watch(Observer):
    """Remembers when steps ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def stepped(self, step: StepEnd) -> None:
        """Take the time."""
        self.times.append(perf_counter())


def _samples_to_train_on(subject: Subject, every_steps: int) -> int:
    """Return so many samples that no epoch ends, unless they were too many."""
    batch = subject.config.training.batch_size
    most = _SAMPLE_BYTES // (subject.inputs * subject.storage.itemsize)
    return max(batch, min(most, (SAVES + 2) * every_steps * batch))


def _saving(world: World, subject: Subject, folder: Path, every_steps: int, say: Say) -> dict[str, Any]:
    """Train with and without checkpoints, in turn; *collective*."""
    plain: list[float] = []
    pauses: list[float] = []
    costs: list[float] = []
    for number in range(REPEATS):
        say(f"training with checkpoints and without, {number + 1} of {REPEATS}")
        saving = _intervals(world, subject, folder, f"saving-{number}", every_steps, every_steps)
        quiet = _intervals(world, subject, folder, f"quiet-{number}", every_steps, 10**9)
        if world.rank == 0:
            step = float(np.median(quiet))
            plain.append(step)
            pauses += pauses_of(saving, every_steps, step)
            costs.append(cost_of(saving, quiet, every_steps))
    if world.rank > 0:
        return {}
    return {
        "every_steps": every_steps, "batch_size": subject.config.training.batch_size, "step_seconds": spread(plain),
        "pause_steps": spread(pauses), "cost_steps": spread(costs),
    }  # fmt: skip


def _intervals(
    world: World, subject: Subject, folder: Path, name: str, every_steps: int, checkpoint_steps: int
) -> np.ndarray:
    """Train; return the time from each step's end to the next one's [s], on rank 0."""
    watch, path = _Watch(), folder / name
    config = subject.endless(
        data={
            "train": str(folder / "train.npz"), "format": "auto", "features": None, "targets": None,
            "normalize": "none", "stream": "auto",
        },
        training={"max_steps": (SAVES + 1) * every_steps},
        checkpoint={"every_steps": checkpoint_steps},
    )  # fmt: skip
    train(config, world.comm, output=path, observers=[watch])
    if world.rank == 0:
        shutil.rmtree(path, ignore_errors=True)
    return np.diff(watch.times)


def pauses_of(intervals: Sequence[float] | np.ndarray, every_steps: int, step: float) -> list[float]:
    """Return for how many steps' time each checkpoint stopped the ranks: how much longer the step after it took.

    Parameters
    ----------
    intervals
        From the end of step 1 to that of step 2, and so on; a checkpoint follows every `every_steps` steps [s].
    step
        Time of an undisturbed step [s].
    """
    return [float(intervals[index - 1] / step - 1) for index in range(every_steps, len(intervals) + 1, every_steps)]


def cost_of(saving: Sequence[float] | np.ndarray, quiet: Sequence[float] | np.ndarray, every_steps: int) -> float:
    """Return what a checkpoint costs altogether [steps]: the writing thread takes time of the cores too.

    Parameters
    ----------
    saving, quiet
        As for `pauses_of`, with checkpoints and without.
    """
    checkpoints = len(saving) // every_steps
    before = every_steps - 1  # steps in front of the first checkpoint say nothing
    extra = float(np.sum(saving[before:]) - np.sum(quiet[before:]))
    return extra / float(np.median(quiet)) / checkpoints
