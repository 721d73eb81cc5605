"""What a run directory tells of the course of a run, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onotrain.config import Config, load_config
from onotrain.config.method import method_of
from onotrain.errors import DataError
from onotrain.runs.records import metrics_of
from onotrain.runs.run_directory import RunDirectory
from onotrain.runs.run_files import CONFIG_NAME

#: What curves may be drawn against: key of a series, and its title.
AXES = {"epoch": "epoch", "time": "training time [s]", "bytes": "sent between nodes [MB]"}
_MEGABYTE = 1e6


@dataclass(frozen=True)
class History:
    """A run, finished or not.

    Attributes
    ----------
    name
        What it is called.
    path
        Of its directory.
    config
        Its configuration.
    records, steps
        Rows of ``metrics.jsonl``, at least one, and of ``steps.jsonl``.
    summary
        ``summary.json``; None while the run goes on, and after it was killed.
    environment
        ``environment.json``.
    """

    name: str
    path: Path
    config: Config
    records: Sequence[Mapping[str, Any]]
    steps: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any] | None
    environment: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, name: str = "") -> History:
        """Read a run directory; the run is called as that is, if nothing else is given.

        Raises
        ------
        UsageError, ConfigError, DataError
            It is no run, a file of it is damaged, or no epoch has ended yet.
        """
        run = RunDirectory.open(path)
        records = run.records()
        if not records:
            raise DataError(f"{path}: no epoch has ended yet, so there is nothing to report", hint="wait for the first")
        config = load_config(path / CONFIG_NAME)
        return cls(
            name or path.resolve().name, path, config, records, run.step_records(), run.summary(), run.environment()
        )

    @cached_property
    def method(self) -> str:
        """Strategy, codec and what is simulated, with all options that are not the default ones."""
        return str(self.records[-1].get("method") or method_of(self.config))

    @property
    def seed(self) -> int:
        """Of the run."""
        return self.config.training.seed

    @property
    def ranks(self) -> int:
        """Number of ranks in the last epoch."""
        return int(self.records[-1].get("ranks", 1))

    @property
    def servers(self) -> int:
        """Number of ranks that computed no gradients in the last epoch."""
        return int(self.records[-1].get("servers", 0))

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.summary is not None and bool(self.summary.get("finished"))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of metrics without the part of the data, the loss first; a simulated run may have none."""
        found = dict.fromkeys(name.partition("_")[2] for name in metrics_of(self.records[-1]))
        return tuple(sorted(found, key=lambda name: name != "loss"))

    @property
    def headline(self) -> str:
        """The value of a record that says the most: a metric of validation, or the loss that there is."""
        known = list(metrics_of(self.records[-1], ("validation",)))
        return (known[1:] or known or ["train_loss"])[0]

    def at_end(self, key: str) -> float:
        """Return a value of the network that the run leaves behind: of the best epoch, where that counts."""
        value = {**self.records[-1], **(self.summary or {})}.get(key)
        return float("nan") if value is None else float(value)

    @cached_property
    def bytes_sent(self) -> np.ndarray:
        """What all ranks sent in each epoch to others with which they share no memory, int64 [bytes]."""
        return np.array([np.sum((record.get("ranks_bytes") or {}).get("sent", 0)) for record in self.records], np.int64)

    def series(self, key: str) -> np.ndarray:
        """Return a value of each epoch, float64; NaN where there is none."""
        values = [record.get(key) for record in self.records]
        return np.array([np.nan if value is None else value for value in values], np.float64)

    def axis(self, name: str) -> np.ndarray:
        """Return where the ends of the epochs lie on an axis of `AXES`, float64."""
        if name == "epoch":
            return self.series("epoch")
        if name == "time":
            return np.cumsum(self.series("train_seconds"))
        return np.cumsum(self.bytes_sent) / _MEGABYTE

    def ranks_seconds(self) -> dict[str, np.ndarray]:
        """Return where the time of each rank went, by kind [s], of the epochs with as many ranks as the last one."""
        ranks, kinds = self.ranks, ("compute", "communication", "wait")
        alike = [r["ranks_seconds"] for r in self.records if r.get("ranks_seconds") and r.get("ranks", 1) == ranks]
        none = [0.0] * ranks
        return {kind: np.sum([each.get(kind, none) for each in alike], axis=0) for kind in kinds} if alike else {}

    def staleness(self) -> np.ndarray | None:
        """Return how many gradients had each staleness, in the whole run; None without a parameter server."""
        found = [each for record in self.records if (each := (record.get("staleness") or {}).get("run_histogram"))]
        return np.array(found[-1], np.int64) if found else None
