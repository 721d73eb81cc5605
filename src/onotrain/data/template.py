"""A first configuration for a data file: what `onotrain init` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onotrain.config.columns import TextTable
from onotrain.config.optimizer import UPDATE_RULES
from onotrain.data.first_sizes import batch_size, epochs, hidden_widths, learning_rate, patience, weight_decay
from onotrain.data.reading import ReadFiles, in_turn
from onotrain.data.yaml_text import scalar
from onotrain.errors import DataError
from onotrain.known_names import BUILT_IN
from onotrain.text import count

if TYPE_CHECKING:
    from onotrain.data import DataSpec
    from onotrain.data.info import TargetInfo


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


@dataclass(frozen=True)
class Facts:
    """What a configuration follows from.

    Parameters
    ----------
    source
        Name for messages.
    samples, features
        How many there are of each; of a table, columns that are learned from.
    shape
        Of a sample, in words.
    pixels
        Whether the features are pixels.
    targets
        None if there are none.
    notes
        What was decided for the user, in words.
    columns
        Section ``data.columns``, of a table.
    target_names
        Columns that are predicted, of a table.
    csv
        How a text table is written.
    parts
        Arrays for validation and test, where the file has them: features and targets.
    time
        Column of time that orders rows of which neighbours are alike.
    """

    source: str
    samples: int
    features: int
    shape: str
    pixels: bool
    targets: TargetInfo | None
    notes: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, Any]] | None = None
    target_names: tuple[str, ...] = ()
    csv: TextTable | None = None
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    time: str | None = None

    @property
    def used(self) -> int:
        """Samples that have a target, and are learned from."""
        return self.samples - (0 if self.targets is None else self.targets.missing)


def facts_of(spec: DataSpec, reader: ReadFiles = in_turn) -> Facts:
    """Look at a data file, or at several, which `reader` reads.

    Raises
    ------
    DataError
        It cannot be read, or cannot be trained on: what is missing or wrong in a way that no option helps.
    """
    from onotrain.data.info import describe
    from onotrain.data.sources import expanded, is_table

    spec = expanded(spec)
    if is_table(spec):
        from onotrain.data.tables.info import describe_table, kinds_of

        table = describe_table(spec, reader=reader)
        if table.problem:
            raise DataError(
                table.problem,
                hint="`onotrain data info` shows all columns; --features, --targets, --exclude and --csv choose others",
            )
        bad = next(
            (column for column in table.columns if column.infinite and column.name in table.roles.features), None
        )
        if bad is not None:
            raise DataError(
                f"{table.source}: column {bad.name!r}: {bad.why}",
                hint="correct or remove these samples, or exclude the column",
            )
        wrong = [column for column in table.columns if column.role == "numeric" and column.remedy]
        if wrong:
            raise DataError(f"{table.source}: column {wrong[0].name!r}: {wrong[0].why}", hint=wrong[0].remedy)
        kinds = kinds_of(table)
        learned = table.roles.features
        return Facts(
            table.source, table.samples, len(learned), count(len(learned), "column"), False, table.targets,
            (*table.notes, *table.roles.notes(), *table.advice(), *_filled_in(kinds), *_straightened(kinds),
             *_of_targets(table.targets)), kinds, table.roles.targets, table.csv, time=table.time,
        )  # fmt: skip
    info = describe(spec, reader)
    bad_values = int((info.missing + info.infinite).sum())
    if bad_values:
        raise DataError(
            f"{info.source}: {bad_values} values are missing, NaN or infinite",
            hint="remove these samples or fill the values in; `onotrain data info` counts them per column",
        )
    shape = "x".join(str(extent) for extent in info.feature_shape)
    return Facts(
        info.source, info.samples, info.features, f"{shape} features", info.dtype == "uint8", info.targets,
        (*info.choices.notes, *_of_targets(info.targets)), parts=info.choices.parts,
    )  # fmt: skip


def _filled_in(kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note on what stands for missing values."""
    names = [name for name, kind in kinds.items() if kind.get("missing") == "median"]
    if not names:
        return []
    from onotrain.data.tables.table import shown

    return [f"missing values of {shown(names)}: the median stands for them, and a column says where (missing)"]


