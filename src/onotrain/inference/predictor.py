"""A trained network, ready to predict."""

from __future__ import annotations

import math
import os
import threading
from typing import Any

import numpy as np

from onotrain import _kernels
from onotrain._kernels import Kernels
from onotrain.data.dataset import are_pixels, first_no_code, no_code
from onotrain.data.normalization import Normalization
from onotrain.data.tables.memory import array_of, table_of
from onotrain.errors import DataError
from onotrain.evaluation.forward_pass import PASS_ROWS, ForwardPass
from onotrain.inference.outputs import Outputs
from onotrain.known_names import Precision
from onotrain.nn import Model
from onotrain.nn.layers.recorder import Packed
from onotrain.runs.checkpoint_format import Checkpoint
from onotrain.runs.metadata import ModelMetadata, Vectors, check_size, parameters_only, read_arrays
from onotrain.runs.run_directory import find_checkpoint

#: What pixels may come to as numbers between 0 and 1, resampled images included.
_BRIGHTEST = 2.0


class _OfThread(threading.local):
    """Buffers of one pass, of each thread its own."""

    def __init__(self, model: Model, normalization: Normalization, kernels: Kernels, packed: Packed) -> None:
        self.forward = ForwardPass(model, normalization, kernels, packed)


class Predictor:
    """A network with its normalisation and class names; `onotrain.load` makes one.

    Several threads may predict with one object at a time: parameters are only read, and each thread has its own
    buffers.

    Parameters
    ----------
    metadata
        Of the network.
    parameters
        Flat vector of its layout; kept, not copied, and not to change from now on: predictions pack weights once where
        that pays.
    kernels
        Kernels of the network's dtype; default: the fastest of this machine, whose products are in this dtype.

    Examples
    --------
    >>> network = onotrain.load("runs/digits")                      # doctest: +SKIP
    >>> network.predict(images).shape                               # doctest: +SKIP
    (1797, 10)
    >>> network.predict_names(images[:3])                           # doctest: +SKIP
    ['0', '1', '2']
    """

    def __init__(self, metadata: ModelMetadata, parameters: np.ndarray, kernels: Kernels | None = None) -> None:
        self.metadata = metadata
        #: Read only.
        self.parameters = parameters.view()
        self.parameters.flags.writeable = False
        self.kernels = _kernels.load(metadata.config.training.dtype) if kernels is None else kernels
        self.model = metadata.model(self.kernels)
        self.model.bind(self.parameters)
        # Scaled targets may lie closer together than float32 tells apart in the units of the data.
        self.output = Outputs.of(metadata, self.model.dtype if metadata.codec.scaling is None else np.dtype(np.float64))
        self._scaling = metadata.codec.output_scaling
        packed: Packed = {}  # of all threads
        self._of_thread = _OfThread(self.model, metadata.normalization, self.kernels, packed)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, source: str, precision: Precision = "full") -> Predictor:
        """Return the network of a checkpoint; `source` names it in messages, `precision` is that of `load`.

        Raises
        ------
        CheckpointError
            Its arrays do not fit its configuration.
        UsageError, PlatformError
            Network or CPU do not fit the precision.
        """
        metadata = ModelMetadata.from_dict(checkpoint.metadata, source)
        kernels = _kernels.load(metadata.config.training.dtype, precision=precision)
        layout = metadata.model_of(kernels, source).layout
        check_size(checkpoint, layout, source)
        parameters = layout.zeros()
        read_arrays(parameters_only(checkpoint), layout, Vectors(parameters), source)
        return cls(metadata, parameters, kernels)

    def __repr__(self) -> str:
        return (
            f"<Predictor: {self.output.task}, {self.model.inputs} features -> {self.outputs} outputs, "
            f"{self.model.layout.parameter_count} parameters>"
        )

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes or labels; None if they are only numbers, or for a regression."""
        return None if self.output.regression else self.output.names

    @property
    def outputs(self) -> int:
        """Number of values predicted for a sample."""
        return self.model.outputs

    def predict(self, x: Any) -> np.ndarray:
        """Return probabilities (for a classifier) or values (for a regression), one row for each sample.

        Parameters
        ----------
        x
            Samples as they were before normalisation: ``(n, features)``, or ``n`` samples of the shape of the training
            data, with or without axes of length 1; uint8 (pixels, which are divided by 255) or anything else that
            converts to float32 or float64.  One sample alone may leave out the first axis.  Of a network that was
            trained on a table: a mapping of column names to values (a dict of arrays, a data frame), a structured
            array, or the columns in their order.

        Returns
        -------
        numpy.ndarray
            Shape ``(n, outputs)``, the network's dtype, or float64 if targets were scaled.  One output of a binary
            classifier: the probability of its second class.  Of a regression some values of each target, side by side:
            its quantiles (loss quantile), or its mean and standard deviation (gaussian_nll).  A sample with NaN gives
            NaN.

        Raises
        ------
        DataError
            Shape or type do not fit the network.
        """
        features = self.features(x)
        out = np.empty((len(features), self.outputs), self.output.dtype)
        self.predict_rows(features, np.arange(len(features)), out)
        return out

    def predict_classes(self, x: Any) -> np.ndarray:
        """Return the number of the most probable class of each sample, int64 ``(n,)``.

        For a multi-label network: bool ``(n, labels)``, true where the probability is above 0.5.

        Raises
        ------
        UsageError
            The network does not classify.
        DataError
            Shape or type of `x` do not fit the network.
        """
        return self.output.decide(self.predict(x))

    def predict_names(self, x: Any) -> list[str] | list[tuple[str, ...]]:
        """Return the name of the most probable class of each sample; for a multi-label network, those of its labels.

        Where the classes have no names, their numbers stand in.  Errors as for `predict_classes`.
        """
        names, chosen = self.output.shown_names, self.predict_classes(x)
        if chosen.ndim == 1:
            return [names[number] for number in chosen]
        return [tuple(name for name, yes in zip(names, row, strict=True) if yes) for row in chosen]

    def features(self, x: Any) -> np.ndarray:
        """Return samples as a C-contiguous ``(n, features)`` array of uint8, float32 or float64; see `predict`."""
        preparation, shape, inputs = self.metadata.preparation, self.metadata.feature_shape, self.model.inputs
        if preparation is not None:
            if len(shape) > 1 and isinstance(x, np.ndarray) and x.dtype.names is None:
                x = _in_rows(x, shape)
            table = table_of(x, preparation.inputs)
            return preparation.transform(table, self.model.dtype, lenient=True)
        x = array_of(x)
        if x.dtype.kind not in "uifb":
            raise DataError(f"samples are of type {x.dtype}; expected numbers")
        x = _in_rows(x, shape)
        if x.ndim != 2 or x.shape[1] != inputs:  # noqa: PLR2004 - the number of axes of a matrix
            expected = f"(n, {inputs})" if len(shape) == 1 else f"(n, {', '.join(map(str, shape))}) or (n, {inputs})"
            raise DataError(
                f"samples in an array of shape {x.shape} do not fit the network; expected {expected}",
                hint=f"each sample needs the {inputs} features of the training data",
            )
        if x.dtype == np.uint8 and not are_pixels(x, shape, self.metadata.feature_dtype == "uint8" or None):
            x = x.astype(np.float32)
        return np.ascontiguousarray(x, x.dtype if x.dtype in (np.uint8, np.float32, np.float64) else np.float32)

    def predict_rows(self, features: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
        """Write the predictions for some rows (int64) of `features` ``(n, d)`` to `out` ``(r, outputs)``."""
        scaling = self._scaling
        for begin in range(0, len(rows), PASS_ROWS):
            chosen = rows[begin : begin + PASS_ROWS]
            self._check_pixels(features, chosen)
            self._check_codes(features, chosen)
            logits, part = self._of_thread.forward.logits(features, chosen), out[begin : begin + len(chosen)]
            if scaling is None:
                self.model.loss.activate(logits, part)
            else:
                part[...] = scaling.undo(self.model.loss.predict(logits))

    def _check_pixels(self, features: np.ndarray, rows: np.ndarray) -> None:
        """Refuse pixels of 0 to 255 that have become another type on their way: they would count 255 times."""
        if self.metadata.feature_dtype != "uint8" or features.dtype == np.uint8:
            return
        brightest = features[rows].max(initial=0)
        if brightest > _BRIGHTEST:
            raise DataError(
                f"a feature is {brightest:g}, but the network was trained on pixels (uint8), standing for 0 to 1",
                hint="give the samples as uint8, or divide them by 255",
            )

    def _check_codes(self, features: np.ndarray, rows: np.ndarray) -> None:
        """Refuse what is no code of a category though it should be."""
        codes = self.metadata.codes
        wrong = first_no_code(features[rows], codes) if codes else None
        if wrong is not None:
            row, column = int(rows[wrong[0]]), wrong[1]
            raise no_code(f"sample {row}, feature {column}", features[row, column], codes[column])


def _in_rows(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return samples of this shape, or one sample, flat ``(n, features)``; others as they are.

    Axes of length 1 do not matter: an image of one channel is often written without it.  A network that was trained on
    flat rows takes any shape that flattens to them.
    """
    inputs = math.prod(shape)
    if x.shape in (shape, (inputs,)) or (len(shape) > 1 and _longer(x.shape) == _longer(shape)):
        return x.reshape(1, inputs)
    of_sample = x.shape[1:]
    flattens = len(shape) == 1 and x.ndim > 1 and math.prod(of_sample) == inputs
    if flattens or of_sample == (inputs,) or (len(shape) > 1 and _longer(of_sample) == _longer(shape)):
        return x.reshape(len(x), inputs)
    return x


def _longer(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes that are longer than 1."""
    return tuple(extent for extent in shape if extent > 1)


def load(run_or_checkpoint: str | os.PathLike[str], *, precision: Precision = "full") -> Predictor:
    """Return the network of a run directory (its best or latest checkpoint) or of one checkpoint file.

    Starts no MPI.

    Parameters
    ----------
    run_or_checkpoint
        Its path.
    precision
        What matrix products are computed in, whatever they were computed in when the network was trained: ``full``, its
        dtype; ``bf16``, bfloat16 with float32 sums, which is faster and has errors of a few thousandths.

    Raises
    ------
    UsageError
        There is no such run, or ``bf16`` for a network of float64.
    CheckpointError
        The checkpoint is damaged, or not one of ours.
    PlatformError
        ``bf16`` on a CPU without AVX-512 BF16.

    Examples
    --------
    >>> onotrain.load("runs/digits").predict(images)                # doctest: +SKIP
    """
    found = find_checkpoint(os.fspath(run_or_checkpoint))
    return Predictor.from_checkpoint(found.checkpoint, str(found.path), precision)
