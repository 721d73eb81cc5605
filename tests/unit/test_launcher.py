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


#: Name -> (environment, rank, number of ranks or None where the launcher does not say).
PLACES: dict[str, tuple[dict[str, str], int, int | None]] = {
    "nothing": ({}, 0, 1),
    "not a number": ({"PMI_RANK": "x", "PMI_SIZE": "4"}, 0, 1),
    "mpirun": (open_mpi(1, 3), 1, 3),
    "mpirun, one": (open_mpi(0, 1), 0, 1),
    "hydra": (hydra(2, 3), 2, 3),
    "mvapich": ({"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "2"}, 1, 2),
    "pals": ({"PALS_RANKID": "1", "PMI_RANK": "1", "PMI_SIZE": "2"}, 1, 2),
    "pals without PMI": ({"PALS_RANKID": "1"}, 1, None),
    "alps": ({"ALPS_APP_PE": "2"}, 2, None),
    "flux": (flux(1, 2), 1, 2),
    "flux -o pmi=off": ({"FLUX_TASK_RANK": "1", "FLUX_JOB_SIZE": "2"}, 1, 2),
    "jsrun": ({"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2", "PMIX_RANK": "1"}, 1, 2),
    "prun": ({"PMIX_RANK": "1"}, 1, None),
    "prun, the first": ({"PMIX_RANK": "0"}, 0, None),
    "prun in a batch script": ({**BATCH, "PMIX_RANK": "2"}, 2, None),
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


#: How the variables of launchers begin.
LAUNCHERS = ("OMPI_", "PMI", "MV2_", "SLURM_", "FLUX_", "JSM_", "PALS_", "ALPS_")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("name", PLACES)
def test_place(name: str, environment: pytest.MonkeyPatch) -> None:
    variables, rank, size = PLACES[name]
    for variable, value in variables.items():
        environment.setenv(variable, value)
    assert (launcher.rank(), launcher.size(), launcher.may_have_others()) == (rank, size, size != 1)
    assert launcher.present() == any(key.endswith(("RANK", "PROCID", "RANKID", "APP_PE")) for key in variables)
    launcher.check(max(size or 0, rank + 1, 2), "Open MPI")  # the ranks have found each other


@pytest.mark.parametrize("name", [name for name, (_, _, size) in PLACES.items() if size is not None])
def test_fewer_ranks_than_were_launched(name: str, environment: pytest.MonkeyPatch) -> None:
    """All of them know: rank 0 speaks.  More are no mistake: the variables may be those of an outer launcher."""
    variables, _, size = PLACES[name]
    assert size is not None
    for variable, value in variables.items():
        environment.setenv(variable, value)
    for found in range(1, size):
        what = "each of them is alone" if found == 1 else f"there are {found}"
        with pytest.raises(
            PlatformError, match=rf"^{size} processes were launched \(\w+\), but for MPI {what}: .*Open MPI do not"
        ) as caught:
            launcher.check(found, "Open MPI")
        assert caught.value.agreed and caught.value.exit_code == 7 and "mpirun" in str(caught.value.hint)
    for found in (size, size + 1):
        launcher.check(found, "Open MPI")


@pytest.mark.parametrize(("rank", "refused"), [(0, []), (1, [1]), (3, [1, 2, 3])])
def test_a_rank_that_mpi_does_not_have(rank: int, refused: list[int], environment: pytest.MonkeyPatch) -> None:
    """Where the launcher does not say how many there are, this rank alone knows: rank 0 does not speak for it."""
    environment.setenv("PMIX_RANK", str(rank))
    for found in range(1, 6):
        if found not in refused:
            launcher.check(found, "Open MPI")
            continue
        what = "it is alone" if found == 1 else f"there are {found}"
        message = rf"^a process was launched as rank {rank} \(PMIX_RANK\), but for MPI {what}: .*Open MPI do not"
        with pytest.raises(PlatformError, match=message) as caught:
            launcher.check(found, "Open MPI")
        assert not caught.value.agreed and caught.value.exit_code == 7


ALONE = """\
import sys
from onotrain.parallel import guard, launcher

sys.exit(guard.run(lambda: launcher.check(1, "Open MPI")))
"""


def test_a_rank_that_mpi_does_not_have_says_so_and_fails() -> None:
    """Else it would end well and in silence, while rank 0 trains alone."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, env={**inherited, "PMIX_RANK": "1"}
    )
    assert done.returncode == 7
    assert done.stderr.startswith("onotrain: rank 1: a process was launched as rank 1 (PMIX_RANK)")


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
