"""Section ``model``: the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    Strict,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import core_schema

from onotrain.config.base import Count, NotEmpty, NotNegative, Positive, Problem, Section, Share, Text, Texts
from onotrain.config.choices import ByType, OneKey, OneOf
from onotrain.config.wording import got
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


class LayerOptions(Section):
    """Base of the options of a kind of layer."""

    #: Key that a value alone is short for.
    short_key: ClassVar[str] = ""

    @classmethod
    def full(cls, value: Any) -> Any:
        """Return the mapping that a value alone is short for."""
        return value if isinstance(value, (Mapping, Section)) else {cls.short_key: value}

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return cls.full(value)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the short form too."""
        full = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [full["properties"][cls.short_key], full]}


def _check_slope(options: Dense | Activation, activation: str) -> Iterator[Problem]:
    if "negative_slope" in options.model_fields_set and activation != "leaky_relu":
        yield Problem(("negative_slope",), f"is for leaky_relu only; the activation is {activation}")


def _without_slope(dumped: dict[str, Any], activation: str) -> dict[str, Any]:
    """Leave out the slope where it means nothing, so that what is written can be read again."""
    return {key: value for key, value in dumped.items() if key != "negative_slope" or activation == "leaky_relu"}


class Dense(LayerOptions):
    """Every output is a weighted sum of all inputs."""

    short_key: ClassVar[str] = "units"

    units: Count = Field(description="Number of outputs.")
    activation: ActivationName = Field("identity", description="Function applied to each output.")
    negative_slope: NotNegative = Field(0.01, description="Slope of leaky_relu for negative inputs.")
    bias: bool = Field(True, description="Add a trained constant to each output.")
    initializer: Initializer | None = Field(None, description="Initial weights; null: `model.initializer`.")

    def problems(self) -> Iterator[Problem]:
        """Yield a slope without leaky_relu."""
        yield from _check_slope(self, self.activation)

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_slope(handler(self), self.activation)


class Activation(LayerOptions):
    """A function applied to every value."""

    short_key: ClassVar[str] = "name"

    name: ActivationName = Field(description="The function.")
    negative_slope: NotNegative = Field(0.01, description="Slope of leaky_relu for negative inputs.")

    def problems(self) -> Iterator[Problem]:
        """Yield a slope without leaky_relu."""
        yield from _check_slope(self, self.name)

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_slope(handler(self), self.name)


class Dropout(LayerOptions):
    """Sets values to zero at random while training."""

    short_key: ClassVar[str] = "rate"

    rate: Share = Field(description="Probability that a value is set to zero.")


#: The kinds of layers.  A new one is a class of options, a line here, and a line in `onotrain.nn.layers`.
LAYER_KINDS: dict[str, type[LayerOptions]] = {"dense": Dense, "activation": Activation, "dropout": Dropout}


