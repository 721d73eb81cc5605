"""The whole configuration, and what must hold between its sections."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from pydantic import Field

from onotrain.config import loading, metrics
from onotrain.config.base import Problem
from onotrain.config.communication import Communication
from onotrain.config.data import Data
from onotrain.config.fault_tolerance import FaultTolerance
from onotrain.config.layers import options_of
from onotrain.config.loss import Loss
from onotrain.config.model import Model
from onotrain.config.optimizer import Optimizer
from onotrain.config.options import Task
from onotrain.config.places import Places
from onotrain.config.recording import Recording
from onotrain.config.root import Root
from onotrain.config.run import Checkpoint, Training
from onotrain.config.schedule import Schedule
from onotrain.config.simulate import Simulate
from onotrain.config.strategy import BALANCED, Strategy
from onotrain.config.wording import any_of, did_you_mean, got
from onotrain.config.yaml_writer import write_yaml


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file.

    Parameters
    ----------
    path
        YAML: at most 1 MiB, UTF-8, without anchors, aliases, tags and duplicate keys.
    overrides
        Changes ``key.path=value``; the value is YAML, a number in the path the index of a list.

    Raises
    ------
    ConfigError
        With one line, ``file:line:column: key.path: what is wrong (got ...); did you mean ...``, for everything that is
        wrong, in the order of the file.
    """
    return loading.from_file(Config, path, overrides)


