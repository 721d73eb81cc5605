"""Reads a trace as Perfetto does, and checks it by the rules of the Trace Event Format."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

#: Kind of slice -> thread.
THREADS = {
    "step": "steps", "span": "steps", "pass": "compute", "phase": "compute", "kernel": "compute",
    "wait": "synchronisation", "communication": "synchronisation", "sent": "messages", "received": "messages",
    "file": "files",
}  # fmt: skip


class Slice(NamedTuple):
    """A slice of a thread; times in ns."""

    rank: int
    thread: str
    kind: str
    name: str
    begin: int
    end: int
    args: dict[str, Any]
    #: Slices around it, the outermost first.
    within: tuple[str, ...]


class Trace(NamedTuple):
    """What is in a file."""

    facts: dict[str, Any]
    processes: dict[int, str]
    slices: list[Slice]
    #: (name, rank that sends, slice; rank that receives, slice).
    arrows: list[tuple[str, int, str, int, str]]
    #: Intervals of messages under way, in ns.
    flights: list[tuple[int, str, int, int]]

    def of(self, kind: str, rank: int | None = None) -> list[Slice]:
        """Return the slices of a kind."""
        return [each for each in self.slices if each.kind == kind and rank in (None, each.rank)]

    def seconds(self, kind: str, rank: int) -> float:
        """Return how long they are together."""
        return sum(each.end - each.begin for each in self.of(kind, rank)) * 1e-9


def read(path: Path) -> Trace:
    """Return what is in a file, and refuse what Perfetto would not draw as it is meant."""
    document = json.loads(gzip.decompress(path.read_bytes()))
    assert document["displayTimeUnit"] == "ns"
    processes: dict[int, str] = {}
    threads: dict[tuple[int, int], str] = {}
    open_slices: dict[tuple[int, int], list[tuple[int, int, str]]] = defaultdict(list)
    by_phase: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in document["traceEvents"]:
        assert isinstance(event["pid"], int) and event["pid"] > 0 and isinstance(event["name"], str)
        by_phase[event["ph"]].append(event)
    assert by_phase.keys() <= set("MXbesf")
    for event in by_phase["M"]:
        if event["name"] == "process_name":
            assert event["pid"] - 1 not in processes
            processes[event["pid"] - 1] = event["args"]["name"]
        elif event["name"] == "thread_name":
            threads[event["pid"], event["tid"]] = event["args"]["name"]
    assert len({tid for _, tid in threads}) == len(threads)
    slices, where = [], {}
    # As Perfetto sorts: by time, and what begins at the same time as it stands in the file.
    for event in sorted(by_phase["X"], key=lambda each: each["ts"]):
        key, begin, duration = (event["pid"], event["tid"]), _ns(event["ts"]), _ns(event["dur"])
        assert begin >= 0 and duration >= 0 and THREADS[event["cat"]] == threads[key]
        around = open_slices[key]
        while around and around[-1][1] <= begin and not (around[-1][0] == begin == begin + duration):
            around.pop()
        assert not around or begin + duration <= around[-1][1], f"{event} overlaps {around[-1]}"
        names = tuple(name for *_, name in around)
        around.append((begin, begin + duration, event["name"]))
        slices.append(
            Slice(key[0] - 1, threads[key], event["cat"], event["name"], begin, begin + duration, event["args"], names)
        )
        where.setdefault(key, []).append(slices[-1])
    flows: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
    for phase in "sf":
        for event in by_phase[phase]:
            assert phase not in flows[event["id"]]
            flows[event["id"]][phase] = event
    arrows = []
    for both in flows.values():
        assert both.keys() == {"s", "f"} and both["f"]["bp"] == "e" and both["s"]["name"] == both["f"]["name"]
        ends = [_slice_at(where, both[phase]) for phase in "sf"]
        assert [end.kind for end in ends] == ["sent", "received"]
        assert ends[0].args.get("number") == ends[1].args.get("number")
        arrows.append((both["s"]["name"], ends[0].rank, ends[0].name, ends[1].rank, ends[1].name))
    return Trace(document["otherData"], processes, slices, arrows, _flights(by_phase))


def _flights(by_phase: dict[str, list[dict[str, Any]]]) -> list[tuple[int, str, int, int]]:
    begun = {(event["pid"], event["id2"]["local"]): event for event in by_phase["b"]}
    assert len(begun) == len(by_phase["b"]) == len(by_phase["e"])
    found = []
    for event in by_phase["e"]:
        first = begun.pop((event["pid"], event["id2"]["local"]))
        assert all(first[key] == event[key] for key in ("pid", "tid", "cat", "name")) and first["ts"] <= event["ts"]
        found.append((first["pid"] - 1, first["name"], _ns(first["ts"]), _ns(event["ts"])))
    return found


def _slice_at(where: dict[tuple[int, int], list[Slice]], event: dict[str, Any]) -> Slice:
    """Return the innermost slice to which the end of an arrow belongs."""
    at = _ns(event["ts"])
    found = [each for each in where[event["pid"], event["tid"]] if each.begin <= at <= each.end]
    return max((each for each in found if at < each.end or each.begin == each.end), key=lambda each: each.begin)


def _ns(microseconds: float) -> int:
    assert isinstance(microseconds, int | float)
    return round(microseconds * 1000)
