"""The whole configuration, and what must hold between its sections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import Field

from onotrain.config import metrics
from onotrain.config.base import Problem, Section
from onotrain.config.communication import Communication
from onotrain.config.data import Data
from onotrain.config.messages import any_of, did_you_mean
from onotrain.config.model import Loss, Model
from onotrain.config.optimization import Optimizer, Schedule
from onotrain.config.run import Checkpoint, Training
from onotrain.config.simulate import Simulate
from onotrain.config.strategy import Strategy
from onotrain.config.yaml_writer import write_yaml


class Config(Section):
    """Everything that a run depends on; immutable, with every default resolved.

    Made by `load_config` or `Config.from_mapping`, which report everything that is wrong at once.
    """

    data: Data = Field(description="What is trained and validated on.")
    model: Model = Field(description="The network.")
    loss: Loss = Field(description="What is minimised: a name, or a name and its options.")
    optimizer: Optimizer = Field("adam", description="How parameters follow the gradient.")  # type: ignore[assignment]
    schedule: Schedule = Field("constant", description="How the learning rate changes.")  # type: ignore[assignment]
    training: Training = Field(description="How long, in which steps, and with which precision.")
    strategy: Strategy = Field("allreduce", description="How ranks turn gradients into new parameters.")  # type: ignore[assignment]
    communication: Communication = Field({}, description="What ranks send each other.")  # type: ignore[assignment]
    checkpoint: Checkpoint = Field({}, description="When the state of a run is saved.")  # type: ignore[assignment]
    simulate: Simulate | None = Field(
        None, description="Slow ranks and a slow network, to try strategies with; what is computed stays the same."
    )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Config:
        """Return the configuration that nested dicts and lists stand for.

        Parameters
        ----------
        mapping
            The same keys and values as in YAML.

        Raises
        ------
        ConfigError
            Naming everything that is wrong.
        """
        from onotrain.config.loading import config_from_mapping

        return config_from_mapping(mapping)

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong between sections."""
        yield from cross_problems({name: getattr(self, name) for name in type(self).model_fields})

    def to_mapping(self) -> dict[str, Any]:
        """Return nested dicts and lists with every default written out; `from_mapping` turns them back."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return YAML with every default written out; reading it gives an equal configuration."""
        return write_yaml(self.to_mapping())

    def canonical_json(self) -> str:
        """Return JSON that is the same for equal configurations: ASCII, sorted keys, defaults written out."""
        return json.dumps(self.to_mapping(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    def digest(self) -> str:
        """Return the SHA-256 of `canonical_json` [64 hexadecimal digits]."""
        return hashlib.sha256(self.canonical_json().encode("ascii")).hexdigest()


def with_resolved_metrics(config: Config) -> Config:
    """Return `config` with ``training.metrics: auto`` replaced by names, those that are monitored among them."""
    if config.training.metrics != "auto":
        return config
    names = list(metrics.automatic(config.loss.name))
    for _, monitored in _monitored(config.schedule, config.training):
        name = monitored.removeprefix("validation_")
        if monitored.startswith("validation_") and name not in names:
            names.append(name)
    training = config.training.model_copy(update={"metrics": tuple(names)})
    return config.model_copy(update={"training": training})


def cross_problems(sections: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong between those sections that are valid themselves.

    Parameters
    ----------
    sections
        Valid sections by name; checks that need a missing one are left out.
    """
    for names, check in _CHECKS:
        if all(name in sections for name in names):
            yield from check(*(sections[name] for name in names))


def _check_output(model: Model, loss: Any) -> Iterator[Problem]:
    last = len(model.layers) - 1
    output = model.layers[-1].options
    path = ("model", "layers", last, "dense")
    if loss.name == "cross_entropy" and output.units < 2:
        yield Problem((*path, "units"), f"cross_entropy needs one output per class, 2 or more (got {output.units})")
    if loss.name in ("cross_entropy", "binary_cross_entropy") and output.activation != "identity":
        yield Problem(
            (*path, "activation"),
            f"{loss.name} brings its own activation; the last layer must have none (got {output.activation})",
        )


def _check_metrics(model: Model, loss: Any, training: Training) -> Iterator[Problem]:
    if training.metrics == "auto":
        return
    for index, name in enumerate(training.metrics):
        path = ("training", "metrics", index)
        k = metrics.top_k(name)
        if not metrics.is_metric(name):
            yield Problem(path, f"unknown metric (got {name!r}); {did_you_mean(name, metrics.KNOWN)}")
        elif not metrics.is_for(name, loss.name):
            yield Problem(path, f"has no meaning with loss {loss.name} (got {name!r}); {_fitting(loss.name)}")
        elif k is not None and k >= model.outputs:
            yield Problem(path, f"k must be smaller than the number of classes, {model.outputs} (got {name!r})")
        if name in training.metrics[:index]:
            yield Problem(path, f"is in the list already (got {name!r})")


def _fitting(loss: str) -> str:
    return f"expected {any_of([name for name in metrics.KNOWN if metrics.is_for(name, loss)])}"


def _monitored(schedule: Any, training: Training) -> Iterator[tuple[tuple[str, ...], str]]:
    if schedule.name == "plateau":
        yield ("schedule", "metric"), schedule.metric
    if training.early_stopping is not None:
        yield ("training", "early_stopping", "metric"), training.early_stopping.metric


def _check_monitored(data: Data, model: Model, loss: Any, schedule: Any, training: Training) -> Iterator[Problem]:
    measured = metrics.automatic(loss.name) if training.metrics == "auto" else training.metrics
    training_names = [f"train_{name}" for name in metrics.TRAINING if metrics.is_for(name, loss.name)]
    for path, monitored in _monitored(schedule, training):
        name = monitored.removeprefix("validation_")
        if monitored in training_names:
            continue
        if not monitored.startswith("validation_") or not metrics.is_for(name, loss.name):
            known = [*training_names, *(f"validation_{each}" for each in measured)]
            yield Problem(
                path, f"no such metric with loss {loss.name} (got {monitored!r}); {did_you_mean(monitored, known)}"
            )
        elif data.validation is None:
            yield Problem(path, f"{monitored} needs validation data; give data.validation, or watch train_loss")
        elif training.metrics != "auto" and name not in training.metrics:
            yield Problem(path, f"{monitored} is not measured; add {name} to training.metrics")
        elif (metrics.top_k(name) or 0) >= model.outputs:
            yield Problem(path, f"k must be smaller than the number of classes, {model.outputs} (got {monitored!r})")


def _check_servers(optimizer: Any, training: Training, strategy: Any) -> Iterator[Problem]:
    path: tuple[str, ...] = ("strategy",)
    server = strategy
    if strategy.name == "strategy_switch":
        path, server = ("strategy", "server"), strategy.server
    if server.name != "parameter_server" or server.servers == 1 or server.synchronous:
        return
    path, why = (*path, "servers"), "which servers that update at different times do not have"
    if training.clip_norm is not None:
        yield Problem(path, f"training.clip_norm needs the norm of the whole gradient, {why}; give 1, or staleness 0")
    if optimizer.name == "lamb":
        yield Problem(path, f"optimizer lamb needs the norms of whole tensors, {why}; give 1, or staleness 0")


def _check_balance(training: Training, strategy: Any) -> Iterator[Problem]:
    if training.load_balance != "none" and strategy.name not in _BALANCED:
        yield Problem(
            ("training", "load_balance"),
            f"needs a strategy whose ranks share every batch, {any_of(_BALANCED)} (got {strategy.name})",
        )


def _check_codec(optimizer: Any, strategy: Any, communication: Communication) -> Iterator[Problem]:
    averages = strategy.name == "local_sgd" and strategy.inner_state == "average"
    has_state = optimizer.name != "sgd" or optimizer.momentum > 0.0
    codec = communication.codec.name
    if codec != "none" and averages and has_state:
        yield Problem(
            ("strategy", "inner_state"),
            f"must be keep or reset with communication.codec {codec} (got average): the optimizer's state would be "
            "sent whole, and is too sensitive to be coded",
        )


def _check_partition(data: Data, model: Model, loss: Any, training: Training, strategy: Any) -> Iterator[Problem]:
    partition, path = data.partition.name, ("data", "partition")
    if partition == "none":
        return
    if partition == "by_label" and not (
        loss.name == "cross_entropy" or (loss.name == "binary_cross_entropy" and model.outputs == 1)
    ):
        outputs = f" and {model.outputs} outputs" if loss.name == "binary_cross_entropy" else ""
        yield Problem(
            path, f"needs one class a sample, which loss {loss.name}{outputs} has not (got by_label); expected by_rank"
        )
    changing = "a rank computes the same slice of every batch"
    if strategy.name == "strategy_switch":
        yield Problem(path, f"needs a strategy with which {changing} (got {partition} with strategy_switch)")
    if training.load_balance != "none":
        yield Problem(
            ("training", "load_balance"),
            f"must be none with data.partition {partition}, with which {changing} (got {training.load_balance})",
        )


def _check_switch(data: Data, strategy: Any) -> Iterator[Problem]:
    if strategy.name != "strategy_switch" or data.validation is not None:
        return
    if strategy.loss == "validation":
        yield Problem(
            ("strategy", "loss"), "needs validation data (got validation); give data.validation, or use train"
        )
    if strategy.switch_back is not None and strategy.switch_back.patience is not None:
        yield Problem(
            ("strategy", "switch_back", "patience"),
            "looks at the validation loss, which needs data.validation; give it, or use max_staleness",
        )


#: Strategies whose slices of a batch may be of any sizes.
_BALANCED = ("allreduce", "flat", "parameter_server")

_CHECKS: tuple[tuple[tuple[str, ...], Callable[..., Iterator[Problem]]], ...] = (
    (("model", "loss"), _check_output),
    (("model", "loss", "training"), _check_metrics),
    (("data", "model", "loss", "schedule", "training"), _check_monitored),
    (("optimizer", "training", "strategy"), _check_servers),
    (("training", "strategy"), _check_balance),
    (("data", "strategy"), _check_switch),
    (("optimizer", "strategy", "communication"), _check_codec),
    (("data", "model", "loss", "training", "strategy"), _check_partition),
)
