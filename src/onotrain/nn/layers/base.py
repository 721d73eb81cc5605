"""What a layer declares, and what it has to be able to do.

Dimensions: ``r`` rows of the batch on this rank.  The shape of a sample has no ``r``: a layer that reads samples of
shape ``s`` gets arrays ``(r, *s)``, C-contiguous and of the model's dtype.  A sample is ``(features,)``,
``(length, channels)`` or ``(height, width, channels)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from numpy.typing import DTypeLike

from onotrain.config.columns import Categories
from onotrain.config.options import LayerOptions
from onotrain.errors import UsageError
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.shapes import Shape, as_written


class ShapeError(UsageError):
    """A layer cannot read samples of the shape that it is given; `key` is the option that is wrong, None: the layer."""

    def __init__(self, key: str | None, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key
        #: Keys and indices of the configuration down to what is wrong; set by the network.
        self.path: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """A tensor that is trained, or one that follows a statistic of the data."""

    shape: Shape
    #: Outputs and inputs that it joins, for initialisers whose variance follows from them.
    fans: tuple[int, int]
    #: An initialiser of the configuration, or a number: the value of all elements.
    initializer: Any
    #: Whether it is one of those that weight decay is meant for: no bias, and no scale of a normalisation.
    decays: bool = True
    #: Whether it is an exponential average of a statistic of the data, which optimisers leave alone.  Its gradient is
    #: its value less the statistic of the batch: each row adds `Recorder.weight` (value - statistic of the row).
    averaged: bool = False
    #: Whether it is a table of which a batch needs some rows.  Those whose gradients are zero throughout, and their
    #: state of the optimiser, stay as they are in an update, whatever its rule.
    rows: bool = False
    #: Part of the gradient that is taken away from an averaged tensor in a step: ``value -= rate gradient``.
    rate: float = 0.1


@dataclass(frozen=True)
class Saved:
    """An array that the forward pass leaves for the backward pass."""

    #: Of a sample.
    shape: Shape
    #: None: that of the model.
    dtype: DTypeLike | None = None


class Product(NamedTuple):
    """A gradient ``dw = dz^T x`` over the rows of a batch."""

    #: What has the rows of dz ``(r, o)``: ``dy``, as the backward pass leaves it, or something that is saved.
    dz: str = "dy"
    #: The same of x ``(r, i)``: ``x``, or something that is saved; None: dw is the sum of the rows of dz.
    x: str | None = None

    @property
    def arrays(self) -> tuple[str, ...]:
        """What it is made of."""
        return (self.dz,) if self.x is None else (self.dz, self.x)

    def named(self, find: Callable[[str], str]) -> Product:
        """Return the same with other names of the arrays."""
        return Product(find(self.dz), None if self.x is None else find(self.x))


class Scatter(NamedTuple):
    """A gradient of a table (`Parameter.rows`): row c is the sum of the rows of dz whose code is c, in their order."""

    #: Saved: int32 codes, one of each row.
    codes: str
    #: Columns of dz.
    columns: slice
    #: As of `Product`.
    dz: str = "dy"

    @property
    def arrays(self) -> tuple[str, ...]:
        """What it is made of."""
        return self.dz, self.codes

    def named(self, find: Callable[[str], str]) -> Scatter:
        """Return the same with other names of the arrays."""
        return Scatter(find(self.codes), self.columns, find(self.dz))


@dataclass(frozen=True)
class Description:
    """What is said of a layer: in tables, and in exported files."""

    #: Its name, or its kind if it has none.
    title: str
    #: What it computes after training, one thing after the other: JSON-able mappings with a ``kind``.
    operations: tuple[Mapping[str, Any], ...]
    activation: str = "identity"
    dropout: float = 0.0


class OperatorGraph(Protocol):
    """Where a layer writes what it computes after training, in operators of ONNX.

    Methods take the names of values and return that of the next.  Values have the shapes that arrays have, channels
    last: `channels_first` is for operators that want them otherwise.
    """

    def node(self, operator: str, inputs: Sequence[str], **options: Any) -> str:
        """Add an operator."""
        ...

    def parameter(self, name: str) -> str:
        """Add one of the layer's parameters."""
        ...

    def constant(self, values: Any, dtype: DTypeLike | None = None) -> str:
        """Add one or several numbers; None: of the model's dtype."""
        ...

    def cast(self, value: str, dtype: DTypeLike) -> str:
        """Convert to another type."""
        ...

    def activation(self, name: str, negative_slope: float, value: str) -> str:
        """Add one of `onotrain.known_names.ACTIVATIONS`."""
        ...

    def reshape(self, value: str, shape: Shape) -> str:
        """View samples in another shape; the axis of the samples stays as it is."""
        ...


