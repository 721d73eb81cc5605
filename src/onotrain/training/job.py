"""A training from its arguments to its result."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onotrain import __version__
from onotrain.config import Config, Places, load_config
from onotrain.errors import LostRankError, PlatformError, ResourceError, UsageError, on_all_ranks
from onotrain.parallel import supervised, survival, threads
from onotrain.parallel.agreement import agreed, broadcast
from onotrain.parallel.pulse import Pulse
from onotrain.parallel.stop_signals import StopRequest
from onotrain.parallel.survival import Survival
from onotrain.parallel.watchdog import Watchdog
from onotrain.parallel.world import Comm, World
from onotrain.runs.run_files import STACKS_NAME, claim
from onotrain.text import count
from onotrain.training.heartbeat import Heartbeat
from onotrain.training.legacy import Legacy, Offer
from onotrain.training.observers import Observer, Observers
from onotrain.training.run_writer import Beginning, RunWriter
from onotrain.training.session import Session
from onotrain.training.sinks import open_sinks


@dataclass(frozen=True)
class Result:
    """What a finished run gives back, the same on all ranks."""

    output: Path
    #: The content of ``summary.json``.
    summary: Mapping[str, Any]
    #: Those that trained to the end, if ranks have died (``fault_tolerance: shrink``); else as it was given.
    comm: Comm | None = None


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
        Run directory, summary, and the ranks that are left.

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
        supervised.tell(supervised.LISTENING)  # all ranks have agreed, so all of them do
        ranks_per_node = None if resolved.simulate is None else resolved.simulate.ranks_per_node
        if ranks_per_node is not None:
            world = stack.enter_context(World.connect(world.comm, ranks_per_node))  # noqa: PLW2901
        beginning = broadcast(world.comm, lambda: Beginning.of(resume=resume, overwrite=overwrite))
        task = _Task(resolved, beginning, observers, stop, held)
        place = _output(world, config, output)
        if not resolved.fault_tolerance.outlives_ranks:
            return replace(task.run(world, place), comm=comm)
        survival.require(world)
        job = Survival(world, ranks_per_node)
        result = task.run_and_survive(job, place)
        return replace(result, comm=job.world.comm if job.lost else comm)


@dataclass
class _Task:
    """A training, which may take several attempts within a job if ranks of it die."""

    config: Config
    beginning: Beginning
    observers: Sequence[Observer]
    stop: StopRequest
    held: Mapping[str, Any] | None
    #: Of the attempts so far.
    sessions: list[Session] = field(default_factory=list)

    def run(self, world: World, output: Path, legacy: Legacy | None = None, lost: Sequence[int] = ()) -> Result:
        """Train.  *Collective*.

        Parameters
        ----------
        world
            Who trains.
        output
            Run directory.
        legacy
            What ranks of an attempt before have in memory; None: begin, or go on from a checkpoint.
        lost
            Ranks that have died, as they were counted when the job began.
        """
        supervised.tell(f"{supervised.RANK}{world.rank} {world.size} {os.getpid()}")
        with _noting_place(world.pulse), threads.shared(world.node.size), ExitStack() as stack:
            options = self.config.fault_tolerance
            watchdog = stack.enter_context(
                Watchdog(world, options.watchdog_seconds, outlives_ranks=options.outlives_ranks)
            )
            with agreed(world.comm):  # those of rank 0 count
                watching = Observers(self.observers if world.rank == 0 else ())
                if world.rank == 0:  # before there is a run directory, or one is overwritten
                    open_sinks(self.config, watching, stack, goes_on=bool(lost))
            beginning = self.beginning if legacy is None else Beginning.SURVIVE
            writer = RunWriter(world, self.config, output, beginning, watching, stack)
            watchdog.directory = writer.output / STACKS_NAME
            if lost:
                watching.noted(_after_loss(lost, world, legacy))
            heartbeat = None
            if world.rank == 0:
                heartbeat = stack.enter_context(Heartbeat(writer.output, world.pulse, self.stop))
                watching.add(heartbeat)
            session = Session(world, self.config, writer, self.stop, stack, self.held, legacy)
            if heartbeat is not None:
                counts_losses = session.strategy.batches.bulk_synchronous
                heartbeat.follow(session.progress, self.config.training.max_steps, counts_losses=counts_losses)
            if lost:
                session.progress.lost_ranks = list(lost)
            self.sessions.append(session)
            return Result(writer.output, session.run())

    def run_and_survive(self, job: Survival, output: Path) -> Result:
        """Train, with those who are left whenever ranks have died.  *Collective*."""
        while True:
            result, error = self._attempt(job, output)
            if job.all_through(error) and result is not None:
                return result
            del result, error  # with its traceback, and all that is in it
            job.shrink()

    def _attempt(self, job: Survival, output: Path) -> tuple[Result | None, Exception | None]:
        """Return what training has led to."""
        legacy = None
        try:
            legacy = Legacy.of(job.world, self._offer())
            if legacy is None and job.lost:
                self._check_samples(job.world)
            return self.run(job.world, output, legacy, job.lost), None
        except (ResourceError, UsageError) as error:
            # Before the first attempt there is no legacy; after it, sessions hold that of which the legacy is.
            if legacy is None or not error.agreed or any(each.commits.begun for each in self.sessions[1:]):
                return None, error
            # Not what was asked for is wrong, but what is left of it.
            lost = LostRankError(f"ranks have died, and the others cannot go on: {error.message}", hint=error.hint)
            return None, on_all_ranks(lost)
        except Exception as error:  # noqa: BLE001 - raised again if nobody has died
            return None, error

    def _check_samples(self, world: World) -> None:
        """Refuse to begin again without samples that were in the memory of ranks that have died.  *Collective*."""
        with agreed(world.comm):
            if self.held is not None and not self.held and world.node.rank == 0:
                raise LostRankError(
                    "the samples in memory are gone with a rank that died before the first step",
                    hint="call fit again, or give the same samples on every rank (rows='same')",
                )

    def _offer(self) -> Offer | None:
        """Return what the last session has that came to make steps, and forget those before it."""
        self.sessions = [session for session in self.sessions if session.commits.begun][-1:]
        return self.sessions[0].offer() if self.sessions else None


@contextmanager
def _noting_place(pulse: Pulse) -> Iterator[None]:
    """Add to an error that this rank has alone what it was at."""
    try:
        yield
    except Exception as error:
        if not getattr(error, "agreed", False):
            error.add_note(f"while {pulse.place}")
        raise


def _after_loss(lost: Sequence[int], world: World, legacy: Legacy | None) -> str:
    """Return what a person should know."""
    which = f"rank {lost[0]} has" if len(lost) == 1 else f"ranks {', '.join(map(str, lost))} have"
    where = "beginning again" if legacy is None else f"going on after step {legacy.progress.steps}"
    return f"{which} died: {count(world.size, 'rank')} {where}"


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
