"""A thread of rank 0 that says every second where the run stands, and listens to requests: see `onotrain.runs.live`.

It reads what the training keeps in memory anyway, so that no step takes longer; and it speaks no MPI.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import Any, Self

import numpy as np

from onotrain.parallel.pulse import Field, Phase, Pulse
from onotrain.parallel.stop_signals import StopRequest
from onotrain.runs import live
from onotrain.training.observers import Observer, RunStart
from onotrain.training.run_position import Progress

#: Between two beats [s].
INTERVAL_S = 1.0
#: Ranks of which is said where they are: the watchdog takes more bytes than a few thousand for progress of the run.
MOST_RANKS = 24
_NS = 1_000_000_000


class Heartbeat(Observer):
    """Says where a run stands, as long as it is entered.

    Parameters
    ----------
    run
        Its directory.
    pulse
        What the ranks of this node say of themselves.
    stop
        Learns of requests.
    """

    def __init__(self, run: Path, pulse: Pulse, stop: StopRequest) -> None:
        self._run, self._pulse, self._stop = run, pulse, stop
        self._over = threading.Event()
        #: None while there is none: it refers to this object, and what a cycle holds stays when the run is over.
        self._thread: threading.Thread | None = None
        self._progress, self._counts_losses = Progress(), False
        self._max_steps: int | None = None
        #: Facts of the run, when it began to make steps, and how long it had gone on then [s]; None: not yet.
        self._start: tuple[RunStart, float, float] | None = None

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        with suppress(RuntimeError):  # there may be no more threads; the run does not need this one
            thread.start()
            self._thread = thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say where the run has come to."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None
            self._write()

    def follow(self, progress: Progress, max_steps: int | None, *, counts_losses: bool) -> None:
        """Know what to say from the start of the run on.

        Parameters
        ----------
        progress
            Kept up to date by the trainer.
        max_steps
            After which the run ends; None: when its epochs are made.
        counts_losses
            Whether `progress` has the losses of all steps that it counts.
        """
        self._progress, self._max_steps, self._counts_losses = progress, max_steps, counts_losses

    def started(self, start: RunStart) -> None:
        """Say where the run stands from now on."""
        self._start = start, monotonic(), self._progress.wall_seconds

    def _beat(self) -> None:
        while True:
            self._write()
            for request, host in live.hear(self._run).items():
                live.add_event(self._run, "asked", request=str(request), host=host)
                if request is live.Request.STOP:
                    self._stop.signal = self._stop.signal or request.file
                else:
                    self._stop.save = True
            if self._over.wait(INTERVAL_S):
                return

    def _write(self) -> None:
        phase = Phase(self._pulse.own[Field.PHASE]).words
        here = {"host": socket.gethostname(), "phase": phase}
        live.write_progress(self._run, {**here, **self._place(), "ranks": ranks_of(self._pulse)})

    def _place(self) -> dict[str, Any]:
        if self._start is None:
            return {}
        (start, began, before), progress = self._start, self._progress
        seconds = monotonic() - began
        steps = start.epochs * start.steps_per_epoch
        total = steps if self._max_steps is None else min(steps, self._max_steps)
        made = progress.steps - start.first_step
        known = self._counts_losses and progress.position > 0
        return {
            "epoch": min(progress.epoch + 1, start.epochs),
            "epochs": start.epochs,
            "step": progress.steps,
            "first_step": start.first_step,
            "total_steps": total,
            "position": progress.position,
            "samples": start.samples,
            "train_loss": progress.loss_sum / progress.position if known else None,
            "train_seconds": round(progress.train_seconds, 3),
            "wall_seconds": round(before + seconds, 3),
            "seconds_left": round(seconds * (total - progress.steps) / made, 3) if made else None,
        }


def ranks_of(pulse: Pulse) -> Mapping[str, Any]:
    """Return what the ranks of this node say of themselves, as lists; of many only those that are idle the longest."""
    lines, now = pulse.lines.copy(), monotonic_ns()
    idle, waits = now - lines[:, Field.PROGRESS], now - lines[:, Field.WAITS]
    waits[lines[:, Field.WAITS] == 0] = 0
    chosen = np.sort(np.argsort(-idle, kind="stable")[:MOST_RANKS])
    ranks = [member.process.rank for member in pulse.members] or [0]

    def seconds(values: np.ndarray) -> list[float]:
        return [max(0.0, round(value / _NS, 1)) for value in values[chosen].tolist()]

    return {
        "rank": [ranks[index] for index in chosen],
        "step": lines[chosen, Field.STEP].tolist(),
        "phase": [Phase(phase).words for phase in lines[chosen, Field.PHASE]],
        "idle_seconds": seconds(idle),
        "waits_seconds": seconds(waits),
    }
