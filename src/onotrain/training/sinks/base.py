"""What all sinks share: that they are closed, and what they read in the records of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onotrain.training.observers import Observer


class Sink(Observer):
    """An observer that holds a file or a port until the run is over, however it ends."""

    def close(self) -> None:
        """Give it back; raises nothing."""


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return those that are numbers, NaN among them."""
    return {
        name: value for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
