"""Section ``model``: the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, create_model

from onotrain.config.base import Count, NotEmpty, Problem, Section, Text, Texts
from onotrain.config.choices import ByType
from onotrain.config.layers import BiasInitializer, Initializer, Layer
from onotrain.config.wording import got

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
    def reads_codes(self) -> bool:
        """Whether it has a layer that reads codes of categories."""
        return any(layer.options.reads_codes for layer in self.layers)

    @property
    def codes(self) -> dict[int, int]:
        """Features of an array that are codes of categories, from 0, and how many categories each has."""
        return {feature: count for layer in self.layers for feature, count in layer.options.codes.items()}

    @property
    def origin(self) -> str | None:
        """The run or checkpoint whose parameters a run begins with."""
        path: str | None = getattr(self, "from")
        return path

    @property
    def trainable_layers(self) -> tuple[str, ...]:
        """Names of the layers with parameters, as their tensors have them."""
        known, names = Counter[str](), list[str]()
        for layer in self.layers:
            if layer.options.has_parameters:
                names.append(f"{layer.kind}_{known[layer.kind]}")
                known[layer.kind] += 1
        return tuple(names)

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
