"""Built-in data sets: `digits`, which the package carries, and `mnist`, which `onotrain data fetch` puts in place."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np

from onotrain.data import idx
from onotrain.data.dataset import Dataset, DataSpec, make_dataset
from onotrain.errors import DataError

_CLASSES = tuple("0123456789")
_PARTS = {"train": "train", "test": "t10k"}


def data_dir() -> Path:
    """Return the directory of fetched data sets: ``$ONOTRAIN_DATA_DIR``, or else ``onotrain`` in the user's cache."""
    chosen = os.environ.get("ONOTRAIN_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "onotrain"


def load(spec: DataSpec) -> Dataset:
    """Load a built-in data set or a part of it.

    Raises
    ------
    DataError
        It is not there, is damaged, or has no such part.
    """
    if spec.features is not None or spec.targets:
        raise DataError(f"{spec.path}: data.features and data.targets do not apply to a built-in data set")
    if spec.part not in _PARTS:
        raise DataError(f"{spec.path}: no part {spec.part!r}, expected one of {', '.join(_PARTS)}")
    return _LOADERS[spec.path](spec)


def _load_digits(spec: DataSpec) -> Dataset:
    """Load the 1,797 images of 8 x 8 pixels with values 0 to 16."""
    if spec.part != "train":
        raise DataError(
            "digits: this data set has no test part", hint="use a fraction of it, such as data.validation: 0.2"
        )
    with resources.files("onotrain.data").joinpath("files/digits.npz").open("rb") as file, np.load(file) as arrays:
        # Not pixels of 0 to 255: as uint8 they would be taken for such.
        features, targets = arrays["x"].astype(np.float32), arrays["y"]
    return make_dataset(features, None if spec.without_targets else targets, "digits", class_names=_CLASSES)


def _load_mnist(spec: DataSpec) -> Dataset:
    """Load MNIST from its IDX files."""
    stem = _PARTS[spec.part]
    images = _mnist_file(f"{stem}-images-idx3-ubyte")
    source = f"mnist ({images})"
    features = idx.read_array(images)
    if features.ndim != 3 or features.dtype != np.uint8:
        raise DataError(f"{source}: {features.dtype} of shape {features.shape}, expected grey images (samples, 28, 28)")
    targets = None if spec.without_targets else idx.read_array(_mnist_file(f"{stem}-labels-idx1-ubyte"))
    return make_dataset(features, targets, source, class_names=_CLASSES, pixels=True)


def _mnist_file(name: str) -> Path:
    """Return the path of one of MNIST's files, gzipped or not."""
    directory = data_dir() / "mnist"
    for path in (directory / name, directory / f"{name}.gz"):
        if path.exists():
            return path
    raise DataError(
        f"mnist: no file {name}[.gz] in {directory}",
        hint="run `onotrain data fetch mnist --from DIR` with the directory that has its four files (without --from: "
        "download), or set ONOTRAIN_DATA_DIR to the directory that has mnist/",
    )


_LOADERS: dict[str, Callable[[DataSpec], Dataset]] = {"digits": _load_digits, "mnist": _load_mnist}
