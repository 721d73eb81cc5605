"""Times onotrain beside PyTorch and beside what the machine can do, in turn, and writes what came of it.

    python benchmarks/compare.py --peer-python .venv-peers/bin/python [--pairs 5] [--cases batch-64-ddp ...]

Each case is a number of pairs: ours, then the peer's, then ours again, so that both meet the same moods of a shared
machine.  Of trainings the loop alone is compared: the median over the epochs after the first.  Results go to
``benchmarks/results/<date>-<cpu>.json`` after every case, beside the rows that the file has of the same commit;
`report.py` makes the table and the plot of them.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cases import CASES, Case, names
from programs import Ours, Peer, mnist
from results import machine, parser, save, slug, today
from rows import Reading, Result, summary


def measure(wanted: list[str], pairs: int, ours: Ours, peer: Peer) -> Iterator[list[Result]]:
    """Measure the wanted rows, pair by pair, and say so; yield the results of every case."""
    for case in CASES:
        found = {row.name: Result(row) for row in case.rows if row.name in wanted}
        for number in range(pairs if found else 0):
            readings = _reading(case, ours, peer)
            for name, result in found.items():
                result.add(readings[name])
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


def merged(found: Sequence[Result], path: Path, about: dict[str, Any], pairs: int) -> list[dict[str, Any]]:
    """Return the rows of `path` with these in them; a file of another commit or number of pairs begins anew."""
    rows = {result.row.name: result.to_dict() for result in found}
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier["machine"].get("commit") == about["commit"] and earlier["pairs"] == pairs:
            rows = {result["name"]: result for result in earlier["results"]} | rows
    return [rows[name] for name in names() if name in rows]


def main() -> None:
    """Run the chosen cases and write the results."""
    options = parser(__doc__, names())
    options.add_argument("--peer-python", type=Path, required=True, help="interpreter that has torch")
    options.add_argument("--pairs", type=int, default=5)
    args = options.parse_args()
    if args.pairs < 1:
        options.error(f"--pairs is {args.pairs}, expected at least 1")
    data = mnist()
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = Ours(Path(folder)), Peer(args.peer_python, data)
        about = {**machine(ours, ranks=2), "torch": peer.version()}
        path = args.output or today(slug(about["cpu"]))
        results: list[Result] = []
        for found in measure(args.cases, args.pairs, ours, peer):
            results += found
            save(path, {"machine": about, "pairs": args.pairs}, merged(found, path, about, args.pairs))
    print(f"\n{summary(results)}\n\n{path}\nmake the table and the plot of it: python benchmarks/report.py {path}")


if __name__ == "__main__":
    main()
