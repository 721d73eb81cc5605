"""onotrain: neural networks trained from scratch with MPI on CPU clusters.

Importing the package starts no MPI and loads neither NumPy nor the compiled kernels; names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Config", "Observer", "Predictor", "Stop", "__version__", "fit", "load", "train"]

if TYPE_CHECKING:
    from onotrain.config import Config
    from onotrain.inference import Predictor, load
    from onotrain.training import fit, train
    from onotrain.training.observers import Observer, Stop

_HOME = {
    "Config": "onotrain.config",
    "Observer": "onotrain.training.observers",
    "Predictor": "onotrain.inference",
    "Stop": "onotrain.training.observers",
    "fit": "onotrain.training",
    "load": "onotrain.inference",
    "train": "onotrain.training",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its package when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'onotrain' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return __all__
