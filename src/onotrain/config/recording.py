"""Section ``metrics``: what of a run is written down besides the records of its epochs, and where it is shown."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from onotrain.config.base import Count, Problem, Section, Text, problem_error
from onotrain.config.wording import got

#: A host by name, IPv4 address, or IPv6 address in brackets; none at all: this one alone; and a port.
_ADDRESS = re.compile(
    r"(?:(?P<host>[\w.-]+)|\[(?P<ipv6>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)\])?:(?P<port>[0-9]{1,5})", re.ASCII
)
#: Steps that are not traced after the beginning of a launch: caches are cold, and several at a time come later.
WARM_UP = 10
_STEPS = re.compile(r"(?:([0-9]{1,12})-)?([0-9]{1,12})", re.ASCII)
_LOOPBACK = "127.0.0.1"
_PORTS = range(1, 1 << 16)
#: Interval between measurements of the noise, if none is given.
_NOISE_STEPS = 20


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, text: str) -> Address | None:
        """Return what ``HOST:PORT`` or ``:PORT`` means; None if it is neither."""
        found = _ADDRESS.fullmatch(text)
        if found is None or int(found["port"]) not in _PORTS:
            return None
        return cls(found["host"] or found["ipv6"] or _LOOPBACK, int(found["port"]))


def _check_address(value: Any) -> Any:
    if value is not None and (not isinstance(value, str) or Address.of(value) is None):
        expected = f"expected HOST:PORT or :PORT with a port from {_PORTS[0]} to {_PORTS[-1]}"
        raise problem_error(Problem((), f"{expected}, such as ':9400' {got(value)}"))
    return value


class ProfiledSteps(NamedTuple):
    """Which steps of a run are traced: so many after a warm-up, or those from one to another."""

    #: Counted from 1 since the beginning of the run; None: after `WARM_UP` steps of this launch.
    first: int | None
    #: Their number.
    steps: int

    @classmethod
    def of(cls, text: str) -> ProfiledSteps | None:
        """Return what ``STEPS`` or ``FIRST-LAST`` means; None if it is neither."""
        found = _STEPS.fullmatch(text)
        if found is None:
            return None
        first, last = (None if each is None else int(each) for each in found.groups())
        steps = int(found[2]) if first is None else int(found[2]) - first + 1
        return cls(first, steps) if steps > 0 and first != 0 and last else None

    def after(self, made: int) -> range:
        """Return the steps, counted from 1, of a launch before which so many had been made."""
        first = made + WARM_UP + 1 if self.first is None else self.first
        return range(first, first + self.steps)


def _check_steps(value: Any) -> Any:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if text is not None and (not isinstance(text, str) or ProfiledSteps.of(text) is None):
        raise problem_error(Problem((), f"expected STEPS or FIRST-LAST, such as 100 or 201-300 {got(value)}"))
    return text


class MLflow(Section):
    """Where MLflow keeps the run."""

    uri: Text | None = Field(
        None,
        description="Tracking URI, such as `http://mlflow.example:5000`; null: `MLFLOW_TRACKING_URI` of the environment"
        " of rank 0.  Passwords belong in the environment, as MLflow has it: this is written to `config.yaml`.",
    )
    experiment: Text | None = Field(
        None,
        description="Experiment that the run is put in, made if it is not there; null: `MLFLOW_EXPERIMENT_NAME` of the "
        "environment, else MLflow's `Default`.",
    )
    artifacts: bool = Field(False, description="Also keep `config.yaml` and `summary.json` there when the run is over.")

    @classmethod
    def full(cls, value: Any) -> Any:
        """Return the mapping that a URI alone, or ``true``, is short for."""
        if value is True:
            return {}
        return {"uri": value} if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return cls.full(value)


def _often_enough(value: Any) -> Any:
    """Return the interval that a yes or no is short for."""
    return (_NOISE_STEPS if value else None) if isinstance(value, bool) else value


class Recording(Section):
    """What is written down or shown while a run goes on."""

    every_steps: Count | None = Field(
        None,
        description="Interval between records within an epoch, in `steps.jsonl`: loss, accuracy, learning rate and "
        "time [optimiser steps]; null: none.  Where workers do not wait for each other, a record comes when rank 0 has "
        "the losses of all.",
    )
    noise_scale: Annotated[Count | None, BeforeValidator(_often_enough)] = Field(
        None,
        description="Measure the [gradient noise scale](math.md#gradient-noise-scale) at the first of every so many "
        f"steps of an epoch [optimiser steps]; `true`: {_NOISE_STEPS}; null: never.  Each time the gradient of the "
        "batch is computed once more, in parts, and summed over the ranks, and each rank has two vectors more of the "
        "parameters' length.  Needs strategy allreduce or flat.",
    )
    tensorboard: bool = Field(
        False,
        description="Write event files for [TensorBoard](watching.md#tensorboard) in `RUN/tensorboard/`: the records "
        "of epochs, and those of `every_steps`.  Needs `pip install 'onotrain[tensorboard]'`.",
    )
    prometheus: Annotated[str | None, BeforeValidator(_check_address)] = Field(
        None,
        description="Address `HOST:PORT` or `:PORT` at which rank 0 serves the newest records for "
        "[Prometheus](watching.md#prometheus-and-grafana) while the run goes on; without a host to programs of its own "
        "host only (127.0.0.1).  null: none.  Needs `pip install 'onotrain[prometheus]'`.",
    )
    mlflow: MLflow | None = Field(
        None,
        description="Send records, configuration and result to [MLflow](watching.md#mlflow) while the run goes on; "
        "null: do not.  A URI is short for `{uri: URI}`, and `true` for the URI of the environment.  Needs "
        "`pip install 'onotrain[mlflow]'`.",
    )

    profile: Annotated[str | None, BeforeValidator(_check_steps)] = Field(
        None,
        description="Steps of which a [trace of all ranks](watching.md#a-trace-of-all-ranks) is written to "
        "`RUN/trace.json.gz`: kernels, waiting, messages, validation and saving.  `100`: so many after the first 10 of "
        "a launch; `201-300`: these, counted from 1 since the beginning of the run.  null: none.",
    )

    @property
    def profiled_steps(self) -> ProfiledSteps | None:
        """Which steps are traced; None if none are."""
        return None if self.profile is None else ProfiledSteps.of(self.profile)

    @property
    def prometheus_address(self) -> Address | None:
        """Where metrics are served; None if they are not."""
        return None if self.prometheus is None else Address.of(self.prometheus)
