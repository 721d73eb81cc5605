"""What a checkpoint says about its model besides the arrays: all that is needed to predict with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels import Kernels
from onotrain.config import Config, Places
from onotrain.data.description import DataDescription
from onotrain.data.identity import known_to_both
from onotrain.data.normalization import Normalization
from onotrain.data.tables.preparation import Preparation
from onotrain.data.targets import TargetCodec
from onotrain.errors import CheckpointError, ConfigError, DataError, NumericsError
from onotrain.nn import Model, ParameterLayout
from onotrain.runs.checkpoint_format import Checkpoint, Pause, no_pause, sha256

#: How the names of arrays begin.
_PARAMETERS, _OPTIMIZER, _STRATEGY = "parameters", "optimizer", "strategy"
#: Of a sample.
_MOST_AXES, _MOST_INPUTS = 32, 1 << 40
#: Part of a name in older checkpoints, and what it is now.
_RENAMED = ("strategy/way_residual/", "strategy/delta_residual/")


@dataclass(frozen=True)
class ModelMetadata(DataDescription):
    """The configuration of a network and the data that it was trained on: how samples get in and predictions out."""

    config: Config

    @property
    def inputs(self) -> int:
        """Number of features of a sample."""
        return int(np.prod(self.feature_shape))

    @property
    def codes(self) -> Mapping[int, int]:
        """Features of an array that are codes of categories, from 0, and how many categories each has."""
        return self.config.model.codes

    def model(self, kernels: Kernels) -> Model:
        """Return the network, not yet bound to parameters; errors as of `Model.of`."""
        return Model.of(self.config, self.feature_shape, kernels, self.categories)

    def model_of(self, kernels: Kernels, source: str) -> Model:
        """Return the network that the checkpoint `source` says.

        Raises
        ------
        CheckpointError
            There is none such.
        ConfigError
            A layer refuses what it is given, such as one of a package that has changed since; it names the place.
        """
        try:
            return self.model(kernels)
        except DataError as error:
            raise _unusable(source, error.message) from error

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "config": self.config.to_mapping(),
            "config_digest": self.config.digest(),
            **self.identity(),
            "targets": self.codec.to_dict(),
            "target_units": None if self.target_units is None else list(self.target_units),
            "normalization": self.normalization.to_dict(),
            "preparation": None if self.preparation is None else self.preparation.to_dict(),
        }

    def check_data(self, stored: Mapping[str, Any]) -> None:
        """Refuse data with other features or classes than those in the metadata of a checkpoint.

        Raises
        ------
        DataError
            They have changed since the run began.
        """
        mine, before = self.identity(), dict(stored)
        before["targets"] = {key: value for key, value in dict(stored.get("targets", {})).items() if key != "scaling"}
        if "digest" not in before:  # of an older version
            mine.pop("digest", None)
        else:
            mine["digest"], before["digest"] = known_to_both(mine.get("digest", ""), before["digest"])
        named = {"digest": "values or order of the samples"}
        changed = [named.get(name, name.replace("_", " ")) for name in mine if before.get(name) != mine[name]]
        if changed:
            raise DataError(
                f"{self.config.data.name}: the data have changed since the run began: other {', '.join(changed)}",
                hint="train into a new --output; `model.from` begins with the parameters of this run",
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str) -> ModelMetadata:
        """Return what `to_dict` wrote to the checkpoint `source`.

        Raises
        ------
        CheckpointError
            Something is missing or malformed.
        """
        try:
            names: dict[str, Any] = {
                key: None if data[key] is None else tuple(data[key]) for key in ("feature_names", "target_names")
            }
            units = data.get("target_units")  # an older version has none
            config = Config.from_mapping(data["config"], Places(source))
            made = cls(
                config=config,
                feature_shape=tuple(data["feature_shape"]),
                feature_dtype=str(data["feature_dtype"]),
                normalization=Normalization.from_dict(data["normalization"]),
                codec=TargetCodec.from_dict(data["targets"]).of_loss(config.loss),
                preparation=None if data.get("preparation") is None else Preparation.from_dict(data["preparation"]),
                digest=str(data.get("digest", "")),
                target_units=None if units is None else tuple(str(unit) for unit in units),
                **names,
            )
            _check(made, source)
            return made
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise _unusable(source, f"{type(error).__name__} {error}") from error
        except ConfigError as error:
            raise _unusable(source, error.message) from error


def _unusable(source: str, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{source}: the description of the model is not usable: {problem}", hint="use another checkpoint of the run"
    )


def _check(made: ModelMetadata, source: str) -> None:
    """Refuse parts of a description that do not fit each other.

    Raises
    ------
    ValueError, CheckpointError
        They do not.
    """
    shape, inputs = made.feature_shape, 1
    for extent in shape:
        if type(extent) is not int or not 0 < extent <= _MOST_INPUTS:
            raise ValueError(f"feature_shape has {extent!r}")
        inputs *= extent
    if not shape or len(shape) > _MOST_AXES or inputs > _MOST_INPUTS:
        raise ValueError(f"feature_shape is {list(shape)[:_MOST_AXES]}")
    if made.feature_dtype not in ("uint8", "float32", "float64"):
        raise ValueError(f"feature_dtype is {made.feature_dtype!r}")
    codec, config = made.codec, made.config
    outputs = config.loss.targets(config.model.outputs)
    if (codec.task, codec.outputs) != (config.task, outputs):
        raise CheckpointError(
            f"{source}: a checkpoint of another network: it was trained on {codec.outputs} targets ({codec.task}), and "
            f"the configuration says {outputs} ({config.task})",
            hint="use another checkpoint of the run",
        )
    lengths = {
        "feature_names": (made.feature_names, (inputs,)),
        "target_names": (made.target_names, None),
        "class_names": (codec.class_names, (codec.classes or outputs,)),
        "normalization.mean": (made.normalization.mean, (1, inputs)),
        "normalization.std": (made.normalization.std, (1, inputs)),
        "preparation": (None if made.preparation is None else made.preparation.names, (inputs,)),
        "scaling": (None if codec.scaling is None else codec.scaling.shift, (outputs,)),
    }
    for name, (values, expected) in lengths.items():
        if values is not None and expected is not None and len(values) not in expected:
            raise ValueError(f"{name}: {len(values)} values, expected {expected[-1]}")
    for name in ("feature_names", "target_names"):
        if not all(isinstance(each, str) for each in getattr(made, name) or ()):
            raise ValueError(f"{name} are not all text")


class Vectors(NamedTuple):
    """The flat vectors that a checkpoint holds, laid out alike."""

    parameters: np.ndarray
    #: By name.
    optimizer_state: Mapping[str, np.ndarray] = MappingProxyType({})
    #: The strategy's own, which a run that is resumed with another strategy does without.
    strategy_state: Mapping[str, np.ndarray] = MappingProxyType({})

    def by_prefix(self) -> dict[str, np.ndarray]:
        """Return all vectors by what the names of their tensors begin with in a checkpoint."""
        return {
            _PARAMETERS: self.parameters,
            **{f"{_OPTIMIZER}/{name}": vector for name, vector in self.optimizer_state.items()},
            **{f"{_STRATEGY}/{name}": vector for name, vector in self.strategy_state.items()},
        }


def named(layout: ParameterLayout, prefix: str, flat: np.ndarray) -> dict[str, np.ndarray]:
    """Return the tensors of a flat vector under readable names such as ``parameters/dense_0/weight``: views."""
    return {f"{prefix}/{name}": view for name, view in layout.views(flat).items()}


def arrays_of(layout: ParameterLayout, vectors: Vectors) -> dict[str, np.ndarray]:
    """Return all arrays of a checkpoint: views of the vectors."""
    arrays: dict[str, np.ndarray] = {}
    for prefix, flat in vectors.by_prefix().items():
        arrays |= named(layout, prefix, flat)
    return arrays


def check_size(checkpoint: Checkpoint, layout: ParameterLayout, source: str) -> None:
    """Refuse parameters of other shapes than the configuration implies, before memory for those is taken.

    A file of a few bytes may claim to be of a network of any size.

    Raises
    ------
    CheckpointError
        See `check_arrays`.
    """
    expected = {f"{_PARAMETERS}/{tensor.name}": (tensor.shape, layout.dtype) for tensor in layout}
    check_arrays(parameters_only(checkpoint), expected, source)


def read_arrays(checkpoint: Checkpoint, layout: ParameterLayout, vectors: Vectors, source: str) -> None:
    """Copy a checkpoint's arrays to flat vectors.

    A strategy's own state is left as it is if the checkpoint has none of it, and that of another strategy is not read.

    Raises
    ------
    CheckpointError
        It is a checkpoint of another network or optimiser, or its parameters are not those that it says.
    NumericsError
        Parameters are infinite or NaN.
    """
    own = f"{_STRATEGY}/"
    arrays = {name.replace(*_RENAMED): array for name, array in checkpoint.arrays.items()}
    wanted = {
        prefix: flat
        for prefix, flat in vectors.by_prefix().items()
        if not prefix.startswith(own) or any(name.startswith(f"{prefix}/") for name in arrays)
    }
    mine = tuple(f"{prefix}/" for prefix in wanted)
    read = {name: array for name, array in arrays.items() if name.startswith(mine) or not name.startswith(own)}
    expected = {f"{prefix}/{t.name}": (t.shape, layout.dtype) for prefix in wanted for t in layout}
    check_arrays(Checkpoint(read, checkpoint.metadata), expected, source)
    for prefix, flat in wanted.items():
        layout.gather({t.name: arrays[f"{prefix}/{t.name}"] for t in layout}, flat)
    _check_values(layout, named(layout, _PARAMETERS, vectors.parameters), checkpoint, source)


def check_parameters(checkpoint: Checkpoint, layout: ParameterLayout, source: str) -> None:
    """Refuse what `check_size` refuses, and parameters that are not those that were saved; they stay where they are.

    Raises
    ------
    CheckpointError, NumericsError
        As of `read_arrays`.
    """
    check_size(checkpoint, layout, source)
    _check_values(layout, checkpoint.arrays, checkpoint, source)


def _check_values(
    layout: ParameterLayout, arrays: Mapping[str, np.ndarray], checkpoint: Checkpoint, source: str
) -> None:
    """Refuse parameters that no training has left: what they would predict looks like predictions."""
    found, stored = digest_of(layout, arrays), checkpoint.metadata.get("parameters_sha256")
    expected = None if stored is None else str(stored)
    if expected is not None and found != expected:
        raise CheckpointError(
            f"{source}: its parameters are not those that were saved: SHA-256 {found[:16]}, expected {expected[:16]}",
            hint="this file was not written by onotrain: use another checkpoint",
        )
    first = next((t.name for t in layout if not np.isfinite(arrays[f"{_PARAMETERS}/{t.name}"]).all()), None)
    if first is not None:
        raise NumericsError(
            f"{source}: not all parameters are finite, such as those of {first}: the network is of no use",
            hint="use another checkpoint, or train again with a lower learning rate",
        )


def check_arrays(checkpoint: Checkpoint, expected: Mapping[str, tuple[tuple[int, ...], Any]], source: str) -> None:
    """Hold the arrays against the names, shapes and dtypes that a configuration implies.

    Parameters
    ----------
    checkpoint
        As read.
    expected
        ``(shape, dtype)`` by array name; the checkpoint must hold exactly these.
    source
        Name of the file, for the message.

    Raises
    ------
    CheckpointError
        It is a checkpoint of another network; the message lists what is missing, unexpected or of another shape.
    """
    arrays = checkpoint.arrays
    problems = [f"missing: {name} {_kind(*expected[name])}" for name in expected if name not in arrays]
    problems += [f"unexpected: {name} {_kind(a.shape, a.dtype)}" for name, a in arrays.items() if name not in expected]
    for name, (shape, dtype) in expected.items():
        if name in arrays and (arrays[name].shape != tuple(shape) or arrays[name].dtype != np.dtype(dtype)):
            array = arrays[name]
            problems.append(f"{name}: got {_kind(array.shape, array.dtype)}, expected {_kind(shape, dtype)}")
    if problems:
        shown = problems[:10] + ([f"and {len(problems) - 10} more"] if len(problems) > 10 else [])
        raise CheckpointError(
            "\n  ".join([f"{source}: a checkpoint of another network or optimizer", *shown]),
            hint="use the configuration that the run was started with, or start a new run with another --output",
        )


def _kind(shape: tuple[int, ...], dtype: Any) -> str:
    return f"{np.dtype(dtype).name}{list(shape)}"


def parameters_only(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint without the optimiser's state."""
    arrays = {name: array for name, array in checkpoint.arrays.items() if name.startswith(f"{_PARAMETERS}/")}
    return Checkpoint(arrays, checkpoint.metadata)


def parameters_sha256(layout: ParameterLayout, parameters: np.ndarray) -> str:
    """Return the SHA-256 of all parameters' bytes in the order of the layout."""
    return digest_of(layout, named(layout, _PARAMETERS, parameters))


def digest_of(layout: ParameterLayout, arrays: Mapping[str, np.ndarray], pause: Pause = no_pause) -> str:
    """Return the SHA-256 of a checkpoint's parameters, as `parameters_sha256` does of the vector."""
    tensors = (arrays[f"{_PARAMETERS}/{tensor.name}"] for tensor in layout)
    return sha256((tensor.reshape(-1).view(np.uint8).data for tensor in tensors), pause).hexdigest()
