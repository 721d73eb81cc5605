"""One rank of a pytest session inside mpirun: ``mpirun -n 3 python tests/mpi_session.py REPORT [PYTEST ARGUMENT]...``.

Rank 0 reports to the terminal; the others write to ``REPORT.<rank>.log`` and show it only if they fail.  Each rank
writes ``REPORT.<rank>.xml``.  A rank that fails aborts the job: the others wait for it in a collective
that never comes.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
TAIL_LINES = 80
GRACE_S = 2.0
"""How long a failed rank lets the others finish their own reports before it aborts the job [s]."""


def main(report: str, arguments: list[str]) -> int:
    """Run pytest as this rank; does not return if it fails."""
    rank = next((int(os.environ[name]) for name in RANK_VARIABLES if name in os.environ), 0)
    log = Path(f"{report}.{rank}.log")
    terminal = os.dup(2)
    if rank > 0:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="onotrain-test-") as scratch:
        # The ranks must not tidy each other's folders away.
        own = [f"--basetemp={scratch}/rank{rank}", f"--junitxml={report}.{rank}.xml"]
        # A signal cannot interrupt a collective; the thread method dumps every stack and ends the process.
        code = int(pytest.main([*own, "--with-mpi", "-x", "-o", "timeout_method=thread", *arguments]))
    sys.stdout.flush()
    sys.stderr.flush()
    if code != pytest.ExitCode.OK:
        if rank > 0:
            time.sleep(GRACE_S / 2)
        # Usually all ranks fail alike: one shows it, preferably rank 0, whose report is on the terminal already.
        if _first(Path(f"{report}.failed")) and rank > 0:
            tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            os.write(terminal, ("\n".join([f"--- rank {rank}", *tail]) + "\n").encode())
        time.sleep(GRACE_S)
        from mpi4py import MPI

        MPI.COMM_WORLD.Abort(code)
    return code


def _first(mark: Path) -> bool:
    """Tell whether no other rank has left this mark, and leave it."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
