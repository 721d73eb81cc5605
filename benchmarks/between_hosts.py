"""Times the forms of the gradient's way between hosts, in turn, and counts the bytes that leave a host.

    python benchmarks/between_hosts.py --hosts-script hosts.sh [--rates unlimited 1gbit 100mbit] [--rows 32 256]

The script makes hosts, here network namespaces of one machine: see hosts.py.  Two hosts of two ranks train the network
of configs/mnist-mlp.yaml on random pixels.  Every form runs once in every round; a run's time is the median of
its epochs after the first; quoted are the median and the extremes over the rounds.  Bytes are those that left the first
host, less those of a run of one epoch, divided by the steps of the other epochs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from hosts import Hosts, end

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
HOSTS = 2
LIMIT_S = 300
#: Steps of an epoch, by rate: some tenths of a second of measuring.
STEPS = {"unlimited": 60, "1gbit": 16, "100mbit": 4}
EPOCHS = 5


@dataclass(frozen=True)
class Case:
    """What is trained, and where."""

    rate: str
    #: Of a rank.
    rows: int
    ranks_per_host: int
    widths: tuple[int, ...]

    @property
    def batch_size(self) -> int:
        """Samples of a step."""
        return self.rows * self.ranks_per_host * HOSTS

    @property
    def gradient_bytes(self) -> int:
        """Size of a gradient."""
        return 4 * sum((i + 1) * o for i, o in zip(self.widths, self.widths[1:], strict=False))


@dataclass(frozen=True)
class Form:
    """A way of the gradient, as settings of ours and of Open MPI's."""

    name: str
    strategy: str
    mpi: str = ""


FORMS = [
    Form("overlap", "{name: allreduce}"),
    Form("afterwards", "{name: allreduce, bucket_mib: 0}"),
    Form("flat", "{name: flat}"),
    # Recursive doubling: both ranks of a host send the whole gradient to the other host, each its own.
    Form(
        "each rank its own",
        "{name: flat}",
        "--mca coll ^han --mca coll_tuned_use_dynamic_rules 1 --mca coll_tuned_allreduce_algorithm 3",
    ),
]


@dataclass
class Result:
    """What came of one form in one case."""

    case: Case
    form: str
    #: Of each round.
    step_ms: list[float] = field(default_factory=list)
    #: That left a host, on average over the steps of a run; in gradients of the whole network, too.
    bytes_per_step: float = 0.0
    gradients_per_step: float = 0.0
    #: Means over ranks and rounds; `hidden` is computing while an exchange was under way.
    communication_ms: float = 0.0
    hidden_ms: float = 0.0

    @property
    def hidden_share(self) -> float:
        """Part of the exchange that nobody waited for."""
        return self.hidden_ms / (self.hidden_ms + self.communication_ms)

    def row(self) -> str:
        """Return the row of the table."""
        spread = f"{min(self.step_ms):.2f} to {max(self.step_ms):.2f}"
        about = (self.case.rate, self.case.ranks_per_host, self.case.rows, self.form)
        figures = (f"{self.bytes_per_step / 1e6:.2f}", f"{self.gradients_per_step:.2f}", f"{self.hidden_share:.0%}")
        return f"| {' | '.join(map(str, (*about, f'{statistics.median(self.step_ms):.2f}', spread, *figures)))} |"


def run(hosts: Hosts, command: list[str], ranks_per_host: int, mpi: str) -> int:
    """Run a command on all ranks; return the bytes that the first host sent meanwhile."""
    before = hosts.sent(1)
    with tempfile.TemporaryFile("w+") as said:
        process = hosts.start(command, range(1, HOSTS + 1), said, ranks_per_host, mpi)
        try:
            code = process.wait(LIMIT_S)
        finally:
            end(process)
        if code:
            said.seek(0)
            sys.exit(f"{command} ended with {code}:\n{said.read()}")
    return hosts.sent(1) - before


