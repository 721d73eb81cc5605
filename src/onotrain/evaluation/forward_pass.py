"""Features of samples, normalised, through a model."""

from __future__ import annotations

import numpy as np

from onotrain._kernels import Kernels, empty
from onotrain.data.normalization import Normalization
from onotrain.nn import Model

#: Rows of one pass.  Fixed, because the bits of a matrix product depend on its number of rows.
PASS_ROWS = 512


class ForwardPass:
    """Passes of at most `PASS_ROWS` rows in buffers of its own, so that several threads may predict with one model.

    Parameters
    ----------
    model
        Bound to parameters.
    normalization
        Of the training data.
    kernels
        Kernels of the model's dtype.
    """

    def __init__(self, model: Model, normalization: Normalization, kernels: Kernels) -> None:
        self._model, self._normalization, self._kernels = model, normalization, kernels
        self._x = empty((PASS_ROWS, model.inputs), model.dtype)
        self._outputs = [empty((PASS_ROWS, layer.outputs), model.dtype) for layer in model.layers]
        self._affine: dict[np.dtype, tuple[np.ndarray, np.ndarray]] = {}

    def logits(self, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the last layer's output for these rows (int64) of `features`: a view that the next call overwrites."""
        model, dtype = self._model, features.dtype
        if dtype not in self._affine:
            self._affine[dtype] = self._normalization.for_storage(dtype, model.inputs, model.dtype)
        x = self._x[: len(rows)]
        self._kernels.gather(features, rows, *self._affine[dtype], x)
        for layer, output in zip(model.layers, self._outputs, strict=True):
            y = output[: len(rows)]
            layer.predict(x, y)
            x = y
        return x
