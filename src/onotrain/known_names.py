"""Names in configurations that several packages give a meaning to."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

ActivationName = Literal["identity", "relu", "leaky_relu", "sigmoid", "tanh", "gelu"]
#: Activation functions, and the kernels' numbers for them: those of the enumeration in ``_kernels/activations.pxd``.
ACTIVATIONS: dict[ActivationName, int] = {name: code for code, name in enumerate(get_args(ActivationName))}

FormatName = Literal["hdf5", "npz", "npy", "csv", "tsv", "idx"]
#: Formats of data files.
FORMATS: tuple[FormatName, ...] = get_args(FormatName)


class BuiltIn(NamedTuple):
    """A built-in data set."""

    #: Of a sample.
    features: int
    #: As they are stored.
    dtype: str
    #: The part that a network is evaluated on, if nothing else is said.
    held_out: str


#: Data sets that go by a name instead of a path; `onotrain.data.builtin` loads them.
BUILT_IN = {"digits": BuiltIn(64, "float32", "train"), "mnist": BuiltIn(784, "uint8", "test")}
