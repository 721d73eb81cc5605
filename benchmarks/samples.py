"""The files of samples that both sides train on, with arrays x, y, x_test and y_test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

MNIST, MNIST_FEW = "mnist.npz", "mnist-few.npz"
#: Samples of `MNIST_FEW`, for wide networks.
FEW = 10_240
#: Values of smooth functions: file, features, outputs, training samples.
SMOOTH = (("smooth-10-3.npz", 10, 3, 100_000), ("smooth-10-10.npz", 10, 10, 100_000), ("smooth-4-4.npz", 4, 4, 10_000))
SMOOTH_10_3, SMOOTH_10_10, SMOOTH_4_4 = (name for name, *_ in SMOOTH)
TESTS, WAVES, NOISE = 10_000, 16, 0.1


def write(folder: Path) -> None:
    """Write all files."""
    from onotrain.data import DataSpec, load_dataset

    train, test = load_dataset(DataSpec("mnist")), load_dataset(DataSpec("mnist", part="test"))
    for name, count in ((MNIST, len(train.features)), (MNIST_FEW, FEW)):
        x, y = train.features[:count], train.targets[:count]
        np.savez(folder / name, x=x, y=y, x_test=test.features, y_test=test.targets)
    for name, inputs, outputs, count in SMOOTH:
        x, y = smooth(inputs, outputs, count + TESTS)
        np.savez(folder / name, x=x[:count], y=y[:count], x_test=x[count:], y_test=y[count:])


def smooth(inputs: int, outputs: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 features, uniform from -1 to 1, and sums of waves of them, with deviation 1, and noise."""
    draw = np.random.default_rng(12)
    x = draw.uniform(-1.0, 1.0, (count, inputs))
    directions = draw.normal(0.0, 2.5 / inputs**0.5, (inputs, WAVES))
    y = np.sin(x @ directions + draw.uniform(0.0, 2 * np.pi, WAVES)) @ draw.normal(0.0, 1.0, (WAVES, outputs))
    y = (y - y.mean(0)) / y.std(0) + draw.normal(0.0, NOISE, y.shape)
    return x.astype(np.float32), y.astype(np.float32)