def _straightened(kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note on columns that are scaled as the logarithms of the targets ask for."""
    scaled = [f"{name} ({kind['scale']})" for name, kind in kinds.items() if "scale" in kind]
    if not scaled:
        return []
    from onotrain.data.tables.table import shown

    return [
        f"columns as wide as the targets get a scale of their own, for a power law is straight then: {shown(scaled)}"
    ]


def _of_targets(targets: TargetInfo | None) -> list[str]:
    """Return notes on the targets, and on samples that are left out for want of one."""
    if targets is None:
        return []
    missing = f"{count(targets.missing, 'sample')} without a target left out (data.missing_targets)"
    return [*targets.notes(), *([missing] if targets.missing else [])]


def task_of(facts: Facts) -> Task:
    """Return what the targets look like: classes, labels or quantities.

    Raises
    ------
    DataError
        There are no targets, or all are the same.
    """
    targets = facts.targets
    if targets is None:
        raise DataError(
            f"{facts.source}: no targets to learn from",
            hint="name them with --targets: an array (HDF5, NPZ), a column of a table or the label file (NPY, IDX)",
        )
    if targets.missing == facts.samples:
        raise DataError(
            f"{facts.source}: all {facts.samples:,} samples have no target, or lack one of several",
            hint="name other targets with --targets; data.missing_targets: mask trains on those that are there",
        )
    width = 1 if len(targets.shape) == 1 else targets.shape[1]
    if targets.kind == "labels":
        return Task(f"{width} labels, each yes or no", "binary_cross_entropy", width)
    if targets.kind == "values" or targets.class_counts is None:
        return Task(f"regression of {'one value' if width == 1 else f'{width} values'}", "mse", width)
    counts = targets.class_counts
    if len(counts) < 2:
        raise DataError(f"{facts.source}: all {facts.used:,} samples have the same target, expected at least 2 classes")
    if targets.dtype == "text" and 2 * len(counts) > facts.used:
        raise DataError(
            f"{facts.source}: the target {', '.join(facts.target_names) or ''} is text with {len(counts):,} different "
            f"values in {facts.used:,} samples: these are no classes",
            hint="name another target with --targets",
        )
    return Task(f"classification in {len(counts)} classes", "cross_entropy", len(counts))


def template(spec: DataSpec, facts: Facts, units: str | Mapping[str, str] | None = None) -> str:
    """Return a commented configuration (YAML) for a data set.

    Parameters
    ----------
    spec
        How the data are read; what is not a default is written out.
    facts
        What they look like.
    units
        Of the targets of a regression: one for all, or by name.

    Raises
    ------
    DataError
        There is nothing to learn from, too few samples, or no such target to have a unit.
    """
    samples = facts.used
    if samples == 1 or facts.samples < 2:
        raise DataError(
            f"{facts.source}: {count(samples, 'sample')} with a target is too few to train and validate on, "
            "expected at least 2"
        )
    task = task_of(facts)
    widths, batch = hidden_widths(facts.features, task.outputs, samples), batch_size(samples)
    drop = ["    - dropout: 0.1"] if facts.pixels else []
    layers = [line for width in widths for line in (f"    - dense: {{units: {width}, activation: relu}}", *drop)]
    passes = epochs(samples, batch)
    has_test = spec.path in BUILT_IN and BUILT_IN[spec.path].held_out == "test"
    held_out = "test" if has_test else 0.1 if samples >= 5000 else 0.2
    scaling = "none" if facts.pixels else "standard"
    lines = [
        f"# {count(samples, 'sample')} of {facts.shape}; {task.name}.",
        "# Check it with: onotrain validate FILE; every key is explained in docs/configuration.md.",
        "",
        "data:",
        f"  train: {scalar(spec.path)}",
        *_source_lines(spec, facts),
        *_part_lines(facts, held_out),
        _noted(f"  normalize: {scaling}", "none (pixels are 0 to 1), standard, minmax or {mean: ..., std: ...}"),
        *(_target_scaling_lines(facts) if task.loss == "mse" else []),
        *_unit_lines(facts, task, units),
        *_column_lines(facts),
        "",
        "model:",
        _noted("  initializer: xavier_uniform", "or kaiming_normal, lecun_normal, ..."),
        _noted("  bias_initializer: xavier_uniform", "or 0: all units then bend at the mean of the data"),
        _noted("  layers:", "dense, activation or dropout"),
        *layers,
        _noted(f"    - dense: {{units: {task.outputs}}}", _outputs(facts)),
        "",
        f"loss: {task.loss}",
        *_weight_lines(facts, task),
        "",
        "optimizer:",
        _noted("  name: adam", "or " + ", ".join(name for name in UPDATE_RULES if name != "adam")),
        f"  learning_rate: {1e3 * learning_rate(batch):.2g}e-3",
        _noted(f"  weight_decay: {weight_decay(samples):.0e}".replace("e-0", "e-"), "L2; 0 turns it off"),
        "",
        "schedule:",
        _noted("  name: cosine", "or constant, step, multi_step, exponential, plateau"),
        "",
        "training:",
        f"  epochs: {passes}",
        _noted(f"  batch_size: {batch}", "samples of one step, over all ranks together"),
        "  seed: 0",
        *_stopping_lines(facts, passes),
        "",
        "checkpoint:",
        "  every_epochs: 1",
        "  keep: 3",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _target_scaling_lines(facts: Facts) -> list[str]:
    """Return how targets of a regression are scaled."""
    if facts.targets is not None and facts.targets.logarithmic:
        return [_noted("  normalize_targets: log", "errors count in proportion; standard: in the targets' units")]
    return [_noted("  normalize_targets: standard", "undone in predictions and metrics; or log, minmax, none")]


def _weight_lines(facts: Facts, task: Task) -> list[str]:
    """Return what lets rare classes count, for the user to switch on."""
    if facts.targets is None or not facts.targets.rare:
        return []
    return [
        "# Some classes are rare; this lets all count alike:",
        f"# loss: {{name: {task.loss}, class_weights: balanced}}",
    ]


def _stopping_lines(facts: Facts, passes: int) -> list[str]:
    """Return what stops training by a metric that sees rare classes, for the user to switch on."""
    if facts.targets is None or not facts.targets.rare:
        return []
    return [f"  # early_stopping: {{metric: validation_balanced_accuracy, patience: {patience(passes)}}}"]


def _unit_lines(facts: Facts, task: Task, units: str | Mapping[str, str] | None) -> list[str]:
    """Return the key ``units``, if units are given."""
    if units is None:
        return []
    if task.loss != "mse":
        raise DataError(f"{facts.source}: units are given, but the targets are classes, which have none")
    if isinstance(units, str):
        return [f"  units: {scalar(units)}"]
    names = (facts.targets and facts.targets.names) or facts.target_names or tuple(map(str, range(task.outputs)))
    unknown = [name for name in units if name not in names]
    if unknown:
        raise DataError(f"{facts.source}: a unit is given for {unknown[0]!r}, expected one of {', '.join(names[:20])}")
    return [f"  units: {{{', '.join(f'{scalar(name)}: {scalar(unit)}' for name, unit in units.items())}}}"]


def _column_lines(facts: Facts) -> list[str]:
    """Return the section ``columns`` of a table, a line for each column."""
    lines = [] if facts.columns is None else [_noted("  columns:", "numeric, categorical, boolean, date, id or ignore")]
    for name, kind in (facts.columns or {}).items():
        options = {key: value for key, value in kind.items() if key != "name"}
        text = kind["name"]
        if options:
            text = "{" + ", ".join([f"name: {text}", *(f"{k}: {_plain(v)}" for k, v in options.items())]) + "}"
        lines.append(f"    {scalar(name)}: {text}")
    if facts.targets is not None and facts.targets.missing:
        several = len(facts.targets.shape) > 1 and facts.targets.shape[1] > 1
        what = "a target; mask: use those that they have" if several else "a target"
        lines.append(_noted("  missing_targets: drop", f"{count(facts.targets.missing, 'sample')} without {what}"))
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return _list(value)
    return str(value).lower() if isinstance(value, bool) else scalar(value) if isinstance(value, str) else str(value)


def _noted(code: str, comment: str) -> str:
    """Return a line with a comment behind it, in the column of all comments."""
    return f"{code:<38} # {comment}" if comment else code


def _part_lines(facts: Facts, held_out: str | float) -> list[str]:
    """Return where samples for validation are, and those for test if the file has any."""
    if not facts.parts:
        lines = [_noted(f"  validation: {held_out}", "a part of the training data, or the path of a file")]
        if facts.time is not None:
            split = f"  # split: {{by: order, column: {scalar(facts.time)}}}"
            lines.append(_noted(split, "validates on the last samples: neighbours in time are alike"))
        return lines
    named = {part: f"{{features: {scalar(x)}, targets: {scalar(y)}}}" for part, (x, y) in facts.parts.items()}
    if "validation" not in named:  # the test part stays for the end
        named = {"validation": str(held_out), **named}
    return [f"  {part}: {what}" for part, what in named.items()]


def _source_lines(spec: DataSpec, facts: Facts) -> list[str]:
    """Return the keys of ``data`` that say how to read the file, where they are not the defaults."""
    lines = [] if spec.format == "auto" else [f"  format: {spec.format}"]
    targets = facts.target_names or spec.targets
    for key, value in (("features", spec.features), ("targets", targets), ("exclude", spec.exclude or None)):
        if value is not None:
            one = value if isinstance(value, str) else value[0] if len(value) == 1 and key != "exclude" else None
            lines.append(f"  {key}: {_list(value) if one is None else scalar(one)}")
    settings = (facts.csv or spec.csv).model_dump()
    csv = {key: value for key, value in settings.items() if value != TextTable.model_fields[key].default}
    if csv:
        parts = (
            f"{key}: {_list(value) if isinstance(value, tuple) else _scalar_of(value)}" for key, value in csv.items()
        )
        lines.append(f"  csv: {{{', '.join(parts)}}}")
    return lines


def _scalar_of(value: Any) -> str:
    return _plain(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def _outputs(facts: Facts) -> str:
    """Return what the outputs stand for."""
    targets = facts.targets
    names = [] if targets is None else [name for name, _ in targets.class_counts or ()] or list(targets.names or ())
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    # A label could hold a line break, which would end the comment.
    return "".join(c if c.isprintable() else " " for c in shown)[:80]


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(scalar(value) for value in values)}]"
