"""Small networks with random parameters, as checkpoints made by hand, for tests of inference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import builders
from onotrain import _kernels
from onotrain.data import Normalization, TargetCodec
from onotrain.data.tables.preparation import Preparation
from onotrain.data.target_scaling import TargetScaling
from onotrain.runs.checkpoint_encoder import encode
from onotrain.runs.checkpoint_format import Checkpoint
from onotrain.runs.metadata import ModelMetadata, Vectors, arrays_of


def checkpoint(
    layers: Sequence[Mapping[str, Any]],
    loss: str | Mapping[str, Any] = "cross_entropy",
    *,
    shape: tuple[int, ...] = (5,),
    feature_dtype: str = "float32",
    task: str = "multiclass",
    class_names: tuple[str, ...] | None = None,
    feature_names: tuple[str, ...] | None = None,
    target_names: tuple[str, ...] | None = None,
    dtype: str = "float32",
    seed: int = 0,
    preparation: Preparation | None = None,
    scaling: TargetScaling | None = None,
    **sections: Any,
) -> Checkpoint:
    """Return a network that nobody trained: random weights, biases and, unless it is of a table, normalisation."""
    config = builders.config(
        *layers,
        model={"bias_initializer": {"name": "normal", "std": 0.5}},
        loss=loss,
        training={"seed": seed, "dtype": dtype},
        **sections,
    )
    rng = np.random.default_rng(seed)
    if preparation is not None:
        shape, feature_names = (len(preparation.names),), preparation.names
    inputs = int(np.prod(shape))
    normalization = Normalization.given(rng.normal(size=inputs), rng.uniform(0.5, 2.0, size=inputs))
    if preparation is not None:
        normalization = Normalization.none()
    codec = TargetCodec(task, config.targets, class_names, scaling)
    metadata = ModelMetadata(
        shape, feature_dtype, feature_names, target_names, normalization, codec, config, preparation=preparation
    )
    model = metadata.model(_kernels.load(dtype))
    parameters = model.layout.zeros()
    model.initialize(parameters, seed)
    return Checkpoint(arrays_of(model.layout, Vectors(parameters, {"m": parameters})), metadata.to_dict())


def save(path: Path, made: Checkpoint) -> Path:
    """Write a checkpoint file."""
    path.write_bytes(encode(made))
    return path


#: One network for each task: keyword arguments of `checkpoint`.
TASKS: dict[str, dict[str, Any]] = {
    "multiclass": {
        "layers": [{"dense": {"units": 16, "activation": "relu"}}, {"dropout": 0.2}, {"dense": 3}],
        "class_names": ("rose", 'täg, "x"', "iris"),
    },
    "numbered": {"layers": [{"dense": {"units": 16, "activation": "gelu"}}, {"dense": 4}]},
    "binary": {
        "layers": [{"dense": {"units": 8, "activation": "tanh"}}, {"dense": 1}],
        "loss": "binary_cross_entropy",
        "task": "binary",
        "class_names": ("no", "yes"),
    },
    "multilabel": {
        "layers": [
            {"dense": {"units": 8, "activation": "leaky_relu", "negative_slope": 0.2}},
            {"dense": {"units": 6, "activation": "silu"}},
            {"dense": {"units": 6, "activation": "elu"}},
            {"activation": "softplus"},
            {"dense": 3},
        ],
        "loss": "binary_cross_entropy",
        "task": "multilabel",
        "target_names": ("red", "green", "blue"),
    },
    "regression": {
        "layers": [
            {"activation": "sigmoid"},
            {"dense": {"units": 8, "bias": False}},
            {"activation": "gelu"},
            {"dense": 2},
        ],
        "loss": "mse",
        "task": "regression",
        "target_names": ("height", "width"),
    },
    "residual": {
        "layers": [
            {"residual": [{"dense": {"units": 7, "activation": "tanh"}}, {"dropout": 0.3}]},
            {"residual": {"layers": [{"activation": "elu"}, {"residual": [{"dense": 7}]}], "activation": "relu"}},
            {"dense": 3},
        ],
    },
}


def example(task: str, **changes: Any) -> Checkpoint:
    """Return the network of `TASKS` for a task."""
    return checkpoint(**{**TASKS[task], **changes})


_FUNCTIONS: dict[str, Any] = {
    "relu": lambda z, slope: np.maximum(z, 0),
    "leaky_relu": lambda z, slope: np.where(z > 0, z, slope * z),
    "sigmoid": lambda z, slope: 1 / (1 + np.exp(-z)),
    "tanh": lambda z, slope: np.tanh(z),
    "gelu": lambda z, slope: z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2,
    "silu": lambda z, slope: z / (1 + np.exp(-z)),
    "elu": lambda z, slope: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z, slope: np.log1p(np.exp(z)),
}


def forward(described: dict[str, Any], arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Compute in float64 what an exported description and its tensors say."""
    z = (x.astype(np.float64) - described["normalization"]["mean"]) / described["normalization"]["std"]
    values = [z]
    for layer in described["layers"]:
        z, *others = (values[number] for number in layer.get("of", [-1]))
        if layer["kind"] == "dense":
            z = z @ arrays[f"{layer['name']}.weight"].astype(np.float64).T
            z = z + arrays[f"{layer['name']}.bias"] if layer["bias"] else z
        elif layer["kind"] == "sum":
            z = z + others[0]
        else:
            z = _FUNCTIONS[layer["name"]](z, layer.get("negative_slope"))
        values.append(z)
    if described["output"] == "softmax":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    return 1 / (1 + np.exp(-z)) if described["output"] == "sigmoid" else z
