"""The arithmetic of training: compiled kernels for several levels of the CPU, each with a NumPy twin.

``load(dtype)`` returns the kernels of the fastest build that this machine can run, or of the one that the environment
variable ``ONOTRAIN_KERNELS`` names; ``reference`` is the NumPy twin.
"""

from __future__ import annotations

from onotrain._kernels._dispatch import Kernels, available, load, path, select
from onotrain._kernels.memory import ALIGNMENT_BYTES, empty

__all__ = ["ALIGNMENT_BYTES", "Kernels", "available", "empty", "load", "path", "select"]
