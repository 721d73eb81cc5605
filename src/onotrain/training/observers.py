"""What a run tells those who watch it; rank 0 alone has observers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from onotrain.data.reading import FilesRead
from onotrain.errors import ObserverError, OnotrainError, UsageError


@dataclass(frozen=True)
class RunStart:
    """The facts of a run before its first step."""

    output: str
    epochs: int
    samples: int
    validation_samples: int
    batch_size: int
    steps_per_epoch: int
    ranks: int
    nodes: int
    strategy: str
    #: The strategy with its options, codec, and what is simulated.
    method: str
    parameters: int
    network: str
    #: Position from which the run goes on: epoch counted from 0, steps made.
    first_epoch: int
    first_step: int
    #: What was decided for the user about the data, in words.
    notes: tuple[str, ...] = ()
    #: Metric that early stopping watches; the record of an epoch then says whether it is the best so far.
    watched: str | None = None
    #: What it took to read the files of the data.
    files_read: FilesRead | None = None
    #: Samples on which the network is tested once the run is over.
    test_samples: int = 0


@dataclass(frozen=True)
class StepEnd:
    """One optimiser step, or several: losses and accuracies are means over the samples of their global batches."""

    epoch: int
    step: int
    samples: int
    loss: float
    accuracy: float | None
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True)
class RankTime:
    """Where the time of a rank went in the steps of a trace [s]: the last three add up to the first."""

    steps: float
    compute: float
    wait: float
    communication: float


@dataclass(frozen=True)
class KernelTime:
    """What a kernel took on all ranks, in a layer if it belongs to one."""

    name: str
    layer: str
    calls: int
    seconds: float
    #: Floating point operations of products.
    operations: int


@dataclass(frozen=True)
class Trace:
    """A trace of all ranks has been written."""

    path: str
    #: The first and last step in it, counted from 1.
    first: int
    last: int
    ranks: Sequence[RankTime]
    #: The longest first.
    kernels: Sequence[KernelTime]
    #: By how much the time of a rank can be wrong by the clock of rank 0 [s].
    uncertainty: float
    #: Events for which ranks had no memory.
    missed: int


@dataclass(frozen=True)
class Reading:
    """How far the files of a data set have been read, before the run starts."""

    done: int
    files: int


class Observer:
    """Base of all observers; does nothing.

    Each method may raise `Stop`: all ranks agree on it, the state is saved, and the run ends as it does after its last
    step.  Any other exception ends the run on all ranks with one message.
    """

    #: Whether `stepped` is called for each step; else once for several steps that are made at a time, which is faster.
    each_step: ClassVar[bool] = True

    @property
    def watches_steps(self) -> bool:
        """Whether it has a `stepped` of its own; no `StepEnd` is made for those that have not."""
        return type(self).stepped is not Observer.stepped

    @property
    def watches_each_step(self) -> bool:
        """Whether steps must be made one by one for it."""
        return self.watches_steps and self.each_step

    def reading(self, reading: Reading) -> None:
        """Learn that files of a data set are about to be read, or that one has been read."""

    def started(self, start: RunStart) -> None:
        """Learn that the first step is about to be made."""

    def stepped(self, step: StepEnd) -> None:
        """Learn of a step, or of several: see `each_step`."""

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Learn that an epoch has ended; `record` is what `metrics.jsonl` gets."""

    def interval_ended(self, record: Mapping[str, Any]) -> None:
        """Learn that an interval of `metrics.every_steps` has ended; `record` is what `steps.jsonl` gets."""

    def traced(self, trace: Trace) -> None:
        """Learn that the trace of `metrics.profile` has been written."""

    def noted(self, message: str) -> None:
        """Learn of something that is worth a line."""

    def ended(self, summary: Mapping[str, Any]) -> None:
        """Learn that the run is over; `summary` is what `summary.json` gets."""


class Stop(Exception):  # noqa: N818 - a request, no error
    """Raised by an observer: the run is to end after this step or epoch.

    Parameters
    ----------
    reason
        Becomes ``stopped_by`` of the summary.
    """

    def __init__(self, reason: str = "an observer") -> None:
        super().__init__(reason)
        self.reason = reason


class Observers(Observer):
    """Several observers as one, which keeps what they raise until all ranks can learn of it.

    Attributes
    ----------
    stop_reason
        Why one of them asked to stop; None if none did.
    failure
        What went wrong in one of them; None if nothing did.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        if not isinstance(observers, Iterable):
            raise UsageError(f"observers is a {type(observers).__name__}, expected a list of observers")
        self._observers = tuple(observers)
        for observer in self._observers:
            if isinstance(observer, type):
                raise UsageError(f"{observer.__name__} is a class, not an observer", hint=f"give {observer.__name__}()")
        self.stop_reason: str | None = None
        self.failure: OnotrainError | None = None

    def add(self, observer: Observer) -> None:
        """Have one more of them."""
        self._observers = (*self._observers, observer)

    @property
    def watches_steps(self) -> bool:
        """Whether any of them does."""
        return any(observer.watches_steps for observer in self._observers)

    @property
    def watches_each_step(self) -> bool:
        """Whether any of them does."""
        return any(observer.watches_each_step for observer in self._observers)

    @property
    def asks_to_stop(self) -> bool:
        """Whether the run cannot go on for one of them."""
        return self.stop_reason is not None or self.failure is not None

    def check(self) -> None:
        """Raise what went wrong in one of them, where all ranks learn of it."""
        if self.failure is not None:
            raise self.failure

    def _tell(self, method: str, subject: Any) -> None:
        for observer in self._observers:
            try:
                getattr(observer, method)(subject)
            except Stop as stop:
                self.stop_reason = self.stop_reason or stop.reason
            except OnotrainError as error:
                self.failure = self.failure or error
            except Exception as error:
                what = f"observer {type(observer).__name__} failed in {method}: {type(error).__name__}: {error}"
                failure = ObserverError(what, hint="it may raise onotrain.Stop to end a run")
                failure.__cause__ = error
                self.failure = self.failure or failure

    def reading(self, reading: Reading) -> None:
        """Tell all."""
        self._tell("reading", reading)

    def started(self, start: RunStart) -> None:
        """Tell all."""
        self._tell("started", start)

    def stepped(self, step: StepEnd) -> None:
        """Tell all."""
        self._tell("stepped", step)

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Tell all."""
        self._tell("epoch_ended", record)

    def interval_ended(self, record: Mapping[str, Any]) -> None:
        """Tell all."""
        self._tell("interval_ended", record)

    def traced(self, trace: Trace) -> None:
        """Tell all."""
        self._tell("traced", trace)

    def noted(self, message: str) -> None:
        """Tell all."""
        self._tell("noted", message)

    def ended(self, summary: Mapping[str, Any]) -> None:
        """Tell all."""
        self._tell("ended", summary)
