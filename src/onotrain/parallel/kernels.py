"""One set of kernels for all ranks: a rounding that differs between two nodes would let replicas drift apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onotrain import _kernels
from onotrain.known_names import Precision
from onotrain.parallel.agreement import agreed

if TYPE_CHECKING:
    from mpi4py import MPI


def agree(comm: MPI.Comm, dtype: np.dtype | type | str, precision: Precision = "full") -> Any:
    """Return the kernels for `dtype` and `precision` at the best CPU level that every rank has.  *Collective*.

    Raises
    ------
    UsageError, PlatformError
        On all ranks, if one of them has no such kernels (`onotrain._kernels.load`).
    """
    with agreed(comm):
        mine = _kernels.path()
    available = comm.allgather((mine, _kernels.available()))
    wanted = {path for path, _ in available}
    if len(wanted) > 1:
        common = [path for path in _kernels.available() if all(path in paths for _, paths in available)]
        best = [path for path in common if path in wanted or path == "baseline"]
        _kernels.select(best[0])
    with agreed(comm):
        return _kernels.load(dtype, precision=precision)
