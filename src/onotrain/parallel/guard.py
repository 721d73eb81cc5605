"""The end of a job: one message, one exit code, and no rank left waiting."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from time import sleep
from typing import TextIO

from onotrain.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_OK, OnotrainError

#: Where launchers tell a process its rank and the number of ranks, before MPI has started.
_RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
_SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
#: How long a failed rank lets rank 0 go first where no barrier is possible [s].
_GRACE_S = 1.0


def _number(names: tuple[str, ...], otherwise: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), otherwise)


def launched_rank() -> int:
    """Return the rank that a launcher gave to this process; 0 without one.  Starts no MPI."""
    return _number(_RANK_VARIABLES, 0)


def launched_size() -> int:
    """Return how many ranks a launcher started; 1 without one.  Starts no MPI."""
    return max(_number(_SIZE_VARIABLES, 1), launched_rank() + 1)


def _mpi_runs() -> bool:
    """Whether this process has MPI up; does not start it."""
    if "mpi4py.MPI" not in sys.modules:
        return False
    from mpi4py import MPI

    return MPI.Is_initialized() and not MPI.Is_finalized()


def _world() -> tuple[int, int]:
    """Return this process's rank and the number of ranks."""
    if not _mpi_runs():
        return launched_rank(), launched_size()
    from mpi4py import MPI

    return MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size


def _abort(code: int) -> None:
    """End all ranks now; does not return when MPI runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    if _mpi_runs():
        from mpi4py import MPI

        MPI.COMM_WORLD.Abort(code)
    os._exit(code)


def _let_rank_0_speak(together: bool) -> None:
    """Wait until rank 0 has printed: a launcher kills the other ranks as soon as one of them ends with an error."""
    if not _mpi_runs():
        if launched_rank() > 0:
            sleep(_GRACE_S)
    elif together:
        from mpi4py import MPI

        MPI.COMM_WORLD.Barrier()


def run(body: Callable[[], None], stream: TextIO | None = None) -> int:
    """Run `body` and return the exit code of the process; ends the whole job if only this rank failed.

    An error that every rank raises (`OnotrainError.agreed`) is printed by rank 0; each rank returns its code.  An error
    of this rank alone is printed here and aborts the job: its peers are in a collective that this rank never enters.
    """
    stream = stream or sys.stderr
    try:
        body()
    except OnotrainError as error:
        rank, size = _world()
        alone = size > 1 and not error.agreed
        if alone:
            # Before MPI has started every rank may fail alike, and then rank 0 is the one to say so.
            _let_rank_0_speak(together=False)
        if rank == 0 or alone:
            print(f"onotrain: {f'rank {rank}: ' if alone else ''}{error}", file=stream, flush=True)
        if alone:
            _abort(error.exit_code)
        if size > 1:
            _let_rank_0_speak(together=True)
        return error.exit_code
    except KeyboardInterrupt:
        rank, size = _world()
        if rank == 0:
            print("onotrain: interrupted", file=stream, flush=True)
        if size > 1:
            _abort(EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED
    except Exception:
        rank, size = _world()
        print(f"onotrain: internal error on rank {rank}; please report it with this traceback", file=stream)
        traceback.print_exc(file=stream)
        if size > 1:
            _abort(EXIT_INTERNAL)
        return EXIT_INTERNAL
    return EXIT_OK
