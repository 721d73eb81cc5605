"""Layers whose options name an activation, but for those of images; activations by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from onotrain.config.base import Count, NotNegative, Problem
from onotrain.config.initializers import Initializer
from onotrain.config.options import LayerOptions
from onotrain.known_names import ActivationName


class Activated(LayerOptions):
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


class Dense(Activated):
    """Every output is a weighted sum of all inputs."""

    kind: ClassVar[str] = "dense"
    short_key: ClassVar[str] = "units"
    has_parameters: ClassVar[bool] = True

    units: Count = Field(description="Number of outputs.")
    activation: ActivationName = Field("identity", description="Function applied to each output.")
    negative_slope: NotNegative = Field(0.01, description="Slope of leaky_relu for negative inputs.")
    bias: bool = Field(True, description="Add a trained constant to each output.")
    initializer: Initializer | None = Field(None, description="Initial weights; null: `model.initializer`.")


class Activation(Activated):
    """A function applied to every value."""

    kind: ClassVar[str] = "activation"
    short_key: ClassVar[str] = "name"

    name: ActivationName = Field(description="The function.")
    negative_slope: NotNegative = Field(0.01, description="Slope of leaky_relu for negative inputs.")
