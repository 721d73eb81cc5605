"""Trains to a target accuracy with every strategy where the network is slow, and writes what came of it.

    python benchmarks/slow_network.py [--hosts 3 5] [--rate 10mbit] [--cases allreduce ...] [--no-runs]

MNIST and the network of configs/mnist-mlp.yaml, one rank a host, a server being one of them; the same seed, global
batch and learning rate everywhere.  Each number of `--hosts` is a group of hosts with links of their own, which trains
one case after the other, beside the other groups; groups of one size share the cases.  A run ends with the first epoch
that reaches the target, or at its time limit.  Time is that of the training loop, `train_seconds`; by the clock, it has
launch, validation and the rest, too.  Bytes are those that have left each host since the launch.

Hosts that are namespaces share the machine's cores.  That does not matter as long as ranks compute a small part of the
time; where they do not, hosts with cores of their own are faster.

Results are kept in the JSON after every run, beside those that it has of other cases; the table and the plot of
docs/strategies-measured.md are made from all of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

from hosts import SCRIPT, SLEEP, Hosts, end
from programs import ROOT, Ours, mnist, mnist_arguments, records
from results import STRATEGIES, commit, load, machine, parser, put, save, table, today
from strategies import Case

NAME = "slow network"
COLUMNS = ("hosts", "strategy", "s to 97 %", "s by the clock", "steps", "accuracy", "MB a step", "computing")
PLOT = ROOT / "docs" / "images" / "slow-network.png"
TARGET = 0.97
#: No run takes longer [s].
LIMIT_S = 1200.0
EPOCHS = 100
#: Found without a network limit: larger batches need more epochs, smaller ones more steps, until the target is reached.
SETTINGS = {"training.batch_size": 2048, "optimizer.learning_rate": 2e-3, "schedule": "constant"}

_ASYNCHRONOUS = {"name": "parameter_server", "staleness": "unbounded"}
_BATCHED = {**_ASYNCHRONOUS, "compensation": "constant_batch"}
# Each rank keeps its Adam state, as in the paper; to average it would be to send three vectors in place of one.
_LOCAL = {"name": "local_sgd", "inner_state": "keep"}
_DILOCO = {**_LOCAL, "outer": {"name": "nesterov", "learning_rate": 0.7, "momentum": 0.9}}
_SYNCHRONOUS = {"name": "parameter_server", "staleness": 0}
_SWITCH = {"name": "strategy_switch", "at_epoch": 2}


def _case(name: str, what: str, strategy: dict[str, Any]) -> Case:
    return Case(name, what, strategy, changes={})


def _codec(name: str, **options: int) -> dict[str, Any]:
    return {"communication.codec": {"name": name, **options}}


CASES = (
    _case("allreduce", "all-reduce", {"name": "allreduce"}),
    _case("ps-sync", "parameter server, synchronous", _SYNCHRONOUS),
    _case("ps-async", "parameter server, asynchronous", _ASYNCHRONOUS),
    _case("ps-async-batch", "asynchronous, constant batch", _BATCHED),
    _case("switch", "Strategy-Switch after 2 epochs", {**_SWITCH, "server": _ASYNCHRONOUS}),
    _case("switch-batch", "Strategy-Switch after 2 epochs, constant batch", {**_SWITCH, "server": _BATCHED}),
    _case("diloco-10", "DiLoCo, 10 steps", {**_DILOCO, "period": 10}),
    _case("diloco-30", "DiLoCo, 30 steps", {**_DILOCO, "period": 30}),
    _case("local-10", "local SGD, 10 steps", {**_LOCAL, "period": 10}),
    Case("powersgd", "all-reduce, PowerSGD of rank 4", {"name": "allreduce"}, changes=_codec("powersgd", rank=4)),
    Case("ps-sync-int8", "parameter server, synchronous, int8", _SYNCHRONOUS, changes=_codec("int8")),
)


class Group:
    """Hosts that train one case after the other."""

    def __init__(self, hosts: Hosts, numbers: Sequence[int], ours: Ours, folder: Path) -> None:
        self.numbers = numbers
        self._hosts, self._ours, self._folder = hosts, ours, folder

    def train(self, case: Case, limit: float) -> dict[str, Any]:
        """Train until the target is reached or time is up; return what came of it."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder, tempfile.TemporaryFile("w+") as said:
            output = Path(folder) / "run"
            settings = {
                "strategy": case.strategy, **SETTINGS, "training.epochs": EPOCHS,
                "checkpoint": {"every_epochs": 1000}, **case.changes,
            }  # fmt: skip
            command = self._ours.command(*mnist_arguments(output, settings))
            before = self._sent()
            start = time.monotonic()
            process = self._hosts.start(command, self.numbers, said, mpi=SLEEP)
            epochs: list[dict[str, Any]] = []
            try:
                while not reached(epochs) and process.poll() is None and time.monotonic() < start + limit:
                    time.sleep(0.1)
                    for record in records(output)[len(epochs) :]:
                        now = time.monotonic() - start
                        sent = [after - first for after, first in zip(self._sent(), before, strict=True)]
                        epochs.append({"wall_seconds": now, "sent": sent, **record})
                failed = process.poll()
            finally:
                end(process)
            if failed:
                said.seek(0)
                raise RuntimeError(f"ended with {failed}:\n{said.read()}")
        return {
            "name": case.name, "what": case.what, "hosts": len(self.numbers), "strategy": case.strategy,
            "changes": case.changes, "commit": commit(), "limit_seconds": limit, **(summary(epochs) if epochs else {}),
        }  # fmt: skip

    def _sent(self) -> list[int]:
        return [self._hosts.sent(number) for number in self.numbers]


