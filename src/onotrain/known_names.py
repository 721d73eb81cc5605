"""Names in configurations that several packages give a meaning to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Literal, NamedTuple, get_args

ActivationName = Literal[
    "identity", "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu", "elu", "softplus",
]  # fmt: skip
#: Activation functions, and the kernels' numbers for them: those of the enumeration in ``_kernels/activations.pxd``.
ACTIVATIONS: dict[ActivationName, int] = {name: code for code, name in enumerate(get_args(ActivationName))}

EdgeName = Literal["edge", "reflect"]
#: What comes in at the border of an image that is shifted, and the kernels' numbers for it (``_kernels/samples.pyx``).
BORDERS: dict[Literal["constant"] | EdgeName, int] = {
    name: code for code, name in enumerate(("constant", *get_args(EdgeName)))
}

Precision = Literal["full", "bf16"]
#: What matrix products are computed in: in the dtype of the network, or in bfloat16 with sums of float32.
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

FormatName = Literal["hdf5", "netcdf", "npz", "npy", "csv", "tsv", "parquet", "arrow", "idx"]
#: Formats of data files.
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
#: How the names of such files end; IDX files may also be called what the MNIST files are.
SUFFIXES: dict[str, FormatName] = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".mat": "hdf5",
    ".nc": "netcdf",
    ".nc4": "netcdf",
    ".npz": "npz",
    ".npy": "npy",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".csv.bz2": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".tsv.bz2": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".idx": "idx",
    ".idx.gz": "idx",
}
_IDX_NAME = re.compile(r"idx\d-[a-z0-9]+(\.gz)?$")


def format_of_file(path: str) -> FormatName | None:
    """Return the format that the name of a data file stands for; None if it does not tell."""
    name = PurePath(path).name.lower()
    found = (format_name for suffix, format_name in SUFFIXES.items() if name.endswith(suffix))
    return next(found, "idx" if _IDX_NAME.search(name) else None)


def place_of(name: str, names: Sequence[str]) -> int | None:
    """Return which of some outputs, labels or classes a name means; None if there is none.

    A number means the one at this place, from 0 on, if none is called so: those of arrays without names of their own
    are called ``y[0]``, ``y[1]``, ...
    """
    if name in names:
        return names.index(name)
    return int(name) if name.isascii() and name.isdigit() and int(name) < len(names) else None


#: Formats of networks for other programs; `onotrain.inference.export` writes them.
EXPORT_FORMATS = ("safetensors", "npz", "onnx")


#: Formats whose files are tables: columns of any kind, in place of arrays of features and targets.
TABLES: tuple[FormatName, ...] = ("csv", "tsv", "parquet", "arrow")


class BuiltIn(NamedTuple):
    """A built-in data set."""

    #: Of a sample.
    shape: tuple[int, ...]
    #: As they are stored.
    dtype: str
    #: The part that a network is evaluated on, if nothing else is said.
    held_out: str


#: Data sets that go by a name instead of a path; `onotrain.data.builtin` loads them.
BUILT_IN = {"digits": BuiltIn((8, 8), "float32", "train"), "mnist": BuiltIn((28, 28), "uint8", "test")}
