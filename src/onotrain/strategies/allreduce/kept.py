"""A second copy of a node's parameters and state, so that one of the two is whole whenever a rank dies.

Owners update their shards in place, and one that dies half-way leaves a shard of no step.  So ranks copy the state
after a step, each its part::

    reached[rank] = step
    copy[part] = live[part]
    copied[rank] = step

The next step changes no parameter before a barrier, which all ranks reach after they have copied.  Of the newest step
that a rank has reached, the copy is whole if all ranks have copied it; else nobody has begun to change what is live.
The memory outlives a rank that is gone, and so do its two numbers.
"""

from __future__ import annotations

import numpy as np

from onotrain.parallel.shared_memory import Fields

#: Numbers of a rank, a cache line of them: one more than the steps after which it was last to copy, and has copied.
_NUMBERS, _REACHED, _COPIED = 8, 0, 1


def fields(names: list[str], length: int, dtype: np.dtype, ranks: int) -> Fields:
    """Return what the copy of some vectors needs of the memory that `ranks` ranks share."""
    copies = {f"kept/{name}": ((length,), dtype) for name in names}
    return {**copies, "committed": ((ranks, _NUMBERS), np.int64)}


class KeptState:
    """See the module's text.

    Parameters
    ----------
    arrays
        The shared ones: `fields`, and the live vectors by their names.
    names
        Of the vectors.
    rank
        This one, of the node.
    """

    def __init__(self, arrays: dict[str, np.ndarray], names: list[str], rank: int) -> None:
        self._live = {name: arrays[name] for name in names}
        self._copy = {name: arrays[f"kept/{name}"] for name in names}
        self._numbers = arrays["committed"]
        self._mine = self._numbers[rank]
        length, ranks = len(arrays[names[0]]), len(self._numbers)
        part = slice(length * rank // ranks, length * (rank + 1) // ranks)
        self._pairs = [(self._copy[name][part], self._live[name][part]) for name in names]

    def commit(self, steps: int) -> None:
        """Copy this rank's part of the state after so many steps.  *Collective*: on all ranks of the node."""
        if self._mine[_COPIED] == steps + 1:
            return
        self._mine[_REACHED] = steps + 1
        for copy, live in self._pairs:
            copy[:] = live
        self._mine[_COPIED] = steps + 1

    def whole(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Return the newest whole state, and after how many steps; None: none was committed.

        Others must have stopped: they have died, or found that somebody has.
        """
        reached = int(self._numbers[:, _REACHED].max())
        if not reached:
            return None
        copied = bool((self._numbers[:, _COPIED] == reached).all())
        return reached - 1, self._copy if copied else self._live