class Config(Root):
    """Everything that a run depends on; immutable, with every default resolved.

    Made by `load_config` or `Config.from_mapping`, which report everything that is wrong at once.
    """

    data: Data = Field(description="Training and validation data.")
    model: Model = Field(description="The network: a sequence of layers.")
    loss: Loss = Field(description="The function that training minimises: a name, or a name and its options.")
    optimizer: Optimizer = Field("adam", description="The rule that updates parameters with the gradient.")  # type: ignore[assignment]
    schedule: Schedule = Field("constant", description="The course of the learning rate.")  # type: ignore[assignment]
    training: Training = Field(description="Number of epochs, batch size, precision and metrics.")
    strategy: Strategy = Field(
        "allreduce", description="The way in which ranks share a batch and combine their gradients or parameters."
    )  # type: ignore[assignment]
    communication: Communication = Field({}, description="Encoding of the messages between ranks.")  # type: ignore[assignment]
    checkpoint: Checkpoint = Field({}, description="When a run saves its state, and how many checkpoints it keeps.")  # type: ignore[assignment]
    fault_tolerance: FaultTolerance = Field({}, description="What is done about ranks that fail.")  # type: ignore[assignment]
    metrics: Recording = Field({}, description="Records of the run besides those of its epochs.")  # type: ignore[assignment]
    simulate: Simulate | None = Field(
        None, description="Slow ranks and a slow network, to try strategies with; the result stays the same."
    )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], places: Places | None = None) -> Config:
        """Return the configuration that nested dicts and lists stand for.

        Parameters
        ----------
        mapping
            The same keys and values as in YAML.
        places
            Where they are written, for messages; None: nowhere.

        Raises
        ------
        ConfigError
            Naming everything that is wrong.
        """
        return loading.from_mapping(cls, mapping, places or Places())

    @classmethod
    def cross_problems(cls, sections: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what is wrong between those sections that are valid themselves; checks of missing ones are left out."""
        for names, check in _CHECKS:
            if all(name in sections for name in names):
                yield from check(*(sections[name] for name in names))
        others = SimpleNamespace(**{name: sections.get(name) for name in cls.model_fields})
        for name, section in sections.items():
            for problem in section.problems_with(others) if section is not None else ():
                yield problem._replace(path=(name, *problem.path))

    @property
    def task(self) -> Task:
        """What the network does."""
        return self.loss.task(self.model.outputs)

    @property
    def targets(self) -> int:
        """Number of targets of a sample, or of classes."""
        return self.loss.targets(self.model.outputs)

    def resolved(self) -> Config:
        """Return the configuration with ``training.metrics: auto`` replaced by names, monitored ones among them."""
        if self.training.metrics != "auto":
            return self
        names = list(metrics.automatic(self.task, self.loss.name))
        for _, monitored in _monitored(self.schedule, self.training):
            name = monitored.removeprefix("validation_")
            if monitored.startswith("validation_") and name not in names:
                names.append(name)
        training = self.training.model_copy(update={"metrics": tuple(names)})
        return self.model_copy(update={"training": training})

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


def _check_output(model: Model, loss: Any) -> Iterator[Problem]:
    last = len(model.layers) - 1
    output = model.layers[-1].options
    path = ("model", "layers", last, "dense")
    if loss.task(output.units) == "multiclass" and output.units < 2:
        yield Problem((*path, "units"), f"{loss.name} needs one output per class, 2 or more (got {output.units})")
    if loss.activation != "identity" and output.activation != "identity":
        yield Problem(
            (*path, "activation"),
            f"{loss.name} brings its own activation; the last layer must have none (got {output.activation})",
        )


def _check_targets(data: Data, model: Model, loss: Any) -> Iterator[Problem]:
    """Yield outputs that are not so many for each target, and a scaling of the targets that the loss cannot take."""
    each, outputs, last = loss.per_target, model.outputs, len(model.layers) - 1
    if outputs % len(each.names):
        targets = -(-outputs // len(each.names)) if data.target_columns is None else len(data.target_columns)
        wrong = f"must be a multiple of {len(each.names)} with loss {loss.name} (got {outputs})"
        yield Problem(("model", "layers", last, "dense", "units"), f"{wrong}; {each.needed(targets)}")
    scaling = data.normalize_targets
    why = loss.unfit_scaling(scaling)
    if why is not None:
        found = scaling if isinstance(scaling, str) else "mean and std"
        yield Problem(("data", "normalize_targets"), f"{why} (got {found})")


def _check_metrics(model: Model, loss: Any, training: Training) -> Iterator[Problem]:
    if training.metrics == "auto":
        return
    task = loss.task(model.outputs)
    for index, name in enumerate(training.metrics):
        path = ("training", "metrics", index)
        facts, broken, k = metrics.facts(name), metrics.broken(name), metrics.top_k(name)
        if broken is not None:
            yield Problem(path, broken)
        elif facts is None:
            yield Problem(path, f"unknown metric {got(name)}; {did_you_mean(name, metrics.known())}")
        elif not facts.fit(task, loss.name):
            fitting = any_of(metrics.built_in(task, loss.name))
            yield Problem(path, f"has no meaning with loss {loss.name} {got(name)}; expected {fitting}")
        elif k is not None and k >= model.outputs:
            yield Problem(path, f"k must be smaller than the number of classes, {model.outputs} {got(name)}")
        if name in training.metrics[:index]:
            yield Problem(path, f"is in the list already {got(name)}")


def _monitored(schedule: Any, training: Training) -> Iterator[tuple[tuple[str, ...], str]]:
    if schedule.monitored is not None:
        yield ("schedule", "metric"), schedule.monitored
    if training.early_stopping is not None:
        yield ("training", "early_stopping", "metric"), training.early_stopping.metric


def _check_monitored(data: Data, model: Model, loss: Any, schedule: Any, training: Training) -> Iterator[Problem]:
    task = loss.task(model.outputs)
    measured = metrics.automatic(task, loss.name) if training.metrics == "auto" else training.metrics
    training_names = [f"train_{name}" for name in metrics.TRAINING if name in metrics.built_in(task, loss.name)]
    for path, monitored in _monitored(schedule, training):
        name = monitored.removeprefix("validation_")
        if monitored in training_names:
            continue
        facts, broken = metrics.facts(name), metrics.broken(name)
        if broken is not None:
            yield Problem(path, broken)
        elif not monitored.startswith("validation_") or facts is None or not facts.fit(task, loss.name):
            known = [*training_names, *(f"validation_{each}" for each in measured)]
            yield Problem(
                path, f"no such metric with loss {loss.name} {got(monitored)}; {did_you_mean(monitored, known)}"
            )
        elif facts.mode is None:
            yield Problem(path, f"neither less nor more of {name} is better; watch another metric {got(monitored)}")
        elif not data.has_validation:
            yield Problem(path, f"{monitored} needs validation data; give data.validation, or watch train_loss")
        elif training.metrics != "auto" and name not in training.metrics:
            yield Problem(path, f"{monitored} is not measured; add {name} to training.metrics")
        elif (metrics.top_k(name) or 0) >= model.outputs:
            yield Problem(path, f"k must be smaller than the number of classes, {model.outputs} {got(monitored)}")


def _check_balance(training: Training, strategy: Any) -> Iterator[Problem]:
    if training.load_balance != "none" and not strategy.balances_load:
        yield Problem(
            ("training", "load_balance"),
            f"needs a strategy whose ranks share every batch, {any_of(BALANCED)} (got {strategy.name})",
        )


def _check_micro_batches(model: Model, training: Training) -> Iterator[Problem]:
    for kind in model.trained_kinds if training.gradient_accumulation > 1 else ():
        if options_of(kind).needs_whole_batch:
            yield Problem(
                ("training", "gradient_accumulation"),
                f"must be 1 with {kind}, which is trained on statistics of the whole batch "
                f"{got(training.gradient_accumulation)}; group_norm and layer_norm need none",
            )


def _check_codec(strategy: Any, communication: Communication) -> Iterator[Problem]:
    codec = communication.codec.name
    if codec != "none" and not strategy.codes_messages:
        yield Problem(
            ("communication", "codec"),
            f"must be none with strategy {strategy.name}, which encodes no messages (got {codec})",
        )


def _check_partition(data: Data, model: Model, loss: Any, training: Training, strategy: Any) -> Iterator[Problem]:
    partition, path = data.partition.name, ("data", "partition")
    if partition == "none":
        return
    task = loss.task(model.outputs)
    if data.partition.needs_classes and task not in ("multiclass", "binary"):
        outputs = f" and {model.outputs} outputs" if task == "multilabel" else ""
        yield Problem(
            path,
            f"needs one class a sample, which loss {loss.name}{outputs} has not (got {partition}); expected by_rank",
        )
    changing = "a rank computes the same slice of every batch"
    if not strategy.keeps_slices:
        yield Problem(path, f"needs a strategy with which {changing} (got {partition} with {strategy.name})")
    if training.load_balance != "none":
        yield Problem(
            ("training", "load_balance"),
            f"must be none with data.partition {partition}, with which {changing} (got {training.load_balance})",
        )


def _check_noise(data: Data, model: Model, strategy: Any, metrics: Recording) -> Iterator[Problem]:
    path = ("metrics", "noise_scale")
    if metrics.noise_scale is None:
        return
    if not strategy.shares_gradients:
        text = "needs a strategy whose ranks compute each gradient together, allreduce or flat"
        yield Problem(path, f"{text} (got {strategy.name})")
    if data.partition.name != "none":
        yield Problem(path, f"needs samples that all ranks share (data.partition is {data.partition.name})")
    for kind in model.trained_kinds:
        if options_of(kind).needs_whole_batch:
            text = f"has no meaning with {kind}, with which the gradient of a sample depends on the others of its batch"
            yield Problem(path, f"{text}; group_norm and layer_norm go with it")


_CHECKS: tuple[tuple[tuple[str, ...], Callable[..., Iterator[Problem]]], ...] = (
    (("model", "loss"), _check_output),
    (("data", "model", "loss"), _check_targets),
    (("model", "loss", "training"), _check_metrics),
    (("data", "model", "loss", "schedule", "training"), _check_monitored),
    (("training", "strategy"), _check_balance),
    (("model", "training"), _check_micro_batches),
    (("strategy", "communication"), _check_codec),
    (("data", "model", "loss", "training", "strategy"), _check_partition),
    (("data", "model", "strategy", "metrics"), _check_noise),
)
