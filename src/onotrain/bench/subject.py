"""What is measured: the network of a configuration, with random parameters and random samples."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from onotrain._kernels import Kernels
from onotrain.config import Config, Places, load_config
from onotrain.config.columns import Categories
from onotrain.data import Normalization, TargetCodec
from onotrain.data.arrangement import arranged
from onotrain.data.prepare import prepare
from onotrain.data.selection import spec_of
from onotrain.data.streaming import open_stream
from onotrain.errors import UsageError
from onotrain.known_names import BUILT_IN
from onotrain.memory import available_bytes
from onotrain.nn import Model
from onotrain.nn.layers import Embedding
from onotrain.parallel import kernels as kernel_choice
from onotrain.parallel.agreement import agreed, broadcast
from onotrain.parallel.world import World
from onotrain.runs.metadata import ModelMetadata


@dataclass(frozen=True)
class Subject:
    """A network and the samples that it takes."""

    config: Config
    #: Of a sample.
    shape: tuple[int, ...]
    #: uint8 or float32.
    storage: np.dtype
    #: Kernels that all ranks have in common.
    kernels: Kernels

    @property
    def inputs(self) -> int:
        """Features of a sample."""
        return math.prod(self.shape)

    @property
    def metadata(self) -> ModelMetadata:
        """What a checkpoint of the network would say of it."""
        mean, std = (0.13, 0.31) if self.storage == np.uint8 else (0.0, 1.0)
        model = self.model()
        codec = TargetCodec(model.loss.task, model.loss.targets, None).of_loss(self.config.loss)
        normalization = Normalization.given(mean, std).leaving([*self.config.model.codes], self.inputs, self.storage)
        return ModelMetadata(self.shape, self.storage.name, None, None, normalization, codec, self.config)

    def model(self, kernels: Kernels | None = None) -> Model:
        """Return the network, not bound to parameters, with these kernels instead of the subject's."""
        return Model.of(self.config, self.shape, kernels or self.kernels)

    def describe(self) -> dict[str, Any]:
        """Return the network's widths, number of parameters and dtype."""
        model = self.model()
        return {
            "network": model.widths,
            "parameters": model.layout.parameter_count,
            "dtype": model.dtype.name,
            "precision": self.kernels.precision,
        }

    def features(self, samples: int) -> np.ndarray:
        """Return random samples ``(samples, inputs)`` as they are stored."""
        draw = np.random.default_rng(1)
        if self.storage == np.uint8:
            return self.with_codes(draw.integers(0, 256, (samples, self.inputs), np.uint8))
        return self.with_codes(draw.standard_normal((samples, self.inputs), np.float32))

    def with_codes(self, features: np.ndarray) -> np.ndarray:
        """Put random codes where features ``(n, inputs)`` are codes of categories; return the same array."""
        draw = np.random.default_rng(4)
        for feature, categories in self.config.model.codes.items():
            most = min(categories, 256) if features.dtype == np.uint8 else categories
            features[:, feature] = draw.integers(0, most, len(features))
        return features

    def targets(self, samples: int) -> np.ndarray:
        """Return random targets of the loss."""
        draw, model = np.random.default_rng(2), self.model()
        if model.loss.task == "multiclass":
            return draw.integers(0, model.outputs, samples).astype(np.int32)
        return draw.integers(0, 2, (samples, model.loss.targets)).astype(model.dtype)

    def with_sections(self, **sections: Any) -> Config:
        """Return the configuration with some keys of some sections changed; a name stands for a whole section."""
        mapping = self.config.to_mapping()
        for name, changes in sections.items():
            mapping[name] = {**mapping[name], **changes} if "name" not in changes else changes
        return Config.from_mapping(mapping)

    def endless(self, **sections: Any) -> Config:
        """Return a configuration to train with for a while: without end, checkpoints and need of validation data.

        Changes as for `with_sections`, beside these.
        """
        beside = {
            "data": {"validation": None},
            "schedule": {"name": "constant"},
            "training": {"epochs": 10**9, "early_stopping": None, "gradient_accumulation": 1},
            "checkpoint": {"every_epochs": None, "every_steps": 10**9, "every_seconds": None},
        }
        return self.with_sections(**{name: beside.get(name, {}) | sections.get(name, {}) for name in beside | sections})


def subject_of(
    world: World, path: str | os.PathLike[str] | None, overrides: Sequence[str], inputs: int | None
) -> Subject:
    """Return the subject of a measurement.

    *Collective*: the arguments of rank 0 count.

    Parameters
    ----------
    path
        A configuration; None for 784-512-256-128-10 as in ``configs/mnist-mlp.yaml``.
    overrides
        ``key.path=value`` changes of it.
    inputs
        Features of a sample, stored as float32; None to ask the configuration's training data.

    Raises
    ------
    ConfigError, DataError
        The configuration is not valid, or its training data cannot be read.
    """

    def read() -> tuple[str, Places, tuple[int, ...], str, Mapping[int, Categories]]:
        if path is None:
            with resources.as_file(resources.files("onotrain.bench") / "default.yaml") as default:
                config = load_config(default, overrides)
        else:
            config = load_config(path, overrides)
        shape, dtype, categories = _samples_of(config) if inputs is None else ((inputs,), "float32", {})
        return config.canonical_json(), config.places, arranged(config.data, shape), dtype, categories

    text, places, shape, storage, categories = broadcast(world.comm, read)
    config = Config.from_mapping(json.loads(text), places)
    training = config.training
    kernels = kernel_choice.agree(world.comm, training.dtype, training.precision)
    with agreed(world.comm):  # a layer may refuse the shape
        model = Model.of(config, shape, kernels, categories)
    return Subject(of_array(config, model) if categories else config, shape, np.dtype(storage), kernels)


def of_array(config: Config, model: Model) -> Config:
    """Return the configuration of a network for tables as one for arrays, which gives codes by number of the feature.

    What is measured are samples in memory, and files of them: no table is at hand to name columns.
    """
    columns = [column for layer in model.layers if isinstance(layer, Embedding) for column in layer.columns]
    mapping = config.to_mapping()
    for options in (layer["embedding"] for layer in mapping["model"]["layers"] if "embedding" in layer):
        options["columns"] = {str(column.feature): column.categories for column in columns}
        options["widths"] = {str(column.feature): column.width for column in columns}
    mapping["data"]["columns"] = {}
    return Config.from_mapping(mapping, config.places)


def _samples_of(config: Config) -> tuple[tuple[int, ...], str, Mapping[int, Categories]]:
    """Return the shape of the samples of the training data, how they are stored, and which features are codes."""
    data = config.data
    if data.is_built_in:  # it need not be there to be measured with
        return BUILT_IN[data.files[0]].shape, BUILT_IN[data.files[0]].dtype, {}
    stream = open_stream(spec_of(data), "auto", 0)
    if stream is not None:
        with stream:
            return stream.feature_shape, stream.dtype.name, {}
    prepared = prepare(data, config.task, config.targets, config.training.dtype, available_bytes(), model=config.model)
    found = prepared.description
    return found.feature_shape, found.feature_dtype, found.categories


def check_positive(what: str, values: Sequence[float]) -> None:
    """Refuse a list of numbers that is empty or not above 0.

    Raises
    ------
    UsageError
        It is.
    """
    if not values or min(values) <= 0:
        raise UsageError(f"{what}: got {', '.join(map(str, values)) or 'nothing'}, expected numbers above 0")
