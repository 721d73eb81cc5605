"""The samples to predict or evaluate: which columns or arrays of a file, read once per node and shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onotrain.data import Dataset, DataSpec, check_finite, detect_format, load_dataset
from onotrain.data.prepare import check_features, encode
from onotrain.errors import DataError
from onotrain.inference.loading import together
from onotrain.parallel.shared_memory import share
from onotrain.parallel.world import World
from onotrain.training.card import Card

#: Columns of a message that lists names.
_SHOWN = 20


@dataclass(frozen=True)
class Source:
    """Samples that every rank can read any rows of."""

    #: For messages.
    name: str
    rows: int
    #: Returns the features ``(end - begin, d)`` of rows ``[begin, end)``.
    read: Callable[[int, int], np.ndarray]


def select(card: Card, spec: DataSpec, *, with_targets: bool) -> DataSpec:
    """Return `spec` with the columns or arrays that the network was trained on, where the spec does not name any.

    Raises
    ------
    DataError
        Columns are missing, or the file is not usable.
    """
    kind = detect_format(spec)
    if kind in ("csv", "tsv"):
        return _select_columns(card, spec, kind, with_targets=with_targets)
    if kind in ("hdf5", "npz") and card.feature_names is None:
        # Names of arrays, in files like the one that the network was trained on.
        data = card.config.data
        if spec.features is None and isinstance(data.features, str) and data.train != spec.path:
            spec = replace(spec, features=data.features)
        if with_targets and spec.targets is None and isinstance(data.targets, str):
            spec = replace(spec, targets=data.targets)
    return spec if with_targets else replace(spec, targets=())


def _select_columns(card: Card, spec: DataSpec, kind: str, *, with_targets: bool) -> DataSpec:
    """Choose columns by name where both the network and the file have names, else all columns but the label."""
    from onotrain.data.delimited_text import look_at

    layout = look_at(spec.path, kind)
    targets = spec.targets
    if layout.header is None or card.feature_names is None:
        alone = layout.columns == card.inputs and not with_targets
        return replace(spec, targets=() if alone and targets is None else targets)
    wanted = card.feature_names if spec.features is None else spec.features
    missing = [name for name in ([wanted] if isinstance(wanted, str) else wanted) if name not in layout.header]
    if missing:
        raise DataError(
            f"{spec.path}: {len(missing)} of the columns that the network needs are missing: {_listed(missing)}; "
            f"the header has {_listed(layout.header)}"
        )
    if with_targets and targets is None and card.target_names and set(card.target_names) <= set(layout.header):
        targets = card.target_names
    return replace(spec, features=wanted, targets=targets if with_targets else ())


def _listed(names: Any) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _read(card: Card, spec: DataSpec, *, with_targets: bool) -> Dataset:
    """Read a data set and refuse what the network cannot take."""
    dataset = load_dataset(select(card, spec, with_targets=with_targets))
    check_features(dataset, card.inputs, card.feature_names)
    check_finite(dataset)
    return dataset


def open_samples(world: World | None, card: Card, spec: DataSpec) -> Source:
    """Read the samples of a file, without their targets.  *Collective.*

    Raises
    ------
    DataError
        Missing, damaged, not finite, or other features than the network's.
    ResourceError
        Larger than the node's memory.
    """

    def make() -> tuple[dict[str, np.ndarray], str]:
        dataset = _read(card, spec, with_targets=False)
        return {"features": dataset.features}, dataset.source

    arrays, name = _once_per_node(world, make)
    features = arrays["features"]
    return Source(name, len(features), lambda begin, end: features[begin:end])


def open_labelled(world: World | None, card: Card, spec: DataSpec) -> tuple[np.ndarray, np.ndarray, str]:
    """Read features, encoded targets, and the name of the data.  *Collective*; errors as for `open_samples`.

    Raises
    ------
    DataError
        Also: no targets, or a label outside the network's classes.
    """

    def make() -> tuple[dict[str, np.ndarray], str]:
        dataset = _read(card, spec, with_targets=True)
        targets = encode(card.codec, dataset, card.config.training.dtype)
        return {"features": dataset.features, "targets": targets}, dataset.source

    arrays, name = _once_per_node(world, make)
    return arrays["features"], arrays["targets"], name


_Make = Callable[[], tuple[dict[str, np.ndarray], str]]


def _once_per_node(world: World | None, make: _Make) -> tuple[dict[str, np.ndarray], str]:
    if world is None:
        return make()
    result: tuple[dict[str, np.ndarray], str] = ({}, "")
    with together(world):
        result = share(world.node, make)
    return result
