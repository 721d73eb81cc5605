"""Times onotrain beside PyTorch and beside what the machine can do, in turn, and writes what came of it.

    python benchmarks/compare.py --peer-python .venv-peers/bin/python [--pairs 5] [--cases batch-64-ddp ...]

Each case is a number of pairs: ours, then the peer's, then ours again, so that both meet the same moods of a shared
machine.  Of trainings the loop alone is compared: the median over the epochs after the first.  Results go to
``benchmarks/results/<date>-<cpu>.json`` after every case, beside the rows that the file has of the same commit;
`report.py` makes the table and the plot of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cases import CASES, Case, names
from programs import ROOT, Ours, Peer, mnist
from rows import Reading, Result, summary

RESULTS = ROOT / "benchmarks" / "results"


def machine(ours: Ours, peer: Peer) -> dict[str, Any]:
    """Describe where this runs, and what."""
    found: dict[str, Any] = ours.bench("kernels", "--rows", 1, "--seconds", 1e-4, ranks=2)["machine"]
    return {"date": datetime.date.today().isoformat(), **found, "torch": peer.version(), "commit": commit()}


def commit() -> str:
    """Return the commit of the sources, with a mark if they have changed since."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def measure(wanted: list[str], pairs: int, ours: Ours, peer: Peer) -> Iterator[list[Result]]:
    """Measure the wanted rows, pair by pair, and say so; yield the results of every case."""
    for case in CASES:
        found = {row.name: Result(row) for row in case.rows if row.name in wanted}
        for number in range(pairs if found else 0):
            readings = _reading(case, ours, peer)
            for name, result in found.items():
                result.readings.append(readings[name])
                print(f"{name} {number + 1}/{pairs}: {readings[name].figure:.3f} {result.row.unit}", flush=True)
        if found:
            yield list(found.values())


def _reading(case: Case, ours: Ours, peer: Peer) -> Mapping[str, Reading]:
    """Measure one pair; once more if a launch fails, as launchers do now and then."""
    try:
        return case.measure(ours, peer)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"once more, after: {error}", flush=True)
        return case.measure(ours, peer)


def merged(found: Sequence[Result], path: Path, about: dict[str, Any], pairs: int) -> dict[str, Any]:
    """Return the content of `path` with these rows in it; a file of another commit or number of pairs begins anew."""
    rows = {result.row.name: result.to_dict() for result in found}
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier["machine"].get("commit") == about["commit"] and earlier["pairs"] == pairs:
            rows = {result["name"]: result for result in earlier["results"]} | rows
    return {"machine": about, "pairs": pairs, "results": [rows[name] for name in names() if name in rows]}


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
    data = mnist()
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = Ours(Path(folder)), Peer(args.peer_python, data)
        about = machine(ours, peer)
        path = args.output or RESULTS / file_name(about)
        path.parent.mkdir(parents=True, exist_ok=True)
        results: list[Result] = []
        for found in measure(args.cases, args.pairs, ours, peer):
            results += found
            path.write_text(json.dumps(merged(found, path, about, args.pairs), indent=1) + "\n")
    print(f"\n{summary(results)}\n\n{path}\nmake the table and the plot of it: python benchmarks/report.py {path}")


if __name__ == "__main__":
    main()
