"""The two sides as programs: onotrain as a user starts it, and the peer in its own environment."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WIDTHS = (784, 512, 256, 128, 10)
#: File with the first samples of MNIST.
SUBSET = "subset.npz"
#: No program of the comparison takes longer, unless it hangs [s].
LIMIT_S = 900.0


@dataclass(frozen=True)
class Training:
    """The same training on both sides: network, dropout, data, optimiser."""

    ranks: int
    batch_size: int
    epochs: int = 3
    widths: tuple[int, ...] = WIDTHS
    dropout: float = 0.2
    validation: str = "test"
    #: Of an epoch; None for all of MNIST.
    samples: int | None = None
    #: File of samples instead of MNIST.
    data: str | None = None

    def config(self) -> str:
        """Return onotrain's configuration."""
        hidden = [
            f"    - dense: {{units: {width}, activation: relu}}\n    - dropout: {self.dropout}"
            for width in self.widths[1:-1]
        ]
        train = self.data or ("mnist" if self.samples is None else SUBSET)
        return "\n".join(
            [
                f"data: {{train: {train}, validation: {self.validation}, normalize: {{mean: 0.1307, std: 0.3081}}}}",
                "model:\n  layers:",
                *hidden,
                f"    - dense: {self.widths[-1]}",
                "loss: cross_entropy",
                "optimizer: {name: adam, learning_rate: 1e-3, weight_decay: 1e-5}",
                "schedule: {name: step, every_epochs: 3, factor: 0.5}",
                f"training: {{epochs: {self.epochs}, batch_size: {self.batch_size}}}",
            ]
        )

    def values_per_rank(self) -> int:
        """Return how many numbers a rank needs for itself: gradients, batch, and three arrays per activation."""
        pairs = list(zip(self.widths, self.widths[1:], strict=False))
        gradients = sum(inputs * outputs + outputs for inputs, outputs in pairs)
        rows = -(-self.batch_size // self.ranks)
        return gradients + rows * (self.widths[0] + 3 * sum(self.widths[1:]))


def mnist() -> Path:
    """Return the folder of the data; leave with what to do if it is not there."""
    data = Path(os.environ.get("ONOTRAIN_DATA_DIR", "")) / "mnist"
    if not data.is_dir():
        sys.exit("set ONOTRAIN_DATA_DIR to the folder that holds mnist/ (onotrain data fetch mnist)")
    return data


def mnist_arguments(output: str | Path, settings: Mapping[str, Any]) -> list[object]:
    """Return the arguments that train ``configs/mnist-mlp.yaml`` with other settings."""
    changes = (word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}"))
    return ["train", ROOT / "configs" / "mnist-mlp.yaml", "--output", output, "--quiet", *changes]


def records(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's epochs so far; a line that is being written is left for later."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def seconds_of(epochs: Sequence[Mapping[str, Any]]) -> float:
    """Return the median epoch of a run, without the first, which warms up."""
    seconds = [epoch["train_seconds"] for epoch in epochs]
    return statistics.median(seconds[1:] or seconds)


class Ours:
    """onotrain, one BLAS thread a rank."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def command(self, *arguments: object, ranks: int = 1) -> list[str]:
        """Return the command line of ``onotrain ARGUMENTS``, under mpirun with more than one rank."""
        script = Path(sys.executable).parent / "onotrain"
        program = [str(script)] if script.exists() else [sys.executable, "-m", "onotrain"]
        return [*(["mpirun", "-n", str(ranks)] if ranks > 1 else []), *program, *map(str, arguments)]

    def run(self, *arguments: object, ranks: int = 1) -> float:
        """Run ``onotrain ARGUMENTS``; return the seconds from start to end."""
        start = time.perf_counter()
        subprocess.run(
            self.command(*arguments, ranks=ranks), cwd=self._folder, env=self._environment, check=True,
            stdout=subprocess.DEVNULL, timeout=LIMIT_S,
        )  # fmt: skip
        return time.perf_counter() - start

    def train(self, training: Training) -> tuple[list[dict[str, Any]], float]:
        """Train; return the records of the epochs, and the seconds of the whole command."""
        (self._folder / "config.yaml").write_text(training.config())
        if training.samples is not None:
            _write_subset(training.samples, self._folder / SUBSET)
        with tempfile.TemporaryDirectory(dir=self._folder) as output:
            arguments = ("train", "config.yaml", "--output", f"{output}/run", "--quiet")
            seconds = self.run(*arguments, ranks=training.ranks)
            return records(Path(output) / "run"), seconds

    def train_mnist(self, settings: Mapping[str, Any], ranks: int) -> tuple[list[dict[str, Any]], float]:
        """Train ``configs/mnist-mlp.yaml`` with other settings; return as `train` does."""
        with tempfile.TemporaryDirectory(dir=self._folder) as output:
            seconds = self.run(*mnist_arguments(f"{output}/run", settings), ranks=ranks)
            return records(Path(output) / "run"), seconds

    def epoch_seconds(self, training: Training) -> float:
        """Train; return the median epoch [s]."""
        epochs, _ = self.train(training)
        return seconds_of(epochs)

    def bench(self, *arguments: object, ranks: int) -> dict[str, Any]:
        """Run ``onotrain bench ARGUMENTS``; return its numbers."""
        path = self._folder / "bench.json"
        self.run("bench", *arguments, "--json", path, ranks=ranks)
        found: dict[str, Any] = json.loads(path.read_text())
        path.unlink()
        return found

    def memory_mib(self, training: Training) -> float:
        """Return the memory of all ranks while they train [MiB]: what they share counts once (PSS)."""
        (self._folder / "config.yaml").write_text(training.config())
        output = self._folder / "run-memory"
        command = self.command("train", "config.yaml", "--output", output, "--quiet", ranks=training.ranks)
        process = subprocess.Popen(command, cwd=self._folder, env=self._environment, stderr=subprocess.PIPE, text=True)
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


def _write_subset(samples: int, path: Path) -> None:
    """Write the first samples of MNIST."""
    from onotrain.data import DataSpec, load_dataset

    mnist = load_dataset(DataSpec("mnist"))
    np.savez(path, x=mnist.features[:samples], y=mnist.targets[:samples])


def _wait_for_epochs(process: subprocess.Popen[str], run: Path, epochs: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while len(records(run)) < epochs:
        if process.poll() is not None or time.monotonic() > deadline:
            said = process.stderr.read() if process.poll() is not None and process.stderr else "no epoch ends"
            raise RuntimeError(f"the training whose memory is measured: {said}")
        time.sleep(0.05)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def _is_rank(pid: int) -> bool:
    words = _read(pid, "cmdline").split(b"\0")
    return Path(os.fsdecode(words[0])).name not in ("mpirun", "prterun") and any(b"onotrain" in word for word in words)


def descendants(pid: int) -> list[int]:
    """Return the process itself and all that it has started, directly or not."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        # The name of the program, which may hold anything, ends with the last bracket; state and parent follow.
        fields = _read(int(entry.name), "stat").rpartition(b")")[2].split()
        if fields:
            parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


def pss_kib(pid: int) -> int:
    """Return the memory of a process [KiB]; pages that several processes map count for each by its share."""
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1])
    return 0


