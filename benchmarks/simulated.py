"""Times epochs on hosts, and compares them with what `onotrain plan` and `onotrain simulate` predict.

    python benchmarks/simulated.py [--hosts 2 3 5 6] [--rates 10mbit 100mbit 1000mbit]

scripts/hosts.sh makes hosts, network namespaces of one machine, with one rank each: see hosts.py.  What a rank computes
is measured once on this machine, latency by `onotrain plan` between two hosts; bandwidth is what the hosts are given.
Predictions know nothing else, and are made before a run begins.  An epoch's time is the median of all but the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hosts import SCRIPT, SLEEP, Hosts, end
from programs import ROOT, Ours, records
from results import machine, put, save, table, today

from onotrain.config import load_config
from onotrain.config.cluster import Cluster
from onotrain.parallel.world import World
from onotrain.planning.course import machine_of, simulate
from onotrain.planning.probe import costs_of
from onotrain.planning.workload import Workload
from onotrain.simulation.costs import Costs

CONFIG = """
data: {train: mnist, normalize: {mean: 0.1307, std: 0.3081}}
model:
  layers:
    - dense: {units: 128, activation: relu}
    - dense: {units: 10}
loss: cross_entropy
optimizer: {name: adam, learning_rate: 1e-3}
training: {epochs: 3, batch_size: 6000}
checkpoint: {every_epochs: null, every_steps: 1000000}
"""
METHODS = {
    "all-reduce": "{name: allreduce}",
    "flat": "{name: flat}",
    "synchronous server": "{name: parameter_server}",
    "asynchronous server": "{name: parameter_server, staleness: unbounded}",
    "local SGD, 5 steps": "{name: local_sgd, period: 5}",
}
COLUMNS = ("hosts", "link", "method", "epoch, measured [s]", "predicted [s]", "error")
PAGE, NAME = ROOT / "docs" / "simulation.md", "hosts"
#: Epochs of short ones: at 1000 Mbit/s they take a quarter of a second, and other users of the machine show.
EPOCHS = {"10mbit": 3, "100mbit": 6, "1000mbit": 16}
#: Of an epoch's time: what is promised.
BOUND = 0.2
LIMIT_S = 900


@dataclass(frozen=True)
class Given:
    """What predictions are made of."""

    workload: Workload
    costs: Costs
    cores: int

    def predicted(self, strategy: str, config: Path, count: int, rate: str, latency_us: float) -> float:
        """Return the seconds of an epoch on so many hosts."""
        here = self.workload.with_config(load_config(config, [f"strategy={strategy}"]))
        bandwidth = float(rate.removesuffix("mbit"))
        cluster = Cluster(bandwidth_mbit=bandwidth, latency_us=latency_us, cores=self.cores)
        return float(simulate(here, machine_of(here, cluster, count, self.costs)).records[-1]["train_seconds"])


def main() -> int:
    """Measure, print, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[2, 3, 5, 6])
    parser.add_argument("--rates", nargs="+", default=["10mbit", "100mbit", "1000mbit"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--cores", type=int, default=2, help="of this machine")
    parser.add_argument("--page", action="store_true", help="put the table into docs/simulation.md")
    parser.add_argument("--again", type=Path, metavar="FILE", help="predict anew what a file of results has measured")
    options = parser.parse_args()
    hosts, rows = Hosts(SCRIPT), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "config.yaml"
        config.write_text(CONFIG)
        world = World.connect()
        load = Workload.of(load_config(config), world)
        if options.again is not None:
            show(predicted_again(options.again, load, config, options.cores), page=options.page)
            return 0
        about = machine(Ours(folder))
        given = Given(load, costs_of(load, [load.batch // max(options.hosts), load.batch], world), options.cores)
        with hosts.up(2, "unlimited"):
            latency_us = measured_latency(hosts, config, folder)
        for count in options.hosts:
            for rate in options.rates:
                with hosts.up(count, rate):
                    for method in options.methods:
                        expected = given.predicted(METHODS[method], config, count, rate, latency_us)
                        taken = trained(hosts, count, config, METHODS[method], EPOCHS.get(rate, 6), folder / "run")
                        rows.append({"hosts": count, "rate": rate, "method": method, "measured": taken,
                                     "predicted": expected, "error": expected / taken - 1.0})  # fmt: skip
                        print(" | ".join(cells(rows[-1])), flush=True)
    facts = {"rows": given.costs.rows.tolist(), "seconds": given.costs.seconds.tolist(),
             "update_seconds": given.costs.update, "latency_us": latency_us}  # fmt: skip
    save(today("simulated"), {"machine": about, "computing": facts}, rows)
    show(rows, page=options.page)
    return 0


def predicted_again(path: Path, load: Workload, config: Path, cores: int) -> list[dict[str, Any]]:
    """Return the rows of a file of results with other predictions, of what it knows of the machine; write them, too."""
    found = json.loads(path.read_text())
    known = found["computing"]
    costs = Costs(np.array(known["rows"]), np.array(known["seconds"]), known["update_seconds"])
    given, rows = Given(load, costs, cores), found.pop("results")
    for row in rows:
        strategy = METHODS[row["method"]]
        row["predicted"] = given.predicted(strategy, config, row["hosts"], row["rate"], known["latency_us"])
        row["error"] = row["predicted"] / row["measured"] - 1.0
    save(path, found, rows)
    return list(rows)


def show(rows: Sequence[dict[str, Any]], *, page: bool) -> None:
    """Print the table, and put it into the page if that is wanted."""
    text = f"{table(COLUMNS, map(cells, rows))}\n\n{summary(rows)}"
    print(text)
    if page:
        put(PAGE, f"\n{text}\n", NAME)


def cells(row: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    numbers = (f"{row['measured']:.3g}", f"{row['predicted']:.3g}", f"{row['error']:+.0%}")
    return [str(row["hosts"]), f"{row['rate'].removesuffix('mbit')} Mbit/s", row["method"], *numbers]


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return how large the errors are."""
    errors = [abs(row["error"]) for row in rows]
    beyond = sum(error > BOUND for error in errors)
    return (
        f"Median error {statistics.median(errors):.0%}, largest {max(errors):.0%}; {beyond} of {len(errors)} are above "
        f"{BOUND:.0%}."
    )


def measured_latency(hosts: Hosts, config: Path, folder: Path) -> float:
    """Return the latency of a message between two hosts, as `onotrain plan` measures it [us]."""
    path = folder / "plan.json"
    run(hosts, 2, ["plan", config, "--json", path])
    return float(json.loads(path.read_text())["cluster"]["latency_us"])


def trained(hosts: Hosts, count: int, config: Path, strategy: str, epochs: int, output: Path) -> float:
    """Train on the first hosts; return the seconds of an epoch."""
    settings = ["--set", f"strategy={strategy}", "--set", f"training.epochs={epochs}"]
    run(hosts, count, ["train", config, *settings, "--output", output, "--overwrite", "--quiet"])
    return statistics.median(record["train_seconds"] for record in records(output)[1:])


def run(hosts: Hosts, count: int, arguments: Sequence[object]) -> None:
    """Run ``onotrain ARGUMENTS`` with a rank on each of the first hosts."""
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, "-m", "onotrain", *arguments]
        process = hosts.start(command, range(1, count + 1), said, mpi=SLEEP)
        try:
            code = process.wait(LIMIT_S)
        finally:
            end(process)
        said.seek(0)
        if code:
            raise SystemExit(f"onotrain {arguments[0]} on {count} hosts: exit code {code}\n{said.read()}")


if __name__ == "__main__":
    raise SystemExit(main())
