"""What launched a process, from environments as launchers make them; and which copies are refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from onotrain.errors import PlatformError
from onotrain.parallel import launcher

BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SALLOC = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4"}
INTERACTIVE = {**SALLOC, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}
STEP = {**SALLOC, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
PMI2 = {**STEP, "PMI_RANK": "3", "PMI_SIZE": "4", "PMI_FD": "9"}
PMIX = {**STEP, "PMIX_RANK": "3", "PMIX_NAMESPACE": "slurm.pmix.7.0"}


def open_mpi(rank: int, size: int) -> dict[str, str]:
    return {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": str(size), "PMIX_RANK": str(rank)}


def hydra(rank: int, size: int) -> dict[str, str]:
    return {"PMI_RANK": str(rank), "PMI_SIZE": str(size), "PMI_FD": "11"}


def flux(rank: int, size: int) -> dict[str, str]:
    return {"FLUX_TASK_RANK": str(rank), "FLUX_JOB_SIZE": str(size), **hydra(rank, size)}


#: Name -> (environment, rank, number of ranks).
PLACES = {
    "nothing": ({}, 0, 1),
    "not a number": ({"PMI_RANK": "x", "PMI_SIZE": "4"}, 0, 1),
    "mpirun": (open_mpi(1, 3), 1, 3),
    "mpirun, one": (open_mpi(0, 1), 0, 1),
    "hydra": (hydra(2, 3), 2, 3),
    "mvapich": ({"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "2"}, 1, 2),
    "pals": ({"PALS_RANKID": "1", "PMI_RANK": "1", "PMI_SIZE": "2"}, 1, 2),
    "pals without PMI": ({"PALS_RANKID": "1"}, 1, 2),
    "alps": ({"ALPS_APP_PE": "2"}, 2, 3),
    "flux": (flux(1, 2), 1, 2),
    "flux -o pmi=off": ({"FLUX_TASK_RANK": "1", "FLUX_JOB_SIZE": "2"}, 1, 2),
    "jsrun": ({"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2", "PMIX_RANK": "1"}, 1, 2),
    "prun": ({"PMIX_RANK": "1"}, 1, 2),
    "in a batch script": (BATCH, 0, 1),
    "in salloc": (SALLOC, 0, 1),
    "in salloc with an interactive step": (INTERACTIVE, 0, 1),
    "srun": (STEP, 3, 4),
    "srun, one": ({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, 0, 1),
    "srun --mpi=pmi2": (PMI2, 3, 4),
    "srun --mpi=pmix": (PMIX, 3, 4),
    "mpirun in a batch script": ({**BATCH, **open_mpi(2, 4)}, 2, 4),
    "mpirun -n 1 in a batch script": ({**BATCH, **open_mpi(0, 1)}, 0, 1),
    "mpirun on another node, whose daemon srun started": ({**STEP, **open_mpi(1, 8)}, 1, 8),
    "mpirun in an interactive step": ({**INTERACTIVE, **open_mpi(1, 2)}, 1, 2),
    "mpirun -n 1 by each task of srun": ({**STEP, **open_mpi(0, 1)}, 0, 1),
    "mpirun -n 1 by each task of srun --mpi=pmi2": ({**PMI2, **open_mpi(0, 1)}, 0, 1),
    "mpirun -n 1 by each task of srun --mpi=pmix": ({**PMIX, **open_mpi(0, 1)}, 0, 1),
    "hydra in a batch script": ({**BATCH, **hydra(2, 4)}, 2, 4),
    "hydra -n 1 by each task of srun": ({**STEP, **hydra(0, 1)}, 0, 1),
    "hydra -n 1 by each task of srun --mpi=pmi2": ({**PMI2, **hydra(0, 1)}, 0, 1),
    "hydra -n 1 by each task of srun --mpi=pmix": ({**PMIX, **hydra(0, 1)}, 0, 1),
    "mpirun -n 1 by each rank of hydra": ({**hydra(2, 3), **open_mpi(0, 1)}, 0, 1),
    "mpirun -n 1 by each task of flux": ({**flux(2, 3), **open_mpi(0, 1)}, 0, 1),
}  # fmt: skip


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.startswith(("OMPI_", "PMI", "MV2_", "SLURM_", "FLUX_", "JSM_", "PALS_", "ALPS_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("name", PLACES)
def test_rank_and_size(name: str, environment: pytest.MonkeyPatch) -> None:
    variables, rank, size = PLACES[name]
    for variable, value in variables.items():
        environment.setenv(variable, value)
    assert (launcher.rank(), launcher.size()) == (rank, size)
    assert launcher.present() == any(key.endswith(("RANK", "PROCID", "RANKID", "APP_PE")) for key in variables)
    launcher.check(max(size, 2), "Open MPI")  # the ranks have found each other
    if size == 1:
        launcher.check(1, "Open MPI")
    else:
        with pytest.raises(
            PlatformError, match=rf"^{size} processes were launched \(\w+\), .*Open MPI do not"
        ) as caught:
            launcher.check(1, "Open MPI")
        assert caught.value.agreed and caught.value.exit_code == 7 and "mpirun" in str(caught.value.hint)


LEAVING = """\
import atexit, sys
from onotrain.errors import UsageError, on_all_ranks
from onotrain.parallel import guard

def body():
    raise on_all_ranks(UsageError("wrong"))

atexit.register(print, "an orderly end")
sys.exit(guard.run(body))
"""


@pytest.mark.parametrize(("rank", "code", "message"), [(0, 2, "onotrain: wrong\n"), (1, 0, "")])
def test_ranks_of_hydra_end_in_order(rank: int, code: int, message: str) -> None:
    """It takes one that leaves by `_exit` for crashed, and the job's code is not that of rank 0 any more."""
    done = subprocess.run(
        [sys.executable, "-c", LEAVING],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **hydra(rank, 2)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "an orderly end\n", message)
