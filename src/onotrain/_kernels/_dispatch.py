"""Which build of the kernels runs here, and the kernels of one dtype as an object."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from onotrain.errors import PlatformError

REFERENCE = "reference"
VARIABLE = "ONOTRAIN_KERNELS"

#: Modules of compiled kernels, and whether each CPU level has a build of its own.
_MODULES = {
    "gemm": False, "random": False, "gather": True, "dense": True, "losses": True, "update": True, "codecs": True,
}  # fmt: skip
#: Modules of their twins.
_REFERENCES = ("reference", "reference_update", "reference_codecs")
_C_NAMES = {"float32": "float", "float64": "double"}
_STORAGE = {"uint8": "uint8_t", "float32": "float", "float64": "double"}

Kernel = Callable[..., None]
#: Returns a number: of an update the sum of squares of the summed gradient.
NumberKernel = Callable[..., float]


@dataclass(frozen=True, slots=True)
class Kernels:
    """All kernels of one dtype from one build; `reference` and `reference_codecs` document each of them.

    Arrays are C-contiguous; outputs come last and belong to the caller.  A wrong shape, dtype or layout raises
    ValueError, an index outside its range IndexError; either leaves the outputs as they were.
    """

    dtype: np.dtype[Any]
    path: str

    gemm: Kernel
    shuffle_positions: Kernel
    gather: Kernel
    dense_forward: Kernel
    dense_backward: Kernel
    dense_predict: Kernel
    elementwise_forward: Kernel
    elementwise_backward: Kernel
    elementwise_predict: Kernel
    softmax_cross_entropy: Kernel
    binary_cross_entropy: Kernel
    squared_error: Kernel
    absolute_error: Kernel
    huber: Kernel
    softmax: Kernel
    sigmoid: Kernel
    sum_gradients: NumberKernel
    update: NumberKernel
    add_scaled: Kernel
    sum_of_squares: NumberKernel
    largest_magnitude: NumberKernel
    encode_half: Kernel
    decode_half: Kernel
    encode_bfloat: Kernel
    decode_bfloat: Kernel
    encode_int8: Kernel
    decode_int8: Kernel
    keep_rest: Kernel


#: Names of the kernels.
NAMES = tuple(field.name for field in fields(Kernels) if field.name not in ("dtype", "path"))


def available() -> tuple[str, ...]:
    """Return the builds that this machine can run, the fastest first; ``reference`` (NumPy) is always the last."""
    if find_spec("onotrain._kernels.cpu") is None:
        return (REFERENCE,)
    levels = import_module("onotrain._kernels.cpu").levels()
    return (*(level for level in levels if find_spec(f"onotrain._kernels.{level}.dense")), REFERENCE)


def path() -> str:
    """Return the build in use: the one that ``ONOTRAIN_KERNELS`` names, else the fastest.

    Raises
    ------
    PlatformError
        The variable names a build that does not exist or cannot run here, or nothing is compiled.
    """
    usable = available()
    wanted = os.environ.get(VARIABLE, "")
    if wanted:
        return _checked(wanted, usable)
    if usable == (REFERENCE,):
        raise PlatformError(
            "the compiled kernels are missing from this installation",
            hint=f"install the package, or run with {VARIABLE}={REFERENCE} (NumPy, many times slower)",
        )
    return usable[0]


def select(path: str) -> None:
    """Use this build from the next `load` on, here and in child processes: it sets ``ONOTRAIN_KERNELS``.

    Raises
    ------
    PlatformError
        The build does not exist or cannot run here.
    """
    os.environ[VARIABLE] = _checked(path, available())


def _checked(wanted: str, usable: tuple[str, ...]) -> str:
    if wanted not in usable:
        raise PlatformError(
            f"kernels ({VARIABLE}): got {wanted!r}, expected one of {', '.join(usable)}",
            hint=f"unset {VARIABLE} to use the fastest that this machine can run",
        )
    return wanted


def load(dtype: DTypeLike, build: str | None = None) -> Kernels:
    """Return the kernels for float32 or float64.

    Parameters
    ----------
    dtype
        What parameters and activations are computed in.
    build
        One of `available`; by default that of `path`.

    Raises
    ------
    ValueError
        Another dtype.
    PlatformError
        The build does not exist or cannot run here.
    """
    kind = np.dtype(dtype)
    if kind.name not in _C_NAMES:
        raise ValueError(f"dtype: got {kind.name}, expected float32 or float64")
    build = path() if build is None else _checked(build, available())
    if build == REFERENCE:
        return Kernels(kind, build, **_functions(_REFERENCES))
    functions = _functions(f"{build}.{module}" if levelled else module for module, levelled in _MODULES.items())
    gather = functions.pop("gather")
    shuffle = functions.pop("shuffle_positions")
    special = {name: function[_C_NAMES[kind.name]] for name, function in functions.items()}
    return Kernels(kind, build, gather=_gather(gather, kind), shuffle_positions=shuffle, **special)


def _functions(modules: Iterable[str]) -> dict[str, Any]:
    """Return the kernels in these modules by name."""
    found: dict[str, Any] = {}
    for module in modules:
        functions = import_module(f"onotrain._kernels.{module}")
        found |= {name: getattr(functions, name) for name in NAMES if hasattr(functions, name)}
    return found


def _gather(fused: Any, kind: np.dtype[Any]) -> Kernel:
    """Return `gather` for one dtype of batch: the dtype of the storage is the one thing that is chosen per call."""
    by_storage = {np.dtype(name): fused[c_name, _C_NAMES[kind.name]] for name, c_name in _STORAGE.items()}

    def gather(source: np.ndarray, index: np.ndarray, shift: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
        kernel = by_storage.get(source.dtype)
        if kernel is None:
            raise ValueError(f"source: got {source.dtype}, expected uint8, float32 or float64")
        kernel(source, index, shift, scale, out)

    return gather
