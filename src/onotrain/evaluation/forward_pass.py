"""Features of samples, normalised, through a model."""

from __future__ import annotations

import numpy as np

from onotrain._kernels import Kernels
from onotrain._kernels.recording import Program
from onotrain.data.normalization import Normalization
from onotrain.nn import Model
from onotrain.nn.layers.recorder import Packed
from onotrain.nn.plan import value
from onotrain.nn.workspace import Workspace

#: Rows of one pass.  Fixed, because the bits of a matrix product depend on its number of rows.
PASS_ROWS = 512
#: Numbers of rows whose programs are kept: that of whole passes, and of a few ends.
_PROGRAMS = 8


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
    packed
        Where weights are kept that are packed once, if the model's parameters do not change any more.
    """

    def __init__(
        self, model: Model, normalization: Normalization, kernels: Kernels, packed: Packed | None = None
    ) -> None:
        self._model, self._normalization, self._kernels = model, normalization, kernels
        self._packed = packed
        self._workspace = Workspace(model.plan.prediction, PASS_ROWS)
        self._affine: dict[np.dtype, tuple[np.ndarray, np.ndarray]] = {}
        #: By number of rows, for the parameters that the model was bound to.
        self._programs: dict[int, Program] = {}
        self._bound: np.ndarray | None = None

    def logits(self, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the last layer's output for these rows (int64) of `features`: a view that the next call overwrites."""
        model, dtype = self._model, features.dtype
        if dtype not in self._affine:
            self._affine[dtype] = self._normalization.for_storage(dtype, model.inputs, model.dtype)
        arrays = self._workspace.rows(0, len(rows))
        self._kernels.gather(features, rows, *self._affine[dtype], arrays[value(0)])
        self._program(arrays, len(rows)).run(0)
        return arrays[value(model.plan.output)]

    def _program(self, arrays: dict[str, np.ndarray], rows: int) -> Program:
        if self._bound is not self._model.bound:
            self._programs, self._bound = {}, self._model.bound
        if rows not in self._programs:
            if len(self._programs) == _PROGRAMS:
                self._programs.clear()
            self._programs[rows] = self._model.kernels.program(self._model.record_prediction(arrays, self._packed))
        return self._programs[rows]
