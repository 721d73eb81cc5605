"""What a run leaves on the disk: rank 0 writes it, and all ranks know how it went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from enum import Enum, auto
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from onotrain.config import Config, load_config
from onotrain.config.wording import any_of
from onotrain.errors import UsageError
from onotrain.parallel.agreement import agreed
from onotrain.parallel.world import World
from onotrain.runs.checkpoint_format import Checkpoint
from onotrain.runs.checkpoint_store import BackgroundWriter, Found
from onotrain.runs.run_directory import RunDirectory
from onotrain.runs.run_files import kind_of_path
from onotrain.training.divergence import advice
from onotrain.training.environment import describe_environment
from onotrain.training.event_log import EventLog
from onotrain.training.observers import Observers
from onotrain.training.run_position import Progress

#: What may change when a run goes on: whole sections, or some of their keys.  All else decides what is computed.
_MAY_CHANGE: dict[str, tuple[str, ...] | None] = {
    "training": ("epochs", "max_steps", "load_balance"),
    "data": ("stream", "window_mib"),
    "model": ("from", "head"),
    "strategy": None,
    "communication": None,
    "checkpoint": None,
    "fault_tolerance": None,
    "simulate": None,
    "metrics": None,
}


class Beginning(Enum):
    """What becomes of a run that is in the output already."""

    REFUSE = auto()
    RESUME = auto()
    OVERWRITE = auto()
    #: Go on with what survivors of the same job have in memory.
    SURVIVE = auto()

    @classmethod
    def of(cls, *, resume: bool, overwrite: bool) -> Beginning:
        """Return what is asked for.

        Raises
        ------
        UsageError
            Both are.
        """
        if resume and overwrite:
            raise UsageError("a run is either resumed or overwritten (got both)", hint="leave one of them out")
        return cls.RESUME if resume else cls.OVERWRITE if overwrite else cls.REFUSE


class RunWriter:
    """The run directory and all that is written to it; works on rank 0, and knows on all whether a run goes on."""

    def __init__(
        self, world: World, config: Config, output: Path, beginning: Beginning, observers: Observers, stack: ExitStack
    ) -> None:
        self.world, self.config, self.output = world, config, output
        self.observer = observers if world.rank == 0 else Observers()
        self.found: Found | None = None
        with agreed(world.comm):
            if world.rank == 0:
                self._open(beginning, stack)

    def _open(self, beginning: Beginning, stack: ExitStack) -> None:
        """Make the run directory, or find where to go on."""
        config_yaml, environment = self.config.to_yaml(), describe_environment(self.world)
        if beginning is Beginning.RESUME and kind_of_path(self.output) == "run":
            self.directory = stack.enter_context(RunDirectory.resume(self.output))
            saved = load_config(self.output / "config.yaml")
            check_same_run(self.config, saved)
            self.found = self.directory.store().latest()
            check_same_beginning(self.config.model.origin, saved.model.origin, begun=self.found is not None)
            if self.found is not None:
                check_length(self.config, Progress.of(self.found.checkpoint.metadata, str(self.found.path)))
            self.directory.write_config(_as_begun(self.config, saved).to_yaml())
            self.directory.write_environment(environment)
        elif beginning is Beginning.SURVIVE:
            self.directory = stack.enter_context(RunDirectory.resume(self.output, owner_died=True))
            self.directory.write_environment(environment)
        else:
            overwrite = beginning is Beginning.OVERWRITE
            if overwrite:
                _refuse_origin_within(self.config.model.origin, self.output)
            created = RunDirectory.create(
                self.output, config_yaml=config_yaml, environment=environment, overwrite=overwrite
            )
            self.directory = stack.enter_context(created)
        log = EventLog(self.output, outlives_ranks=self.config.fault_tolerance.outlives_ranks)
        self.observer.add(stack.enter_context(log))
        for warning in [] if self.found is None else self.found.warnings:
            self.observer.noted(warning)
        store = self.directory.store(self.config.checkpoint.keep)
        self._writer = stack.enter_context(BackgroundWriter(store, log.saved))

    def begin(self, progress: Progress, split: Mapping[str, np.ndarray]) -> None:
        """Forget the records of epochs after the checkpoint; keep whose parameters the run began with, and the split.

        `split` is which samples train, validate and test.
        """
        if self.world.rank == 0:
            self.directory.forget(progress.epoch, progress.steps)
            if progress.origin is not None:
                self.directory.write_environment({**self.directory.environment(), "origin": progress.origin})
            if split:
                self.directory.write_split(split)

    def prepare(self, make: Callable[[], Checkpoint]) -> None:
        """Get ready to save."""
        if self.world.rank == 0:
            self._writer.prepare(make())

    def save(self, make: Callable[[], Checkpoint], step: int, best: bool) -> None:
        """Copy the state, and write it in the background."""
        if self.world.rank == 0:
            self._writer.submit(make(), step, best)

    def saves(self) -> list[tuple[float, float]]:
        """Return when the last checkpoints were written, in the background; until now if one is [s]."""
        times = list(self._writer.times) if self.world.rank == 0 else []
        return [(begin, perf_counter() if end is None else end) for begin, end in times]

    def wait_saved(self) -> None:
        """Wait until what was saved is on the disk; raise what went wrong."""
        if self.world.rank == 0:
            self._writer.wait()

    def advice(self) -> str:
        """Return what to do now that the training has diverged (rank 0; nothing elsewhere)."""
        if self.world.rank > 0:
            return ""
        self._writer.wait()
        return advice(self.directory, self.config)

    def record(self, record: Mapping[str, Any]) -> None:
        """Keep an epoch's record."""
        if self.world.rank == 0:
            self.directory.epochs.append(record, durable=True)

    def record_steps(self, record: Mapping[str, Any]) -> None:
        """Keep a record within an epoch; not at once on the disk, as there may be many (rank 0)."""
        self.directory.steps.append(record, durable=False)

    def end(self, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Write the summary; return it on all ranks.  *Collective*."""
        summary: dict[str, Any] = {}
        with agreed(self.world.comm):
            if self.world.rank == 0:
                summary = make()
                self.directory.write_summary(summary)
                self.observer.ended(summary)
                self.observer.check()
        return self.world.comm.bcast(summary, root=0)


def _refuse_origin_within(origin: str | None, output: Path) -> None:
    """Refuse to overwrite the run that the new one begins with."""
    if origin is not None and Path(origin).resolve().is_relative_to(output.resolve()):
        raise UsageError(
            f"{output}: would be overwritten by a run that begins with its parameters", hint="use another --output"
        )


def check_length(config: Config, progress: Progress) -> None:
    """Refuse to go on with fewer epochs than are made or begun.

    Raises
    ------
    UsageError
        It is so.
    """
    begun = progress.epoch + (progress.position > 0)
    if config.training.epochs < begun:
        raise UsageError(
            f"training.epochs is {config.training.epochs}, but the run is in epoch {begun} already",
            hint="ask for at least as many, or train into a new --output",
        )


def check_same_beginning(origin: str | None, saved: str | None, *, begun: bool) -> None:
    """Refuse to go on with a run that began with other parameters; once it has `begun`, they need not be named again.

    Raises
    ------
    UsageError
        It did, or would.
    """
    if origin == saved or (origin is None and begun):
        return
    said = "began with parameters of its own" if saved is None else f"began with the parameters of {saved}"
    wanted = "its own" if origin is None else f"those of {origin}"
    raise UsageError(
        f"the run {said}; it cannot go on with {wanted}",
        hint="train into a new --output" + ("" if saved is None else f", or give --from {saved}"),
    )


def check_same_run(config: Config, saved: Config) -> None:
    """Refuse to go on with a configuration that would compute something else.

    Raises
    ------
    UsageError
        Other sections than those of `_MAY_CHANGE` differ; the message names the keys.
    """
    new, old = config.to_mapping(), saved.to_mapping()
    changed = []
    for section in new:
        allowed = _MAY_CHANGE.get(section, ())
        if allowed is None or new[section] == old.get(section):
            continue
        if isinstance(new[section], Mapping) and isinstance(old.get(section), Mapping):
            keys = new[section].keys() | old[section].keys()
            changed += [
                f"{section}.{k}" for k in sorted(keys - set(allowed)) if new[section].get(k) != old[section].get(k)
            ]
        else:
            changed.append(section)
    if changed:
        names = [name for section, keys in _MAY_CHANGE.items() for name in _names(section, keys)]
        raise UsageError(
            f"the configuration differs from the run's in {', '.join(changed)}",
            hint="resume with the run's own config.yaml, or train into a new --output; "
            f"{any_of(names, 'and')} may change",
        )


def _as_begun(config: Config, saved: Config) -> Config:
    """Return the configuration with what only the beginning of the run has read, as that was."""
    mapping, before = config.to_mapping(), saved.to_mapping()
    mapping["model"] |= {key: before["model"][key] for key in ("from", "head")}
    return Config.from_mapping(mapping)


def _names(section: str, keys: tuple[str, ...] | None) -> list[str]:
    return [section] if keys is None else [f"{section}.{key}" for key in keys]
