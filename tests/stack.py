"""Layers one after the other on arrays of their own, without a loss: what their forward and backward passes compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from onotrain import _kernels
from onotrain.config import Config
from onotrain.nn.initializers import initialize
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.network import Network
from onotrain.nn.shapes import Shape

SEED, STEP = 11, 4


def network(layers: list[dict[str, Any]], shape: Shape) -> Network:
    """Return layers behind samples of this shape, channels last."""
    whole = {
        "data": {"train": "digits"}, "loss": "mse", "training": {"epochs": 1, "batch_size": 8},
        "model": {"layers": [*layers, {"dense": 1}], "bias_initializer": {"name": "normal", "std": 0.5}},
    }  # fmt: skip
    spec = Config.from_mapping(whole).model
    made, x = Network(spec.model_copy(update={"layers": ()}), shape), 0
    made.shapes[0] = shape
    for number, layer in enumerate(spec.layers[:-1]):
        x = made.build(layer.kind, layer.options, x, "layers", number)
    return made


class Stack:
    """A network of layers that each read the output of the one before; arrays of `rows` samples.

    Parameters
    ----------
    layers
        As in a configuration.
    shape
        Of a sample, channels last.
    rows
        Of the batch.
    dtype
        To compute in.
    """

    def __init__(self, layers: list[dict[str, Any]], shape: Shape, rows: int, dtype: str = "float64") -> None:
        self.kernels = _kernels.load(dtype)
        self.network = network(layers, shape)
        self.layers = [node.layer for node in self.network.nodes]
        rng = np.random.default_rng(7)
        self.values = [np.zeros((rows, *each), dtype) for each in self.network.shapes]
        self.gradients = [np.zeros_like(each) for each in self.values]
        self.values[0][...] = rng.standard_normal(self.values[0].shape)
        self.parameters = [{n: np.empty(p.shape, dtype) for n, p in layer.parameters.items()} for layer in self.layers]
        self.dparameters = [{n: np.full_like(p, np.nan) for n, p in each.items()} for each in self.parameters]
        for layer, tensors in zip(self.layers, self.parameters, strict=True):
            for name, each in layer.parameters.items():
                initialize(each.initializer, tensors[name], rng, each.fans)
        saved = [
            {n: np.empty((rows, *s.shape), s.dtype or dtype) for n, s in each.saved.items()} for each in self.layers
        ]
        self._calls: list[list[Any]] = [[], [], []]
        recorders = [
            Recorder(
                self.kernels, [], number, (self.values[number],), self.values[number + 1], self.parameters[number],
                saved[number], self.dparameters[number], (self.gradients[number],), self.gradients[number + 1], SEED,
            )
            for number in range(len(self.layers))
        ]  # fmt: skip
        for calls, record in zip(self._calls, ("forward", "backward", "predict"), strict=True):
            order = recorders[::-1] if record == "backward" else recorders
            for recorder in order:
                getattr(self.layers[recorder.index], record)(recorder)
                calls += recorder.calls
                recorder.calls.clear()

    def _run(self, calls: list[Any]) -> None:
        self.kernels.program(calls).run(STEP)

    def forward(self) -> np.ndarray:
        """Return the output of training."""
        self._run(self._calls[0])
        return self.values[-1]

    def backward(self, dy: np.ndarray) -> None:
        """Leave the gradients of ``sum(y * dy)`` behind the last forward pass."""
        self.gradients[-1][...] = dy
        self._run(self._calls[1])

    def predict(self) -> np.ndarray:
        """Return the output after training."""
        self._run(self._calls[2])
        return self.values[-1]
