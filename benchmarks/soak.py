"""A long training whose ranks are stopped for a moment again and again: does anything grow, or stay behind?

::

    python benchmarks/soak.py [--steps 100000] [--ranks 4] [--every 1000] [--strategy allreduce]

Every so many steps a rank is stopped for a tenth of a second.  Printed are, for each rank, its own memory, open files
and threads after a tenth of the steps and at the last look, and what is left in /dev/shm and of processes.  Exit code 1
if the memory has grown by more than 1 %, or anything is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

CONFIG = """\
data: {{train: digits, validation: 0.2}}
model: {{layers: [{{dense: {{units: 32, activation: relu}}}}, {{dense: 10}}]}}
loss: cross_entropy
optimizer: adam
training: {{epochs: 1000000, max_steps: {steps}, batch_size: 32}}
checkpoint: {{every_epochs: 20}}
strategy: {strategy}
"""
#: Of all steps, those after which memory shall be flat.
WARM = 0.1
MOST_GROWTH = 0.01


class Look(NamedTuple):
    """What a process has."""

    anonymous_kib: int
    descriptors: int
    threads: int


def look(pid: int) -> Look:
    """Return what a process has now."""
    # Not the pages of files, of which it may be the only reader or one of many.
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
    return Look(own, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))


def ranks_of(mark: str) -> dict[int, int]:
    """Return the processes of the ranks of a run."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            environment = dict(part.partition(b"=")[::2] for part in (path / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        rank = environment.get(b"OMPI_COMM_WORLD_RANK")
        if rank is not None and mark.encode() in words:
            found[int(rank)] = int(path.name)
    return found


def steps_of(run: Path) -> int:
    """Return how far a run is."""
    try:
        last = (run / "metrics.jsonl").read_bytes().rstrip(b"\n").rpartition(b"\n")[2]
        return int(json.loads(last)["steps"])
    except (OSError, ValueError):
        return 0


def main() -> int:
    """Train, disturb, and look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--every", type=int, default=1000)
    parser.add_argument("--strategy", default="allreduce")
    wanted = parser.parse_args()
    before, chosen = set(os.listdir("/dev/shm")), random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        run, config = Path(folder) / "run", Path(folder) / "soak.yaml"
        config.write_text(CONFIG.format(steps=wanted.steps, strategy=wanted.strategy))
        words = [sys.executable, "-m", "onotrain", "train", str(config), "-q", "-o", str(run)]
        job = subprocess.Popen(["mpirun", "-n", str(wanted.ranks), *words])
        due, faults, warm, last = wanted.every, 0, dict[int, Look](), dict[int, Look]()
        while job.poll() is None:
            time.sleep(0.05)
            steps = steps_of(run)
            if steps < due:
                continue
            due, ranks = steps - steps % wanted.every + wanted.every, ranks_of(str(run))
            try:
                last = {rank: look(pid) for rank, pid in ranks.items()} or last
                if steps >= WARM * wanted.steps:
                    warm = warm or last
                pid = chosen.choice(list(ranks.values()))
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.1)
                os.kill(pid, signal.SIGCONT)
                faults += 1
            except (OSError, IndexError):  # it has ended meanwhile
                continue
        left = [f"process {pid}" for pid in ranks_of(str(run)).values()] + sorted(set(os.listdir("/dev/shm")) - before)
        print(
            f"{steps_of(run)} steps on {wanted.ranks} ranks, {faults} stops, exit code {job.returncode}, left: {left}"
        )
    growth = {rank: last[rank].anonymous_kib / warm[rank].anonymous_kib - 1 for rank in warm if rank in last}
    for rank in sorted(growth):
        print(f"rank {rank}: {warm[rank]} -> {last[rank]}, memory {growth[rank]:+.2%}")
    return int(job.returncode != 0 or bool(left) or not growth or max(growth.values()) > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
