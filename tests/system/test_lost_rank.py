"""A rank that is killed, with a launcher that cannot help: the others end, and one says which rank is gone."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import launch

WAITING = """\
import os, sys, time
from pathlib import Path
from onotrain.parallel import guard
from onotrain.parallel.barrier import STATE, Barrier
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World

def main():
    world = World.connect()
    barrier = Barrier(world, allocate(world.node, {"state": STATE})["state"])
    Path(f"new.{world.rank}").write_text(str(os.getpid()))
    os.rename(f"new.{world.rank}", f"process.{world.rank}")
    if world.rank == int(sys.argv[1]):
        time.sleep(600)
    barrier()

sys.exit(guard.run(main))
"""
#: What a rank prints through a dead launcher is lost.
RANK = 'rank=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}; "$@" 2> err.$rank; echo $? > code.$rank'


@pytest.mark.parametrize("victim", [0, 1])
def test_no_rank_waits_for_one_that_was_killed_with_the_launcher(
    victim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait in the node's barrier, and no call of MPI tells them."""
    monkeypatch.chdir(tmp_path)
    command = launch.mpi_command(3, "bash", "-c", RANK, "rank", sys.executable, "-c", WAITING, victim)
    with launch.start(command) as running:
        files = [Path(f"process.{rank}") for rank in range(3)]
        while not all(file.exists() for file in files):
            assert running.poll() is None
            time.sleep(0.05)
        process = int(files[victim].read_text())
        launchers = [pid for pid, words in running.members().items() if not words.startswith(("bash ", sys.executable))]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in launchers:
                os.kill(pid, number)
            with suppress(ProcessLookupError):  # it ended when it was first killed
                os.kill(process, signal.SIGKILL)
        assert running.leftovers(seconds=40.0) == {}
    first, second = (rank for rank in range(3) if rank != victim)
    message = Path(f"err.{first}").read_text()
    assert message.startswith(f"onotrain: rank {first}: rank {victim} (process {process}) is gone\n"), message
    assert Path(f"code.{first}").read_text() == "7\n"
    assert not any("Traceback" in Path(f"err.{rank}").read_text() for rank in (first, second))
