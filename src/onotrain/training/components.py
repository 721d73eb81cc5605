"""What a training works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onotrain.config import Config
from onotrain.data.feed import Feed
from onotrain.evaluation.evaluator import Evaluator
from onotrain.nn import Model
from onotrain.parallel.stop_signals import StopRequest
from onotrain.parallel.world import World
from onotrain.strategies import Strategy
from onotrain.strategies.injection import Injection
from onotrain.training.noise_scale import NoiseScale
from onotrain.training.observers import Observers
from onotrain.training.profiling.profiler import Profiler
from onotrain.training.run_position import Progress


@dataclass
class Commits:
    """How far a training had come when its state was last committed."""

    #: Whether there is a trainer that makes steps.
    begun: bool = False
    #: At the last commit of this rank's replica; None: there was none.
    progress: Progress | None = None


@dataclass(frozen=True)
class Components:
    """What a trainer works with; built by `onotrain.training.session`, the same on all ranks."""

    config: Config
    world: World
    model: Model
    strategy: Strategy
    feed: Feed
    evaluator: Evaluator | None
    progress: Progress
    observer: Observers
    #: Saves the run's state (rank 0; does nothing elsewhere): called between steps with whether this is the best so
    # far.
    save: Callable[[bool], None]
    #: Waits until what was saved is on the disk (rank 0; does nothing elsewhere).
    wait_saved: Callable[[], None]
    #: Completes the record of an epoch and returns it; rank 0 also keeps it.
    record: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    #: Whether this rank was asked to stop.
    stop: StopRequest
    #: Measures the noise of gradients; None if nobody wants to know.
    noise: NoiseScale | None = None
    #: Slows down the computing of a step, if that is to be simulated.
    injection: Injection = field(default_factory=Injection)
    #: Traces some steps, if that is asked for.
    profiler: Profiler = field(default_factory=Profiler)
    #: Kept up to date by the trainer.
    commits: Commits = field(default_factory=Commits)
    #: What to do about a training that has diverged (rank 0; empty elsewhere).
    advice: Callable[[], str] = str
