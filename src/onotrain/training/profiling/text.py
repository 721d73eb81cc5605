"""The text of a trace: JSON in the Trace Event Format, which Perfetto and chrome://tracing read.

A rank is a process of it, and each of its tracks a thread.  Numbers of both begin at 1, and none is used twice:
Perfetto takes 0 for the idle process, and threads for one if they have one number.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from onotrain._kernels.recording import Label
from onotrain.training.profiling.slices import TRACKS, Slices, Track

#: Events of a chunk of text.
_CHUNK = 1 << 14
#: Messages that are drawn as arrows from one rank to another.
ARROWS = ("push", "reply")
_TRACK_NAMES = {
    Track.STEPS: "steps", Track.COMPUTE: "compute", Track.SYNCHRONISATION: "synchronisation",
    Track.MESSAGES: "messages", Track.FILES: "files",
}  # fmt: skip


def process(rank: int) -> int:
    """Return the number of a rank's process."""
    return rank + 1


def thread(rank: int, track: Track) -> int:
    """Return the number of the thread that a track of a rank is."""
    return process(rank) * 10 + track


def beginning(facts: Mapping[str, Any]) -> str:
    """Return the text in front of all ranks'; `facts` are what the trace says of itself, JSON-able."""
    about = {"ph": "M", "name": "trace_of", "pid": process(0), "args": {"steps": facts["steps"]}}
    return f'{{"displayTimeUnit":"ns","otherData":{_json(facts)},"traceEvents":[\n{_json(about)}'


END = "\n]}\n"


def of_rank(
    rank: int, title: str, slices: Slices, since: int, operations: Callable[[Label], int]
) -> Iterator[str]:  # fmt: skip
    """Yield the text of a rank, in chunks.

    Parameters
    ----------
    rank, title
        Number and name.
    slices
        With times of rank 0's clock.
    since
        Beginning of the trace [ns].
    operations
        Floating point operations of one call of a kernel.
    """
    yield from _names(rank, title)
    heads = [_head(rank, label, operations(label)) for label in slices.labels]
    for begin in range(0, len(slices.events), _CHUNK):
        yield "".join(_events(rank, slices, heads, since, begin))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _names(rank: int, title: str) -> Iterator[str]:
    """Yield what Perfetto calls the rank and its tracks, and their order."""
    about: list[dict[str, Any]] = [
        {"name": "process_name", "args": {"name": title}}, {"name": "process_sort_index", "args": {"sort_index": rank}}
    ]  # fmt: skip
    for track, name in _TRACK_NAMES.items():
        tid = thread(rank, track)
        about.append({"name": "thread_name", "tid": tid, "args": {"name": name}})
        about.append({"name": "thread_sort_index", "tid": tid, "args": {"sort_index": int(track)}})
    for each in about:
        yield ",\n" + _json({"ph": "M", "pid": process(rank), **each})


def _head(rank: int, label: Label, operations: int) -> tuple[str, str]:
    """Return what all events of a label have in common: up to the name, and from there to the arguments."""
    where = label.place
    name = f"{where.layer} {label.name}" if where.layer else label.name
    args = {"phase": where.phase, "layer": where.layer, "rows": where.rows, "floating point operations": operations}
    known = _json({key: value for key, value in args.items() if value})
    track = TRACKS[label.kind]
    where_from = f'"pid":{process(rank)},"tid":{thread(rank, track)},"cat":"{label.kind}"'
    return f',\n{{"ph":"X",{where_from},"name":{_json(name)[:-1]}', known[:-1]


def _events(rank: int, slices: Slices, heads: list[tuple[str, str]], since: int, begin: int) -> Iterator[str]:
    part = slices.events[begin : begin + _CHUNK]
    times = (part["begin"] - since).tolist(), part["duration"].tolist()
    rest = (part[name].tolist() for name in ("label", "number", "nbytes", "peer"))
    for index, (at, duration, label, number, nbytes, peer) in enumerate(zip(*times, *rest, strict=True)):
        kind = slices.labels[label].kind
        if kind == "flight":
            yield from _flight(rank, slices.labels[label].name, begin + index, at, duration, nbytes)
            continue
        head, known = heads[label]
        name = f" {number}" if kind == "step" else f" to rank {peer}" if kind == "sent" else ""
        name = f" from rank {peer}" if kind == "received" else name
        args = known
        if nbytes:
            args += f'{"," if len(args) > 1 else ""}"bytes":{nbytes}'
        if number >= 0 and kind != "step":
            args += f'{"," if len(args) > 1 else ""}"number":{number}'
        yield f'{head}{name}","ts":{_micro(at)},"dur":{_micro(duration)},"args":{args}}}}}'


def _micro(nanoseconds: int) -> str:
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03d}"


def _flight(rank: int, name: str, index: int, at: int, duration: int, nbytes: int) -> Iterator[str]:
    """Yield the beginning and the end of a message that is under way."""
    # By an id of the process alone, or Perfetto would show it beside all processes.
    common = f'"pid":{process(rank)},"tid":{thread(rank, Track.MESSAGES)},"cat":"flight","id2":{{"local":"{index}"}}'
    for phase, when, args in (("b", at, _json({"bytes": nbytes})), ("e", at + duration, "{}")):
        yield f',\n{{"ph":"{phase}",{common},"name":{_json(name)},"ts":{_micro(when)},"args":{args}}}'


def ends_of_arrows(rank: int, slices: Slices, since: int) -> np.ndarray:
    """Return the messages of a rank that may be arrows: int64 ``(n, 6)``.

    Columns: number of the name in `ARROWS`, sender, receiver, number of the message, whether it is received here, and
    when, since the beginning of the trace [ns].
    """
    found = [np.empty((0, 6), np.int64)]
    for number, label in enumerate(slices.labels):
        if label.kind not in ("sent", "received") or label.name not in ARROWS:
            continue
        events, received = slices.events[slices.events["label"] == number], label.kind == "received"
        ends = np.empty((len(events), 6), np.int64)
        ends[:, 0], ends[:, 3], ends[:, 4] = ARROWS.index(label.name), events["number"], received
        ends[:, 2 - received], ends[:, 1 + received] = rank, rank
        ends[:, 1 if received else 2] = events["peer"]
        ends[:, 5] = events["begin"] - since
        found.append(ends)
    return np.concatenate(found)


def arrows(ends: np.ndarray) -> Iterator[str]:
    """Yield the text of all messages whose both ends are in the trace; `ends` of all ranks as of `ends_of_arrows`."""
    messages: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
    for *key, received, at in ends.tolist():
        messages[tuple(key)][received] = at
    for number, ((name, sender, receiver, _), both) in enumerate(messages.items()):
        if len(both) < 2:
            continue
        for received, rank in enumerate((sender, receiver)):
            where = f'"pid":{process(rank)},"tid":{thread(rank, Track.MESSAGES)},"ts":{_micro(both[received])}'
            end = '"ph":"f","bp":"e"' if received else '"ph":"s"'
            yield f',\n{{{end},"id":{number},"cat":"message","name":"{ARROWS[name]}",{where}}}'
