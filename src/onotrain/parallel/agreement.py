"""Local failures, agreed on before the next collective, so that no rank waits for one that will not come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onotrain.errors import OnotrainError, ResourceError, on_all_ranks

if TYPE_CHECKING:
    from mpi4py import MPI


@contextmanager
def agreed(comm: MPI.Comm) -> Iterator[None]:
    """Run a block of local work; if it fails on any rank, fail on all with the first failing rank's error.

    *Collective* at the end of the block: every rank must leave it, by its end or by an `OnotrainError` or
    `MemoryError`. Anything else is a bug and passes through; the job is then aborted by `onotrain.parallel.guard`.
    """
    failure: OnotrainError | None = None
    try:
        yield
    except OnotrainError as error:
        failure = error
    except MemoryError as error:
        failure = ResourceError(
            f"rank {comm.rank} ran out of memory: {error}",
            hint="use fewer ranks on a node, smaller batches, or data.stream",
        )
    if comm.size == 1:
        if failure is not None:
            raise on_all_ranks(failure)
        return
    reports: list[tuple[type[OnotrainError], str, str | None] | None] = comm.allgather(
        None if failure is None else (type(failure), failure.message, failure.hint)
    )
    first = next((report for report in reports if report is not None), None)
    if first is not None:
        kind, message, hint = first
        raise on_all_ranks(kind(message, hint=hint)) from failure


def broadcast(comm: MPI.Comm, make: Any, root: int = 0) -> Any:
    """Return `make()` of rank `root` on every rank; its failure is everyone's.  *Collective*; small objects only."""
    value = None
    with agreed(comm):
        if comm.rank == root:
            value = make()
    return comm.bcast(value, root=root)
