"""Which ranks of MPI_COMM_WORLD live, as far as this one knows, where a rank's death does not end the job."""

from __future__ import annotations

from typing import Any

from onotrain.parallel import launcher
from onotrain.parallel.world import start_mpi


def dead(comm: Any) -> list[int]:
    """Return the ranks of a communicator that have died, as far as this one knows."""
    return sorted(start_mpi().Group.Translate_ranks(comm.Get_failed(), None, comm.Get_group()))


def lost() -> str:
    """Return which ranks of the job have died, in words."""
    ranks = dead(start_mpi().COMM_WORLD)
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def living() -> Any:
    """Return the group of the ranks of MPI_COMM_WORLD that live, as far as this one knows."""
    everyone = start_mpi().COMM_WORLD
    group = everyone.Get_group()
    return start_mpi().Group.Difference(group, everyone.Get_failed()) if launcher.survives_ranks() else group
