"""Sinks: observers that show a run in the tools that people look at; one file each, all on rank 0.

Section ``metrics`` of the configuration asks for them, and their libraries are imported only then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from onotrain.config import Config
from onotrain.config.recording import Address
from onotrain.errors import OnotrainError, PlatformError
from onotrain.training.observers import Observers
from onotrain.training.sinks.base import Sink

#: How MLflow's client shall behave, unless the environment says otherwise: report nothing to its makers, and leave it
#: to us to try again, where it would do so for minutes.
_MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def open_sinks(config: Config, observers: Observers, stack: ExitStack, *, goes_on: bool) -> None:
    """Add to the observers of a run the sinks that its configuration asks for.

    Parameters
    ----------
    config, observers
        Of the run.
    stack
        Closes the sinks.
    goes_on
        Whether ranks of the job have died: the others then go on without a sink that cannot be opened any more.

    Raises
    ------
    PlatformError
        The library of a sink is not installed.
    UsageError
        An address cannot be listened at, or a store cannot be used.
    """
    for opened in _wanted(config, observers):
        try:
            sink = opened()
        except OnotrainError as error:
            if not goes_on:
                raise
            observers.noted(f"{error.message}; the run goes on without it")
        else:
            stack.push(partial(_close, sink))
            observers.add(sink)


def _close(sink: Sink, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
    sink.close(error)


def _wanted(config: Config, observers: Observers) -> Iterator[Callable[[], Sink]]:
    metrics, address = config.metrics, config.metrics.prometheus_address
    if metrics.tensorboard:
        yield lambda: _tensorboard(config.to_yaml())
    if address is not None:
        yield lambda: _prometheus(address)
    if metrics.mlflow is not None:
        yield lambda: _mlflow(config, observers)


def _tensorboard(config_yaml: str) -> Sink:
    with _needing("tensorboardX", "tensorboard"):
        from onotrain.training.sinks.tensorboard import TensorBoard
    return TensorBoard(config_yaml)


def _prometheus(address: Address) -> Sink:
    with _needing("prometheus_client", "prometheus"):
        from onotrain.training.sinks.prometheus import Prometheus
    return Prometheus(address)


def _mlflow(config: Config, observers: Observers) -> Sink:
    for name, value in _MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    with _needing("mlflow", "mlflow"):
        from onotrain.training.sinks.mlflow import MLflow
    return MLflow(config, observers.noted)


@contextmanager
def _needing(library: str, key: str) -> Iterator[None]:
    """Say which extra of this package has a library that is missing."""
    try:
        yield
    except ImportError as error:
        raise PlatformError(
            f"metrics.{key}: the Python package {library} is not installed",
            hint=f"pip install 'onotrain[{key}]', or leave metrics.{key} out",
        ) from error
