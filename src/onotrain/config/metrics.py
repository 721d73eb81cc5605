"""Names of the metrics: which a loss allows, and whether more of one is better."""

from __future__ import annotations

import re
from typing import Literal

Mode = Literal["min", "max"]

_TOP_K = re.compile(r"top_([1-9][0-9]{0,8})")
_CLASSES = ("loss", "accuracy")
_VALUES = ("loss", "mae", "rmse", "r2")

#: Names that can be written in a message; ``top_5`` stands for any ``top_k``.
KNOWN = ("loss", "accuracy", "top_5", "mae", "rmse", "r2")
#: What is measured on the training data while training.
TRAINING = ("loss", "accuracy")


def is_metric(name: str) -> bool:
    """Tell whether there is a metric of this name."""
    return name in KNOWN or top_k(name) is not None


def top_k(name: str) -> int | None:
    """Return k if `name` is ``top_k`` with a number for k, else None."""
    match = _TOP_K.fullmatch(name)
    return int(match[1]) if match else None


def is_for(name: str, loss: str) -> bool:
    """Tell whether metric `name` means anything for a network with this loss."""
    if top_k(name) is not None:
        return loss == "cross_entropy"
    return name in automatic(loss)


def automatic(loss: str) -> tuple[str, ...]:
    """Return the metrics that are measured if none are asked for."""
    return _CLASSES if loss in ("cross_entropy", "binary_cross_entropy") else _VALUES


def mode_of(monitored: str) -> Mode:
    """Return which direction is better for a metric such as ``validation_loss``."""
    name = monitored.removeprefix("validation_").removeprefix("train_")
    return "max" if name in ("accuracy", "r2") or top_k(name) is not None else "min"
