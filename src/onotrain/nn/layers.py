"""The layers of a network: metadata and views, with the arithmetic in the kernels.

Dimensions: ``r`` rows of the batch on this rank, ``i`` inputs, ``o`` outputs of a layer.

In training, layers *record* kernels, which a program then runs in every step without Python between them.

A forward pass leaves in ``slope`` the derivative of the output by the pre-activation, dropout included; the
backward pass therefore needs neither the pre-activation, nor the mask, nor the name of the activation.

A new kind of layer is a class with this interface, a line in `KINDS`, and its options in `onotrain.config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from onotrain._kernels import Kernels
from onotrain._kernels.recording import Live
from onotrain.known_names import ACTIVATIONS, ActivationName
from onotrain.nn.initializers import initialize
from onotrain.seeds import generator

#: Takes the name of a kernel and its arguments, which are checked now, for a program that runs it later; or a Python
#: function and its arguments, which divides the program.
Record = Callable[..., None]


class Layer(Protocol):
    """What the model needs of a layer; all arrays are C-contiguous and of the model's dtype."""

    inputs: int
    outputs: int
    #: Prefix of the layer's tensors in the layout; empty for a layer without parameters.
    name: str

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return ``(suffix, shape)`` of every tensor."""
        ...

    def initialize(self, tensors: Mapping[str, np.ndarray], seed: int) -> None:
        """Set the first values of the tensors, by suffix."""
        ...

    def bind(
        self, parameters: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray] | None, *, shared: bool
    ) -> None:
        """Read parameters from, and write gradients (or, if None, no gradients) to these views (by suffix) from now on.

        `shared` says that ranks on other cores read the gradients.
        """
        ...

    def forward(
        self, record: Record, x: np.ndarray, seed: int, first_row: int, slope: np.ndarray, y: np.ndarray
    ) -> None:  # fmt: skip
        """Record what writes the output for ``x (r, i)`` to ``y (r, o)`` and its derivative to ``slope (r, o)``.

        `seed` is that of the dropout masks, `first_row` where in the global batch these rows begin.
        """
        ...

    def backward(
        self, record: Record, x: np.ndarray, slope: np.ndarray, dy: np.ndarray, dx: np.ndarray | None, *,
        accumulate: bool,
    ) -> None:  # fmt: skip
        """Record what turns ``dy (r, o)`` (overwritten) into ``dx (r, i)``, if wanted, and into the bound gradients."""
        ...

    def factors(self, x: np.ndarray, dz: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """Return what the gradient of each tensor, by suffix, is made of, when `backward` has left dz in dy.

        Rows to be summed and None; or rows ``dz (r, o)`` and inputs ``x (r, i)`` of which it is ``dz^T x``.
        """
        ...

    def predict(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write the output for ``x (r, i)`` to ``y (r, o)``, without dropout."""
        ...


@dataclass(frozen=True)
class Activation:
    """An activation function and its one number."""

    name: ActivationName = "identity"
    #: Of leaky_relu alone.
    negative_slope: float = 0.0

    @cached_property
    def code(self) -> int:
        """The kernels' number for it."""
        return ACTIVATIONS[self.name]


