"""Hosts on one machine, as network namespaces, and jobs on them.

scripts/hosts.sh makes them (root, iproute2); host ``I``, counted from 1, is the namespace ``onoI``, its link ``eth0``.
Another script is called in the same way: ``up N RATE``, ``run RANKS HOSTS COMMAND...``, ``down``.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from processes import descendants
from programs import ROOT

SCRIPT = ROOT / "scripts" / "hosts.sh"
#: The hosts have only this machine's cores: a rank that waits sleeps for 0.1 ms at a time, where it would look for
#: messages all the while on a host with cores of its own.
SLEEP = "--mca threads_pthreads_yield_strategy nanosleep --mca threads_pthreads_nanosleep_time 100000"
#: What a rank needs to know of where it was started.
PASSED_ON = ("PATH", "PYTHONPATH", "ONOTRAIN_DATA_DIR", "OPENBLAS_NUM_THREADS", "OMPI_MCA_osc")
#: A job that was asked to end may take so long before it is killed: its ranks save [s].
PATIENCE_S = 60.0


class Hosts:
    """The hosts, by the script."""

    def __init__(self, script: Path) -> None:
        self.script = script.resolve()

    @contextmanager
    def up(self, count: int, rate: str) -> Iterator[None]:
        """Have them within the block, each with a link of this rate, such as ``100mbit``, or ``unlimited``."""
        subprocess.run([self.script, "up", str(count), rate], check=True)
        try:
            yield
        finally:
            subprocess.run([self.script, "down"], check=True)

    def sent(self, host: int) -> int:
        """Return the bytes that a host has sent so far."""
        command = ["ip", "netns", "exec", f"ono{host}", "cat", "/sys/class/net/eth0/statistics/tx_bytes"]
        return int(subprocess.run(command, check=True, capture_output=True).stdout)

    def start(
        self, command: Sequence[object], hosts: Sequence[int], said: IO[str], ranks_per_host: int = 1, mpi: str = ""
    ) -> subprocess.Popen[str]:
        """Start a command on all ranks of these hosts; what it says goes to `said`.

        `mpi` are further arguments of mpirun.
        """
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMPI_MCA_osc": "^ucx"}
        passed = " ".join(f"-x {name}" for name in PASSED_ON if name in environment)
        environment["MPIRUN_ARGS"] = f"{passed} {mpi}"
        places = ",".join(f"ono{host}:{ranks_per_host}" for host in hosts)
        full = [self.script, "run", str(ranks_per_host * len(hosts)), places, *map(str, command)]
        return subprocess.Popen(full, env=environment, stdout=said, stderr=subprocess.STDOUT, text=True)


def end(process: subprocess.Popen[str]) -> None:
    """End a job with all that it has started, if it still runs."""
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        for pid in reversed(descendants(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