class LayerSpec(Section):
    """A layer: a mapping of its kind to its options.  There is a subclass, with one field, for every kind."""

    @classmethod
    def tags(cls) -> tuple[str, ...]:
        """Return the kind."""
        return tuple(cls.model_fields)

    @classmethod
    def variants(cls) -> tuple[type[Section], ...]:
        """Return the subclasses of all kinds."""
        return (cls,) if cls.model_fields else tuple(LAYER_SPECS.values())

    @property
    def kind(self) -> str:
        """Kind of the layer: a key of `LAYER_KINDS`."""
        return next(iter(type(self).model_fields))

    @property
    def options(self) -> Any:
        """Options of the layer: an instance of the class that `LAYER_KINDS` has for the kind."""
        return getattr(self, self.kind)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by kind, because the subclasses are no names of this module."""
        return _layer, (self.kind, self.options)


LAYER_SPECS: dict[str, type[LayerSpec]] = {
    kind: create_model(
        f"{options.__name__}Layer", __base__=LayerSpec, **{kind: (options, Field(description=options.__doc__))}
    )  # type: ignore[call-overload]
    for kind, options in LAYER_KINDS.items()
}


def _layer(kind: str, options: LayerOptions) -> LayerSpec:
    return LAYER_SPECS[kind](**{kind: options})


Layer = Annotated[LayerSpec, OneKey("layer")]


#: Value of ``freeze`` that leaves the last layer with parameters to be trained.
ALL_BUT_HEAD = "all_but_head"

#: The key ``from``, which Python takes for a word of its own.
_Beginning: Any = create_model(
    "_Beginning",
    __base__=Section,
    **{
        "from": (
            Text | None,
            Field(
                None,
                description="Warm start: a run directory (its best or newest checkpoint) or a checkpoint whose "
                "parameters the new run begins with.",
            ),
        )
    },
)  # type: ignore[call-overload]


class Model(_Beginning):  # type: ignore[misc]
    """The network: a sequence of layers."""

    layers: Annotated[tuple[Layer, ...], Strict(False), NotEmpty] = Field(
        description="The layers in order, each a mapping of its kind to its options; the last one is dense."
    )
    initializer: Initializer = Field("xavier_uniform", description="Initial weights of dense layers.")  # type: ignore[assignment]
    bias_initializer: BiasInitializer = Field(0.0, description="Initial biases; a number means that constant.")  # type: ignore[assignment]
    head: Literal["auto", "keep", "new"] = Field(
        "auto",
        description="What `from` gives the last layer: the parameters of the other run (`keep`) or first values of its "
        "own (`new`); `auto`: new if its shape, the classes or the targets are others.",
    )
    freeze: Annotated[
        Count | Text | Texts | None, ByType(f"a number of layers, names of layers, {ALL_BUT_HEAD} or null")
    ] = Field(
        None,
        description="Layers whose parameters stay as they are at the start: how many of the first dense layers, names "
        f"such as `dense_0`, or `{ALL_BUT_HEAD}`, which leaves the last one to be trained.",
    )

    @property
    def outputs(self) -> int:
        """Width of the last layer."""
        return int(self.layers[-1].options.units)

    @property
    def origin(self) -> str | None:
        """The run or checkpoint whose parameters a run begins with."""
        path: str | None = getattr(self, "from")
        return path

    @property
    def trainable_layers(self) -> tuple[str, ...]:
        """Names of the layers with parameters, as their tensors have them."""
        return tuple(f"dense_{number}" for number in range(sum(layer.kind == "dense" for layer in self.layers)))

    @property
    def frozen_layers(self) -> tuple[str, ...]:
        """Names of the layers whose parameters are not trained."""
        if self.freeze is None:
            return ()
        if isinstance(self.freeze, int):
            return self.trainable_layers[: self.freeze]
        if self.freeze == ALL_BUT_HEAD:
            return self.trainable_layers[:-1]
        return (self.freeze,) if isinstance(self.freeze, str) else self.freeze

    def problems(self) -> Iterator[Problem]:
        """Yield a last layer that is not dense, and layers to freeze that are not there or all there are."""
        last = self.layers[-1].kind
        if last != "dense":
            yield Problem(("layers", len(self.layers) - 1), f"the last layer must be dense (got {last})")
            return
        known, frozen = self.trainable_layers, self.frozen_layers
        unknown = [name for name in frozen if name not in known]
        if unknown:
            yield Problem(("freeze",), f"no such layer {got(unknown[0])}; expected some of {', '.join(known)}")
        elif set(frozen) == set(known):
            yield Problem(("freeze",), f"leaves no layer to train {got(self.freeze)}; {_most(known)}")
        if self.head != "auto" and self.origin is None:
            yield Problem(("head",), f"is for a warm start, with `from` {got(self.head)}")


def _most(names: tuple[str, ...]) -> str:
    """Return what can be frozen at most, in words."""
    return f"expected {len(names) - 1} of {len(names)} layers at most" if len(names) > 1 else "there is only one layer"