def summary(epochs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the records of the epochs say: training time and accuracy at the end of each, and the rest."""
    return {
        "seconds": list(accumulate(epoch["train_seconds"] for epoch in epochs)),
        "accuracies": [epoch["validation_accuracy"] for epoch in epochs],
        "wall_seconds": epochs[-1]["wall_seconds"],
        "steps": epochs[-1]["steps"],
        "bytes_per_step": bytes_per_step(epochs),
        "computing": computing(epochs),
    }


def reached(epochs: Sequence[dict[str, Any]]) -> bool:
    """Return whether the last epoch has the target accuracy."""
    return bool(epochs) and epochs[-1]["validation_accuracy"] >= TARGET


def bytes_per_step(epochs: Sequence[dict[str, Any]]) -> float:
    """Return what has left the host that sent most, after the first epoch if there are more, for each step."""
    known = [epoch for epoch in epochs if epoch["sent"] is not None]
    first, last = known[0], known[-1]
    if first is last:
        return float(max(last["sent"])) / last["steps"]
    nbytes = max(after - before for after, before in zip(last["sent"], first["sent"], strict=True))
    return float(nbytes) / (last["steps"] - first["steps"])


def computing(epochs: Sequence[dict[str, Any]]) -> float:
    """Return the part of its training time that the rank which computes most has computed."""
    ranks = zip(*(epoch["ranks_seconds"]["compute"] for epoch in epochs), strict=True)
    return max(map(sum, ranks)) / sum(epoch["train_seconds"] for epoch in epochs)


class Results:
    """All results, and the file that they are kept in."""

    def __init__(self, path: Path, about: dict[str, Any], rate: str) -> None:
        self._path, self._lock = path, Lock()
        self._found = {(result["name"], result["hosts"]): result for result in load(path)}
        self._about = {"machine": about, "rate": rate, "settings": SETTINGS, "target": TARGET}

    def add(self, result: dict[str, Any]) -> None:
        """Take in a result in place of an earlier one; write all."""
        with self._lock:
            self._found[result["name"], result["hosts"]] = result
            save(self._path, self._about, self.all())

    def all(self) -> list[dict[str, Any]]:
        """Return the results in the order of the cases, for few hosts first."""
        names = [case.name for case in CASES]
        return sorted(self._found.values(), key=lambda result: (result["hosts"], names.index(result["name"])))


def work(group: Group, cases: deque[Case], results: Results, limit: float) -> None:
    """Train the cases that are left, one after the other."""
    while cases:
        case = cases.popleft()
        about = f"{case.name} on hosts {group.numbers[0]} to {group.numbers[-1]}"
        print(f"{about}: begins", flush=True)
        try:
            result = group.train(case, limit)
        except RuntimeError as error:
            print(f"{about}: {error}", flush=True)
            continue
        results.add(result)
        print(f"{about}: {' | '.join(cells(result))}", flush=True)


def cells(result: dict[str, Any]) -> list[str]:
    """Return what the table says of a run."""
    if "seconds" not in result:
        return [f"no epoch in {result['limit_seconds']:.0f}", "", "", "", "", ""]
    accuracy = result["accuracies"][-1]
    found = f"{result['seconds'][-1]:.0f}" if accuracy >= TARGET else f"**not** in {result['limit_seconds']:.0f}"
    traffic, computed = f"{result['bytes_per_step'] / 1e6:.2f}", f"{result['computing']:.0%}"
    return [found, f"{result['wall_seconds']:.0f}", str(result["steps"]), f"{accuracy:.4f}", traffic, computed]


def table_of(results: Iterable[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    return table(COLUMNS, [(str(result["hosts"]), result["what"], *cells(result)) for result in results])


def draw(results: Sequence[dict[str, Any]], rate: str, path: Path) -> None:
    """Draw the accuracy over the training time, a panel for each number of hosts."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    sizes = sorted({result["hosts"] for result in results})
    colors = {case.name: f"C{number}" if number < 10 else "black" for number, case in enumerate(CASES)}
    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharex=True, sharey=True, squeeze=False)[0]
    for axes, size in zip(panels, sizes, strict=True):
        for result in results:
            if result["hosts"] == size and "seconds" in result:
                seconds, accuracies, color = result["seconds"], result["accuracies"], colors[result["name"]]
                axes.plot(seconds, accuracies, "o-", ms=3, lw=1.2, color=color, label=result["what"])
                if accuracies[-1] >= TARGET:
                    axes.plot(seconds[-1], accuracies[-1], "o", ms=7, color=color)
        axes.axhline(TARGET, color="black", lw=0.8, ls="--")
        axes.set(xscale="log", xlabel="training time [s]", ylim=(0.89, 0.98))
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_title(f"{size} hosts, {rate} each", loc="left", fontsize=10)
        axes.grid(alpha=0.3, which="both", lw=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("validation accuracy")
    shown = {label: mark for axes in panels for mark, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def main() -> None:
    """Run the cases, write JSON, plot, and put the table into the page."""
    options = parser(__doc__, [case.name for case in CASES])
    options.add_argument("--hosts-script", type=Path, default=SCRIPT)
    options.add_argument("--no-runs", action="store_true", help="only make table and plot again")
    options.add_argument("--hosts", nargs="+", type=int, default=[3, 5])
    options.add_argument("--rate", default="10mbit")
    options.add_argument("--limit", type=float, default=LIMIT_S, help="of a run, by the clock [s]")
    options.add_argument("--no-page", action="store_true", help="leave page and plot as they are")
    args = options.parse_args()
    mnist()
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder))
        results = Results(args.output or today("slow-network"), machine(ours), args.rate)
        if not args.no_runs:
            run(args, ours, Path(folder), results)
    if not args.no_page:
        draw(results.all(), args.rate, PLOT)
        put(STRATEGIES, f"{table_of(results.all())}\n\n![Accuracy over time](images/{PLOT.name})", NAME)


def run(args: argparse.Namespace, ours: Ours, folder: Path, results: Results) -> None:
    """Have all groups of hosts train, side by side."""
    hosts = Hosts(args.hosts_script)
    cases = {case.name: case for case in CASES}
    left = {size: deque(cases[name] for name in args.cases) for size in args.hosts}
    with hosts.up(sum(args.hosts), args.rate), ThreadPoolExecutor(len(args.hosts)) as pool:
        ends = list(accumulate(args.hosts))
        groups = [Group(hosts, range(last - size + 1, last + 1), ours, folder)
                  for size, last in zip(args.hosts, ends, strict=True)]  # fmt: skip
        for done in [pool.submit(work, group, left[len(group.numbers)], results, args.limit) for group in groups]:
            done.result()


if __name__ == "__main__":
    main()
