"""The events of all ranks, on one clock, in one file."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onotrain import __version__
from onotrain._kernels.recording import Events, Label
from onotrain.config import Config
from onotrain.errors import OnotrainError, ResourceError
from onotrain.nn import Model
from onotrain.nn.operations import of_kernel
from onotrain.parallel.agreement import agreed
from onotrain.parallel.clocks import Clocks
from onotrain.parallel.collectives import move_vector
from onotrain.parallel.world import World, start_mpi
from onotrain.runs.trace_file import Part, TraceFile, compress
from onotrain.strategies import Strategy
from onotrain.training.observers import Trace
from onotrain.training.profiling import text
from onotrain.training.profiling.slices import RankSummary, Slices, by_kernel, by_rank, slices_of, summary_of


class Subject(NamedTuple):
    """What the trace is of."""

    #: What is said of it in the file: JSON-able.
    facts: Mapping[str, Any]
    #: Of this rank, such as ``worker``.
    role: str
    steps_per_epoch: int
    #: Floating point operations of one call of a kernel on this rank.
    operations: Callable[[Label], int]

    @classmethod
    def of(
        cls, model: Model, strategy: Strategy, world: World, samples: int, config: Config, facts: Mapping[str, Any]
    ) -> Subject:
        """Return the subject of a training on so many samples."""
        all_gradients = strategy.replica.gradient is not None

        def operations(label: Label) -> int:
            return of_kernel(model, label.name, label.place.layer, label.place.rows, all_gradients=all_gradients)

        role = "server" if world.rank < world.size - strategy.batches.workers else "worker"
        facts = {"onotrain": __version__, "network": model.widths, "dtype": model.dtype.name, **facts}
        return cls(facts, role, -(-samples // config.training.batch_size), operations)


class _Own(NamedTuple):
    """What a rank sends of itself besides its text."""

    crc32: int
    length: int
    summary: RankSummary
    uncertainty: float


def collect(world: World, events: Events, clocks: Clocks, subject: Subject, path: Path) -> Trace | str:
    """Write the trace of all ranks to a file.  *Collective*; the same subject but for the role.

    Rank 0 writes, and has the text of one rank in memory at a time, which that rank has made and compressed.

    Returns
    -------
    Trace or str
        On rank 0 what has been written, or why it could not be: the run goes on in any case.
    """
    try:
        with agreed(world.comm):
            slices = slices_of(_on_first_clock(events, clocks), events.labels, subject.steps_per_epoch)
            since = _beginning(world, slices)
            title = f"rank {world.rank} ({subject.role}) on {socket.gethostname()}"
            part = compress(text.of_rank(world.rank, title, slices, since, subject.operations))
            ends = text.ends_of_arrows(world.rank, slices, since)
    except ResourceError as error:
        return f"there is no trace: {error.message}"
    summary = summary_of(slices, subject.operations, events.missed)
    everyone: list[_Own] | None = world.comm.gather(_Own(part.crc32, part.length, summary, clocks.uncertainty), root=0)
    if everyone is None:
        _send(world, part, ends)
        return ""
    return _write(world, everyone, part, ends, subject, path)


def _beginning(world: World, slices: Slices) -> int:
    """Return when the first event of all ranks began [ns].  *Collective*."""
    mine = np.array([slices.events["begin"].min() if len(slices.events) else np.iinfo(np.int64).max])
    first = np.empty_like(mine)
    world.comm.Allreduce(mine, first, start_mpi().MIN)
    return int(first[0])


def _on_first_clock(events: Events, clocks: Clocks) -> np.ndarray:
    found = events.array[: events.count].copy()
    end = clocks.to_first_rank(found["begin"] + found["duration"])
    found["begin"] = clocks.to_first_rank(found["begin"])
    found["duration"] = np.maximum(end - found["begin"], 0)
    return found


def _send(world: World, part: Part, ends: np.ndarray) -> None:
    world.comm.send((len(part.data), len(ends)), 0)
    move_vector(world.comm, np.frombuffer(part.data, np.uint8), world.rank, 0)
    move_vector(world.comm, ends.reshape(-1), world.rank, 0)


def _receive(world: World, own: _Own, rank: int) -> tuple[Part, np.ndarray]:
    nbytes, arrows = world.comm.recv(source=rank)
    data, ends = np.empty(nbytes, np.uint8), np.empty((arrows, 6), np.int64)
    move_vector(world.comm, data, rank, 0)
    move_vector(world.comm, ends.reshape(-1), rank, 0)
    return Part(data.tobytes(), own.crc32, own.length), ends


def _parts(
    world: World, everyone: list[_Own], part: Part, ends: np.ndarray, facts: Mapping[str, Any]
) -> Iterator[Part]:
    """Yield the parts of the file, those of other ranks as they are received (rank 0)."""
    yield compress([text.beginning(facts)])
    yield part
    arrows = [ends]
    for rank in range(1, world.size):
        other, ends = _receive(world, everyone[rank], rank)
        arrows.append(ends)
        yield other
    yield compress([*text.arrows(np.concatenate(arrows)), text.END])


def _write(
    world: World, everyone: list[_Own], part: Part, ends: np.ndarray, subject: Subject, path: Path
) -> Trace | str:
    """Write what all ranks send (rank 0)."""
    summaries, uncertainty = [each.summary for each in everyone], [each.uncertainty for each in everyone]
    missed = [each.missed for each in summaries]
    clock = {"of": "rank 0", "uncertainty_seconds": uncertainty}
    parts = _parts(world, everyone, part, ends, {**subject.facts, "clock": clock, "missed_events": missed})
    try:
        with TraceFile(path) as file:
            for each in parts:
                file.add(each)
            file.commit()
    except OnotrainError as error:
        deque(parts, 0)  # the others wait until theirs are received
        return f"there is no trace: {error.message}"
    first, last = subject.facts["steps"]
    return Trace(str(path), first, last, by_rank(summaries), by_kernel(summaries), max(uncertainty), sum(missed))
