"""What all sides train: the description, which peers get as JSON, and the samples of a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Training:
    """A network, its optimiser, and the samples; batches are of an epoch's permutation, the last one smaller.

    It is dense, with `convolutions` in front if there are any: filters, kernel and padding of each, which ends with the
    activation and the maxima of 2 x 2 positions.  They read the features as an `image` of channels, height and width.

    `data` is an NPZ file of the arrays x, y, x_test and y_test; images are bytes that `normalize` (mean and standard
    deviation, black being 0 and white 1) turns into float32.  Weights begin as Glorot's, biases as 0.  Weight decay is
    an L2 term of the gradient.
    """

    data: str
    widths: tuple[int, ...] = (784, 512, 256, 128, 10)
    convolutions: tuple[tuple[int, int, int], ...] = ()
    image: tuple[int, int, int] = (1, 28, 28)
    batch_size: int = 64
    epochs: int = 5
    activation: str = "relu"
    dropout: float = 0.2
    loss: str = "cross_entropy"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    #: The learning rate is halved every so many epochs; None: never.
    halve_every: int | None = 3
    normalize: tuple[float, float] | None = (0.1307, 0.3081)
    seed: int = 0
    #: Peers: epochs that are timed as one, for those which take no longer than a call of a framework.
    together: int = 1

    @classmethod
    def from_json(cls, text: str) -> Training:
        """Return what `to_json` has written."""
        return cls(**{name: _tuples(value) for name, value in json.loads(text).items()})

    def to_json(self) -> str:
        """Return the description as JSON."""
        return json.dumps(asdict(self))

    @property
    def dense(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each dense layer."""
        inputs = self.widths[0]
        if self.convolutions:
            _, height, width = self.image
            for channels, kernel, padding in self.convolutions:
                height, width = ((n + 2 * padding - kernel + 1) // 2 for n in (height, width))
                inputs = channels * height * width
        return list(zip((inputs, *self.widths[1:]), self.widths[1:], strict=False))

    @property
    def parameters(self) -> int:
        """How many numbers are learnt: weights and biases of all layers."""
        channels = [self.image[0], *(filters for filters, _, _ in self.convolutions)]
        windows = [count * kernel**2 for count, (_, kernel, _) in zip(channels, self.convolutions, strict=False)]
        layers = [*zip(windows, channels[1:], strict=True), *self.dense]
        return sum(inputs * outputs + outputs for inputs, outputs in layers)

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.learning_rate * 0.5 ** (epoch // self.halve_every if self.halve_every else 0)

    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """Return x, y, x_test, y_test: float32, and int64 where targets are classes."""
        with np.load(self.data) as file:
            x, y, x_test, y_test = (file[name] for name in ("x", "y", "x_test", "y_test"))
        if self.normalize:
            mean, std = self.normalize
            x, x_test = (((images.astype(np.float32) / 255) - mean) / std for images in (x, x_test))
        kind = np.int64 if self.loss == "cross_entropy" else np.float32
        return x.astype(np.float32), y.astype(kind), x_test.astype(np.float32), y_test.astype(kind)

    def order(self, epoch: int, samples: int) -> Array:
        """Return the order of the samples in an epoch."""
        return np.random.default_rng([self.seed, epoch]).permutation(samples)

    def score(self, predicted: Array, y: Array) -> float:
        """Return the accuracy of logits, or R2 of values (the mean over outputs)."""
        if self.loss == "cross_entropy":
            return float(np.mean(predicted.argmax(1) == y))
        return float(np.mean(1 - np.sum((predicted - y) ** 2, 0) / np.sum((y - y.mean(0)) ** 2, 0)))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def say(**values: Any) -> None:
    """Print a line for the program that compares."""
    print(json.dumps(values), flush=True)
