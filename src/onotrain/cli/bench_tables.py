"""What ``onotrain bench`` shows of its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from onotrain.cli.tables import FittedTable, table
from onotrain.text import count

Result = dict[str, Any]


def micro(seconds: Result) -> list[str]:
    """Return median, and min to max, in microseconds."""
    return [_micro(seconds["median"]), f"{_micro(seconds['min'])} to {_micro(seconds['max'])}"]


def _micro(seconds: float) -> str:
    value = seconds * 1e6
    return f"{value:,.{0 if value >= 1000 else 1 if value >= 10 else 2}f}"


def _number(value: float | None, decimals: int = 1) -> str:
    return "" if value is None else f"{value:,.{decimals}f}"


def size(nbytes: int) -> str:
    """Return a number of bytes in its largest binary unit."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if nbytes >= unit:
            return f"{nbytes / unit:,.{0 if nbytes % unit == 0 else 1}f} {name}"
    return f"{nbytes} B"


def kernel_tables(result: Result) -> Iterator[FittedTable]:
    """Yield a table for each number of rows, the updates first, and one of packed weights."""
    columns = ["kernel", "of", "us", "min to max", "GFLOP/s", "GEMM", "of GEMM", "GB/s"]
    for rows in dict.fromkeys(kernel["rows"] for kernel in result["kernels"]):
        lines = [
            [
                k["kernel"], k["of"], *micro(k["seconds"]), _number(k["gflops"]), _number(k["gemm_gflops"]),
                _number(None if k["of_gemm"] is None else k["of_gemm"]["median"], 2), _number(k["gbytes_per_s"]),
            ]
            for k in result["kernels"]
            if k["rows"] == rows
        ]  # fmt: skip
        yield table(f"{rows} rows a rank" if rows else "updates", columns, lines, text=["of"])
    columns = ["rows", "of", "in each call us", "once us", "each / once", "packing us", "taken"]
    lines = [
        [
            f"{p['rows']}", p["of"], *(_micro(p[f"{way}_seconds"]["median"]) for way in ("each", "once")),
            _number(p["each_of_once"]["median"], 2), _micro(p["pack_seconds"]["median"]), p["taken"],
        ]
        for p in result["packing"]
    ]  # fmt: skip
    yield table("prediction, weights packed in each call or once", columns, lines, text=["of", "taken"])


def step_tables(result: Result) -> Iterator[FittedTable]:
    """Yield throughput by ranks, and the parts of a step with most ranks."""
    lines = [
        [
            f"{step['rows']}", f"{step['ranks']}", *micro(step["seconds"]), _number(step["samples_per_s"]["median"], 0),
            _number(step["speed_up"], 2), _number(step["efficiency"], 2), *micro(step["update_seconds"]),
        ]
        for step in result["steps"]
    ]  # fmt: skip
    columns = ["rows", "ranks", "step us", "min to max", "samples/s", "speed-up", "of ideal", "update us", "min to max"]
    yield table(f"steps, {result['strategy']}, {result['optimizer']}; update: reduce, update, barriers", columns, lines)
    for rows in dict.fromkeys(step["rows"] for step in result["steps"]):
        most = max((step for step in result["steps"] if step["rows"] == rows), key=lambda step: step["ranks"])
        yield _parts(most)


def _parts(step: Result) -> FittedTable:
    """Return where the time of one step goes."""
    parts = step["parts_seconds"]
    whole = fmean(parts["step"])
    lines = [
        [
            name, _micro(fmean(ranks)), f"{100 * fmean(ranks) / whole:.1f} %", _micro(min(ranks)), _micro(max(ranks)),
            _number(sum(step["parts_operations"].get(name, ())) / sum(ranks) / 1e9 or None),
        ]
        for name, ranks in parts.items()
        if name == "step" or max(ranks) > 0
    ]  # fmt: skip
    title = f"where it goes: {step['rows']} rows on {count(step['ranks'], 'rank')}"
    return table(title, ["part", "us", "share", "least rank", "most rank", "GFLOP/s"], lines)


def allreduce_tables(result: Result) -> Iterator[FittedTable]:
    """Yield barriers, and sums by size."""
    names = {"node_seconds": "ours, node", "mpi_node_seconds": "MPI, node", "mpi_seconds": "MPI, all ranks"}
    yield table("barriers", ["barrier", "us", "min to max"], [
        [name, *micro(result["barriers"][key])] for key, name in names.items()
    ])  # fmt: skip
    methods = {"node": "node", "strategy_allreduce": "allreduce", "strategy_flat": "flat", "mpi": "MPI"}
    columns = ["size", *(f"{name} {unit}" for name in methods.values() for unit in ("us", "GB/s"))]
    lines = [
        [
            size(entry["bytes"]),
            *(
                text
                for way in methods
                for text in (_micro(entry[f"{way}_seconds"]["median"]), _number(entry[f"{way}_gbytes_per_s"], 2))
            ),
        ]
        for entry in result["sums"]
    ]
    title = "sums: in the node's memory; steps of the strategies, update included; MPI_Allreduce"
    yield table(title, columns, lines)


def predict_tables(result: Result) -> Iterator[FittedTable]:
    """Yield the one table."""
    rate, part = result["samples_per_s"], result["of_gemm"]
    lines = [
        ["samples/s", *(_number(rate[key], 0) for key in ("median", "min", "max"))],
        ["of the bare products", *(_number(part[key], 2) for key in ("median", "min", "max"))],
        ["GFLOP/s", _number(result["gflops"]), "", ""],
        ["GFLOP/s of the bare products", _number(result["gemm_gflops"]), "", ""],
    ]
    title = f"{result['samples']:,} samples on {count(result['ranks'], 'rank')}"
    yield table(title, ["prediction", "median", "min", "max"], lines)


def io_tables(result: Result) -> Iterator[FittedTable]:
    """Yield files, and what saving costs."""
    entries = [("save a checkpoint", result["checkpoint"]["bytes"], result["checkpoint"]["save"])]
    entries += [("load a checkpoint", result["checkpoint"]["bytes"], result["checkpoint"]["load"])]
    entries += [(f"read {kind}", result["data"]["bytes"], result["data"][kind]) for kind in ("hdf5", "npz", "idx")]
    lines = [[name, size(nbytes), *micro(e["seconds"]), _number(e["mbytes_per_s"], 0)] for name, nbytes, e in entries]
    yield table("files", ["what", "size", "us", "min to max", "MB/s"], lines)
    saving = result["saving"]
    lines = [
        [name, *(_number(saving[key][figure], 2) for figure in ("median", "min", "max"))]
        for name, key in (("the ranks stand still for", "pause_steps"), ("all that it costs", "cost_steps"))
    ]
    title = (
        f"a checkpoint every {saving['every_steps']} steps of {_micro(saving['step_seconds']['median'])} us, in steps"
    )
    yield table(title, ["saving", "median", "min", "max"], lines)
