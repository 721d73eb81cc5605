"""Times onotrain beside PyTorch and beside what the machine can do, in turn, and writes what came of it.

    python benchmarks/compare.py --peer-python .venv-peers/bin/python [--pairs 5] [--cases batch-64-ddp ...]

Each case is a number of pairs: ours, then the peer's, then ours again, so that both meet the same moods of a shared
machine.  Of trainings the loop alone is compared: the median over the epochs after the first.  Results go to
``benchmarks/results/<date>-<cpu>.json``; `report.py` makes the table and the plot of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cases import CASES, names
from programs import ROOT, Ours, Peer
from rows import Result, summary

RESULTS = ROOT / "benchmarks" / "results"


def machine(ours: Ours, peer: Peer) -> dict[str, Any]:
    """Describe where this runs, and what."""
    found: dict[str, Any] = ours.bench("kernels", "--rows", 1, "--seconds", 1e-4, ranks=2)["machine"]
    return {"date": datetime.date.today().isoformat(), **found, "torch": peer.version(), "commit": commit()}


def commit() -> str:
    """Return the commit of the sources, with a mark if they have changed since."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def measure(wanted: list[str], pairs: int, ours: Ours, peer: Peer) -> list[Result]:
    """Measure the wanted rows, pair by pair, and say so."""
    results = []
    for case in CASES:
        found = {row.name: Result(row) for row in case.rows if row.name in wanted}
        for number in range(pairs if found else 0):
            readings = case.measure(ours, peer)
            for name, result in found.items():
                result.readings.append(readings[name])
                print(f"{name} {number + 1}/{pairs}: {readings[name].figure:.3f} {result.row.unit}", flush=True)
        results += found.values()
    return results


def file_name(about: dict[str, Any]) -> str:
    """Return the name of a file of results: date and processor."""
    return f"{about['date']}-{re.sub(r'[^a-z0-9]+', '-', str(about['cpu']).lower()).strip('-')}.json"


def main() -> None:
    """Run the chosen cases and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True, help="interpreter that has torch")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cases", nargs="+", metavar="ROW", choices=names(), default=names(), help=", ".join(names()))
    parser.add_argument("--output", type=Path, help=f"default: {RESULTS.relative_to(ROOT)}/<date>-<cpu>.json")
    args = parser.parse_args()
    if args.pairs < 1:
        parser.error(f"--pairs is {args.pairs}, expected at least 1")
    data = Path(os.environ.get("ONOTRAIN_DATA_DIR", "")) / "mnist"
    if not data.is_dir():
        sys.exit("set ONOTRAIN_DATA_DIR to the folder that holds mnist/ (onotrain data fetch mnist)")
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = Ours(Path(folder)), Peer(args.peer_python, data)
        about = machine(ours, peer)
        results = measure(args.cases, args.pairs, ours, peer)
    path = args.output or RESULTS / file_name(about)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "pairs": args.pairs, "results": [result.to_dict() for result in results]}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\n{summary(results)}\n\n{path}\nmake the table and the plot of it: python benchmarks/report.py {path}")


if __name__ == "__main__":
    main()
