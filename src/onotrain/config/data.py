"""Section ``data``: what is trained and validated on."""

from __future__ import annotations

from collections.abc import Iterator
from glob import has_magic
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, field_serializer

from onotrain.config.base import Count, CountOrZero, FixedMapping, NotEmpty, Numbers, Problem, Section, Text, Texts
from onotrain.config.choices import ByType
from onotrain.config.columns import ColumnKind, TextTable
from onotrain.config.partition import Partition
from onotrain.known_names import BUILT_IN, FormatName, format_of_file

Fraction = Annotated[float, Field(gt=0, lt=1)]
#: Of a sample: channels, height, width.
_MOST_AXES = 3


class MeanStd(Section):
    """Given normalisation: ``(x - mean) / std``."""

    mean: Numbers = Field(description="Mean of each feature, or one number for all; 8-bit pixels count as 0 to 1.")
    std: Numbers = Field(description="Standard deviation of each feature, or one number for all; greater than 0.")

    def problems(self) -> Iterator[Problem]:
        """Yield standard deviations that cannot be divided by, and lists that do not go together."""
        for index, value in enumerate(self.std):
            if value <= 0:
                yield Problem(
                    ("std",) if len(self.std) == 1 else ("std", index), f"must be greater than 0 (got {value:g})"
                )
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            yield Problem(
                ("std",), f"must have as many entries as mean (got {len(self.std)}, mean has {len(self.mean)})"
            )

    @field_serializer("mean", "std")
    def _short(self, value: tuple[float, ...]) -> Any:
        return value[0] if len(value) == 1 else list(value)


class Split(Section):
    """How parts are cut from the training file."""

    by: Literal["class", "random", "group", "order"] = Field(
        "class",
        description="`class`: the same share of each class, at random; `random`: of all samples; `group`: whole groups "
        "of samples that have the same value in `column`; `order`: the last samples, by `column` or as they lie in the "
        "file.",
    )
    column: Text | None = Field(None, description="Column of a table, for `group` and `order`.")
    seed: CountOrZero = Field(0, description="Of the choice; that of the training is another one.")
    folds: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        None, description="Cut the samples in so many folds of the same size, one of which validates."
    )
    fold: CountOrZero = Field(0, description="Number of the fold that validates, from 0.")
    file: Text | None = Field(
        None,
        description="File with the parts, such as `split.npz` of another run: `train_index`, `validation_index` and "
        "`test_index`.",
    )

    def problems(self) -> Iterator[Problem]:
        """Yield keys that do not go together."""
        if self.by == "group" and self.column is None:
            yield Problem(("column",), "must name a column (by is group)", is_key=True)
        if self.column is not None and self.by not in ("group", "order"):
            yield Problem(("column",), f"is for by: group and by: order (got {self.column!r} with by: {self.by})")
        if self.folds is not None and self.fold >= self.folds:
            yield Problem(("fold",), f"must be less than folds (got {self.fold}, folds is {self.folds})")


class NamedArrays(Section):
    """Validation or test samples under names of their own, in the training file or another one."""

    path: Text | None = Field(None, description="Path of the file; null: the training file.")
    features: Text | Texts = Field(description="Name of the data set with the features.")
    targets: Text | Texts = Field(description="Name of the data set with the targets.")


