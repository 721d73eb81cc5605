"""A layer by itself, on samples of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from onotrain import _kernels
from onotrain._kernels import Kernels
from onotrain.nn.layers.base import Layer, Shape
from onotrain.nn.layers.recorder import BatchSums, Recorder


class LayerAlone:
    """What a layer computes of a batch.

    Parameters
    ----------
    kind
        Class of the layer.
    shape
        Of a sample.
    dtype
        Of all arrays.
    parameters
        Values other than the first ones, by name.
    options
        Of the layer.
    """

    def __init__(
        self, kind: type[Layer], shape: Shape, dtype: Any = "float64", parameters: Any = None, **options: Any
    ) -> None:
        self.kernels: Kernels = _kernels.load(dtype)
        self.layer = kind(kind.Options(**options), shape, None)
        first = {name: np.full(each.shape, each.initializer) for name, each in self.layer.parameters.items()}
        self.parameters = {
            name: np.array(values, self.kernels.dtype) for name, values in (first | (parameters or {})).items()
        }

    def pass_over(
        self, x: np.ndarray, dy: np.ndarray, *, trained: bool = True, dx: bool = True, accumulate: Any = None
    ) -> tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return y, dx, the gradients of the parameters, and what is saved, after a pass forward and backward."""
        rows, dtype = len(x), self.kernels.dtype
        saved = {
            name: np.full((rows, *each.shape), np.nan, dtype if each.dtype is None else each.dtype)
            for name, each in self.layer.saved.items()
        }
        sums = {}
        for name, size in self.layer.batch_sums.items():
            mine = np.full((rows, size), np.nan)
            sums[name] = BatchSums(mine, mine, np.full(size, np.nan), ())
        gradients = {
            name: np.full_like(each, np.nan if accumulate is None else accumulate)
            for name, each in self.parameters.items()
        }
        y, dinput = np.full((rows, *self.layer.out), np.nan, dtype), np.full_like(x, np.nan) if dx else None
        recorder = Recorder(
            self.kernels, [], 0, (x,), y, self.parameters, saved, gradients if trained else dict.fromkeys(gradients),
            (dinput,), dy.copy(), samples=max(1, rows), batch_sums=sums, accumulate=accumulate is not None,
            trained=trained,
        )  # fmt: skip
        self.layer.forward(recorder)
        self.layer.backward(recorder)
        self.kernels.program(recorder.calls).run(0)
        return y, dinput, gradients, saved

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return y after training."""
        y = np.full((len(x), *self.layer.out), np.nan, self.kernels.dtype)
        recorder = Recorder(self.kernels, [], 0, (x,), y, self.parameters)
        self.layer.predict(recorder)
        self.kernels.program(recorder.calls).run(0)
        return y
