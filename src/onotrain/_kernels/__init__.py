"""The arithmetic of training: compiled kernels for several levels of the CPU, and a reference implementation in NumPy.

``load(dtype)`` returns the kernels of the fastest build that this machine can run, or of the one that the environment
variable ``ONOTRAIN_KERNELS`` names; ``reference`` is NumPy.
"""

from __future__ import annotations

from onotrain._kernels._dispatch import available, load, path, select
from onotrain._kernels.memory import ALIGNMENT_BYTES, empty
from onotrain._kernels.table import Kernels

__all__ = ["ALIGNMENT_BYTES", "Kernels", "available", "empty", "load", "path", "select"]
