"""How parameters of layers start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from onotrain.config.base import Positive, Problem, Section
from onotrain.config.choices import OneOf


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