class Data(Section):
    """What is trained and validated on."""

    train: Annotated[Text | Texts, ByType("a name, a path or a list of paths")] = Field(
        description=f"{' or '.join(f'`{name}`' for name in BUILT_IN)} (built in), or the path of a file; several files "
        "are one data set: a list, a pattern such as `part-*.h5`, or a directory."
    )
    validation: Annotated[Fraction | Text | NamedArrays | None, ByType("a fraction, 'test', a path or null")] = Field(
        None,
        description="Validation data, evaluated after each epoch: a fraction of the training data (see `split`); "
        "`test`, the test part of a built-in data set; the path of a file; or names of arrays, such as "
        "`{features: x_test, targets: y_test}`.",
    )
    test: Annotated[Fraction | Text | NamedArrays | None, ByType("a fraction, 'test', a path or null")] = Field(
        None, description="Test data, evaluated once, at the end of the run; written as those for validation."
    )
    split: Split = Field(  # type: ignore[assignment]
        {}, description="How fractions are cut from the training data; the run keeps the parts in `split.npz`."
    )
    format: Literal["auto", FormatName] = Field(
        "auto", description="Format of the files; `auto`: their suffix decides."
    )
    features: Annotated[Text | Texts | None, ByType("a name, a list of names or null")] = Field(
        None,
        description="HDF5 and NPZ: name of the data set.  Tables: columns or patterns (by default all but the "
        "targets).",
    )
    targets: Annotated[Text | Texts | None, ByType("a name, a list of names or null")] = Field(
        None,
        description="HDF5 and NPZ: name of the data set (by default the first of y, labels, label, targets, target).  "
        "Tables: columns (by default label, target or y, otherwise the last).  "
        "NPY and IDX: path of the file of labels.",
    )
    weights: Text | None = Field(
        None,
        description="Column of a table, or data set of HDF5 and NPZ, that says how much each sample counts in the loss "
        "(0 or more; scaled to a mean of 1 in the training part).",
    )
    exclude: Annotated[Texts | None, ByType("a list of names or null")] = Field(
        None, description="Columns of a table that are no features: names, or patterns such as `tmp_*`."
    )
    columns: Annotated[dict[Text, ColumnKind], AfterValidator(FixedMapping)] = Field(
        {},
        description="What the columns of a table are, by name or pattern: `numeric`, `categorical`, `boolean`, `date`, "
        "`id` or `ignore`, with options.  Columns that are not named are what they look like; `onotrain init` names "
        "all.",
    )
    csv: TextTable = Field(  # type: ignore[assignment]
        {}, description="How CSV and TSV files are written; what is null is guessed, and shown by `onotrain data info`."
    )
    shape: Annotated[
        Annotated[tuple[Count, ...], Strict(False), NotEmpty] | None, ByType("a list such as [1, 28, 28] or null")
    ] = Field(
        None,
        description="How the features of a sample are arranged: `[features]`, `[length, channels]` or `[channels, "
        "height, width]`, such as `[1, 28, 28]`; the last axis varies fastest.  null: as in the file, one after the "
        "other in a table.",
    )
    normalize: Annotated[
        Literal["none", "standard", "minmax"] | MeanStd, ByType("none, standard, minmax or {mean: ..., std: ...}")
    ] = Field(
        "none",
        description="Scaling of the features: `standard` (mean 0, standard deviation 1 in the training data), `minmax` "
        "(0 to 1 in the training data), or a given `{mean: ..., std: ...}`.",
    )
    pixels: Annotated[Literal["auto"] | bool, ByType("auto, true or false")] = Field(
        "auto",
        description="Whether 8-bit features are pixels, which stand for their value / 255; `auto`: if samples have two "
        "axes or more, or values above 15.",
    )
    normalize_targets: Annotated[
        Literal["none", "standard", "minmax", "log"] | MeanStd,
        ByType("none, standard, minmax, log or {mean: ..., std: ...}"),
    ] = Field(
        "none",
        description="Scaling of the targets of a regression, of each output by itself; predictions and metrics are in "
        "the units of the data all the same.  `standard`, `minmax`, `log` (logarithm of values above 0, then standard) "
        "or a given `{mean: ..., std: ...}`.",
    )
    preparation: Literal["auto", "fit", "from"] = Field(
        "auto",
        description="Of a warm start (`model.from`): whether features and targets are scaled, and categories numbered, "
        "as in the other run (`from`), as its first layer expects, or as they fit these data (`fit`); `auto`: as in "
        "the other run if columns and settings are the same.",
    )
    missing_targets: Literal["error", "drop", "mask"] = Field(
        "error",
        description="Targets that are missing or NaN: `error`; `drop`, leave out samples that lack one of them; "
        "`mask`, of several outputs those that were not measured count neither in the loss nor in metrics (samples "
        "without any are left out).",
    )
    units: Annotated[
        Text | Annotated[dict[Text, Text], AfterValidator(FixedMapping)] | None,
        ByType("a unit, a mapping of targets to units or null"),
    ] = Field(
        None,
        description="Units of the targets of a regression, for metrics, predictions and pictures: one for all, or by "
        "the targets' names.  By default as the file says.",
    )
    stream: Annotated[Literal["auto"] | bool, ByType("auto, true or false")] = Field(
        "auto",
        description="Read HDF5 and Parquet window by window instead of all at once; `auto`: if they do not fit in "
        "memory.",
    )
    window_mib: Count = Field(
        256, description="Size of the windows within which streamed samples are shuffled [MiB]; a node holds two."
    )
    partition: Partition = Field(  # type: ignore[assignment]
        "none",
        description="Which samples a rank trains on.  With `by_rank` and `by_label` they are the same in every epoch, "
        "as in federated averaging, and depend on seed, batch size and number of ranks.",
    )

    @property
    def files(self) -> tuple[str, ...]:
        """What `train` names: one or several."""
        return (self.train,) if isinstance(self.train, str) else self.train

    @property
    def name(self) -> str:
        """The training data, for messages."""
        return self.files[0] + (f" and {len(self.files) - 1} more" if len(self.files) > 1 else "")

    @property
    def target_columns(self) -> tuple[str, ...] | None:
        """Names of the targets, if `targets` is a list of names; None where only the data can tell them."""
        named = self.targets
        return named if isinstance(named, tuple) and not any(has_magic(name) for name in named) else None

    @property
    def has_validation(self) -> bool:
        """Whether there are samples to validate on."""
        return self.validation is not None or self.split.folds is not None or self.split.file is not None

    @property
    def is_built_in(self) -> bool:
        """Whether the training data come with a name instead of a path."""
        return self.train in BUILT_IN

    @property
    def _labels_apart(self) -> bool:
        """Whether the validation file is of a format whose labels are in another file, which `targets` names."""
        known = format_of_file(str(self.validation)) if self.format == "auto" else self.format
        return known in ("npy", "idx")

    def problems_with(self, others: Any) -> Iterator[Problem]:
        """Yield columns that are to be codes where no layer reads codes."""
        if others.model is None or others.model.reads_codes:
            return
        for name, column in self.columns.items():
            if getattr(column, "encode", None) == "code":
                yield Problem(("columns", name, "encode"), "code is for a network that begins with layer embedding")

    def problems(self) -> Iterator[Problem]:
        """Yield keys that do not fit what is trained on."""
        for part in ("validation", "test"):
            if getattr(self, part) == "test" and not self.is_built_in:
                yield Problem(
                    (part,),
                    f"'test' is a part of the built-in data sets {' and '.join(BUILT_IN)} only; give a fraction or a "
                    "path",
                )
        if self.shape is not None and len(self.shape) > _MOST_AXES:
            yield Problem(
                ("shape",),
                f"has too many axes (got {len(self.shape)}); expected [channels, height, width] at most",
            )
        if isinstance(self.units, dict) and self.target_columns is not None:
            for name in self.units:
                if name not in self.target_columns:
                    expected = ", ".join(self.target_columns[:10])
                    yield Problem(("units", name), f"is no target; expected some of {expected}", is_key=True)
        shares = [share for share in (self.validation, self.test) if isinstance(share, float)]
        if sum(shares) >= 1:
            yield Problem(
                ("test",), f"leaves nothing to train on (got {self.test:g}, validation is {self.validation:g})"
            )
        if (self.split.folds is not None or self.split.file is not None) and shares:
            key = "folds" if self.split.folds is not None else "file"
            yield Problem(("split", key), "says which samples validate; leave the fractions out")
        if self.validation == "test" and not self.is_built_in:
            return
        if isinstance(self.validation, str) and self.targets is not None and self._labels_apart:
            yield Problem(
                ("validation",),
                f"only one file of labels can be named, and data.targets is that of {self.train!r}; give a fraction, "
                "or files that hold their labels (`onotrain data convert SRC DST --targets LABELS`)",
            )
        if self.is_built_in:
            for key, unset in (("format", "auto"), ("features", None), ("targets", None)):
                if getattr(self, key) != unset:
                    yield Problem((key,), f"is for files; data.train is the built-in data set {self.train!r}")
        if self.stream is True and (self.is_built_in or self.format not in ("auto", "hdf5", "parquet")):
            what = f"the built-in data set {self.train!r}" if self.is_built_in else f"format {self.format}"
            yield Problem(("stream",), f"only HDF5 and Parquet can be streamed (got true with {what})")
        elif self.stream is True and self.partition.name != "none":
            yield Problem(
                ("stream",),
                f"streamed samples come as they lie in the file; partition {self.partition.name} needs them in memory "
                "(got true, expected auto or false)",
            )