class Dense:
    """``y = dropout(activation(x W^T + b))`` in one pass, with ``W (o, i)`` and ``b (o,)``."""

    def __init__(self, name: str, index: int, inputs: int, options: Any, defaults: Any, kernels: Kernels) -> None:
        self.name = name
        self.inputs = inputs
        self.outputs: int = options.units
        self.activation = Activation(options.activation, options.negative_slope)
        self.dropout = 0.0
        self._has_bias: bool = options.bias
        self._initializer = options.initializer or defaults.initializer
        self._bias_initializer = defaults.bias_initializer
        self._index = index
        self._kernels = kernels
        # Set by `bind`.
        self._weight: np.ndarray
        self._bias: np.ndarray | None
        self._dw: np.ndarray | None
        self._db: np.ndarray | None
        self._shared: bool

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return the weight's shape and, if there is one, the bias's."""
        bias = [("bias", (self.outputs,))] if self._has_bias else []
        return [("weight", (self.outputs, self.inputs)), *bias]

    def initialize(self, tensors: Mapping[str, np.ndarray], seed: int) -> None:
        """Draw the weight and the bias."""
        initialize(self._initializer, tensors["weight"], generator(seed, f"{self.name}/weight"))
        if self._has_bias:
            fans = self.outputs, self.inputs
            initialize(self._bias_initializer, tensors["bias"], generator(seed, f"{self.name}/bias"), fans)

    def bind(
        self, parameters: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray] | None, *, shared: bool
    ) -> None:
        """Read and write these views from now on."""
        self._weight, self._bias = parameters["weight"], parameters.get("bias")
        self._shared = shared
        self._dw, self._db = (gradients or {}).get("weight"), (gradients or {}).get("bias")

    def absorb(self, activation: Activation | None = None, dropout: float = 0.0) -> bool:
        """Take a following elementwise layer into this one's pass, if the order of operations allows it."""
        if self.dropout or (activation and self.activation.name != "identity"):
            return False
        self.activation, self.dropout = activation or self.activation, dropout
        return True

    def forward(
        self, record: Record, x: np.ndarray, seed: int, first_row: int, slope: np.ndarray, y: np.ndarray
    ) -> None:  # fmt: skip
        """``y`` and ``slope = dy/dz`` with ``z = x W^T + b``."""
        record(
            "dense_forward", x, self._weight, self._bias, self.activation.code, self.activation.negative_slope,
            self.dropout, seed, Live.STEP, self._index, first_row, slope, y,
        )  # fmt: skip

    def backward(
        self, record: Record, x: np.ndarray, slope: np.ndarray, dy: np.ndarray, dx: np.ndarray | None, *,
        accumulate: bool,
    ) -> None:  # fmt: skip
        """``dz = dy * slope``; ``dx = dz W``; ``dw = dz^T x``; ``db`` is the sum of the rows of ``dz``."""
        record("dense_backward", x, self._weight, slope, accumulate, self._shared, dy, dx, self._dw, self._db)

    def factors(self, x: np.ndarray, dz: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """Return those of the weight and, if there is one, of the bias."""
        return {"weight": (dz, x), "bias": (dz, None)} if self._has_bias else {"weight": (dz, x)}

    def predict(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write ``y`` without dropout."""
        self._kernels.dense_predict(
            x, self._weight, self._bias, self.activation.code, self.activation.negative_slope, y
        )


class Elementwise:
    """An activation or a dropout that no dense layer stands in front of."""

    name = ""

    def __init__(
        self, index: int, inputs: int, activation: Activation | None, dropout: float, kernels: Kernels
    ) -> None:
        self.inputs = self.outputs = inputs
        self.activation = activation or Activation()
        self.dropout = dropout
        self._index = index
        self._kernels = kernels

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return nothing: there are no parameters."""
        return []

    def initialize(self, tensors: Mapping[str, np.ndarray], seed: int) -> None:
        """Do nothing: there are no parameters."""

    def bind(
        self, parameters: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray] | None, *, shared: bool
    ) -> None:
        """Do nothing: there are no parameters."""

    def forward(
        self, record: Record, x: np.ndarray, seed: int, first_row: int, slope: np.ndarray, y: np.ndarray
    ) -> None:  # fmt: skip
        """``y`` and ``slope = dy/dx``."""
        record(
            "elementwise_forward", x, self.activation.code, self.activation.negative_slope, self.dropout,
            seed, Live.STEP, self._index, first_row, slope, y,
        )  # fmt: skip

    def backward(
        self, record: Record, x: np.ndarray, slope: np.ndarray, dy: np.ndarray, dx: np.ndarray | None, *,
        accumulate: bool,
    ) -> None:  # fmt: skip
        """``dx = dy * slope``."""
        if dx is not None:
            record("elementwise_backward", slope, dy, dx)

    def factors(self, x: np.ndarray, dz: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """Return nothing: there are no parameters."""
        return {}

    def predict(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write ``y`` without dropout."""
        self._kernels.elementwise_predict(x, self.activation.code, self.activation.negative_slope, y)


class Stack:
    """Builds the list of layers of a network, fusing what can be computed in one pass."""

    def __init__(self, inputs: int, defaults: Any, kernels: Kernels) -> None:
        self.layers: list[Layer] = []
        self._inputs = inputs
        self._defaults = defaults
        self._kernels = kernels

    @property
    def width(self) -> int:
        """Number of values that the next layer gets."""
        return self.layers[-1].outputs if self.layers else self._inputs

    def dense(self, options: Any) -> None:
        """Add a dense layer."""
        number = sum(isinstance(layer, Dense) for layer in self.layers)
        self.layers.append(
            Dense(f"dense_{number}", len(self.layers), self.width, options, self._defaults, self._kernels)
        )

    def activation(self, options: Any) -> None:
        """Add an activation, within the dense layer in front of it where that is possible."""
        self._elementwise(Activation(options.name, options.negative_slope), 0.0)

    def dropout(self, options: Any) -> None:
        """Add dropout, within the dense layer in front of it where that is possible."""
        self._elementwise(None, options.rate)

    def _elementwise(self, activation: Activation | None, dropout: float) -> None:
        last = self.layers[-1] if self.layers else None
        if not (isinstance(last, Dense) and last.absorb(activation, dropout)):
            self.layers.append(Elementwise(len(self.layers), self.width, activation, dropout, self._kernels))


#: How a layer of the configuration is added to a network, by its kind.
KINDS: dict[str, Callable[[Stack, Any], None]] = {
    "dense": Stack.dense,
    "activation": Stack.activation,
    "dropout": Stack.dropout,
}
