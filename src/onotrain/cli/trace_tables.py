"""What ``onotrain train --profile`` shows of the trace that was written."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from onotrain.cli.tables import FittedTable, table
from onotrain.text import count
from onotrain.training.observers import RankTime, Trace

#: Rows of a table.
_MOST = 10


def trace_tables(trace: Trace) -> Iterator[FittedTable]:
    """Yield where the time went by kernel, and by rank."""
    steps, ranks = trace.last - trace.first + 1, len(trace.ranks)
    whole = sum(rank.steps for rank in trace.ranks) or 1.0
    lines = [
        [
            each.name, each.layer, _micro(each.seconds / steps / ranks), _percent(each.seconds / whole),
            f"{each.operations / each.seconds / 1e9:,.1f}" if each.operations else "",
        ]
        for each in trace.kernels[:_MOST]
    ]  # fmt: skip
    title = f"steps {trace.first} to {trace.last} on {count(ranks, 'rank')}: kernels, mean of the ranks"
    yield table(title, ["kernel", "layer", "us a step", "share", "GFLOP/s"], lines, text=["layer"])
    shown = sorted(range(ranks), key=lambda rank: -trace.ranks[rank].compute)[:_MOST]
    lines = [_rank(rank, trace.ranks[rank], steps) for rank in sorted(shown)]
    title = "ranks" if ranks <= _MOST else f"the {_MOST} ranks that compute longest"
    columns = ["rank", "us a step", "compute", "wait", "exchange", "waits or exchanges"]
    yield table(title, columns, lines)


def _rank(rank: int, time: RankTime, steps: int) -> list[str]:
    seconds = (time.steps, time.compute, time.wait, time.communication)
    idle = _percent((time.wait + time.communication) / (time.steps or 1.0))
    return [f"{rank}", *(_micro(each / steps) for each in seconds), idle]


def facts(trace: Trace) -> Iterator[str]:
    """Yield what else there is to say of it."""
    if len(trace.ranks) > 1:
        compute = [rank.compute for rank in trace.ranks]
        critical = compute.index(max(compute))
        times = max(compute) / (fmean(compute) or 1.0)
        yield f"critical rank: {critical}, which computes {times:.2f} times as long as the mean"
    if trace.uncertainty:
        yield f"clocks of other nodes are known to {trace.uncertainty * 1e6:.1f} us"
    if trace.missed:
        yield f"{count(trace.missed, 'event')} are missing: trace fewer steps"


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
