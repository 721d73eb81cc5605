"""Times epochs on hosts, and compares them with what `onotrain plan` and `onotrain simulate` predict.

    python benchmarks/simulated.py [--hosts 2 3 5 6] [--rates 10mbit 100mbit 1000mbit]

scripts/hosts.sh makes hosts, network namespaces of one machine, with one rank each: see hosts.py.  What a rank computes
is measured once on this machine; the network is what the hosts are given.  Predictions know nothing else, and are made
before a run begins.  An epoch's time is the median of all but the first one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from hosts import SCRIPT, SLEEP, Hosts, end
from programs import records
from results import machine, save, slug, table, today

from onotrain.config import load_config
from onotrain.config.cluster import Cluster
from onotrain.parallel.world import World
from onotrain.planning.course import machine_of, simulate
from onotrain.planning.probe import costs_of
from onotrain.planning.workload import Workload

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
#: Of an epoch, beyond which a prediction is of no use.
BOUND = 0.2
LIMIT_S = 600


def main() -> int:
    """Measure, print, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[2, 3, 5, 6])
    parser.add_argument("--rates", nargs="+", default=["10mbit", "100mbit", "1000mbit"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--cores", type=int, default=2, help="of this machine")
    options = parser.parse_args()
    hosts, rows = Hosts(SCRIPT), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(CONFIG)
        world = World.connect()
        load = Workload.of(load_config(path), world)
        costs = costs_of(load, [load.batch // max(options.hosts), load.batch], world)
        for count in options.hosts:
            for rate in options.rates:
                with hosts.up(count, rate):
                    for method in options.methods:
                        wanted = load_config(path, [f"strategy={METHODS[method]}"])
                        cluster = Cluster(bandwidth_mbit=float(rate.removesuffix("mbit")), latency_us=100.0,
                                          cores=options.cores)  # fmt: skip
                        here = load.with_config(wanted)
                        course = simulate(here, machine_of(here, cluster, count, costs))
                        expected = course.records[-1]["train_seconds"]
                        taken = trained(hosts, count, path, METHODS[method], Path(folder) / "run")
                        rows.append({"hosts": count, "rate": rate, "method": method, "measured": taken,
                                     "predicted": expected, "error": expected / taken - 1.0})  # fmt: skip
                        print(f"{count} hosts, {rate}, {method}: {taken:.3f} s, predicted {expected:.3f} s, "
                              f"{rows[-1]['error']:+.0%}", flush=True)  # fmt: skip
    print(table(COLUMNS, [
        (str(row["hosts"]), row["rate"], row["method"], f"{row['measured']:.3g}", f"{row['predicted']:.3g}",
         f"{row['error']:+.0%}") for row in rows
    ]))  # fmt: skip
    errors = [abs(row["error"]) for row in rows]
    print(f"median error {statistics.median(errors):.0%}, largest {max(errors):.0%}, "
          f"{sum(error > BOUND for error in errors)} of {len(errors)} above {BOUND:.0%}")  # fmt: skip
    facts = {"costs": {"rows": costs.rows.tolist(), "seconds": costs.seconds.tolist(), "update": costs.update}}
    save(f"simulated-{slug(machine()['cpu'])}", {"date": today(), "machine": machine(), **facts, "rows": rows})
    return 0


def trained(hosts: Hosts, count: int, config: Path, strategy: str, run: Path) -> float:
    """Train on the first hosts; return the seconds of an epoch."""
    command = [
        sys.executable, "-m", "onotrain", "train", config, "--set", f"strategy={strategy}", "--output", run,
        "--overwrite", "--quiet",
    ]  # fmt: skip
    with tempfile.TemporaryFile("w+") as said:
        process = hosts.start(command, range(1, count + 1), said, mpi=SLEEP)
        try:
            code = process.wait(LIMIT_S)
        finally:
            end(process)
        said.seek(0)
        if code:
            raise SystemExit(f"{strategy} on {count} hosts: exit code {code}\n{said.read()}")
    return statistics.median(record["train_seconds"] for record in records(run)[1:])


if __name__ == "__main__":
    raise SystemExit(main())
