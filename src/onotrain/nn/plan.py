"""What a pass over a network does in which order, and how long each of its arrays is needed.

Time is counted in layers: those of the forward pass, the loss, and those of the backward pass.  Of an array the plan
knows the first and the last moment at which it is used, so that arrays which are never used at the same time can share
memory (`onotrain.nn.workspace`).

A tensor may have several readers.  In the backward pass the first of them, which is the last one of the forward pass,
writes its gradient; each of the others writes to an array of its own, which is then added.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from onotrain._kernels import ALIGNMENT_BYTES
from onotrain.nn.layers.base import Product, Scatter
from onotrain.nn.network import Network, Node
from onotrain.nn.shapes import Shape

#: Moment before the first layer: the samples are written.
_BEFORE = -1


class Array(NamedTuple):
    """An array of a pass, with one row for each sample."""

    #: Of a sample.
    shape: Shape
    dtype: np.dtype
    #: Moments at which it is first written and last read.
    first: int
    last: int

    def nbytes(self, rows: int) -> int:
        """Return the bytes of `rows` rows, in whole cache lines."""
        nbytes = rows * math.prod(self.shape) * self.dtype.itemsize
        return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


#: By name.
Arrays = Mapping[str, Array]


class Added(NamedTuple):
    """A part of a gradient that a layer writes to an array of its own, and where it is added."""

    part: str
    to: str


class Backward(NamedTuple):
    """One layer of the backward pass."""

    #: Of the layer.
    number: int
    #: Names of the arrays that get the gradients by its inputs; None: nobody wants that one.
    dinputs: tuple[str | None, ...]
    added: tuple[Added, ...]


def value(tensor: int) -> str:
    """Return the name of the array of a tensor."""
    return f"value/{tensor}"


def gradient(tensor: int) -> str:
    """Return the name of the array of the gradient by a tensor."""
    return f"gradient/{tensor}"


def saved(number: int, name: str) -> str:
    """Return the name of an array that a layer saves."""
    return f"saved/{number}/{name}"


def batch_sums(number: int, name: str) -> str:
    """Return the name of the array of a layer's sums over each row."""
    return f"sums/{number}/{name}"


class Plan:
    """Order and arrays of training and of prediction.

    Parameters
    ----------
    network
        Its layers.
    dtype
        Of the model.
    frozen
        Names of layers that are not trained.
    """

    def __init__(self, network: Network, dtype: np.dtype, frozen: Collection[str] = ()) -> None:
        self.network, self.nodes, self.output = network, network.nodes, network.output
        self.dtype = dtype
        #: Whether each layer has parameters that are trained.
        self.trained = [bool(node.layer.parameters) and node.layer.name not in frozen for node in self.nodes]
        #: The layers of the backward pass in their order.
        self.backward = self._backward()
        #: Of a pass forward and backward.
        self.training: Arrays = dict(self._training())
        #: Of a forward pass after training.
        self.prediction: Arrays = dict(self._values({}))
        #: What the gradients of parameters are made of, by tensor: names of arrays of `training`.
        self.products = dict(self._products())
        #: Trained tensors that are no such products, by number of their layer: name in the layer, shape.
        self.in_blocks = dict(self._in_blocks())

    def _backward(self) -> list[Backward]:
        """Return the layers through which a gradient goes to parameters that are trained."""
        wanted = set[int]()
        for trained, node in zip(self.trained, self.nodes, strict=True):
            if trained or wanted.intersection(node.inputs):
                wanted.add(node.output)
        found, written = list[Backward](), {self.output}
        for number, node in reversed(list(enumerate(self.nodes))):
            if node.output not in wanted:
                continue
            dinputs, added = list[str | None](), list[Added]()
            for place, tensor in enumerate(node.inputs):
                if tensor not in wanted:
                    dinputs.append(None)
                elif tensor in written:
                    dinputs.append(f"part/{number}/{place}")
                    added.append(Added(f"part/{number}/{place}", gradient(tensor)))
                else:
                    dinputs.append(gradient(tensor))
                    written.add(tensor)
            found.append(Backward(number, tuple(dinputs), tuple(added)))
        return found

    def _moment(self, number: int) -> int:
        """Return when a layer's part of the backward pass is computed; the loss is at ``len(nodes)``."""
        return 2 * len(self.nodes) - number

    def _values(self, read_again: Mapping[str, int]) -> Iterator[tuple[str, Array]]:
        """Yield the arrays of the tensors, given when the backward pass reads them."""
        shapes, first = self.network.shapes, {0: _BEFORE}
        last = {self.output: len(self.nodes)}
        for number, node in enumerate(self.nodes):
            first[node.output] = number
            last |= {tensor: max(number, last.get(tensor, number)) for tensor in (*node.inputs, node.output)}
        for tensor, begin in first.items():
            end = max(last.get(tensor, begin), read_again.get(value(tensor), begin))
            shape = shapes[tensor] if tensor else (math.prod(shapes[0]),)  # samples arrive flat
            yield value(tensor), Array(shape, self.dtype, begin, end)

    def _training(self) -> Iterator[tuple[str, Array]]:
        shapes, loss = self.network.shapes, len(self.nodes)
        read_again, begins, ends = dict[str, int](), {gradient(self.output): loss}, dict[str, int]()
        of_tensor = {gradient(self.output): self.output}
        for step in self.backward:
            node, now = self.nodes[step.number], self._moment(step.number)
            again = [*(node.inputs if "x" in node.layer.reads_again else ())]
            again += [node.output] if "y" in node.layer.reads_again else []
            read_again |= {value(tensor): now for tensor in again}
            ends[gradient(node.output)] = now
            for name, tensor in zip(step.dinputs, node.inputs, strict=True):
                if name is not None:
                    begins[name], of_tensor[name] = now, tensor
                    ends.setdefault(name, now)
        yield from self._values(read_again)
        for name, begin in begins.items():
            yield name, Array(shapes[of_tensor[name]], self.dtype, begin, ends[name])
        used = {step.number for step in self.backward}
        for number, node in enumerate(self.nodes):
            end = self._moment(number) if number in used else number
            for name, each in node.layer.saved.items():
                dtype = self.dtype if each.dtype is None else np.dtype(each.dtype)
                yield saved(number, name), Array(each.shape, dtype, number, end)
            for name, size in node.layer.batch_sums.items():
                yield batch_sums(number, name), Array((size,), np.dtype(np.float64), number, end)

    def _products(self) -> Iterator[tuple[str, Product | Scatter]]:
        for number, node in enumerate(self.nodes):
            if self.trained[number]:
                for name, product in node.layer.outer_products().items():
                    yield f"{node.layer.name}/{name}", product.named(partial(_array, node, number))

    def _in_blocks(self) -> Iterator[tuple[int, Mapping[str, Shape]]]:
        for number, (layer, _, _) in enumerate(self.nodes):
            others = {
                name: each.shape
                for name, each in layer.parameters.items()
                if self.trained[number] and f"{layer.name}/{name}" not in self.products
            }
            if others:
                yield number, others


def _array(node: Node, number: int, name: str) -> str:
    """Return the name of the array that a layer calls `name`."""
    if name == "x":
        return value(node.inputs[0])
    return gradient(node.output) if name == "dy" else saved(number, name)
