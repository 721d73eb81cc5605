"""Trains, and prints how much memory its ranks use: ``mpirun -n 2 python memory_run.py CONFIG OUTPUT``.

What ranks share counts once; the pages of the program itself count as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

from onotrain.config import load_config
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.trainer import Trainer


def used() -> int:
    """Return the bytes of this process, of shared pages its share."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def main(config: str, output: str) -> None:
    """Train, and measure when all steps are made."""
    world, run = World.connect(), Trainer.run

    def measured(self: Trainer) -> None:
        run(self)
        world.barrier()
        found = world.comm.gather(used())
        if world.rank == 0:
            print(sum(found))
        world.barrier()

    Trainer.run = measured  # type: ignore[method-assign]
    train(load_config(config), world.comm, output=output)


if __name__ == "__main__":
    main(*sys.argv[1:])