class Builder(Protocol):
    """A network that layers are added to; `onotrain.nn.network.Network`."""

    #: Of a sample of each tensor, by number.
    shapes: list[Shape]
    #: The ``model`` section of the configuration.
    defaults: Any
    #: Features of tensor 0 that are codes of columns of a table, by number.
    categories: Mapping[int, Categories]

    def add(self, layer: Layer, *inputs: int) -> int:
        """Add a layer that reads these tensors, and return the number of its output."""
        ...

    def build(self, kind: str, options: Any, x: int, *place: str | int, name: str = "") -> int:
        """Add a layer of the configuration behind tensor `x`, and return the number of its output.

        `place` are the keys and indices that lead to the layer from the options of the one that is being built, such
        as ``"layers", 1``; nothing for a layer that is not in the configuration: what is wrong with it is wrong with
        the one that is being built, and `name` is that of its tensors.
        """
        ...

    def next_name(self, kind: str) -> str:
        """Return the kind with a number: name of the next layer of that kind which has one."""
        ...

    def fork(self, x: int) -> None:
        """Declare that tensor `x` will have one more reader, so that it must stay what it is."""
        ...


class Layer(ABC):
    """Base of all layers: one file each, with the backward pass under the forward pass.

    A layer of another package is a subclass with `Options`, `forward`, `backward` and `predict`; the entry point of
    the group ``onotrain.layers`` that names it is its kind in configurations.

    Parameters
    ----------
    options
        Those of the layer in the configuration.
    shape
        Of a sample that it reads.
    defaults
        The ``model`` section of the configuration.

    Raises
    ------
    ShapeError
        It cannot read samples of this shape.
    """

    #: Class of its options.
    Options: ClassVar[type[LayerOptions]]
    #: Which of ``x`` and ``y`` the backward pass reads: their memory is not used again before.
    reads_again: ClassVar[frozenset[str]] = frozenset(("x", "y"))
    #: Whether it reads more than a sample's values one after the other; None: each value is by itself, and what is
    #: behind it decides.  Where a network begins without a need of axes, samples are as they lie in the data.
    needs_axes: ClassVar[bool | None] = True
    #: Whether the backward pass makes the gradients of all blocks of rows at once (`onotrain.nn.blocks`), as
    #: `Recorder.block_rows` says; else it is recorded once for each block.
    takes_blocks: ClassVar[bool] = False
    #: Fewest samples of a batch that it can be trained on, where its parameters are.
    fewest_samples: int = 1

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        self.options, self.shape = options, shape
        #: Shape of a sample of the output.
        self.out: Shape = shape
        #: By name.
        self.parameters: dict[str, Parameter] = {}
        #: By name.
        self.saved: dict[str, Saved] = {}
        #: Sums over the rows of the global batch that a pass exchanges: how many numbers, by name.
        self.batch_sums: dict[str, int] = {}
        #: Set by the network: what the names of its tensors begin with; empty for a layer without parameters.
        self.name = ""

    @classmethod
    def build(cls, network: Builder, options: Any, x: int) -> int:
        """Add the layer that `options` mean to the network, behind tensor `x`; return the number of the output."""
        return network.add(cls(options, network.shapes[x], network.defaults), x)

    @property
    def kind(self) -> str:
        """What it is called in configurations."""
        return str(self.options.kind)

    @property
    def inputs(self) -> int:
        """Number of values that it reads of a sample."""
        return math.prod(self.shape)

    @property
    def outputs(self) -> int:
        """Number of values of a sample of the output."""
        return math.prod(self.out)

    def absorb(self, following: Layer) -> bool:
        """Compute a layer that reads nothing but this one's output in the same pass; False, as here: it cannot."""
        return False

    @abstractmethod
    def forward(self, r: Recorder) -> None:
        """Record what writes ``r.y`` and ``r.saved``."""

    @abstractmethod
    def backward(self, r: Recorder) -> None:
        """Record what turns ``r.dy`` into ``r.dx`` and ``r.gradients``, as far as these are wanted."""

    @abstractmethod
    def predict(self, r: Recorder) -> None:
        """Record what writes ``r.y`` after training: nothing is saved, nothing is random."""

    def outer_products(self) -> Mapping[str, Product | Scatter]:
        """Return which gradients are sums of outer products over the rows, or of rows by their codes, by parameter.

        Ranks of a node that share activations make these of the rows of all ranks.  Of other gradients they share
        sums over blocks of rows: the backward pass is recorded once for each block.
        """
        return {}

    def describe(self) -> Description:
        """Return what is said of the layer."""
        facts = {**self.options.model_dump(mode="json"), "inputs": list(as_written(self.shape))}
        facts["outputs"] = list(as_written(self.out))
        name = {"name": self.name} if self.name else {}
        return Description(self.name or self.kind, ({"kind": self.kind, **name, **facts},))

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add what it computes after training to a graph of operators, and return the name of the output.

        Raises
        ------
        UsageError
            It cannot be told in operators, as here.
        """
        raise UsageError(
            f"layer {self.kind} of {type(self).__module__} cannot be written in operators of ONNX",
            hint="export to safetensors or npz, or give the layer a method export",
        )
