"""What sinks share: that they are closed, what they read in the records of a run, and the names of its curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onotrain.runs.records import metrics_of
from onotrain.training.observers import Observer


class Sink(Observer):
    """An observer that holds a file, a port or a thread until the run is over, however it ends."""

    def close(self, error: BaseException | None = None) -> None:
        """Give it back; raises nothing.  `error` is what has ended the run, if anything did."""


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return those that are numbers, NaN among them."""
    return {
        name: value for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def epoch_curves(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the points that the record of an epoch has of each curve."""
    curves = {f"epoch/{name}": value for name, value in metrics_of(record).items()}
    curves |= {f"epoch/{name}": record.get(name) for name in ("learning_rate", "samples_per_second", "noise_scale")}
    for kind, seconds in record["ranks_seconds"].items():
        curves[f"seconds/{kind}"] = sum(seconds) / len(seconds)
    curves |= {f"bytes/{kind}": sum(sent) for kind, sent in record["ranks_bytes"].items()}
    staleness = record.get("staleness", {})
    curves |= {f"staleness/{name}": staleness[name] for name in ("mean", "max") if name in staleness}
    return numbers(curves)


def interval_curves(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the points that a record within an epoch has of each curve."""
    curves = {f"interval/{name}": value for name, value in metrics_of(record).items()}
    return numbers({**curves, "interval/learning_rate": record["learning_rate"]})
