"""A new run that begins with the parameters of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onotrain.config import Config
from onotrain.data.description import DataDescription
from onotrain.data.inherited import Inherited
from onotrain.errors import CheckpointError
from onotrain.nn import ParameterLayout
from onotrain.parallel.agreement import broadcast
from onotrain.parallel.world import World
from onotrain.runs.checkpoint_store import Found
from onotrain.runs.metadata import ModelMetadata
from onotrain.runs.run_directory import find_checkpoint
from onotrain.training.run_position import Progress

_PARAMETERS = "parameters/"
#: Tensors that a message lists.
_MOST_SHOWN = 10


@dataclass(frozen=True)
class WarmStart:
    """The run whose parameters another one begins with.

    Parameters
    ----------
    path, step, sha256
        Of its checkpoint: the file, optimiser steps made, and SHA-256 of the parameters.
    metadata
        Of its network.
    tensors
        Its parameters by name, on rank 0 alone; empty elsewhere.
    warnings
        Damaged checkpoints that were passed over.
    """

    path: str
    step: int
    sha256: str
    metadata: ModelMetadata
    tensors: Mapping[str, np.ndarray]
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, config: Config) -> WarmStart | None:
        """Read what ``model.from`` names: a checkpoint, or the best or newest one of a run; None if it names nothing.

        Raises
        ------
        UsageError
            It is neither.
        CheckpointError
            No sound checkpoint is there.
        """
        if config.model.origin is None:
            return None
        found = find_checkpoint(config.model.origin)
        stored, source = found.checkpoint.metadata, str(found.path)
        tensors = {
            name.removeprefix(_PARAMETERS): array
            for name, array in found.checkpoint.arrays.items()
            if name.startswith(_PARAMETERS)
        }
        step, sha256 = Progress.of(stored, source).steps, str(stored.get("parameters_sha256", ""))
        return cls(source, step, sha256, ModelMetadata.from_dict(stored, source), tensors, tuple(found.warnings))

    @classmethod
    def find(cls, world: World, config: Config) -> WarmStart | None:
        """Return what `read` does, which rank 0 does for all; the tensors stay there.

        *Collective*: the same configuration on all ranks.
        """
        kept: list[WarmStart | None] = []

        def read() -> WarmStart | None:
            kept.append(cls.read(config))
            return None if kept[0] is None else replace(kept[0], tensors={})

        seen: WarmStart | None = broadcast(world.comm, read)
        return kept[0] if kept else seen

    def inherited(self, config: Config) -> Inherited:
        """Return how that run prepared its data, for the new one of this configuration."""
        return _inherited(self.metadata, config.data.preparation, config.model.head)

    def _why_other_head(self, config: Config, description: DataDescription, layout: ParameterLayout) -> str:
        """Return in what the last layer differs from that run's, in words; empty if in nothing."""
        head = config.model.trainable_layers[-1]
        old, new, before = description.codec, self.metadata.codec, self.metadata
        shapes = {name: a.shape for name, a in self.tensors.items() if _layer(name) == head}
        if shapes and shapes != {t.name: t.shape for t in layout if _layer(t.name) == head}:
            return "its shape is another one"
        if (old.task, old.outputs) != (new.task, new.outputs):
            return "the targets are of another kind"
        if _meaning(config.loss) != _meaning(before.config.loss):
            return "its outputs stand for something else"
        if old.class_names != new.class_names:
            return "the classes are others"
        names = description.target_names, before.target_names
        if old.task in ("regression", "multilabel") and None not in names and names[0] != names[1]:
            return "the targets are others"
        return ""

    def copy(
        self, config: Config, description: DataDescription, layout: ParameterLayout, parameters: np.ndarray
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Overwrite first values with that run's parameters (rank 0).

        Parameters
        ----------
        config, description
            Of the new run and its data.
        layout, parameters
            Flat vector of its network.

        Returns
        -------
        origin : dict
            Where they come from, for checkpoints and the summary; JSON-able.
        notes : tuple of str
            What users should know, in words.

        Raises
        ------
        CheckpointError
            The network is another one; lists what differs.
        """
        head, wanted = config.model.trainable_layers[-1], config.model.head
        why = self._why_other_head(config, description, layout)
        keeps = wanted == "keep" or (wanted == "auto" and not why)
        taken = [tensor for tensor in layout if keeps or _layer(tensor.name) != head]
        self._check(layout, keeps, head)
        self._check_categories(description)
        views = layout.views(parameters)
        for tensor in taken:
            views[tensor.name][...] = self.tensors[tensor.name]
        notes = [f"begins with the parameters of {self.path}, step {self.step:,}"]
        if not keeps:
            notes.append(f"the last layer, {head}, is new" + (f": {why}" if why else ""))
        elif why:
            notes.append(f"the last layer, {head}, is kept, though {why}")
        origin = {
            "path": self.path,
            "step": self.step,
            "parameters_sha256": self.sha256,
            "head": "keep" if keeps else "new",
            "preparation": "from" if description.inherited else "fit",
        }
        return origin, (*self.warnings, *notes, *self._notes(config, description))

    def _notes(self, config: Config, description: DataDescription) -> list[str]:
        """Return what users should know of how the two runs differ, in words."""
        how = "kept from there" if description.inherited else "fitted to these data"
        scales = config.data.normalize != "none" or description.preparation is not None
        notes = [f"scaling of the features: {how} (data.preparation)"] if scales else []
        names, known = description.feature_names, self.metadata.feature_names
        if names is not None and known is not None and names != known:
            notes.append("the features are not the same ones in the same order as there")
        if _activations(self.metadata.config) != _activations(config):
            notes.append("the activations are not the same ones as there")
        return notes

    def _check_categories(self, description: DataDescription) -> None:
        """Refuse codes that stand for other categories than those that the vectors were trained for.

        Raises
        ------
        CheckpointError
            Some do.
        """
        old, new = self.metadata.preparation, description.preparation
        if old is None or new is None:
            return
        changed = [name for name, values in new.coded.items() if old.coded.get(name, values) != values]
        if changed:
            raise CheckpointError(
                f"{self.path}: the vectors of {', '.join(changed)} are of other categories than those of these data",
                hint="data.preparation: from keeps the categories of that run",
            )

    def _check(self, layout: ParameterLayout, keeps: bool, head: str) -> None:
        """Refuse tensors that are missing, of another shape, or left over; in the last layer if the run `keeps` it.

        Raises
        ------
        CheckpointError
            Some are.
        """
        known = {name: array.shape for name, array in self.tensors.items()}
        wanted = {tensor.name: tensor.shape for tensor in layout if keeps or _layer(tensor.name) != head}
        problems = [
            f"{name}: got {_shown(known[name]) if name in known else 'nothing'}, expected {_shown(shape)}"
            for name, shape in wanted.items()
            if known.get(name) != shape
        ]
        mine = {tensor.name for tensor in layout}
        problems += [
            f"{name}: got {_shown(shape)}, expected nothing"
            for name, shape in known.items()
            if name not in mine and (_layer(name) != head or keeps)
        ]
        if problems:
            more = len(problems) - _MOST_SHOWN
            lines = problems[:_MOST_SHOWN] + ([f"and {more} more"] if more > 0 else [])
            raise CheckpointError(
                "\n  ".join([f"{self.path}: a network with other layers than model.layers", *lines]),
                hint="give model.layers the widths of that run (see onotrain inspect RUN); only the last layer may "
                "differ, with model.head: new",
            )


def begin(world: World, config: Config, found: Found | None) -> tuple[WarmStart | None, Inherited | None]:
    """Return whose parameters a run begins with, and whose preparation of the data it takes over; None: its own.

    *Collective*: the same configuration on all ranks.

    Parameters
    ----------
    world, config
        Of the run.
    found
        The checkpoint from which it goes on (rank 0): then nothing is read but that.
    """

    def look() -> tuple[bool, Inherited | None]:
        return found is not None, None if found is None else inherited_by(found.checkpoint.metadata, str(found.path))

    goes_on, inherited = broadcast(world.comm, look)
    if goes_on:
        return None, inherited
    warm = WarmStart.find(world, config)
    return warm, None if warm is None else warm.inherited(config)


def freeze_notes(layout: ParameterLayout) -> list[str]:
    """Return what is to be said of layers that are not trained."""
    names = dict.fromkeys(_layer(tensor.name) for tensor in layout if not tensor.trained)
    count = sum(tensor.size for tensor in layout if not tensor.trained and tensor.rate is None)
    return [f"not trained: {', '.join(names)}, {count:,} of the parameters (model.freeze)"] if names else []


def inherited_by(metadata: Mapping[str, Any], source: str) -> Inherited | None:
    """Return how a run that goes on has prepared its data, if it took something over when it began.

    Parameters
    ----------
    metadata
        Of its own checkpoint.
    source
        Name of that, for messages.
    """
    origin = Progress.of(metadata, source).origin
    return (
        None if origin is None else _inherited(ModelMetadata.from_dict(metadata, source), origin["preparation"], "keep")
    )


def _inherited(metadata: ModelMetadata, preparation: Any, head: Any) -> Inherited:
    description = {name: getattr(metadata, name) for name in DataDescription.__dataclass_fields__}
    settings = metadata.config.data.model_dump(mode="json")
    return Inherited(DataDescription(**description), settings, preparation, head)


def _meaning(loss: Any) -> tuple[Any, ...]:
    """Return what outputs of a network with this loss stand for."""
    return loss.activation, loss.per_target


def _activations(config: Config) -> set[str]:
    return {layer.options.activation for layer in config.model.every_layer if layer.kind == "dense"}


def _layer(tensor: str) -> str:
    return tensor.rpartition("/")[0]


def _shown(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
