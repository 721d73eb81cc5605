"""A run of MLflow: what `metrics.jsonl` and `steps.jsonl` get, over optimiser steps, and how the run was made."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import time
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from onotrain import __version__
from onotrain.config import Config
from onotrain.errors import StoppedOnRequest, UsageError
from onotrain.runs.run_directory import RunDirectory
from onotrain.runs.run_files import CONFIG_NAME, SUMMARY_NAME
from onotrain.text import count
from onotrain.training.observers import RunStart
from onotrain.training.sinks.base import Sink, epoch_curves, interval_curves, numbers
from onotrain.training.sinks.sender import Sender

#: How long the end of a run waits for the server [s].
_LAST_S = 10.0
#: What MLflow takes: entries of a request, characters of a name and of a value.
_METRICS_TOGETHER, _PARAMS_TOGETHER = 1000, 100
_NAME_CHARACTERS, _VALUE_CHARACTERS = 250, 500
#: What may not be in a name.
_STRANGE = re.compile(r"[^\w.\- /]")
#: Facts of the summary that say which data and which network a run is of.
_IDENTITY = ("data_digest", "parameters_sha256")


class MLflow(Sink):
    """Sends records to a tracking server on a thread; a run that goes on goes on with its run there.

    Parameters
    ----------
    config
        Of the run.
    noted
        Takes warnings.

    Raises
    ------
    UsageError
        There is no tracking URI, or MLflow cannot use it.
    """

    def __init__(self, config: Config, noted: Callable[[str], None]) -> None:
        options = config.metrics.mlflow
        assert options is not None, "not asked for"
        self._config, self._artifacts, self._noted = config, options.artifacts, noted
        self._uri = options.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        self._client = _client(self._uri)
        self._experiment = options.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
        self._sender: Sender[_Points] | None = None
        self._warned = False

    def started(self, start: RunStart) -> None:
        """Begin a run, or go on with one."""
        directory = RunDirectory.open(start.output)
        known = directory.mlflow_run()
        run_id = str(known.get("run_id", "")) if known.get("uri") == self._uri else ""
        self._run = _Run(self._client, directory, self._uri, self._experiment, run_id)
        self._run.params = {**_flat(self._config), "method": start.method, "network": start.network}
        self._run.tags = {
            "onotrain": __version__, "host": socket.gethostname(), "directory": str(directory.path.absolute()),
            "ranks": str(start.ranks), "nodes": str(start.nodes),
        }  # fmt: skip
        self._sender = Sender(self._run.send)

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Leave a point of each curve for the thread."""
        self._put(_Points("epoch", record["steps"], epoch_curves(record)))
        problem = None if self._sender is None else self._sender.problem
        if problem is not None and not self._warned:
            self._warned = True
            self._noted(f"metrics.mlflow: {self._uri}: {problem}; the run goes on, and tries again")

    def interval_ended(self, record: Mapping[str, Any]) -> None:
        """Leave a point of the curves within epochs for the thread."""
        self._put(_Points("interval", record["step"], interval_curves(record)))

    def ended(self, summary: Mapping[str, Any]) -> None:
        """Send the result, and what is left."""
        tested = {f"epoch/{name}": value for name, value in summary.items() if name.startswith("test_")}
        self._put(_Points("test", summary["steps"], numbers(tested)))
        tags = {name: str(summary[name]) for name in _IDENTITY}
        self._finish("FINISHED" if summary["finished"] else "KILLED", tags, with_files=self._artifacts)

    def close(self, error: BaseException | None = None) -> None:
        """Say how a run has ended that did not come to its end."""
        asked = isinstance(error, StoppedOnRequest | KeyboardInterrupt)
        self._finish("KILLED" if asked else "FAILED", {}, with_files=False)

    def _put(self, points: _Points) -> None:
        if self._sender is not None and points.values:
            self._sender.put(points._replace(time=round(time() * 1000)))

    def _finish(self, status: str, tags: Mapping[str, str], *, with_files: bool) -> None:
        if self._sender is None:
            return
        sender, self._sender = self._sender, None
        lost, problem = sender.close(lambda: self._run.finish(status, tags, with_files=with_files), _LAST_S)
        if lost or problem is not None:
            what = f"{count(lost, 'record')} could not be sent" if lost else "the end of the run could not be noted"
            reason = "" if problem is None else f": {problem}"
            self._noted(f"metrics.mlflow: {self._uri}: {what}{reason}; the files of the run have all of it")


