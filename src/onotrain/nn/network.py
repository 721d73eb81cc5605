"""The layers of a network, and which tensors each of them reads and writes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from onotrain.config import layers_images
from onotrain.config.columns import Categories
from onotrain.errors import UsageError
from onotrain.nn.layers import Layer, layer_class
from onotrain.nn.layers.base import ShapeError
from onotrain.nn.layers.flatten import Reshape
from onotrain.nn.shapes import IMAGE_AXES, Shape, channels_last

_NONE: Mapping[int, Categories] = MappingProxyType({})


class Node(NamedTuple):
    """A layer in its place."""

    layer: Layer
    #: Numbers of the tensors that it reads; each is an earlier node's output, or 0, the samples.
    inputs: tuple[int, ...]
    #: Number of the tensor that it writes.
    output: int


class Network:
    """Nodes in the order in which they are computed; built layer by layer.

    Parameters
    ----------
    defaults
        The ``model`` section of the configuration, whose layers are added if it has some.
    shape
        Of a sample, as in the data.
    categories
        Features that are codes of columns of a table, by number.

    Raises
    ------
    ShapeError
        A layer cannot read what it would get; the error has the path of the layer in the configuration.
    """

    def __init__(self, defaults: Any, shape: Shape, categories: Mapping[int, Categories] = _NONE) -> None:
        self.defaults = defaults
        #: Features of tensor 0 that are codes, by number.
        self.categories = categories
        #: Of a sample of each tensor, by number.  The first one is the data as it lies.
        self.shapes: list[Shape] = [(math.prod(shape),)]
        self.nodes: list[Node] = []
        #: The tensor that a following layer may still be computed with, instead of after it.
        self._open: int | None = None
        self._names = Counter[str]()
        #: Of the layer that is being built, in the configuration.
        self._path: tuple[str | int, ...] = ("model",)
        #: Of its tensors, if it is none of the configuration.
        self._name = ""
        self._output = self._arrange(shape) if self._needs_axes() else 0
        for number, spec in enumerate(defaults.layers):
            self._output = self.build(spec.kind, spec.options, self._output, "layers", number)

    def _needs_axes(self) -> bool:
        """Tell whether the first layer that is not indifferent to it needs the axes of a sample."""
        needs = (layer_class(spec.kind).needs_axes for spec in self.defaults.layers)
        return next((each for each in needs if each is not None), False)

    def _arrange(self, shape: Shape) -> int:
        """Give samples their axes; those of several channels are transposed for that."""
        if len(shape) == IMAGE_AXES and shape[0] > 1:
            return Reshape.build(self, layers_images.Reshape(shape=shape), 0)
        self.shapes[0] = channels_last(shape)
        return 0

    @property
    def output(self) -> int:
        """Number of the tensor that the last layer of the configuration writes."""
        return self._output

    def build(self, kind: str, options: Any, x: int, *place: str | int, name: str = "") -> int:
        """Add a layer of the configuration: see `onotrain.nn.layers.base.Builder`."""
        outer, self._name = self._path, name
        if place:
            self._path = (*outer, *place, kind)
        try:
            return layer_class(kind).build(self, options, x)
        except ShapeError as error:
            # A layer within this one knows its place better; an option of one that is nowhere written has none.
            error.path = error.path or (*self._path, *([error.key] if place and error.key else []))
            raise
        finally:
            self._path = outer

    def next_name(self, kind: str) -> str:
        """Return the kind with a number: name of the next layer of that kind which has one."""
        self._names[kind] += 1
        return f"{kind}_{self._names[kind] - 1}"

    def add(self, layer: Layer, *inputs: int) -> int:
        """Add a layer that reads these tensors, and return the number of its output.

        Raises
        ------
        UsageError
            It has parameters and its options say that it has none, or the other way round.
        """
        if inputs == (self._open,) and self.nodes[-1].layer.absorb(layer):
            return inputs[0]
        if bool(layer.parameters) != layer.options.has_parameters:
            raise UsageError(
                f"layer {layer.kind} of {type(layer).__module__}: has {len(layer.parameters)} parameters, but "
                f"has_parameters of its options is {layer.options.has_parameters}"
            )
        if layer.parameters:
            layer.name = self._name or self.next_name(layer.kind)
        self._open = len(self.shapes)
        self.shapes.append(layer.out)
        self.nodes.append(Node(layer, inputs, self._open))
        return self._open

    def fork(self, x: int) -> None:
        """Declare that tensor `x` will have one more reader, so that it must stay what it is."""
        if self._open == x:
            self._open = None
