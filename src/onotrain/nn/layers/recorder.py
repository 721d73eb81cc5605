"""The arrays that a layer computes on, and where it records how.

Dimensions: ``r`` rows of the batch on this rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels import Kernels, empty
from onotrain._kernels.recording import PythonCall
from onotrain.memory import available_bytes

#: Parameters as `onotrain._kernels.Kernels.pack_weight` lays them out, by number of the layer and name.
Packed = MutableMapping[tuple[int, str], np.ndarray]
_NONE: Mapping[str, Any] = MappingProxyType({})
#: So many ranks of a node may pack a weight at the same time.
MOST_RANKS = 64


class BatchSums(NamedTuple):
    """Sums over the rows of the global batch."""

    #: float64 ``(r, n)``: those of this rank's rows, a row for each of them, which kernels write.
    mine: np.ndarray
    #: float64 ``(k, n)``: after the exchange, the sum of its rows in their order is that over the whole batch.
    everyone: np.ndarray
    #: float64 ``(n,)``: that sum, which `Recorder.exchange` makes.
    total: np.ndarray
    #: Calls that exchange them.  *Collective* over the ranks that compute the batch.
    exchange: Sequence[Any]


@dataclass(frozen=True)
class Recorder:
    """The arrays that a layer computes on, and where it records how.

    What is None or missing is not wanted.  Only a forward pass may use `x`, `y` and `saved` without having declared
    it (`Layer.reads_again`).
    """

    kernels: Kernels
    #: Calls in their order, for a program.
    calls: list[Any]
    #: Number of the layer in the network, which keys its random numbers.
    index: int
    #: What it reads, ``(r, *shape)``, and where its output goes, ``(r, *out)``.
    inputs: tuple[np.ndarray, ...]
    y: np.ndarray
    #: By name.
    parameters: Mapping[str, np.ndarray]
    saved: Mapping[str, np.ndarray] = field(default_factory=lambda: _NONE)
    #: By the parameters' names; None: nobody wants it, or it is made of `Layer.outer_products`.
    gradients: Mapping[str, np.ndarray | None] = field(default_factory=lambda: _NONE)
    #: Gradients by the inputs, to be overwritten.
    dinputs: tuple[np.ndarray | None, ...] = ()
    #: Gradient by the output; the backward pass may overwrite it.
    dy: np.ndarray | None = None
    #: Of dropout masks; the third key is the step, `onotrain._kernels.recording.Live.STEP`.
    seed: int = 0
    #: Row of the global batch at which these rows begin.
    first_row: int = 0
    #: Of the global batch, over whose mean loss the gradient is.
    samples: int = 1
    #: Those that the layer declares, by name.
    batch_sums: Mapping[str, BatchSums] = field(default_factory=lambda: _NONE)
    #: Whether gradients of parameters are added to what is there, instead of overwriting it.
    accumulate: bool = False
    #: With `Layer.takes_blocks`: gradients are ``(blocks, *shape)``, of so many rows each; None: all rows have one.
    block_rows: int | None = None
    #: Whether the parameters of the layer are trained, and not frozen.
    trained: bool = True
    #: Whether ranks on other cores read the gradients of parameters.
    shared: bool = False
    #: Those of parameters that do not change any more, `pack` adds to them; None: parameters may change.
    packed: Packed | None = None

    @property
    def weight(self) -> float:
        """1 / samples of the global batch, by which losses are multiplied."""
        return 1.0 / self.samples

    @property
    def x(self) -> np.ndarray:
        """The only input, or the first one."""
        return self.inputs[0]

    @property
    def dx(self) -> np.ndarray | None:
        """The gradient by `x`."""
        return self.dinputs[0]

    def pack(self, name: str) -> np.ndarray | None:
        """Return a weight as `dense_predict` reads it fastest; None where that is as it lies, or it may change.

        None, too, where memory is short: bits are the same either way, so every rank may decide for itself.
        """
        weight, key = self.parameters[name], (self.index, name)
        if self.packed is None or not self.kernels.packing_pays(len(self.x), weight):
            return None
        if key not in self.packed:
            size = self.kernels.packed_size(weight)
            if size * weight.itemsize > available_bytes() // MOST_RANKS:
                return None
            packed = empty((size,), weight.dtype)
            self.kernels.pack_weight(weight, packed)
            self.packed[key] = packed  # no earlier: another thread may find it
        return self.packed[key]

    def exchange(self, name: str) -> np.ndarray:
        """Record the exchange of sums over the batch; return where they are then, `BatchSums.total`.

        They stay there until the backward pass is over.  *Collective* over the ranks that compute the batch.
        """
        sums = self.batch_sums[name]
        self.calls.extend(sums.exchange)
        self.call("sum_rows", sums.everyone, False, sums.total)
        return sums.total

    def call(self, what: str | Callable[..., Any], *arguments: Any) -> None:
        """Record a kernel, by its name, or a Python function, which divides the program, with its arguments.

        The arguments of a kernel are checked now.
        """
        call = self.kernels.record(what, *arguments) if isinstance(what, str) else PythonCall(what, *arguments)
        self.calls.append(call)
