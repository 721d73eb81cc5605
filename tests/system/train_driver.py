"""Runs one training under mpirun and writes what a test wants to know: losses of every step, and each rank's
parameters.

Usage: train_driver.py CONFIG OUTPUT RESULT.json [--resume] [--stop-at STEP]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from onotrain.parallel import guard
from onotrain.training import session, train
from onotrain.training.card import parameters_sha256
from onotrain.training.observers import Observer, StepEnd


class Recorder(Observer):
    """Keeps losses; sends this process a signal after a given step."""

    def __init__(self, stop_at: int | None) -> None:
        self.losses: list[float] = []
        self._stop_at = stop_at

    def stepped(self, step: StepEnd) -> None:
        self.losses.append(step.loss)
        if step.step == self._stop_at:
            os.kill(os.getpid(), signal.SIGUSR1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("output")
    parser.add_argument("result", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop-at", type=int)
    args = parser.parse_args()
    recorder = Recorder(args.stop_at)
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
