"""Section ``model``: the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, create_model

from onotrain.config.base import Count, Few, NotEmpty, Problem, Section, Text, Texts
from onotrain.config.choices import ByType
from onotrain.config.initializers import BiasInitializer, Initializer
from onotrain.config.layers import Layer, LayerSpec
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

    layers: Annotated[tuple[Layer, ...], Strict(False), NotEmpty, Few] = Field(
        description="The layers in order, each a mapping of its kind to its options; the last one is dense."
    )
    initializer: Initializer = Field("xavier_uniform", description="Initial weights of layers.")  # type: ignore[assignment]
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
        description="Layers whose parameters stay as they are at the start: how many of the first ones, names such as "
        f"`dense_0` or `residual_0`, which stands for all within, or `{ALL_BUT_HEAD}`, which leaves the last one to be "
        "trained.",
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
    def every_layer(self) -> tuple[LayerSpec, ...]:
        """All layers, each in front of those that it is made of."""
        return tuple(_every(self.layers))

    @property
    def trainable_layers(self) -> tuple[str, ...]:
        """Names of the layers with parameters, as their tensors have them."""
        return _named(self.layers)[0]

    @property
    def frozen_layers(self) -> tuple[str, ...]:
        """Names of the layers whose parameters are not trained, and of those that are all made of such layers."""
        if self.freeze is None:
            return ()
        known, blocks = _named(self.layers)
        frozen: Sequence[str] = known[:-1]
        if isinstance(self.freeze, int):
            frozen = known[: self.freeze]
        elif self.freeze != ALL_BUT_HEAD:
            asked = (self.freeze,) if isinstance(self.freeze, str) else self.freeze
            frozen = [name for each in asked for name in (each, *blocks.get(each, ()))]
        whole = [name for name, within in blocks.items() if within and set(within) <= set(frozen)]
        return tuple(dict.fromkeys((*frozen, *whole)))

    @property
    def trained_kinds(self) -> tuple[str, ...]:
        """Kinds of the layers whose parameters are trained."""
        trained = (name for name in self.trainable_layers if name not in self.frozen_layers)
        return tuple(dict.fromkeys(name.rpartition("_")[0] for name in trained))

    def problems(self) -> Iterator[Problem]:
        """Yield a last layer that is not dense, and layers to freeze that are not there or all there are."""
        last = self.layers[-1].kind
        if last != "dense":
            yield Problem(("layers", len(self.layers) - 1), f"the last layer must be dense (got {last})")
            return
        (known, blocks), frozen = _named(self.layers), self.frozen_layers
        unknown = [name for name in frozen if name not in known and name not in blocks]
        if unknown:
            expected = ", ".join((*known, *blocks))
            yield Problem(("freeze",), f"no such layer {got(unknown[0])}; expected some of {expected}")
        elif set(frozen) >= set(known):
            yield Problem(("freeze",), f"leaves no layer to train {got(self.freeze)}; {_most(known)}")
        if self.head != "auto" and self.origin is None:
            yield Problem(("head",), f"is for a warm start, with `from` {got(self.head)}")


def _every(layers: Iterable[LayerSpec]) -> Iterator[LayerSpec]:
    for layer in layers:
        yield layer
        yield from _every(layer.options.within)


def _named(layers: Iterable[LayerSpec]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the names of the layers with parameters, and of layers that are made of others, with those of theirs."""
    numbers, blocks = Counter[str](), dict[str, tuple[str, ...]]()

    def names(layers: Iterable[LayerSpec]) -> Iterator[str]:
        for layer in layers:
            name = f"{layer.kind}_{numbers[layer.kind]}"
            numbers[layer.kind] += 1
            if layer.options.has_parameters:
                yield name
            if layer.options.within:
                blocks[name] = ()  # in front of blocks within it
                blocks[name] = tuple(names(layer.options.within))
                yield from blocks[name]

    return tuple(names(layers)), blocks


def _most(names: tuple[str, ...]) -> str:
    """Return what can be frozen at most, in words."""
    return f"expected {len(names) - 1} of {len(names)} layers at most" if len(names) > 1 else "there is only one layer"
