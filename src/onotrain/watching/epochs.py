"""Where a run has come to, by the records of its epochs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from onotrain.runs.records import check_record, metrics_of
from onotrain.text import figure
from onotrain.watching.tail import Thinned
from onotrain.watching.view import RankTime, Staleness

_MOST_SWITCHES = 200
#: A rank of which the others wait for so long is named [s].
_IDLE_S = 10.0


class Epochs:
    """What is kept of the records of epochs."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.last: dict[str, Any] = {}
        self.curves: dict[str, Thinned] = {}
        self.switches: deque[tuple[int, str]] = deque(maxlen=_MOST_SWITCHES)

    def take(self, row: dict[str, Any]) -> None:
        """Take a record."""
        check_record(row, whole=True)
        if (steps := row.get("steps")) is None:
            raise ValueError("steps is missing")
        self.last = row
        for name, value in metrics_of(row).items():
            if value is not None:
                self.curves.setdefault(name, Thinned()).add(steps, value)
        if to := (row.get("switch") or {}).get("to"):
            self.switches.append((steps, to))


def rank_times(record: Mapping[str, Any]) -> list[RankTime]:
    """Return where the time of each rank went in an epoch."""
    seconds, servers = record.get("ranks_seconds") or {}, record.get("servers") or 0
    kinds = [seconds.get(kind) for kind in ("compute", "wait", "communication")]
    if not all(kinds):
        return []
    role = "worker" if servers else "computes"
    return [
        RankTime(rank, "server" if rank < servers else role, *values)
        for rank, values in enumerate(zip(*kinds, strict=True))
    ]


def mean_of(rows: Sequence[RankTime]) -> RankTime:
    """Return the means over ranks."""
    means = [sum(getattr(row, kind) for row in rows) / len(rows) for kind in ("compute", "wait", "communication")]
    return RankTime(-1, "mean", *means)


def slowest_of(record: Mapping[str, Any], longest: Sequence[RankTime]) -> str:
    """Return which rank computed the longest, and how much longer than others."""
    computing = [row for row in longest if row.role != "server"]
    if len(computing) < 2:
        return ""
    slow, first = record.get("slow_rank"), computing[0]
    if slow:
        return f"rank {slow['rank']} is slow: it computes {figure(slow['factor'])} times as long as the next"
    middle = median(row.compute for row in computing)
    return f"rank {first.rank} computes the longest, {figure(first.compute)} s; the median is {figure(middle)} s"


def roles_of(record: Mapping[str, Any], ranks: int) -> str:
    """Return who does what, as the last record or a switch after it has it."""
    servers, to = record.get("servers") or 0, (record.get("switch") or {}).get("to")
    strategy = str(record.get("phase") or record.get("strategy") or "")
    if to == "server":
        return "parameter server from this epoch on"
    if to == "synchronous" or not servers:
        which = "rank 0 computes" if ranks == 1 else f"all {ranks:,} ranks compute and reduce"
        return f"{which} ({to or strategy})" if to or strategy else which
    return f"{_span('server', 0, servers)}, {_span('worker', servers, ranks)}"


def _span(role: str, begin: int, end: int) -> str:
    ranks = f"rank {begin}" if end - begin == 1 else f"ranks {begin}-{end - 1:,}"
    return f"{role}{'s' * (end - begin > 1)}: {ranks}"


def keeping_waiting(ranks: Mapping[str, Any]) -> Iterator[str]:
    """Yield which ranks of the first node keep others waiting."""
    lists = [ranks.get(key, ()) for key in ("rank", "step", "phase", "idle_seconds", "waits_seconds")]
    for rank, step, phase, idle, waits in zip(*lists, strict=False):
        if phase == "training" and idle > _IDLE_S and not waits:
            yield f"rank {rank} has made no progress for {idle:.0f} s (after step {step})"


def staleness_of(record: Mapping[str, Any]) -> Staleness | None:
    """Return how stale the gradients of an epoch were; None without a parameter server."""
    found = record.get("staleness")
    return None if not found else Staleness(found.get("mean"), found.get("max"), found.get("histogram") or [])
