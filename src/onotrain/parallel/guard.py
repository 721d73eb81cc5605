"""The end of a job: one message, one exit code, and no rank left waiting."""

from __future__ import annotations

import os
import stat
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import TextIO

from onotrain.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_OK, LostRankError, OnotrainError, ResourceError
from onotrain.parallel import launcher, supervised
from onotrain.text import escaped, wrapped

#: How long a rank that fails before MPI has started lets rank 0 go first, and the others start MPI [s].
_GRACE_S = 1.0
#: How long rank 0 lets the others end [s].
_PAUSE_S = 0.1


def _mpi_runs() -> bool:
    """Whether this process has MPI up; does not start it."""
    if "mpi4py.MPI" not in sys.modules:
        return False
    from mpi4py import MPI

    return MPI.Is_initialized() and not MPI.Is_finalized()


def _world() -> tuple[int, bool]:
    """Return this process's rank among those that live, and whether there are, or may be, others."""
    if _mpi_runs():
        from mpi4py import MPI

        from onotrain.parallel.living import living

        if MPI.COMM_WORLD.size > 1:
            return living().Get_rank(), True
    return launcher.rank(), launcher.may_have_others()


def _name() -> str:
    """Return this rank in words, as the launcher counts it: ranks before it may have died."""
    if not _mpi_runs():
        return f"rank {launcher.rank()}"
    from mpi4py import MPI

    return f"rank {MPI.COMM_WORLD.rank}"


def _has_lost_ranks() -> bool:
    """Whether a rank of the job has died, and this one has outlived it."""
    if not (_mpi_runs() and launcher.survives_ranks()):
        return False
    from mpi4py import MPI

    from onotrain.parallel.living import dead

    return bool(dead(MPI.COMM_WORLD))


def _say(stream: TextIO, message: str, columns: int | None = None) -> None:
    supervised.tell(supervised.ERROR + message)
    lines = f"onotrain: {escaped(message)}".split("\n")
    indents = [len(line) - len(line.lstrip()) for line in lines]
    shown = [wrapped(line[n:], columns, n + 2, first=line[:n]) for line, n in zip(lines, indents, strict=True)]
    stream.write("\n".join(shown) + "\n")
    stream.flush()


def _abort(code: int) -> None:
    """End all ranks now; does not return when MPI runs."""
    supervised.tell(f"{supervised.EXIT}{code}")
    sys.stdout.flush()
    sys.stderr.flush()
    if _mpi_runs():
        from mpi4py import MPI

        MPI.COMM_WORLD.Abort(code)
    sleep(_GRACE_S)  # the others may be starting MPI: of a rank that ends meanwhile Open MPI's mpirun crashes or hangs
    _abort_hydra(code)
    os._exit(code)


def say_now(message: str) -> None:
    """Print a message from any thread."""
    _say(sys.stderr, message)


def end_now(code: int) -> None:
    """End this process, and with it the job, from any thread."""
    with suppress(Exception):
        sys.stdout.flush()
    if code == LostRankError.exit_code:
        supervised.tell(supervised.LOST_RANK)
    supervised.tell(f"{supervised.EXIT}{code}")
    _abort_hydra(code)
    if _mpi_runs():
        from mpi4py import MPI

        # Of a rank that only ends, those of other hosts learn by a lost connection, and end the job with another code.
        # The main thread may be within MPI, which an abort does not mind; if it does, this process ends without.
        abort = threading.Thread(target=MPI.COMM_WORLD.Abort, args=(code,), daemon=True)
        abort.start()
        abort.join(_GRACE_S)
    os._exit(code)


def _abort_hydra(code: int) -> None:
    """Let Hydra end the job: a rank that ends before it has started MPI is nothing to it, and the others would wait."""
    with suppress(KeyError, ValueError, OSError):
        descriptor = int(os.environ["PMI_FD"])
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):  # a wrapper may have closed it, and its number be a file's now
            os.write(descriptor, b"cmd=abort exitcode=%d\n" % code)


