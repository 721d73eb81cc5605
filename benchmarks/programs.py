"""onotrain as a program, as a user starts it; and what all programs of the comparison have in common."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers.training import Training
from processes import LIMIT_S, Failed, descendants, pss_kib, read, reason, run_program, without_limits
from rows import Outcome

ROOT = Path(__file__).resolve().parent.parent


def config(training: Training) -> str:
    """Return onotrain's configuration of a training without validation and without checkpoints on the way.

    Peers do neither while they are timed.
    """
    hidden: list[dict[str, Any]] = []
    for filters, kernel, padding in training.convolutions:
        options = {"filters": filters, "kernel": kernel, "padding": padding, "activation": training.activation}
        hidden += [{"conv2d": options}, {"max_pool2d": 2}]
    hidden += [{"flatten": {}}] if training.convolutions else []
    for width in training.widths[1:-1]:
        hidden.append({"dense": {"units": width, "activation": training.activation}})
        hidden += [{"dropout": training.dropout}] if training.dropout else []
    data: dict[str, Any] = {"train": training.data, "validation": None}
    if training.data.endswith(".npz"):
        data |= {"features": "x", "targets": "y"}
    if training.convolutions:
        data["shape"] = training.image
    if training.normalize:
        data["normalize"] = dict(zip(("mean", "std"), training.normalize, strict=True))
    sections = {
        "data": data,
        "model": {"initializer": "xavier_uniform", "layers": [*hidden, {"dense": training.widths[-1]}]},
        "loss": training.loss,
        "optimizer": {
            "name": training.optimizer, "learning_rate": training.learning_rate, "weight_decay": training.weight_decay
        },
        "schedule": "constant" if training.halve_every is None
        else {"name": "step", "every_epochs": training.halve_every, "factor": 0.5},
        "training": {"epochs": training.epochs, "batch_size": training.batch_size, "seed": training.seed},
        "checkpoint": {"every_epochs": 1_000_000},
    }  # fmt: skip
    return "".join(f"{name}: {json.dumps(section)}\n" for name, section in sections.items())


def values_per_rank(training: Training, ranks: int) -> int:
    """Return how many numbers a rank needs for itself: gradients, batch, and three arrays per activation."""
    pairs = list(zip(training.widths, training.widths[1:], strict=False))
    gradients = sum(inputs * outputs + outputs for inputs, outputs in pairs)
    rows = -(-training.batch_size // ranks)
    return gradients + rows * (training.widths[0] + 3 * sum(training.widths[1:]))


def mnist() -> Path:
    """Return the folder of the data; leave with what to do if it is not there."""
    data = Path(os.environ.get("ONOTRAIN_DATA_DIR", "")) / "mnist"
    if not data.is_dir():
        sys.exit("set ONOTRAIN_DATA_DIR to the folder that holds mnist/ (onotrain data fetch mnist)")
    return data


def mnist_arguments(output: str | Path, settings: Mapping[str, Any]) -> list[object]:
    """Return the arguments that train ``configs/mnist-mlp.yaml`` with other settings."""
    return ["train", ROOT / "configs" / "mnist-mlp.yaml", "--output", output, "--quiet", *changes(settings)]


def changes(settings: Mapping[str, Any]) -> list[str]:
    """Return the arguments that change settings of a configuration."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def records(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's epochs so far; a line that is being written is left for later."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def seconds_of(epochs: Sequence[Mapping[str, Any]]) -> float:
    """Return the median epoch of a run, without the first, which warms up."""
    seconds = [epoch["train_seconds"] for epoch in epochs]
    return statistics.median(seconds[1:] or seconds)


def fastest(seconds: Sequence[float], together: int = 1) -> float:
    """Return the shortest epoch, as the mean of so many in a row, without the first ones, which warm up."""
    groups = [statistics.mean(seconds[begin : begin + together]) for begin in range(0, len(seconds), together)]
    return min(groups[1:] or groups)


def same_network(training: Training, parameters: int) -> None:
    """Raise `Failed` if a program has trained a network of so many parameters in the place of that of a training."""
    if parameters != training.parameters:
        raise Failed(f"its network has {parameters:,} parameters, expected {training.parameters:,}")


