"""The layers of the section ``model``: the options of every kind, and how their parameters start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    create_model,
    model_serializer,
)
from pydantic.fields import FieldInfo

from onotrain.config.base import (
    Count,
    CountOrZero,
    FixedMapping,
    NotEmpty,
    NotNegative,
    Positive,
    Problem,
    Section,
    Share,
    Text,
)
from onotrain.config.choices import ByType, OneKey, OneOf
from onotrain.config.layers_images import (
    AvgPool1d,
    AvgPool2d,
    Flatten,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
    RandomCrop,
    RandomFlip,
    RandomShift,
    Reshape,
)
from onotrain.config.layers_norm import BatchNorm, GroupNorm, LayerNorm
from onotrain.config.options import LayerOptions, has_options
from onotrain.config.plugins import Plugins
from onotrain.known_names import ActivationName


class FanInitializer(Section):
    """Zero mean, and a variance that follows from the numbers of inputs and outputs."""

    name: Literal[
        "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "lecun_uniform", "lecun_normal"
    ] = Field(description="Mean 0; variance: xavier 2 / (inputs + outputs), kaiming 2 / inputs, lecun 1 / inputs.")


class ConstantInitializer(Section):
    """The same value everywhere."""

    name: Literal["constant"] = Field(description="The same value everywhere.")
    value: float = Field(description="The value.")


class UniformInitializer(Section):
    """Uniform in an interval."""

    name: Literal["uniform"] = Field(description="Uniform between two bounds.")
    low: float = Field(description="Lower bound.")
    high: float = Field(description="Upper bound.")

    def problems(self) -> Iterator[Problem]:
        """Yield an empty interval."""
        if not self.low < self.high:
            yield Problem(("high",), f"must be greater than low (got high {self.high:g}, low {self.low:g})")


class NormalInitializer(Section):
    """Normal distribution."""

    name: Literal["normal"] = Field(description="Normal distribution.")
    mean: float = Field(0.0, description="Mean.")
    std: Positive = Field(description="Standard deviation.")


Initializer = Annotated[
    FanInitializer | ConstantInitializer | UniformInitializer | NormalInitializer, OneOf("initializer")
]
BiasInitializer = Annotated[
    FanInitializer | ConstantInitializer | UniformInitializer | NormalInitializer,
    OneOf("initializer", number=("constant", "value")),
]


class _Activated(LayerOptions):
    """Options of which one names an activation, and one is leaky_relu's alone."""

    @property
    def _function(self) -> str:
        return str(getattr(self, "activation", None) or getattr(self, "name", None))

    def problems(self) -> Iterator[Problem]:
        """Yield a slope without leaky_relu."""
        if "negative_slope" in self.model_fields_set and self._function != "leaky_relu":
            yield Problem(("negative_slope",), f"is for leaky_relu only; the activation is {self._function}")

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the slope where it means nothing, so that what is written can be read again."""
        dumped: dict[str, Any] = handler(self)
        if self._function != "leaky_relu":
            del dumped["negative_slope"]
        return dumped


class Dense(_Activated):
    """Every output is a weighted sum of all inputs."""

    kind: ClassVar[str] = "dense"
    short_key: ClassVar[str] = "units"
    has_parameters: ClassVar[bool] = True

    units: Count = Field(description="Number of outputs.")
    activation: ActivationName = Field("identity", description="Function applied to each output.")
    negative_slope: NotNegative = Field(0.01, description="Slope of leaky_relu for negative inputs.")
    bias: bool = Field(True, description="Add a trained constant to each output.")
    initializer: Initializer | None = Field(None, description="Initial weights; null: `model.initializer`.")


_CountPair = Annotated[tuple[Count, Count], Strict(False)]
_PaddingPair = Annotated[tuple[CountOrZero, CountOrZero], Strict(False)]
#: Of both axes of an image.
Size = Annotated[Count | _CountPair, ByType("a number or [height, width]")]
Padding = Annotated[CountOrZero | Literal["same"] | _PaddingPair, ByType("a number of pixels, [height, width] or same")]


class Conv2d(_Activated):
    """Weighted sums over windows of an image, the same for every position (cross-correlation)."""

    kind: ClassVar[str] = "conv2d"
    short_key: ClassVar[str] = "filters"
    has_parameters: ClassVar[bool] = True

    filters: Count = Field(description="Number of output channels.")
    kernel: Size = Field(3, description="Size of the window: a number or [height, width].")
    stride: Size = Field(1, description="Step from a window to the next: a number or [vertical, horizontal].")
    padding: Padding = Field(
        0,
        description="Zeros around the image: a number of pixels, [above and below, left and right], or `same`: as many "
        "as make the output as large as the image, divided by the stride; an odd one is below or at the right.",
    )
    dilation: Size = Field(1, description="Distance of neighbours in the window: a number or [vertical, horizontal].")
    groups: Count = Field(
        1,
        description="Groups of channels that are convolved by themselves; as many as there are channels: depthwise.",
    )
    activation: ActivationName = Field("identity", description="Function applied to each output.")
    negative_slope: NotNegative = Field(0.01, description="Slope of leaky_relu for negative inputs.")
    bias: bool = Field(True, description="Add a trained constant to each filter.")
    initializer: Initializer | None = Field(None, description="Initial weights; null: `model.initializer`.")

    def problems(self) -> Iterator[Problem]:
        """Yield filters that do not divide into the groups, too."""
        yield from super().problems()
        if self.filters % self.groups:
            text = f"must be a multiple of groups (got {self.filters} filters and {self.groups} groups)"
            yield Problem(("filters",), text)


class Conv1d(Conv2d):
    """The same over windows of a sequence."""

    kind: ClassVar[str] = "conv1d"

    kernel: Count = Field(3, description="Length of the window.")
    stride: Count = Field(1, description="Step from a window to the next.")
    padding: Annotated[CountOrZero | Literal["same"], ByType("a number or same")] = Field(
        0,
        description="Zeros at both ends: a number, or `same`: as many as make the output as long as the sequence, "
        "divided by the stride; an odd one is at the end.",
    )
    dilation: Count = Field(1, description="Distance of neighbours in the window.")


class Activation(_Activated):
    """A function applied to every value."""

    kind: ClassVar[str] = "activation"
    short_key: ClassVar[str] = "name"

    name: ActivationName = Field(description="The function.")
    negative_slope: NotNegative = Field(0.01, description="Slope of leaky_relu for negative inputs.")


class Dropout(LayerOptions):
    """Sets values to zero at random while training."""

    kind: ClassVar[str] = "dropout"
    short_key: ClassVar[str] = "rate"

    rate: Share = Field(description="Probability that a value is set to zero.")


class Residual(LayerOptions):
    """Layers and a way past them: the sum of what comes out of the last one and what goes into the first one."""

    kind: ClassVar[str] = "residual"
    short_key: ClassVar[str] = "layers"

    layers: Annotated[tuple[Layer, ...], Strict(False), NotEmpty] = Field(
        description="The layers, as those of `model.layers`."
    )
    activation: Literal["identity", "relu"] = Field("identity", description="Function applied to the sum.")
    projection: Literal["auto", "none"] = Field(
        "auto",
        description="What the way past the layers does where they change the shape: `auto`: it goes through weights "
        "without a bias, a dense layer's or those of a convolution of one position whose stride makes the shapes meet; "
        "`none`: a change of shape is an error.",
    )

    @property
    def within(self) -> tuple[Any, ...]:
        """Return the layers."""
        return self.layers


#: Most categories of a feature: so far float32 counts in whole numbers.
MOST_CATEGORIES = 1 << 24
_Counts = Annotated[dict[Text, Count], AfterValidator(FixedMapping)]


class Embedding(LayerOptions):
    """A trained vector for each category; the other features follow behind the vectors."""

    kind: ClassVar[str] = "embedding"
    short_key: ClassVar[str] = "width"
    has_parameters: ClassVar[bool] = True
    reads_codes: ClassVar[bool] = True

    width: Count | None = Field(
        None,
        description="Numbers of a vector; null: min(600, 1.6 n^0.56), rounded, of n categories (the rule of fastai).",
    )
    widths: _Counts = Field(
        {},
        description="The same of single columns of a table, by name, or of features of an array, by number; `width` is "
        "for the others.",
    )
    columns: _Counts = Field(
        {},
        description="Features of an array that are codes of categories, which are whole numbers from 0, by number "
        "(from 0), and how many categories each has.  They are not normalised.  Of a table it is known "
        "(`data.columns`).",
    )
    initializer: Initializer | None = Field(None, description="Initial vectors; null: normal, standard deviation 0.01.")

    @property
    def codes(self) -> Mapping[int, int]:
        """Return `columns`."""
        return {int(feature): count for feature, count in self.columns.items()}

    def problems(self) -> Iterator[Problem]:
        """Yield columns that are none, and too many categories."""
        for feature, count in self.columns.items():
            if not feature.isdecimal() or str(int(feature)) != feature:
                yield Problem(("columns", feature), "must be the number of a feature, from 0", is_key=True)
            elif count > MOST_CATEGORIES:
                yield Problem(("columns", feature), f"must be at most {MOST_CATEGORIES} categories (got {count})")
        for feature in self.widths:
            if self.columns and feature not in self.columns:
                yield Problem(("widths", feature), "is none of `columns`", is_key=True)


#: The kinds of layers of this package.  A new one is a class of options, a line here, and a line in
#: `onotrain.nn.layers`.
LAYER_KINDS: dict[str, type[LayerOptions]] = {
    options.kind: options
    for options in (
        Dense, Conv2d, Conv1d, Activation, Dropout, Flatten, Reshape, MaxPool2d, AvgPool2d, MaxPool1d, AvgPool1d,
        GlobalAvgPool, RandomShift, RandomCrop, RandomFlip, LayerNorm, GroupNorm, BatchNorm, Residual,
        Embedding,
    )
}  # fmt: skip

#: Layers of other packages: subclasses of `onotrain.nn.layers.base.Layer`, by the kind that the entry point names.
PLUGINS = Plugins("onotrain.layers", has_options(LayerOptions, "onotrain.nn.layers.base.Layer"))


def options_of(kind: str) -> type[LayerOptions]:
    """Return the class of options of a kind of layer, which may be of another package."""
    found: type[LayerOptions] = LAYER_KINDS.get(kind) or PLUGINS.load(kind).Options
    return found


class LayerSpec(Section):
    """A layer: a mapping of its kind to its options.  There is a subclass, with one field, for every kind."""

    # Layers may be made of layers: no class is finished before the others are there.
    model_config = ConfigDict(defer_build=True)

    @classmethod
    def tags(cls) -> tuple[str, ...]:
        """Return the kind."""
        return tuple(cls.model_fields)

    @classmethod
    def variants(cls) -> tuple[type[Section], ...]:
        """Return the subclasses of all kinds of this package."""
        return (cls,) if cls.model_fields else tuple(map(_spec, LAYER_KINDS, LAYER_KINDS.values()))

    @property
    def kind(self) -> str:
        """Kind of the layer: a key of `LAYER_KINDS`, or the name of an entry point."""
        return next(iter(type(self).model_fields))

    @property
    def options(self) -> Any:
        """Options of the layer, of the class that belongs to the kind."""
        return getattr(self, self.kind)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by kind, because the subclasses are no names of this module."""
        return _layer, (self.kind, self.options)


@cache
def _spec(kind: str, options: type[LayerOptions]) -> type[LayerSpec]:
    """Return the subclass of a kind."""
    field: Any = (options, Field(description=options.__doc__))
    made: type[LayerSpec] = create_model(f"{options.__name__}Layer", __base__=LayerSpec, **{kind: field})
    return made


def _layer(kind: str, options: LayerOptions) -> LayerSpec:
    return _spec(kind, type(options))(**{kind: options})


#: Kinds that need no options.
_ALONE = tuple(
    kind for kind, options in LAYER_KINDS.items() if not any(map(FieldInfo.is_required, options.model_fields.values()))
)
Layer = Annotated[LayerSpec, OneKey("layer", plugins=PLUGINS, section=_spec, alone=_ALONE)]
Residual.model_rebuild()  # now that there is a name for what it is made of
