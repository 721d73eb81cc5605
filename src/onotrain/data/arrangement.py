"""How the features of a sample are arranged: the shape that the network sees."""

from __future__ import annotations

import math
from typing import Any

from onotrain.errors import DataError


def arranged(section: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a sample for the network: ``data.shape``, or that of the data.

    Parameters
    ----------
    section
        The ``data`` section.
    shape
        Of a sample of the training data; ``(features,)`` of a table.

    Raises
    ------
    DataError
        The two have not as many features.
    """
    if section.shape is None:
        return shape
    wanted: tuple[int, ...] = section.shape
    if math.prod(shape) != math.prod(wanted):
        axes = f" ({' x '.join(map(str, shape))})" if len(shape) > 1 else ""
        raise DataError(
            f"{section.name}: samples have {math.prod(shape):,} features{axes}; "
            f"data.shape {list(wanted)} has {math.prod(wanted):,}",
            hint="give data.shape as many features, such as [channels, height, width]",
        )
    return wanted
