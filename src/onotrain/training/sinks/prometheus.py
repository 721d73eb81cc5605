"""The newest records of a run in the OpenMetrics format, for Prometheus to scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from onotrain.config.recording import Address
from onotrain.errors import UsageError
from onotrain.runs.records import metrics_of
from onotrain.training.observers import RunStart
from onotrain.training.sinks.base import Sink, numbers

_Family = CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily
#: Metric of the losses: label -> name in a record.
_LOSSES = {"train": "train_loss", "validation": "validation_loss"}


class Prometheus(Sink):
    """Serves the newest records.

    The run leaves them here and goes on; a thread of the server, which knows no MPI, writes them out when it is asked.

    Parameters
    ----------
    address
        Where to listen.

    Raises
    ------
    UsageError
        It is taken, or none of this host.
    """

    def __init__(self, address: Address) -> None:
        #: Replaced, never changed: another thread reads it.
        self._newest: _Newest | None = None
        registry: Any = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(address.port, address.host, registry)
        except OSError as error:
            raise UsageError(
                f"metrics.prometheus: cannot listen at {address}: {error.strerror or error}",
                hint="give another port, or a host that is an address of this one, or leave metrics.prometheus out",
            ) from error

    def started(self, start: RunStart) -> None:
        """Serve where the run begins."""
        self._newest = _Newest(start, start.first_epoch, start.first_step)

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Serve the record of an epoch."""
        if self._newest is not None:
            self._newest = self._newest.with_epoch(record)

    def interval_ended(self, record: Mapping[str, Any]) -> None:
        """Serve a record within an epoch."""
        if self._newest is not None:
            self._newest = replace(self._newest, steps=record["step"], interval=record)

    def collect(self) -> Iterator[_Family]:
        """Yield what is served, on a thread of the server."""
        newest = self._newest
        if newest is not None:
            yield from newest.families()

    def close(self, error: BaseException | None = None) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True)
class _Newest:
    """What is served: the state of a run at one moment."""

    start: RunStart
    #: Epochs that have ended, and steps made.
    epochs: int
    steps: int
    #: The newest records; empty if there is none yet.
    epoch: Mapping[str, Any] = field(default_factory=dict)
    interval: Mapping[str, Any] = field(default_factory=dict)
    #: Sent since the run was launched: kind -> bytes.
    sent: Mapping[str, int] = field(default_factory=dict)

    def with_epoch(self, record: Mapping[str, Any]) -> _Newest:
        """Return it after an epoch."""
        sent = {kind: self.sent.get(kind, 0) + sum(ranks) for kind, ranks in record["ranks_bytes"].items()}
        return replace(self, epochs=record["epoch"], steps=record["steps"], epoch=record, sent=sent)

    @property
    def samples(self) -> int:
        """Training samples of the steps that were made."""
        epochs, steps = divmod(self.steps, self.start.steps_per_epoch)
        return epochs * self.start.samples + steps * self.start.batch_size

    def families(self) -> Iterator[_Family]:
        """Yield all metrics of the run; those without a value are left out."""
        make = _Making(Path(self.start.output).absolute().name)
        yield from self._progress(make)
        yield from self._quality(make)
        if self.epoch:
            yield from self._costs(make)

    def _progress(self, make: _Making) -> Iterator[_Family]:
        start = self.start
        facts = {"strategy": start.strategy, "method": start.method, "network": start.network}
        yield make(InfoMetricFamily, "onotrain_run", "What is trained, and how.", {(): facts})
        yield make(GaugeMetricFamily, "onotrain_ranks", "Ranks of the job.", {(): start.ranks})
        yield make(GaugeMetricFamily, "onotrain_epochs", "Epochs that are asked for.", {(): start.epochs})
        yield make(GaugeMetricFamily, "onotrain_epoch", "Epochs that have ended.", {(): self.epochs})
        yield make(CounterMetricFamily, "onotrain_steps", "Optimiser steps since the run began.", {(): self.steps})
        yield make(CounterMetricFamily, "onotrain_samples", "Training samples of these steps.", {(): self.samples})

    def _quality(self, make: _Making) -> Iterator[_Family]:
        # Where there are intervals, what they say of the training data is of fewer samples, but newer.
        values = numbers(metrics_of(self.epoch) | metrics_of(self.interval))
        losses = {(data,): values.pop(name) for data, name in _LOSSES.items() if name in values}
        text = "Mean loss over the samples of the last epoch; on training data of the last interval if there are any."
        yield make(GaugeMetricFamily, "onotrain_loss", text, losses, "data")
        others = {(name,): value for name, value in values.items()}
        yield make(GaugeMetricFamily, "onotrain_metric", "Other metrics, likewise.", others, "name")
        newest = self.interval if self.interval.get("step", 0) > self.epoch.get("steps", 0) else self.epoch
        rate = {(): newest["learning_rate"]} if newest else {}
        yield make(GaugeMetricFamily, "onotrain_learning_rate", "Learning rate of the last step.", rate)

    def _costs(self, make: _Making) -> Iterator[_Family]:
        speed = self.epoch["samples_per_second"]
        text = "Training samples per second of the training loop, in the last epoch."
        yield make(GaugeMetricFamily, "onotrain_samples_per_second", text, {(): speed})
        ranks = self.epoch["ranks_seconds"].items()
        seconds = {(str(rank), kind): value for kind, values in ranks for rank, value in enumerate(values)}
        text = "What a rank did in the training loop of the last epoch, and for how long."
        yield make(GaugeMetricFamily, "onotrain_rank", text, seconds, "rank", "kind", unit="seconds")
        sent = {(kind,): value for kind, value in self.sent.items()}
        text = "Gradients and parameters sent since the launch, as without a codec (raw) and as they were sent."
        yield make(CounterMetricFamily, "onotrain", text, sent, "kind", unit="bytes")
        staleness = numbers({kind: self.epoch.get("staleness", {}).get(kind) for kind in ("mean", "max")})
        text = "Staleness of the gradients of the last epoch, in updates."
        of_kinds = {(kind,): value for kind, value in staleness.items()}
        yield make(GaugeMetricFamily, "onotrain_staleness", text, of_kinds, "kind")


@dataclass(frozen=True)
class _Making:
    """Makes metrics of a run."""

    run: str

    def __call__(
        self, kind: Any, name: str, text: str, values: Mapping[Any, Any], *labels: str, unit: str = ""
    ) -> _Family:
        """Return a metric with values by those of its labels besides the run's."""
        units = {"unit": unit} if unit else {}
        made: _Family = kind(name, text, labels=("run", *labels), **units)
        for others, value in values.items():
            made.add_metric((self.run, *others), value)
        return made
