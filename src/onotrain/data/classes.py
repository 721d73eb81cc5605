"""Which numbers look like classes."""

from __future__ import annotations

import numpy as np

#: Whole numbers are taken for classes up to this many different values; more of them, up to MOST_CLASSES, only if they
#: count from 0 or 1 without a gap and come this often each.
FEW_CLASSES, MOST_CLASSES, _OFTEN = 20, 10_000, 3


def are_classes(values: np.ndarray, samples: int) -> bool:
    """Return whether numbers look like classes: few whole ones, or all from 0 or 1 on, each of them often.

    Parameters
    ----------
    values
        The different ones, sorted.
    samples
        How many samples have them.
    """
    if not len(values) or (values != np.floor(values)).any():
        return False
    if len(values) <= FEW_CLASSES:
        return 2 * len(values) <= samples
    in_order = values[0] in (0, 1) and values[-1] - values[0] == len(values) - 1
    return bool(in_order and len(values) <= MOST_CLASSES and samples >= _OFTEN * len(values))
