"""A training from its arguments to its result."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onotrain import __version__
from onotrain.config import Config, Places, load_config
from onotrain.errors import PlatformError, on_all_ranks
from onotrain.parallel import supervised
from onotrain.parallel.agreement import agreed, broadcast
from onotrain.parallel.watchdog import Watchdog
from onotrain.parallel.world import Comm, World
from onotrain.runs.run_directory import claim
from onotrain.training.observers import Observer, Observers
from onotrain.training.run_writer import Beginning, RunWriter
from onotrain.training.session import Session
from onotrain.training.stop_signals import StopRequest

#: Folder of a run directory with the stacks of all ranks when one of them made no progress.
STACKS = "stacks"


@dataclass(frozen=True)
class Result:
    """What a finished run gives back, the same on all ranks."""

    output: Path
    #: The content of ``summary.json``.
    summary: Mapping[str, Any]


def train(
    config: Config | Mapping[str, Any] | str | os.PathLike[str],
    comm: Comm | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    observers: Sequence[Observer] = (),
) -> Result:
    """Train a network.

    *Collective* over `comm`: every rank calls it; the arguments of rank 0 count.

    Parameters
    ----------
    config
        A `Config`, a mapping of the same shape, or the path of a YAML file.
    comm
        Communicator of the ranks to train on; default: all of the job, or this process alone without ``mpirun``.
    output
        Run directory to make; default ``runs/<name>-<number>``.
    resume
        Go on from the newest sound checkpoint in `output`; start anew if there is none.
    overwrite
        Replace a run in `output`; files that are not a run's stay.
    overrides
        ``key.path=value`` changes of a configuration that is a file.
    observers
        Told of the run's progress, on rank 0.

    Returns
    -------
    Result
        Run directory and summary.

    Raises
    ------
    OnotrainError
        See `onotrain.errors`; the same on all ranks unless only one failed.  The end of a program on a rank that failed
        alone aborts the job, because the others wait for it.
    """
    return run(
        config, comm, output=output, resume=resume, overwrite=overwrite, overrides=overrides, observers=observers
    )


def run(
    config: Any, comm: Comm | None, *, output: str | os.PathLike[str] | None, resume: bool = False,
    overwrite: bool = False, overrides: Sequence[str] = (), observers: Sequence[Observer] = (),
    held: Mapping[str, Any] | None = None,
) -> Result:  # fmt: skip
    """Train as `train` does, on samples in memory if there are any.

    *Collective* over `comm`; `held` on the first rank of each node.

    Parameters
    ----------
    config, comm, output, resume, overwrite, overrides, observers
        As of `train`.
    held
        See `onotrain.data.prepare.prepare`.
    """
    with World.connect(comm) as world, StopRequest.listening() as stop, ExitStack() as stack:
        resolved = _agree_on_config(world, config, overrides)
        supervised.tell(f"{supervised.RANK}{world.rank} {os.getpid()}")
        if world.rank == 0:  # all ranks have agreed, so all of them listen
            supervised.tell(supervised.LISTENING)
        if resolved.simulate is not None and resolved.simulate.ranks_per_node is not None:
            world = stack.enter_context(World.connect(world.comm, resolved.simulate.ranks_per_node))  # noqa: PLW2901
        watchdog = stack.enter_context(Watchdog(world, resolved.fault_tolerance.watchdog_seconds))
        beginning = broadcast(world.comm, lambda: Beginning.of(resume=resume, overwrite=overwrite))
        with agreed(world.comm):  # those of rank 0 count
            watching = Observers(observers if world.rank == 0 else ())
        writer = RunWriter(world, resolved, _output(world, config, output), beginning, watching, stack)
        watchdog.directory = writer.output / STACKS
        return Result(writer.output, Session(world, resolved, writer, stop, stack, held).run())


def _agree_on_config(world: World, config: Any, overrides: Sequence[str]) -> Config:
    """Read the configuration on rank 0; every rank builds its own from the same bytes."""

    def read() -> tuple[str, Places]:
        if isinstance(config, str | os.PathLike):
            found = load_config(config, overrides)
        else:
            found = config if isinstance(config, Config) else Config.from_mapping(config)
        return found.canonical_json(), found.places

    text, places = broadcast(world.comm, read)
    with agreed(world.comm):  # a strategy or a loss may be of a package that another node lacks
        resolved = Config.from_mapping(json.loads(text), places)
    versions = world.comm.allgather(__version__)
    if len(set(versions)) > 1:
        raise on_all_ranks(
            PlatformError(
                f"ranks have different versions of onotrain: {', '.join(sorted(set(versions)))}",
                hint="install the same one on all nodes",
            )
        )
    return resolved


def _output(world: World, config: Any, output: str | os.PathLike[str] | None) -> Path:
    """Return the run directory: the one asked for, or the first free ``runs/<name>-<number>``."""

    def choose() -> Path:
        if output is not None:
            return Path(output)
        return claim(Path(config).stem if isinstance(config, str | os.PathLike) else "run")

    return broadcast(world.comm, choose)
