"""How ``checkpoint-v1.h5`` was made, which every later version must read. Not to be run again: that file is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onotrain.runs.checkpoint_encoder import encode
from onotrain.runs.checkpoint_format import Checkpoint

CONTENT = Checkpoint(
    arrays={
        "parameters/dense_0/weight": np.arange(12, dtype=np.float32).reshape(3, 4) / 8,
        "parameters/dense_0/bias": np.array([0.5, -0.25, np.pi], dtype=np.float32),
        "optimizer/m/dense_0/weight": np.full((3, 4), -1e-3, dtype=np.float64),
        "optimizer/m/dense_0/bias": np.array([np.nan, np.inf, -0.0]),
        "counters": np.array([2**63 - 1, -1], dtype=np.int64),
        "empty": np.zeros((0, 2), dtype=np.uint8),
    },
    metadata={
        "config": {"model": {"layers": [{"dense": {"units": 3}}]}, "optimizer": {"learning_rate": 1e-3}},
        "progress": {"epoch": 2, "steps": 57, "best": 0.1 + 0.2, "worst": float("inf")},
        "targets": {"class_names": ["null", "éins", "二"]},
        "seed": 2**64 - 1,
        "nothing": None,
    },
)

if __name__ == "__main__":
    Path(__file__).with_name("checkpoint-v1.h5").write_bytes(encode(CONTENT))
