"""Trains, and prints how much memory its ranks use: ``mpirun -n 2 python memory_run.py CONFIG OUTPUT``.

What ranks share counts once.  Pages of files, as of the program itself, do not count: their share depends on who else
on the machine has them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from onotrain.config import load_config
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.trainer import Trainer


def used() -> int:
    """Return the bytes of this process, of shared memory its share."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


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
