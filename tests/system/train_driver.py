"""Runs trainings under mpirun, one after the other, and writes what a test wants to know of each: losses of every step,
and the digest of each rank's parameters.

Usage: train_driver.py FOLDER NAME... [--resume] [--stop-at STEP|started|ended] [--full-disk]

``FOLDER/NAME.yaml`` is trained into ``FOLDER/NAME``, and what there is to know goes to ``FOLDER/NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onotrain.parallel import guard
from onotrain.runs.metadata import parameters_sha256
from onotrain.training import train
from onotrain.training.observers import Observer, RunStart, StepEnd
from onotrain.training.trainer import Trainer


class Recorder(Observer):
    """Keeps losses; sends this process a signal at a given moment, at which the disk may also become full."""

    def __init__(self, stop_at: str | None, full_disk: bool) -> None:
        self.losses: list[float] = []
        self._stop_at = stop_at
        self._full_disk = full_disk

    def _reached(self, moment: str) -> None:
        if moment == self._stop_at:
            if self._full_disk:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            os.kill(os.getpid(), signal.SIGUSR1)

    def started(self, start: RunStart) -> None:
        self._reached("started")

    def stepped(self, step: StepEnd) -> None:
        self.losses.append(step.loss)
        self._reached(str(step.step))

    def ended(self, summary: Mapping[str, Any]) -> None:
        self._reached("ended")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop-at")
    parser.add_argument("--full-disk", action="store_true")
    args = parser.parse_args()
    digests: list[str] = []
    run = Trainer.run

    def run_and_digest(self: Trainer) -> None:
        run(self)
        made = self.components
        mine = parameters_sha256(made.model.layout, made.strategy.replica.parameters)
        digests[:] = made.world.comm.allgather(mine)

    Trainer.run = run_and_digest  # every rank's own bytes, not only what rank 0 says of them

    def body() -> None:
        for name in args.names:
            recorder, place = Recorder(args.stop_at, args.full_disk), args.folder / name
            result = train(f"{place}.yaml", output=place, resume=args.resume, observers=[recorder])
            if recorder.losses:
                found = {"losses": recorder.losses, "digests": digests, "summary": dict(result.summary)}
                Path(f"{place}.json").write_text(json.dumps(found))

    sys.exit(guard.run(body))


if __name__ == "__main__":
    main()
