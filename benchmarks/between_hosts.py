"""Times the methods of adding gradients between hosts, in turn, and counts the bytes that leave a host.

    python benchmarks/between_hosts.py [--rates unlimited 1gbit 100mbit] [--rows 32 256]

scripts/hosts.sh makes hosts, network namespaces of one machine: see hosts.py.  Two hosts of two ranks train the network
of configs/mnist-mlp.yaml on random pixels.  Every form runs once in every round; a run's time is the median of
its epochs after the first; quoted are the median and the extremes over the rounds.  Bytes are those that left the first
host, less those of a run of one epoch, divided by the steps of the other epochs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hosts import SCRIPT, Hosts, end
from peers.training import Training
from programs import Ours, config, records, seconds_of
from results import machine, save, slug, table, today

from onotrain.bench.measure import spread

HOSTS = 2
COLUMNS = (
    "link", "ranks of a host", "rows", "form", "step [ms]", "of the rounds", "MB from a host", "gradients", "hidden",
)  # fmt: skip
NAMESPACES = (
    f"{HOSTS} network namespaces of this machine: ranks beyond its cores, and the work of sending, take turns on the "
    "cores, so that overlap gains less than on hosts with cores of their own"
)
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
    """A method of adding gradients, as settings of ours and of Open MPI's."""

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
class Measured:
    """What the runs of one form gave, round by round."""

    step_ms: list[float] = field(default_factory=list)
    #: That the first host sent.
    sent: list[int] = field(default_factory=list)
    #: Of every rank and epoch; `hidden` is computing while an exchange was under way.
    communication_ms: list[float] = field(default_factory=list)
    hidden_ms: list[float] = field(default_factory=list)


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
    path = folder / "config.yaml"
    training = Training(str(data), widths, batch_size=case.batch_size, epochs=epochs)
    path.write_text(f"{config(training)}strategy: {form.strategy}\n")
    return path


def train(
    hosts: Hosts, ours: Ours, folder: Path, case: Case, form: Form, epochs: int
) -> tuple[int, list[dict[str, Any]]]:
    """Train; return the bytes that the first host sent, and the records of the epochs."""
    path = write_config(folder, case, form, STEPS[case.rate], epochs)
    with tempfile.TemporaryDirectory(dir=folder) as output:
        command = ours.command("train", path, "--output", f"{output}/run", "--quiet")
        sent = run(hosts, command, case.ranks_per_host, form.mpi)
        return sent, records(Path(output) / "run")


def measure(
    hosts: Hosts, ours: Ours, folder: Path, case: Case, forms: list[Form], rounds: int
) -> Iterator[dict[str, Any]]:
    """Run all forms in turn; yield what came of each."""
    steps = STEPS[case.rate]
    measured = {form: Measured() for form in forms}
    for _ in range(rounds):
        for form, found in measured.items():
            nbytes, epochs = train(hosts, ours, folder, case, form, EPOCHS)
            found.sent.append(nbytes)
            found.step_ms.append(1e3 * seconds_of(epochs) / steps)
            for kind, values in (("communication", found.communication_ms), ("hidden", found.hidden_ms)):
                values += [1e3 * second / steps for r in epochs[1:] for second in r["ranks_seconds"].get(kind, [0.0])]
    for form, found in measured.items():
        few, _ = train(hosts, ours, folder, case, form, 1)
        nbytes = (statistics.median(found.sent) - few) / (steps * (EPOCHS - 1))
        communication, hidden = statistics.mean(found.communication_ms), statistics.mean(found.hidden_ms)
        yield {
            **asdict(case), "form": form.name, "step_ms": spread(found.step_ms), "bytes_per_step": nbytes,
            "gradients_per_step": nbytes / case.gradient_bytes, "communication_ms": communication, "hidden_ms": hidden,
            "hidden_share": hidden / (hidden + communication),  # part of the exchange that nobody waited for
        }  # fmt: skip


def cells(result: Mapping[str, Any]) -> list[str]:
    """Return the cells of one row."""
    step = result["step_ms"]
    return [
        *(str(result[key]) for key in ("rate", "ranks_per_host", "rows", "form")),
        f"{step['median']:.2f}", f"{step['min']:.2f} to {step['max']:.2f}", f"{result['bytes_per_step'] / 1e6:.2f}",
        f"{result['gradients_per_step']:.2f}", f"{result['hidden_share']:.0%}",
    ]  # fmt: skip


def main() -> None:
    """Run all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts-script", type=Path, default=SCRIPT)
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
    print(table(COLUMNS, []))
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder))
        about = {**machine(ours), "hosts": NAMESPACES}
        for rate in args.rates:
            with hosts.up(HOSTS, rate):
                for rows in args.rows:
                    case = Case(rate, rows, args.ranks_per_host, tuple(args.widths))
                    for result in measure(hosts, ours, Path(folder), case, forms, args.rounds):
                        results.append(result)
                        print(f"| {' | '.join(cells(result))} |", flush=True)
    if not args.no_write:
        path = today(f"between-hosts-{slug(about['cpu'])}")
        save(path, {"machine": about}, results)
        print(f"\n{path}")


if __name__ == "__main__":
    main()
