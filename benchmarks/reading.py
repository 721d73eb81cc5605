"""A text table of numbers read by onotrain and by polars in turn, or the memory that reading a large one needs.

    python benchmarks/reading.py [--rows 200000] [--columns 30] [--pairs 31]
    python benchmarks/reading.py --memory --rows 7000000

Needs polars beside the package, which it also uses to write the file.  The table has normal numbers of six decimals;
7,000,000 x 30 of them make 2 GB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def write(path: Path, rows: int, columns: int) -> None:
    """Write the table, a part of its rows after the other."""
    import polars as pl

    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        for first in range(0, rows, 100_000):
            shape = (min(100_000, rows - first), columns)
            part = pl.DataFrame(generator.normal(size=shape).round(6), schema=[f"c{c}" for c in range(columns)])
            part.write_csv(file, include_header=first == 0)


def ours(path: str) -> Any:
    """Read the table into columns of float64."""
    from onotrain.data import DataSpec
    from onotrain.data.sources import read_table

    return read_table(DataSpec(path))


def beside(path: str) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by name."""
    import polars as pl
    from pyarrow import csv

    return {
        "onotrain, columns": lambda: ours(path),
        "polars, columns": lambda: pl.read_csv(path),
        "onotrain, matrix": lambda: np.stack([column.values for column in ours(path)], axis=1),
        "polars, matrix": lambda: pl.read_csv(path).to_numpy(),
        "pyarrow, columns": lambda: csv.read_csv(path),
    }


def compare(path: str, pairs: int) -> None:
    """Print the seconds of all, and the ratios of ours to polars of the same round."""
    sides = beside(path)
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(pairs):
        for name, read in sides.items():
            start, used = time.perf_counter(), time.process_time()
            result = read()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - used)
            del result
    print("| what | median [s] | least [s] | CPU, least [s] |\n| --- | --- | --- | --- |")
    for name, seconds in wall.items():
        print(f"| {name} | {statistics.median(seconds):.3f} | {min(seconds):.3f} | {min(cpu[name]):.3f} |")
    for kind in ("columns", "matrix"):
        ratios = sorted(a / b for a, b in zip(wall[f"onotrain, {kind}"], wall[f"polars, {kind}"], strict=True))
        print(f"{kind}: {statistics.median(ratios):.2f} times polars ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def memory(path: str) -> None:
    """Print how much memory reading needs beside that of the result; in a process that has done nothing else."""
    import onotrain.data.sources
    import onotrain.data.tables.text  # noqa: F401 - libraries are not part of what reading needs

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    table = ours(path)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    result = sum(column.values.nbytes for column in table)
    print(f"{seconds:.1f} s; result {result / 1e9:.3f} GB, memory {peak / 1e9:.3f} GB: {peak / result:.3f} times")


def main() -> None:
    """Write the file and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--memory", action="store_true")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.csv"
        fresh = multiprocessing.get_context("spawn")
        writer = fresh.Process(target=write, args=(path, said.rows, said.columns))
        writer.start()
        writer.join()
        print(f"{said.rows:,} x {said.columns}, {path.stat().st_size / 1e6:,.0f} MB")
        if said.memory:
            memory(str(path))
        else:
            compare(str(path), said.pairs)


if __name__ == "__main__":
    main()