def write_config(folder: Path, case: Case, form: Form, steps: int, epochs: int) -> Path:
    """Write data and configuration of a run."""
    samples, widths = case.batch_size * steps, case.widths
    data = folder / f"pixels-{samples}.npz"
    if not data.exists():
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (samples, widths[0]), np.uint8)
        np.savez(data, x=x, y=np.arange(samples) % widths[-1])
    hidden = [f"    - dense: {{units: {width}, activation: relu}}\n    - dropout: 0.2" for width in widths[1:-1]]
    lines = [
        f"data: {{train: {data}, normalize: {{mean: 0.13, std: 0.3}}}}",
        "model:\n  layers:",
        *hidden,
        f"    - dense: {widths[-1]}",
        "loss: cross_entropy",
        "optimizer: {name: adam, learning_rate: 1e-3, weight_decay: 1e-5}",
        f"training: {{epochs: {epochs}, batch_size: {case.batch_size}}}",
        f"strategy: {form.strategy}",
        "checkpoint: {every_epochs: 1000}",
    ]
    config = folder / "config.yaml"
    config.write_text("\n".join(lines) + "\n")
    return config


def train(hosts: Hosts, folder: Path, case: Case, form: Form, steps: int, epochs: int) -> tuple[int, list[dict]]:
    """Train; return the bytes that the first host sent, and the records of the epochs."""
    config = write_config(folder, case, form, steps, epochs)
    with tempfile.TemporaryDirectory(dir=folder) as output:
        run = Path(output) / "run"
        command = [sys.executable, "-m", "onotrain", "train", str(config), "--output", str(run), "--quiet"]
        sent = run(hosts, command, case.ranks_per_host, form.mpi)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return sent, records


def measure(hosts: Hosts, folder: Path, case: Case, forms: list[Form], rounds: int) -> list[Result]:
    """Return the results of all forms, which run in turn."""
    steps = STEPS[case.rate]
    results = {form: Result(case, form.name) for form in forms}
    sent: dict[Form, list[int]] = {form: [] for form in forms}
    clocks: dict[Form, dict[str, list[float]]] = {form: {"communication": [], "hidden": []} for form in forms}
    for _ in range(rounds):
        for form, result in results.items():
            nbytes, records = train(hosts, folder, case, form, steps, EPOCHS)
            sent[form].append(nbytes)
            result.step_ms.append(1e3 * statistics.median(r["train_seconds"] for r in records[1:]) / steps)
            for kind, values in clocks[form].items():
                values += [1e3 * second / steps for r in records[1:] for second in r["ranks_seconds"].get(kind, [0.0])]
    for form, result in results.items():
        few, _ = train(hosts, folder, case, form, steps, 1)
        result.bytes_per_step = (statistics.median(sent[form]) - few) / (steps * (EPOCHS - 1))
        result.gradients_per_step = result.bytes_per_step / case.gradient_bytes
        result.communication_ms = statistics.mean(clocks[form]["communication"])
        result.hidden_ms = statistics.mean(clocks[form]["hidden"])
        print(result.row(), flush=True)
    return list(results.values())


def machine() -> dict[str, object]:
    """Describe where this ran."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "hosts": f"{HOSTS} network namespaces of this machine: ranks beyond its cores, and the work of sending, take "
        "turns on the cores, so that overlap gains less than on hosts with cores of their own",
    }


def main() -> None:
    """Run all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts-script", type=Path, required=True)
    parser.add_argument("--rates", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--rows", nargs="+", type=int, default=[32, 256], help="rows of a rank")
    parser.add_argument("--ranks-per-host", type=int, default=2)
    parser.add_argument("--widths", nargs="+", type=int, default=[784, 512, 256, 128, 10])
    parser.add_argument("--forms", nargs="+", choices=[form.name for form in FORMS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="only print")
    args = parser.parse_args()
    hosts, results = Hosts(args.hosts_script), []
    forms = [form for form in FORMS if not args.forms or form.name in args.forms]
    print("| link | ranks of a host | rows | form | step [ms] | of the rounds | MB from a host | gradients | hidden |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for rate in args.rates:
            with hosts.up(HOSTS, rate):
                for rows in args.rows:
                    case = Case(rate, rows, args.ranks_per_host, tuple(args.widths))
                    results += measure(hosts, Path(folder), case, forms, args.rounds)
    if args.no_write:
        return
    about = {"date": datetime.date.today().isoformat(), **machine()}
    name = re.sub(r"[^a-z0-9]+", "-", str(about["cpu"]).lower()).strip("-")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{about['date']}-between-hosts-{name}.json"
    rows = [{**asdict(result), "hidden_share": result.hidden_share} for result in results]
    path.write_text(json.dumps({"machine": about, "results": rows}, indent=1) + "\n")
    print(f"\n{path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
