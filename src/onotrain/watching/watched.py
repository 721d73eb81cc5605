"""A run directory that is looked at again and again, and what is to be shown of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

from onotrain.config import load_config
from onotrain.errors import OnotrainError, UsageError
from onotrain.runs import live
from onotrain.runs.checkpoint_store import step_of
from onotrain.runs.live import Request
from onotrain.runs.lock import Owner, owner_of
from onotrain.runs.records import check_step, metrics_of
from onotrain.runs.run_directory import RunDirectory
from onotrain.runs.run_files import CONFIG_NAME, METRICS_NAME, STACKS_NAME, STEPS_NAME
from onotrain.text import count
from onotrain.watching.epochs import Epochs, keeping_waiting, mean_of, rank_times, roles_of, slowest_of, staleness_of
from onotrain.watching.events import Events, unix_time
from onotrain.watching.tail import Tail, Thinned
from onotrain.watching.view import Curve, Ranks, View

#: A run that says nothing of itself for so long is silent; one whose process is gone has died after so long [s].
SILENT_S, DEAD_S = 15.0, 3.0
#: Ranks that are all shown, and how many of more than those.
MOST_ROWS, SLOWEST = 16, 8


class WatchedRun:
    """A run, whether it goes on or is over.

    Parameters
    ----------
    path
        Of the run directory.

    Raises
    ------
    UsageError
        There is no run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = path.resolve().name
        RunDirectory.open(path)
        self._epochs = Epochs()
        self._events = Events()
        self._intervals: dict[str, Thinned] = {}
        self._tails = (
            Tail(path / METRICS_NAME, self._epochs.take, self._epochs.clear),
            Tail(path / STEPS_NAME, self._take_interval, self._intervals.clear),
            Tail(path / live.EVENT_LOG_NAME, self._events.take, self._events.clear),
        )
        self._progress: dict[str, Any] = {}
        #: When the run has given a sign of life that was seen here, by the monotonic clock [s]; None: never.
        self._alive: float | None = None
        self._requests: dict[Request, str] = {}

    def look(self) -> View:
        """Look at what has changed, and return what is to be shown.

        Raises
        ------
        UsageError
            The run is gone.
        """
        if not self.path.is_dir():
            raise UsageError(f"{self.path}: the run directory is gone")
        grown = [tail.look() for tail in self._tails]
        self._listen(any(grown))
        owner = owner_of(self.path)
        state, words = self._state(owner)
        for request, said in list(self._requests.items()):
            self._requests[request] = self._heard(request, said, over=state not in ("running", "silent"))
        return replace(self._shown(state, words), notes=list(self._notes(state)))

    def ask(self, request: Request) -> None:
        """Ask the run for something.

        Raises
        ------
        UsageError
            Nobody is there to hear it.
        ResourceError
            It cannot be written.
        """
        state, words = self._state(owner_of(self.path))
        if state not in ("running", "silent"):
            raise UsageError(f"{self.path}: nobody would hear it: {words}")
        self._events.ask_again(request)
        live.ask(self.path, request)
        self._requests[request] = "asked, not heard yet"

    # Signs of life ----------------------------------------------------------------------------------------------------

    def _listen(self, grown: bool) -> None:
        """Take a sign of life: by this host's clock, and by the other host's only when it is seen first."""
        found = live.read_progress(self.path)
        if found is not None and found != self._progress:
            first = not self._progress and self._alive is None
            said = unix_time(found["time"]) if first else None
            self._alive = monotonic() - (max(0.0, time() - said) if said is not None else 0.0)
            self._progress = found
        elif grown and self._alive is not None:
            self._alive = monotonic()

    def _state(self, owner: Owner | None) -> tuple[str, str]:
        """Return the state of the run, and what is to be said of it."""
        age = None if self._alive is None else monotonic() - self._alive
        if owner is None:
            return self._ended()
        if owner.gone and (age is None or age > DEAD_S):
            return "died", f"{owner.words} is gone; last sign of life {_clock(self._progress.get('time'))}"
        if age is not None and age > SILENT_S:
            return "silent", f"no sign of life from {owner.host} for {age:.0f} s"
        return "running", str(self._progress.get("phase", "in use"))

    def _ended(self) -> tuple[str, str]:
        """Return how a run has ended that nobody holds."""
        last = self._events.last_end
        if last is not None and last["event"] in ("stopped", "failed"):
            return last["event"], f"{last.get('message')} (exit code {last.get('exit_code')})"
        summary = self._summary()
        if last is None and summary is None:
            return "idle", "nobody trains it"
        ended = last or summary or {}
        if ended.get("stopped_early"):
            return "finished", "stopped early"
        if ended.get("stopped_by"):
            return "ended", f"by {ended['stopped_by']}"
        return ("finished", "all epochs are done") if ended.get("finished") else ("ended", "at training.max_steps")

    def _summary(self) -> dict[str, Any] | None:
        with suppress(OnotrainError):
            return RunDirectory(self.path).summary()
        return None

    def _heard(self, request: Request, said: str, *, over: bool) -> str:
        """Return what has become of a request."""
        if live.asked(self.path, request):
            if over:
                live.withdraw(self.path, request)
                return "the run ended without hearing it"
            return said
        if self._events.since_asked(request) == "saved":
            return "saved"
        return "heard" if not over else "done"

    # What is shown ----------------------------------------------------------------------------------------------------

    def _take_interval(self, row: dict[str, Any]) -> None:
        check_step(row)
        for name, value in metrics_of(row, ("train",)).items():
            if value is not None:
                self._intervals.setdefault(name, Thinned()).add(row["step"], value)

    def _shown(self, state: str, words: str) -> View:
        progress, last, start = self._progress, self._epochs.last, self._events.start
        runs, saved = state in ("running", "silent", "died"), self._saved()
        step = _largest(progress.get("step"), last.get("steps"), start.get("step"))
        steps, epochs = progress.get("total_steps"), progress.get("epochs") or start.get("epochs") or self._asked_epochs
        epoch = _largest(progress.get("epoch") if runs else None, last.get("epoch"))
        if not steps and epochs and last.get("epoch") and isinstance(last.get("steps"), int):
            steps = round(last["steps"] / last["epoch"] * epochs)
        return View(
            name=self._name,
            path=str(self.path),
            state=state,
            words=words,
            facts=list(self._facts()),
            epoch=epoch,
            epochs=epochs,
            step=step,
            steps=steps,
            fraction=min(1.0, step / steps) if steps and step is not None else None,
            seconds=progress.get("wall_seconds") if runs else last.get("wall_seconds"),
            seconds_left=progress.get("seconds_left") if state == "running" else None,
            samples_per_second=last.get("samples_per_second"),
            learning_rate=last.get("learning_rate"),
            saved=saved,
            curves=list(self._curves()),
            switches=list(self._epochs.switches),
            ranks=self._ranks(runs),
            staleness=staleness_of(last),
            events=list(self._events.shown),
            requests={str(request): said for request, said in self._requests.items()},
            hears=state in ("running", "silent"),
        )

    @property
    def _asked_epochs(self) -> int | None:
        """Of a run of a version that wrote no events."""
        with suppress(OnotrainError):
            return load_config(self.path / CONFIG_NAME).training.epochs
        return None

    def _saved(self) -> int | None:
        """Return the step of the newest checkpoint."""
        with suppress(OnotrainError):
            paths = RunDirectory(self.path).store().paths()
            return step_of(paths[-1].name) if paths else None
        return None

    def _facts(self) -> Iterator[tuple[str, str]]:
        last, start = self._epochs.last, self._events.start
        method = last.get("method") or start.get("method")
        if method:
            yield "method", str(method)
        if start.get("network") and isinstance(start.get("parameters"), int):
            yield "network", f"{start['network']}, {count(start['parameters'], 'parameter')}"
        if all(isinstance(start.get(key), int) for key in ("samples", "batch_size", "steps_per_epoch")):
            yield (
                "data",
                (
                    f"{count(start['samples'], 'sample')}, {count(start['batch_size'], 'sample')} a step, "
                    f"{count(start['steps_per_epoch'], 'step')} an epoch"
                ),
            )

    def _curves(self) -> Iterator[Curve]:
        """Yield the curves, the loss first."""
        names = {name.partition("_")[2]: None for name in (*self._epochs.curves, *self._intervals)}
        for name in sorted(names, key=lambda name: name != "loss"):
            within = self._intervals.get(f"train_{name}")
            train = within or self._epochs.curves.get(f"train_{name}")
            validation = self._epochs.curves.get(f"validation_{name}")
            points = [[] if each is None else each.points for each in (train, validation)]
            yield Curve(name.replace("_", " "), *points)

    def _ranks(self, runs: bool) -> Ranks | None:
        last, start = self._epochs.last, self._events.start
        ranks = last.get("ranks") or start.get("ranks")
        if not isinstance(ranks, int):
            return None
        rows = rank_times(last)
        longest = sorted(rows, key=lambda row: -row.compute)
        return Ranks(
            count=ranks,
            nodes=last.get("nodes") or start.get("nodes") or 1,
            epoch=last.get("epoch", 0) if rows else 0,
            roles=roles_of(last, ranks),
            mean=mean_of(rows) if rows else None,
            rows=rows if len(rows) <= MOST_ROWS else longest[:SLOWEST],
            slowest=slowest_of(last, longest),
            now=list(keeping_waiting(self._progress.get("ranks") or {})) if runs else [],
        )

    def _notes(self, state: str) -> Iterator[str]:
        yield from self._epochs.last.get("warnings") or ()
        for tail, name in zip(self._tails, (METRICS_NAME, STEPS_NAME, live.EVENT_LOG_NAME), strict=True):
            if tail.damaged:
                yield f"{name}: {count(tail.damaged, 'line')} cannot be used"
            if tail.problem:
                yield tail.problem
        if state in ("died", "failed", "stopped"):
            saved = self._saved()
            yield "no checkpoint was saved" if saved is None else f"goes on from step {saved} with --resume"
            if (self.path / STACKS_NAME).is_dir():
                yield f"where the ranks stood is in {self.path / STACKS_NAME}"


def _largest(*values: Any) -> int | None:
    return max((value for value in values if isinstance(value, int)), default=None)


def _clock(text: Any) -> str:
    """Return a time by this host's clock, for people."""
    at = unix_time(text)
    return "unknown" if at is None else datetime.fromtimestamp(at).strftime("at %H:%M:%S on %Y-%m-%d")
