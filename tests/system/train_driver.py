"""Runs one training under mpirun and writes what a test wants to know: losses of every step, and each rank's
parameters.

Usage: train_driver.py CONFIG OUTPUT RESULT.json [--resume] [--stop-at STEP|started|ended] [--full-disk]
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
from onotrain.training import session, train
from onotrain.training.observers import Observer, RunStart, StepEnd


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
    parser.add_argument("config")
    parser.add_argument("output")
    parser.add_argument("result", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop-at")
    parser.add_argument("--full-disk", action="store_true")
    args = parser.parse_args()
    recorder = Recorder(args.stop_at, args.full_disk)
    digests: list[str] = []
    original = session._Session.run

    def run_and_digest(self: session._Session) -> session.Result:
        result = original(self)
        digests.extend(self.world.comm.allgather(parameters_sha256(self.model.layout, self.strategy.parameters)))
        return result

    session._Session.run = run_and_digest  # every rank's own bytes, not only what rank 0 says of them

    def body() -> None:
        result = train(args.config, output=args.output, resume=args.resume, observers=[recorder])
        if recorder.losses:
            args.result.write_text(
                json.dumps({"losses": recorder.losses, "digests": digests, "summary": dict(result.summary)})
            )

    sys.exit(guard.run(body))


if __name__ == "__main__":
    main()
