"""What launched this process: its rank and the number of ranks, known from the environment before MPI has started."""

from __future__ import annotations

import os

from onotrain.errors import PlatformError, on_all_ranks

#: Variables with the rank and the number of ranks.  Those of MPI's own launchers come first: they may run within a step
#: of a batch system, whose variables they pass on.
_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI's mpirun
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),  # MVAPICH2's mpirun_rsh
    ("PMI_RANK", "PMI_SIZE"),  # Hydra (MPICH, Intel MPI, MVAPICH); PALS, Flux, srun --mpi=pmi2
    ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"),  # jsrun
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # srun; a batch script has no second one, whatever SLURM_NTASKS says
)
#: Those of launchers that do not say how many ranks there are.
_UNCOUNTED = ("PALS_RANKID", "ALPS_APP_PE", "PMIX_RANK")
#: Set by ``mpirun --with-ft ulfm`` of Open MPI.
_SURVIVES = "OMPI_MCA_mpi_ft_enable"
_RANKS = (*_UNCOUNTED, *(rank for rank, _ in _VARIABLES))


def _number(name: str) -> int | None:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else None


def _place() -> tuple[int, int | None, str]:
    """Return rank, number of ranks (None: the launcher does not say), and the variable that says the most."""
    for variables in _VARIABLES:
        rank, size = map(_number, variables)
        if rank is not None and size is not None:
            return rank, size, variables[1]
    name, rank = next(((name, rank) for name in _RANKS if (rank := _number(name)) is not None), ("", 0))
    # A batch script has a rank, which is 0, without a number of ranks.
    return rank, None if name in _UNCOUNTED or rank > 0 else 1, name


def present() -> bool:
    """Return whether a launcher started this process, be it as the only rank."""
    return any(name in os.environ for name in _RANKS)


def rank() -> int:
    """Return the rank that a launcher gave to this process; 0 without one."""
    return _place()[0]


def size() -> int | None:
    """Return how many ranks a launcher started; 1 without one, None if it does not say."""
    return _place()[1]


def may_have_others() -> bool:
    """Return whether the job has other ranks than this one, as far as the launcher says."""
    return size() != 1


def is_open_mpi() -> bool:
    """Return whether Open MPI's mpirun started this process."""
    return _VARIABLES[0][0] in os.environ


def survives_ranks() -> bool:
    """Return whether a rank that dies does not end the job: ``mpirun --with-ft ulfm`` of Open MPI."""
    return os.environ.get(_SURVIVES, "").lower() in ("1", "true")


def check(mpi_size: int, library: str) -> None:
    """Refuse a job whose processes do not all find each other: each group of them would do all of the work.

    More ranks than were launched are no mistake: the variables may be those of an outer launcher.

    Parameters
    ----------
    mpi_size
        Number of ranks as MPI sees it, of all that were launched together.
    library
        Name of the MPI library.

    Raises
    ------
    PlatformError
        MPI sees fewer processes than were launched.  Each of them raises it; where the launcher does not say how many
        there are, those whose ranks MPI does not have.
    """
    rank, launched, source = _place()
    if mpi_size >= (rank + 1 if launched is None else launched):
        return
    if launched is None:
        what, alone = f"a process was launched as rank {rank} ({source})", "it is alone"
    else:
        what, alone = f"{launched} processes were launched ({source})", "each of them is alone"
    error = PlatformError(
        f"{what}, but for MPI {alone if mpi_size == 1 else f'there are {mpi_size}'}: "
        f"the launcher and {library} do not know each other",
        hint="use the mpirun of this MPI (from pip: the one beside onotrain), or srun with a PMI that MPI was "
        "built for (srun --mpi=list); launch separate runs one by one",
    )
    raise error if launched is None else on_all_ranks(error)