class Peer:
    """PyTorch, in an environment of its own."""

    def __init__(self, python: Path, data: Path) -> None:
        self._python, self._data = python, data
        self._scripts = ROOT / "benchmarks" / "peers"

    def _run(self, *arguments: object) -> str:
        done = subprocess.run(
            [self._python, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S
        )
        return done.stdout

    def version(self) -> str:
        """Return PyTorch's version."""
        return self._run("-c", "import torch; print(torch.__version__)").strip()

    def epoch_seconds(self, training: Training, world: int, batch: int, threads: int = 1) -> float:
        """Train with `batch` samples for each of `world` processes; return the median epoch [s]."""
        options = {"world": world, "batch": batch, "threads": threads, "epochs": training.epochs}
        flags = [f"--{name}={value}" for name, value in options.items()]
        flags += [] if training.samples is None else [f"--samples={training.samples}"]
        flags += [f"--dropout={training.dropout}", "--widths", *map(str, training.widths)]
        lines = self._run(self._scripts / "torch_mlp.py", f"--data={self._data}", *flags).splitlines()
        return seconds_of([json.loads(line) for line in lines])

    def predict_seconds(self, samples: int, threads: int) -> float:
        """Predict `samples` samples in memory at the best of several batch sizes; return the seconds."""
        words: Sequence[object] = (f"--samples={samples}", f"--threads={threads}", "--widths", *WIDTHS)
        return float(json.loads(self._run(self._scripts / "torch_predict.py", *words))["seconds"])
