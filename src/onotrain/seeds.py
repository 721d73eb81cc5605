"""Keys of everything random: each purpose of a run has its own, so that none depends on another or on the ranks."""

from __future__ import annotations

import hashlib

import numpy as np


def key(seed: int, *purpose: object) -> int:
    """Return a 64-bit key for one purpose of a run, such as ``key(seed, "order", epoch)``."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(seed: int, name: str) -> np.random.Generator:
    """Return the random generator of tensor `name` for `seed`."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
