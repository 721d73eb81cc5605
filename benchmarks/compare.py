"""Times onotrain and PyTorch on the same network and data, in turn, and writes what came of it.

    python benchmarks/compare.py --peer-python .venv-peers/bin/python [--pairs 5] [--cases batch-64 ...]

Each case is a number of pairs: ours, then the peer's, then ours again, so that both meet the same moods of a shared
machine. What is compared is the training loop alone: the median over the epochs after the first.  Quoted are medians
over the pairs, the extremes, and the ratio of each pair.  Results go to ``benchmarks/results/<date>-<cpu>.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Case:
    """One row of the comparison: the same global batch on both sides."""

    name: str
    ranks: int
    batch_size: int
    peer: dict[str, int]
    target: float
    epochs: int = 3
    widths: tuple[int, ...] = (784, 512, 256, 128, 10)
    dropout: float = 0.2


CASES = [
    Case("batch-64-ddp", 2, 64, {"world": 2, "batch": 32}, 6.0),
    Case("batch-64-process", 2, 64, {"world": 1, "batch": 64, "threads": 2}, 2.5),
    Case("batch-512-ddp", 2, 512, {"world": 2, "batch": 256}, 2.2),
    Case("batch-512-process", 2, 512, {"world": 1, "batch": 512, "threads": 2}, 2.2),
    Case("one-rank", 1, 64, {"world": 1, "batch": 64, "threads": 1}, 1.7),
    Case("wide-ddp", 2, 256, {"world": 2, "batch": 128}, 1.5, 2, (784, 4096, 4096, 4096, 10)),
]


@dataclass
class Result:
    """Seconds of an epoch, pair by pair."""

    case: str
    target: float
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """How many times faster ours was, in each pair."""
        return [peer / ours for ours, peer in zip(self.ours, self.peer, strict=True)]

    def row(self) -> str:
        """Return the row of the table."""
        spread = f"{min(self.ratios):.2f} to {max(self.ratios):.2f}"
        seconds = f"{statistics.median(self.ours):.2f} | {statistics.median(self.peer):.2f}"
        return f"| {self.case} | {seconds} | {statistics.median(self.ratios):.2f} | {spread} | {self.target} |"


def config(case: Case) -> str:
    """Return the configuration of our side."""
    hidden = [
        f"    - dense: {{units: {w}, activation: relu}}\n    - dropout: {case.dropout}" for w in case.widths[1:-1]
    ]
    return "\n".join(
        [
            "data: {train: mnist, validation: test, normalize: {mean: 0.1307, std: 0.3081}}",
            "model:\n  layers:",
            *hidden,
            f"    - dense: {case.widths[-1]}",
            "loss: cross_entropy",
            "optimizer: {name: adam, learning_rate: 1e-3, weight_decay: 1e-5}",
            "schedule: {name: step, every_epochs: 3, factor: 0.5}",
            f"training: {{epochs: {case.epochs}, batch_size: {case.batch_size}}}",
        ]
    )


def seconds_of(lines: str) -> float:
    """Return the median epoch of a run, without the first, which warms up."""
    epochs = [json.loads(line)["train_seconds"] for line in lines.splitlines()]
    return statistics.median(epochs[1:])


def ours(case: Case, folder: Path) -> float:
    """Train with onotrain."""
    (folder / "config.yaml").write_text(config(case))
    with tempfile.TemporaryDirectory(dir=folder) as output:
        command = ["onotrain", "train", "config.yaml", "--output", f"{output}/run", "--quiet"]
        launch = ["mpirun", "-n", str(case.ranks)] if case.ranks > 1 else []
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        subprocess.run([*launch, *command], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        return seconds_of((Path(output) / "run" / "metrics.jsonl").read_text())


def peer(case: Case, python: Path) -> float:
    """Train with PyTorch."""
    options = [f"--{name}={value}" for name, value in case.peer.items()]
    script = ROOT / "benchmarks" / "peers" / "torch_mlp.py"
    data = Path(os.environ["ONOTRAIN_DATA_DIR"]) / "mnist"
    command = [python, script, f"--data={data}", f"--epochs={case.epochs}", f"--dropout={case.dropout}", *options]
    command += ["--widths", *map(str, case.widths)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return seconds_of(done.stdout)


def machine() -> dict[str, object]:
    """Describe where this ran."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {"cpu": cpu[1] if cpu else platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}


def main() -> None:
    """Run the chosen cases and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True, help="interpreter that has torch")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--cases", nargs="+", choices=[case.name for case in CASES], default=[case.name for case in CASES]
    )
    args = parser.parse_args()
    if "ONOTRAIN_DATA_DIR" not in os.environ:
        sys.exit("set ONOTRAIN_DATA_DIR to the folder that holds mnist/ (onotrain data fetch mnist)")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if case.name not in args.cases:
                continue
            result = Result(case.name, case.target)
            for number in range(args.pairs):
                result.ours.append(ours(case, Path(folder)))
                result.peer.append(peer(case, args.peer_python))
                print(
                    f"{case.name} {number + 1}/{args.pairs}: {result.ours[-1]:.2f} s, {result.peer[-1]:.2f} s",
                    flush=True,
                )
            results.append(result)
    about = {"date": datetime.date.today().isoformat(), **machine()}
    name = re.sub(r"[^a-z0-9]+", "-", str(about["cpu"]).lower()).strip("-")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{about['date']}-{name}.json"
    path.write_text(json.dumps({"machine": about, "results": [asdict(result) for result in results]}, indent=1) + "\n")
    print("\n| case | ours [s] | torch [s] | ratio | of the pairs | target |\n|---|---|---|---|---|---|")
    print("\n".join(result.row() for result in results))
    print(f"\n{path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
