"""A first configuration for a data file: what `onotrain init` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onotrain.config.optimizer import UPDATE_RULES
from onotrain.errors import DataError
from onotrain.known_names import BUILT_IN

if TYPE_CHECKING:
    from onotrain.data import DataSpec
    from onotrain.data.info import DataInfo

#: Whole numbers of more values than this are taken for quantities, if most of the values are rare as well.
MOST_CLASSES = 100
_SAMPLES_OF_A_CLASS = 3
#: Optimiser steps that a first run should make, about.
_STEPS = 3000


@dataclass(frozen=True)
class Task:
    """What the targets of a data set ask for.

    Parameters
    ----------
    name
        In words, for the comment.
    loss
        Loss of the configuration.
    outputs
        Width of the last layer.
    """

    name: str
    loss: str
    outputs: int


def task_of(info: DataInfo) -> Task:
    """Return what the targets look like: classes, labels or quantities.

    Raises
    ------
    DataError
        There are no targets, some are missing, or all are the same.
    """
    targets = info.targets
    if targets is None:
        raise DataError(
            f"{info.source}: no targets to learn from",
            hint="name them with --targets: an array (HDF5, NPZ), a column (CSV, TSV) or the label file (NPY, IDX)",
        )
    if targets.missing:
        raise DataError(
            f"{info.source}: {targets.missing} of {info.samples} samples have no target",
            hint="remove these samples, or name other targets with --targets",
        )
    width = 1 if len(targets.shape) == 1 else targets.shape[1]
    if targets.kind == "labels":
        return Task(f"{width} labels, each yes or no", "binary_cross_entropy", width)
    counts = targets.class_counts if targets.kind == "classes" else None
    if counts is None:
        return Task(f"regression of {'one value' if width == 1 else f'{width} values'}", "mse", width)
    if len(counts) < 2:
        raise DataError(f"{info.source}: all {info.samples} samples have the same target, expected at least 2 classes")
    if targets.dtype != "text" and len(counts) > max(MOST_CLASSES, info.samples // _SAMPLES_OF_A_CLASS):
        return Task(f"regression of one value, a whole number ({len(counts)} different ones)", "mse", 1)
    return Task(f"classification in {len(counts)} classes", "cross_entropy", len(counts))


def hidden_widths(features: int, outputs: int) -> list[int]:
    """Return widths of two hidden layers: powers of two that narrow from the features to the outputs."""
    first = _power_of_two(min(max(2 * max(features, outputs) // 3, 32), 512))
    return [first, max(first // 2, 32)]


def batch_size(samples: int) -> int:
    """Return a batch that gives an epoch some 50 steps, within the sizes that train well [samples]."""
    return _power_of_two(min(max(samples // 50, 8), 128))


def epochs(samples: int, batch: int) -> int:
    """Return how many epochs make enough steps, between 5 and 100."""
    return min(max(round(_STEPS * batch / samples), 5), 100)


def template(spec: DataSpec, info: DataInfo) -> str:
    """Return a commented configuration (YAML) for a data set.

    Parameters
    ----------
    spec
        How the data are read; what is not a default is written out.
    info
        What they look like.

    Raises
    ------
    DataError
        There is nothing to learn from, too few samples, or features that are not numbers.
    """
    samples = info.samples
    if samples < 2:
        raise DataError(f"{info.source}: {samples} sample is too few to train and validate on, expected at least 2")
    bad = int((info.missing + info.infinite).sum())
    if bad:
        raise DataError(
            f"{info.source}: {bad} values are missing, NaN or infinite",
            hint="remove these samples or fill the values in; `onotrain data info` counts them per column",
        )
    task = task_of(info)
    widths, batch = hidden_widths(info.features, task.outputs), batch_size(samples)
    pixels = info.dtype == "uint8"
    shape = "x".join(str(extent) for extent in info.feature_shape)
    layers = [
        line
        for width in widths
        for line in (f"    - dense: {{units: {width}, activation: relu}}", "    - dropout: 0.1")
    ]
    has_test = spec.path in BUILT_IN and BUILT_IN[spec.path].held_out == "test"
    held_out = "test" if has_test else 0.1 if samples >= 5000 else 0.2
    scaling = "none" if pixels else "standard"
    lines = [
        f"# {samples:,} samples of {shape} features; {task.name}.",
        "# Check it with: onotrain validate FILE; every key is explained in docs/configuration.md.",
        "",
        "data:",
        f"  train: {scalar(spec.path)}",
        *_source_lines(spec),
        _noted(f"  validation: {held_out}", "a part of the training data, or the path of a file"),
        _noted(f"  normalize: {scaling}", "none (pixels are 0 to 1), standard, minmax or {mean: ..., std: ...}"),
        "",
        "model:",
        _noted("  initializer: kaiming_normal", "suits relu; others: xavier_uniform, lecun_normal, ..."),
        _noted("  layers:", "dense, activation or dropout"),
        *layers,
        _noted(f"    - dense: {{units: {task.outputs}}}", _outputs(info)),
        "",
        f"loss: {task.loss}",
        "",
        "optimizer:",
        _noted("  name: adam", "or " + ", ".join(name for name in UPDATE_RULES if name != "adam")),
        "  learning_rate: 1e-3",
        _noted("  weight_decay: 1e-5", "L2; 0 turns it off"),
        "",
        "schedule:",
        _noted("  name: cosine", "or constant, step, multi_step, exponential, plateau"),
        "",
        "training:",
        f"  epochs: {epochs(samples, batch)}",
        _noted(f"  batch_size: {batch}", "samples of one step, over all ranks together"),
        "  seed: 0",
        "",
        "checkpoint:",
        "  every_epochs: 1",
        "  keep: 3",
    ]
    return "\n".join(lines) + "\n"


def _noted(code: str, comment: str) -> str:
    """Return a line with a comment behind it, in the column of all comments."""
    return f"{code:<38} # {comment}" if comment else code


def _source_lines(spec: DataSpec) -> list[str]:
    """Return the keys of ``data`` that say how to read the file, where they are not the defaults."""
    lines = [] if spec.format == "auto" else [f"  format: {spec.format}"]
    for key, value in (("features", spec.features), ("targets", spec.targets)):
        if value is not None:
            lines.append(f"  {key}: {scalar(value) if isinstance(value, str) else _list(value)}")
    return lines


def _outputs(info: DataInfo) -> str:
    """Return what the outputs stand for."""
    targets = info.targets
    names = [] if targets is None else [name for name, _ in targets.class_counts or ()] or list(targets.names or ())
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    # A label could hold a line break, which would end the comment.
    return "".join(c if c.isprintable() else " " for c in shown)[:80]


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(scalar(value) for value in values)}]"


def scalar(text: str) -> str:
    """Return text as a YAML scalar: plain where that is surely text, else quoted."""
    plain = re.fullmatch(r"[A-Za-z/][\w./-]*", text, re.ASCII) and text.lower() not in _WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


#: Words that YAML takes for something else than text.
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def _power_of_two(number: int) -> int:
    """Return the nearest power of two that is not larger than `number`."""
    return 1 << (number.bit_length() - 1)