class Ours:
    """onotrain, one BLAS thread a rank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {**without_limits(), "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def command(self, *arguments: object, ranks: int = 1) -> list[str]:
        """Return the command line of ``onotrain ARGUMENTS``, under mpirun with more than one rank."""
        script = Path(sys.executable).parent / "onotrain"
        program = [str(script)] if script.exists() else [sys.executable, "-m", "onotrain"]
        return [*(["mpirun", "-n", str(ranks)] if ranks > 1 else []), *program, *map(str, arguments)]

    def output(self, *arguments: object, ranks: int = 1) -> str:
        """Run ``onotrain ARGUMENTS``; return what it prints, or raise `Failed`."""
        return run_program(self.command(*arguments, ranks=ranks), self.folder, self._environment)

    def run(self, *arguments: object, ranks: int = 1) -> float:
        """Run ``onotrain ARGUMENTS``; return the seconds from start to end, or raise `Failed`."""
        start = time.perf_counter()
        self.output(*arguments, ranks=ranks)
        return time.perf_counter() - start

    def train(
        self, training: Training, ranks: int, output: Path, settings: Mapping[str, Any] | None = None
    ) -> tuple[list[dict[str, Any]], float]:
        """Train with other settings; return the records of the epochs, and the seconds of the whole command."""
        path = self.folder / "config.yaml"
        path.write_text(config(training))
        seconds = self.run("train", path, "--output", output, "--quiet", *changes(settings or {}), ranks=ranks)
        return records(output), seconds

    def outcome(self, training: Training, ranks: int, settings: Mapping[str, Any] | None = None) -> Outcome:
        """Train; return the fastest epoch [s], and the score on the test data."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            run = Path(folder) / "run"
            epochs, _ = self.train(training, ranks, run, settings)
            same_network(training, json.loads((run / "summary.json").read_text())["parameters"])
            score = self.score(run, training)
        return Outcome(fastest([epoch["train_seconds"] for epoch in epochs], training.together), score)

    def score(self, run: Path, training: Training) -> float:
        """Return the accuracy, or R2, of a run on the test data of a training."""
        metric = "accuracy" if training.loss == "cross_entropy" else "r2"
        arrays = ("--features", "x_test", "--targets", "y_test")
        found = self.output("evaluate", run, training.data, *arrays, "--metrics", metric, "--json")
        return float(json.loads(found)["metrics"][metric])

    def trained(self, training: Training, ranks: int, options: Sequence[str]) -> tuple[Path, float]:
        """Train; return the file of the network, and the score of `onotrain predict` with options on the test data."""
        network, predicted = self.folder / "network.npz", self.folder / "predicted.npy"
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            run = Path(folder) / "run"
            self.train(training, ranks, run)
            self.run("export", run, "--output", network)
            self.run("predict", run, training.data, "--features", "x_test", "--output", predicted, "--quiet", *options)
        with np.load(self.folder / training.data) as file:
            return network, training.score(np.load(predicted), file["y_test"])

    def train_mnist(self, settings: Mapping[str, Any], ranks: int) -> tuple[list[dict[str, Any]], float]:
        """Train ``configs/mnist-mlp.yaml`` with other settings; return as `train` does."""
        with tempfile.TemporaryDirectory(dir=self.folder) as output:
            seconds = self.run(*mnist_arguments(f"{output}/run", settings), ranks=ranks)
            return records(Path(output) / "run"), seconds

    def bench(self, *arguments: object, ranks: int) -> dict[str, Any]:
        """Run ``onotrain bench ARGUMENTS``; return its numbers."""
        path = self.folder / "bench.json"
        self.run("bench", *arguments, "--json", path, ranks=ranks)
        found: dict[str, Any] = json.loads(path.read_text())
        path.unlink()
        return found

    def memory_mib(self, training: Training, ranks: int) -> float:
        """Return the memory of all ranks while they train [MiB]: what they share counts once (PSS)."""
        (self.folder / "config.yaml").write_text(config(training))
        output = self.folder / "run-memory"
        command = self.command("train", "config.yaml", "--output", output, "--quiet", ranks=ranks)
        process = subprocess.Popen(command, cwd=self.folder, env=self._environment, stderr=subprocess.PIPE, text=True)
        try:
            _wait_for_epochs(process, output, 1)
            samples = []
            for _ in range(3):
                time.sleep(0.2)
                samples.append(sum(map(pss_kib, filter(_is_rank, descendants(process.pid)))) / 1024)
        finally:
            process.send_signal(signal.SIGTERM)  # the ranks save and end
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        shutil.rmtree(output, ignore_errors=True)
        return statistics.median(samples)


def _wait_for_epochs(process: subprocess.Popen[str], run: Path, epochs: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while len(records(run)) < epochs:
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(
                reason(process.stderr.read()) if process.poll() is not None and process.stderr else "no epoch ends"
            )
        time.sleep(0.05)


def _is_rank(pid: int) -> bool:
    words = read(pid, "cmdline").split(b"\0")
    return Path(os.fsdecode(words[0])).name not in ("mpirun", "prterun") and any(b"onotrain" in word for word in words)
