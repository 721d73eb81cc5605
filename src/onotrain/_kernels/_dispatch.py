"""Which build of the kernels runs here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from onotrain._kernels import reference_bf16
from onotrain._kernels.table import NAMES, Kernels
from onotrain.errors import PlatformError, UsageError
from onotrain.known_names import Precision

REFERENCE = "reference"
VARIABLE = "ONOTRAIN_KERNELS"

#: Modules of compiled kernels, and whether each CPU level has a build of its own.
_MODULES = {
    "gemm": False, "order": True, "statistics": False, "gather": True, "dense": True, "conv": True,
    "elementwise": True, "group_norm": True, "batch_norm": True, "batch_norm_backward": True,
    "softmax": True, "losses": True, "distributions": True, "update": True, "update_rows": True,
    "codecs": True, "pool": True, "samples": True, "embedding": False,
}  # fmt: skip
#: Those that have products, which a build of its own computes in bfloat16, and the build that it goes with.
_MODULES_WITH_PRODUCTS = ("dense", "conv", "update")
_BF16 = {"x86_64_v4": "x86_64_v4_bf16"}
#: Kernels that are not chosen by the dtype alone.
_UNIFORM = (
    "gather", "take", "shuffle_positions", "batch_order", "publish", "publish_sum", "total", "clip", "sum_rows",
)  # fmt: skip
_C_NAMES = {"float32": "float", "float64": "double"}
_STORAGE = {"uint8": "uint8_t", "float32": "float", "float64": "double"}


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


def load(dtype: DTypeLike, build: str | None = None, precision: Precision = "full") -> Kernels:
    """Return the kernels for float32 or float64.

    Parameters
    ----------
    dtype
        What parameters and activations are computed in.
    build
        One of `available`; by default that of `path`.
    precision
        ``bf16``: matrix products of float32 are computed in bfloat16, with sums of float32.

    Raises
    ------
    ValueError
        Another dtype.
    UsageError
        ``bf16`` for float64.
    PlatformError
        The build does not exist or cannot run here, or does not multiply in bfloat16.
    """
    kind = np.dtype(dtype)
    if kind.name not in _C_NAMES:
        raise ValueError(f"dtype: got {kind.name}, expected float32 or float64")
    build = path() if build is None else _checked(build, available())
    if precision == "bf16":
        _check_bf16(kind, build)
    if build == REFERENCE:
        return _reference(kind, precision)
    program = import_module("onotrain._kernels.program").Program
    return Kernels(kind, build, _compiled(kind, build, precision), program, precision)


@cache
def _compiled(kind: np.dtype[Any], build: str, precision: Precision) -> Mapping[str, Callable[..., Any]]:
    """Return all kernels of a compiled build.  Kept: to look them up takes milliseconds, for every model anew."""
    functions: dict[str, Any] = {}
    for module, levelled in _MODULES.items():
        level = _BF16[build] if precision == "bf16" and module in _MODULES_WITH_PRODUCTS else build
        compiled = import_module(f"onotrain._kernels.{level}.{module}" if levelled else f"onotrain._kernels.{module}")
        functions |= {name: getattr(compiled, name) for name in NAMES if hasattr(compiled, name)}
    of_dtype = {name: function[_C_NAMES[kind.name]] for name, function in functions.items() if name not in _UNIFORM}
    own = {name: functions[name] for name in _UNIFORM} | {"gather": _gather(functions["gather"], kind)}
    return of_dtype | own


def _reference(kind: np.dtype[Any], precision: Precision) -> Kernels:
    if precision == "full":
        return Kernels(kind, REFERENCE)
    full = {name: getattr(Kernels, name) for name in NAMES}
    return Kernels(kind, REFERENCE, full | reference_bf16.KERNELS, precision=precision)


def _check_bf16(kind: np.dtype[Any], build: str) -> None:
    """Refuse products in bfloat16 where they are not what the network asks for, or would only be slow."""
    if kind != np.float32:
        raise UsageError(
            f"precision bf16: got a network of {kind.name}, expected float32",
            hint="bf16 is for speed: leave out the precision, or train with dtype float32",
        )
    if build == REFERENCE:
        return
    if build not in _BF16 or not import_module("onotrain._kernels.cpu").has_bf16():
        why = "this CPU has no AVX-512 BF16" if build == available()[0] else f"kernels {build} do not use AVX-512 BF16"
        raise PlatformError(
            f"precision bf16: {why}, without which bf16 is slower than float32",
            hint=f"leave out the precision; for tests, {VARIABLE}={REFERENCE} computes the same numbers, slowly",
        )


def _gather(fused: Any, kind: np.dtype[Any]) -> Callable[..., None]:
    """Return `gather` for one dtype of batch: the dtype of the storage is the one thing that is chosen per call."""
    own = _C_NAMES[kind.name]
    by_storage = {
        np.dtype(name): fused[c_name, "double" if name == "float64" else own, own] for name, c_name in _STORAGE.items()
    }

    def gather(
        source: np.ndarray, index: np.ndarray, shift: np.ndarray, scale: np.ndarray, out: np.ndarray,
        record: bool = False,
    ) -> Any:  # fmt: skip
        kernel = by_storage.get(source.dtype)
        if kernel is None:
            raise ValueError(f"source: got {source.dtype}, expected uint8, float32 or float64")
        return kernel(source, index, shift, scale, out, record)

    return gather