def _leave(rank: int, code: int) -> int:
    """Return the exit code of one of several ranks that end together: `code` for rank 0, success for the others.

    A launcher kills the other ranks as soon as one of them ends with an error.  So rank 0 alone does, when the others
    are through; else its message may be lost, or MPI complain about ranks that vanish while it ends.
    """
    if rank == 0:
        supervised.tell(f"{supervised.EXIT}{code}")
    _end_survivor(code if rank == 0 else EXIT_OK)
    if _mpi_runs():
        from mpi4py import MPI

        MPI.Finalize()
    if rank > 0 and launcher.is_open_mpi():
        # At once: where ranks outnumber cores, taking an interpreter down may last longer than rank 0 waits.  Hydra
        # would take this for a crash: then the job's code is 0, or that of ranks that it kills.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_OK)
    if rank > 0:
        return EXIT_OK
    sleep(_PAUSE_S)
    return code


def _end_after_loss(stream: TextIO, columns: int | None) -> None:
    """End the job because ranks of it have died, whatever this one has failed in for that; does not return."""
    from onotrain.parallel.living import living, lost

    if living().Get_rank() > 0:
        sleep(_GRACE_S)  # the first one says so for all
    supervised.tell(supervised.LOST_RANK)
    error = LostRankError(f"{lost()} died", hint="find out what killed it (out of memory? see dmesg)")
    _say(stream, str(error), columns)
    _abort(error.exit_code)


def _is_of_mpi(error: Exception) -> bool:
    from mpi4py import MPI

    return isinstance(error, MPI.Exception)


def _end_survivor(code: int) -> None:
    """End a process that has outlived others, if it has: MPI might wait for these when it is finalised."""
    if _has_lost_ranks():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _within_memory(body: Callable[[], None]) -> None:
    """Run `body`; where memory runs out, wherever that is, say so in place of a traceback."""
    try:
        body()
    except MemoryError as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        where = f"in {last.name}, {Path(last.filename).name}:{last.lineno}"
        raise ResourceError(
            f"out of memory{f': {error}' if str(error) else ''} ({where})",
            hint="use fewer ranks on a node, smaller batches, or data.stream",
        ) from error


def run(
    body: Callable[[], None], stream: TextIO | None = None, columns: Callable[[], int | None] = lambda: None
) -> int:
    """Run `body` and return the exit code of the process; ends the whole job if only this rank failed.

    An error that every rank raises (`OnotrainError.agreed`) is printed by rank 0, whose exit code is the job's.  An
    error of this rank alone is printed here and aborts the job: its peers are in a collective that this rank will never
    enter.  `columns` returns the width of the terminal that messages are shown on, or None.
    """
    stream = stream or sys.stderr
    try:
        _within_memory(body)
    except OnotrainError as error:
        rank, others = _world()
        alone = others and not error.agreed
        if alone and rank > 0 and not _mpi_runs():
            sleep(_GRACE_S)  # perhaps all ranks fail alike: then rank 0 says so, and the launcher ends the others
        if isinstance(error, LostRankError):
            supervised.tell(supervised.LOST_RANK)
        if rank == 0 or alone:
            notes = getattr(error, "__notes__", [])  # such as what else went wrong on the way out
            _say(stream, "\n  ".join([f"{f'{_name()}: ' if alone else ''}{error}", *notes]), columns())
        if alone:
            _abort(error.exit_code)
        return _leave(rank, error.exit_code) if others else error.exit_code
    except KeyboardInterrupt:
        rank, others = _world()
        if rank == 0:
            _say(stream, "interrupted")
        if others:
            _abort(EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED
    except Exception as error:
        others = _world()[1]
        if _has_lost_ranks() and _is_of_mpi(error):
            _end_after_loss(stream, columns())
        _say(stream, f"internal error on {_name()}; please report it with this traceback\n{traceback.format_exc()}")
        if others:
            _abort(EXIT_INTERNAL)
        return EXIT_INTERNAL
    if _world()[0] == 0:
        supervised.tell(f"{supervised.EXIT}{EXIT_OK}")
    _end_survivor(EXIT_OK)
    return EXIT_OK
