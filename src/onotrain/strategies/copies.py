"""Whether all copies of the parameters are still the same: what faulty memory has changed shows nowhere else."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence

from onotrain.errors import NumericsError
from onotrain.parallel.agreement import agreed
from onotrain.parallel.world import World
from onotrain.strategies.replica import Replica


def check_copies(world: World, replica: Replica, steps: int) -> None:
    """Refuse to go on with copies that differ.  *Collective*: at a point at which they must be the same.

    Raises
    ------
    NumericsError
        Naming the ranks whose copies are not that of most ranks.
    """
    with agreed(world.comm):
        comm = replica.copies
        if comm is None or comm.size == 1:
            return
        found = comm.allgather((world.rank, world.pulse.host, zlib.crc32(replica.parameters.data)))
        if len({crc for *_, crc in found}) > 1:
            raise _differ(found, steps)


def _differ(found: Sequence[tuple[int, str, int]], steps: int) -> NumericsError:
    (common, count), *_ = Counter(crc for *_, crc in found).most_common(1)
    others = [f"{rank} ({host})" for rank, host, crc in found if crc != common]
    if 2 * count <= len(found):  # nobody knows which are right
        others = [f"{rank} ({host})" for rank, host, _ in found]
        what = f"the parameters of ranks {', '.join(others)} differ from each other"
    else:
        ranks, have = ("rank", "has") if len(others) == 1 else ("ranks", "have")
        what = f"{ranks} {', '.join(others)} {have} parameters that differ from those of the other {count}"
    return NumericsError(
        f"{what} after step {steps}, where all must be the same",
        hint="the memory of a node may be faulty: go on without it, from a checkpoint of some steps before",
    )
