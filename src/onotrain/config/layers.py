"""The layers of the section ``model``: kinds and their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, Strict, create_model
from pydantic.fields import FieldInfo

from onotrain.config.base import Count, Few, FixedMapping, NotEmpty, Problem, Section, Share, Text
from onotrain.config.choices import OneKey
from onotrain.config.initializers import Initializer
from onotrain.config.layers_activated import Activation, Dense
from onotrain.config.layers_images import (
    AvgPool1d,
    AvgPool2d,
    Conv1d,
    Conv2d,
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


class Dropout(LayerOptions):
    """Sets values to zero at random while training."""

    kind: ClassVar[str] = "dropout"
    short_key: ClassVar[str] = "rate"

    rate: Share = Field(description="Probability that a value is set to zero.")


class Residual(LayerOptions):
    """Layers and a way past them: the sum of what comes out of the last one and what goes into the first one."""

    kind: ClassVar[str] = "residual"
    short_key: ClassVar[str] = "layers"

    layers: Annotated[tuple[Layer, ...], Strict(False), NotEmpty, Few] = Field(
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
