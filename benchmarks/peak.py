"""The float32 peak of cores, by a program in C."""

from __future__ import annotations

import os
from pathlib import Path

from processes import run_program
from programs import ROOT

_FLAGS = ("-O3", "-march=native", "-pthread")


def peak_gflops(folder: Path, cores: int) -> float:
    """Return the peak of so many cores together [GFLOP/s]; the program is compiled into the folder once."""
    program = folder / "peak"
    if not program.exists():
        run_program(["cc", *_FLAGS, ROOT / "benchmarks" / "peak.c", "-o", program], folder, os.environ)
    return float(run_program([program, cores], folder, os.environ))