class _Points(NamedTuple):
    """Points of curves at one step."""

    #: Which records they are of.
    kind: str
    step: int
    values: Mapping[str, float]
    #: When they came to be [ms since 1970].
    time: int = 0


class _Run:
    """A run of MLflow; all of it on the thread of a sender, as each call may take long or fail.

    Attributes
    ----------
    params, tags
        What is said of the run when it begins or goes on.
    """

    def __init__(self, client: MlflowClient, directory: RunDirectory, uri: str, experiment: str, run_id: str) -> None:
        self._client, self._directory, self._uri, self._experiment = client, directory, uri, experiment
        #: Its number there; empty if there is none yet.
        self._run_id = run_id
        self._begun = False
        #: Last step that MLflow has, by kind of record: a run that goes on makes some steps again.
        self._last_steps: dict[str, int] = {}
        self.params: Mapping[str, str] = {}
        self.tags: Mapping[str, str] = {}

    def send(self, points: Sequence[_Points]) -> None:
        """Add points, and begin the run before the first ones."""
        if not self._begun:
            self._begin()
            self._begun = True
        new = [each for each in points if each.step > self._last_steps.get(each.kind, -1)]
        metrics = [
            Metric(_name(key), value, each.time, each.step) for each in new for key, value in each.values.items()
        ]
        for some in _slices(metrics, _METRICS_TOGETHER):
            self._client.log_batch(self._run_id, metrics=some, synchronous=True)

    def finish(self, status: str, tags: Mapping[str, str], *, with_files: bool) -> None:
        """Say how the run has ended."""
        self._client.log_batch(self._run_id, tags=_tags(tags), synchronous=True)
        for name in (CONFIG_NAME, SUMMARY_NAME) if with_files else ():
            self._client.log_artifact(self._run_id, str(self._directory.path / name))
        self._client.set_terminated(self._run_id, status)

    def _begin(self) -> None:
        known = self._resume() if self._run_id else {}
        if not self._run_id:
            created = self._client.create_run(self._experiment_id(), run_name=self._directory.path.absolute().name)
            self._run_id = created.info.run_id
            self._directory.write_mlflow_run({"uri": self._uri, "run_id": self._run_id})
        # A parameter of MLflow cannot be changed.
        params = [
            Param(_name(key), value[:_VALUE_CHARACTERS])
            for key, value in self.params.items()
            if _name(key) not in known
        ]
        for some in _slices(params, _PARAMS_TOGETHER):
            self._client.log_batch(self._run_id, params=some, synchronous=True)
        self._client.log_batch(self._run_id, tags=_tags(self.tags), synchronous=True)

    def _resume(self) -> Mapping[str, str]:
        """Go on with a run if it is still there; return the parameters that it has."""
        try:
            run = self._client.get_run(self._run_id)
            self._client.update_run(self._run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"):
                raise
            self._run_id = ""  # deleted
            return {}
        for kind in ("epoch", "interval"):
            history = self._client.get_metric_history(self._run_id, f"{kind}/train_loss")
            self._last_steps[kind] = max((point.step for point in history), default=-1)
        return run.data.params

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(self._experiment)


def _client(uri: str) -> MlflowClient:
    if not uri:
        raise UsageError(
            "metrics.mlflow: there is no tracking URI: neither metrics.mlflow.uri nor MLFLOW_TRACKING_URI is given",
            hint="give one, such as metrics.mlflow: http://127.0.0.1:5000",
        )
    try:
        return MlflowClient(tracking_uri=uri)
    except (MlflowException, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"metrics.mlflow: {uri}: {reason}", hint="give another URI, or leave it out") from error


def _name(key: str) -> str:
    """Return a name as MLflow takes it: `validation_f1[rose]` as `validation_f1.rose`."""
    head, bracket, rest = key.partition("[")
    if bracket:  # a class or a target by its name, which may look like a path
        key = f"{head}.{rest.removesuffix(']').replace('/', '_')}"
    return _STRANGE.sub("_", key)[:_NAME_CHARACTERS]


def _slices(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in tags.items()]


def _flat(config: Config) -> dict[str, str]:
    """Return all that decides what is computed, by keys joined by dots, without what is null."""
    sections = config.to_mapping()
    return dict(_leaves({name: value for name, value in sections.items() if name != "metrics"}))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        inner = [(str(name), each) for name, each in value.items()]
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        inner = [(str(number), each) for number, each in enumerate(value)]
    else:
        if value is not None:
            yield key, value if isinstance(value, str) else json.dumps(value)
        return
    for name, each in inner:
        yield from _leaves(each, f"{key}.{name}" if key else name)
