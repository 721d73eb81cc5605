"""Times onotrain beside its peers and beside what the machine can do, in turn, and writes what came of it.

    python benchmarks/compare.py --environments .venv [--pairs 5] [--cases mnist-512 ...] [--quick]

Each case is a number of pairs: ours, then every peer, then ours again, so that all meet the same moods of a shared
machine.  All run on the same two cores, or on one where one rank trains.  Of trainings the loop alone is compared: the
shortest epoch after the first of a process.  The pairs of a case have different seeds.  A peer that was far behind the
best in each of the first two is left out of the others.  Results go to
``benchmarks/results/<date>-peers-<cpu>.json`` after every case, beside the rows that the file has of the same commit;
`report.py` makes the table and the plot of them.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import samples
from case import CORES, Case, Pair
from cases import CASES, names
from peer_programs import Peers
from processes import Failed, first_cores, pinned
from programs import Ours, mnist
from results import machine, parser, save, slug, today
from rows import TRIALS, Absent, Reading, Result, far_behind, summary


def measure(wanted: Sequence[str], pairs: int, ours: Ours, peers: Peers, quick: bool) -> Iterator[list[Result]]:
    """Measure the wanted rows, pair by pair, and say so; yield the results of every case."""
    for case in CASES:
        found = {row.name: Result(row) for row in case.rows if row.name in wanted}
        start = time.monotonic()
        without: frozenset[str] = frozenset()
        for number in range(pairs if found else 0):
            readings = _readings(case, Pair(ours, peers, number, quick, without))
            for name, result in found.items():
                result.add(readings[name])
            print(f"{next(iter(found))}: pair {number + 1} of {pairs}", flush=True)
            if number + 1 == TRIALS:
                without = far_behind(list(found.values()))
        if found:
            print(f"{summary(list(found.values()))}\n  ({time.monotonic() - start:.0f} s)", flush=True)
            yield list(found.values())


def _readings(case: Case, pair: Pair) -> Mapping[str, Reading]:
    """Measure one pair; once more if a launch of ours fails, as launchers do now and then."""
    try:
        return case.measure(pair)
    except Failed as error:
        print(f"once more, after: {error}", flush=True)
    try:
        return case.measure(pair)
    except Failed as error:
        return {row.name: Reading(Absent(str(error))) for row in case.rows}


def merged(found: Sequence[Result], path: Path, about: Mapping[str, Any], pairs: int) -> list[dict[str, Any]]:
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
    options.add_argument(
        "--environments", type=Path, required=True, help="beginning of their folders: for .venv, .venv-torch and others"
    )
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--quick", action="store_true", help="one pair of two epochs each, to try all cases")
    args = options.parse_args()
    pairs = 1 if args.quick else args.pairs
    if pairs < 1:
        options.error(f"--pairs is {pairs}, expected at least 1")
    mnist()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left behind
    try:
        with tempfile.TemporaryDirectory() as folder, pinned(CORES):
            ours, peers = Ours(Path(folder)), Peers(args.environments, Path(folder))
            samples.write(Path(folder))
            about = {**machine(ours, ranks=CORES), "pinned": first_cores(CORES), "peers": peers.versions()}
            path = args.output or today(f"{'quick' if args.quick else 'peers'}-{slug(about['cpu'])}")
            for found in measure(args.cases, pairs, ours, peers, args.quick):
                save(path, {"machine": about, "pairs": pairs}, merged(found, path, about, pairs))
    except Failed as error:
        sys.exit(str(error))
    print(f"\n{path}\nmake the table and the plot of it: python benchmarks/report.py {path}")


if __name__ == "__main__":
    main()
