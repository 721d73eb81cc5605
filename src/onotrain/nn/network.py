"""The layers of a network, and which tensors each of them reads and writes."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from onotrain.errors import UsageError
from onotrain.nn.layers import Layer, layer_class
from onotrain.nn.layers.base import Shape


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
        Of a sample.
    """

    def __init__(self, defaults: Any, shape: Shape) -> None:
        self.defaults = defaults
        #: Of a sample of each tensor, by number.
        self.shapes: list[Shape] = [shape]
        self.nodes: list[Node] = []
        #: The tensor that a following layer may still be computed with, instead of after it.
        self._open: int | None = None
        self._names = Counter[str]()
        #: Of the layer that is being built, if it is none of the configuration.
        self._name = ""
        self._output = 0
        for spec in defaults.layers:
            self._output = self.build(spec.kind, spec.options, self._output)

    @property
    def output(self) -> int:
        """Number of the tensor that the last layer of the configuration writes."""
        return self._output

    def build(self, kind: str, options: Any, x: int, name: str = "") -> int:
        """Add a layer of the configuration behind tensor `x`, and return the number of its output.

        `name` is that of a layer with parameters which the configuration does not have.
        """
        self._name = name
        return layer_class(kind).build(self, options, x)

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
