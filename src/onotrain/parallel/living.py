"""Which ranks of MPI_COMM_WORLD live, as far as this one knows, where a rank's death does not end the job."""

from __future__ import annotations

from typing import Any

from onotrain.parallel import launcher
from onotrain.parallel.world import start_mpi


def lost() -> str:
    """Return which ranks have died, as far as this one knows, in words."""
    everyone = start_mpi().COMM_WORLD
    ranks = sorted(start_mpi().Group.Translate_ranks(everyone.Get_failed(), None, everyone.Get_group()))
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def living() -> Any:
    """Return the group of the ranks of MPI_COMM_WORLD that live, as far as this one knows."""
    everyone = start_mpi().COMM_WORLD
    group = everyone.Get_group()
    return start_mpi().Group.Difference(group, everyone.Get_failed()) if launcher.survives_ranks() else group
