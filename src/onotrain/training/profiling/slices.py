"""What a rank did, as slices of a few tracks: those of its events, and those that enclose them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels.recording import EVENT, Label, Place
from onotrain.training.observers import KernelTime, RankTime


class Track(IntEnum):
    """Threads of a rank in the trace.  The slices of each are disjoint or within each other."""

    STEPS = 1
    COMPUTE = 2
    SYNCHRONISATION = 3
    MESSAGES = 4
    #: Written beside all else.
    FILES = 5
    #: Of messages under way, which may overlap.
    FLIGHTS = 6


#: Kind of event -> its track.
TRACKS = {
    "span": Track.STEPS, "step": Track.STEPS,
    "pass": Track.COMPUTE, "phase": Track.COMPUTE, "kernel": Track.COMPUTE,
    "wait": Track.SYNCHRONISATION, "communication": Track.SYNCHRONISATION, "sent": Track.MESSAGES,
    "received": Track.MESSAGES, "flight": Track.FLIGHTS, "file": Track.FILES,
}  # fmt: skip
#: What is within what if both take the same time.
_LEVELS = {kind: level for level, kind in enumerate(TRACKS)}
#: Phase of kernels that are called without a place.
_PHASES = {
    **dict.fromkeys(("update", "update_rows", "sum_of_squares", "add_scaled"), "update"),
    "sum_gradients": "sum",
    **dict.fromkeys(
        (
            "largest_magnitude", "encode_half", "decode_half", "encode_bfloat", "decode_bfloat", "encode_int8",
            "decode_int8", "keep_rest",
        ),
        "codec",
    ),
}  # fmt: skip


class Slices(NamedTuple):
    """Slices of one rank."""

    #: dtype `EVENT`, each before what is within it.
    events: np.ndarray
    #: What their labels stand for.
    labels: list[Label]


def slices_of(events: np.ndarray, labels: Sequence[Label], steps_per_epoch: int) -> Slices:
    """Return the slices of a rank's events, dtype `EVENT`: also those of epochs, and of phases of steps."""
    known = [_with_phase(label) for label in labels]
    kinds = np.array([label.kind for label in known])
    of = kinds[events["label"]] if known else np.empty(len(events), str)
    steps = np.sort(events[of == "step"], order="begin")
    epochs = (steps["number"] - 1) // steps_per_epoch
    found = [events]
    found += _groups(steps, epochs, lambda epoch: _number(known, Label("span", f"epoch {epoch + 1}")))
    kernels = np.sort(events[of == "kernel"], order="begin")
    kernels = kernels[_outermost(kernels)]
    phases = [known[label].place.phase for label in range(len(known))]
    names = sorted({*phases, ""})
    number_of = {name: index for index, name in enumerate(names)}
    of_label = np.array([number_of[phase] for phase in phases], int)
    around = events[(of == "step") | (of == "pass")]
    borders = np.sort(np.concatenate([around["begin"], around["begin"] + around["duration"]]))
    keys = np.searchsorted(borders, kernels["begin"], side="right") * len(names) + of_label[kernels["label"]]

    def label_of(key: int) -> int | None:
        phase = names[key % len(names)]
        return _number(known, Label("phase", phase)) if phase else None

    found += _groups(kernels, keys, label_of)
    everything = np.concatenate(found)
    levels = np.array([_LEVELS[label.kind] for label in known], int)
    order = np.lexsort((levels[everything["label"]], -everything["duration"], everything["begin"]))
    return Slices(everything[order], known)


def _with_phase(label: Label) -> Label:
    if label.kind == "kernel" and not label.place.phase:
        return label._replace(place=Place(_PHASES.get(label.name, "")))
    return label


def _number(labels: list[Label], label: Label) -> int:
    if label not in labels:
        labels.append(label)
    return labels.index(label)


def _outermost(events: np.ndarray) -> np.ndarray:
    """Return which events, in the order of their beginnings, are not within an earlier one."""
    ends = np.maximum.accumulate(events["begin"] + events["duration"])
    return np.concatenate([[True], events["begin"][1:] >= ends[:-1]])[: len(events)]


def _groups(events: np.ndarray, keys: np.ndarray, label_of: Callable[[int], int | None]) -> list[np.ndarray]:
    """Return an event around each group of neighbours of one key, unless it has no label."""
    if not len(events):
        return []
    firsts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    lasts = np.concatenate([firsts[1:], [len(events)]]) - 1
    groups = np.zeros(len(firsts), EVENT)
    groups["begin"], groups["number"], groups["peer"] = events["begin"][firsts], -1, -1
    groups["duration"] = events["begin"][lasts] + events["duration"][lasts] - groups["begin"]
    labels = {key: label_of(key) for key in set(keys[firsts].tolist())}
    found = [labels[key] for key in keys[firsts].tolist()]
    groups["label"] = [-1 if label is None else label for label in found]
    return [groups[groups["label"] >= 0]]


class RankSummary(NamedTuple):
    """Where the time of one rank went, in the steps of its events."""

    #: Steps, and their seconds.
    steps: int
    seconds: float
    wait: float
    communication: float
    #: (Kernel, layer) -> calls, seconds, and floating point operations.
    kernels: Mapping[tuple[str, str], tuple[int, float, int]]
    missed: int


def summary_of(slices: Slices, operations: Callable[[Label], int], missed: int) -> RankSummary:
    """Return where the time of steps went; `operations` are those of one call of a kernel."""
    labels, events = slices.labels, _within_steps(slices)
    count = np.bincount(events["label"], minlength=len(labels)).tolist()
    seconds = (np.bincount(events["label"], events["duration"], len(labels)) * 1e-9).tolist()
    totals, kernels = defaultdict[str, float](float), dict[tuple[str, str], tuple[int, float, int]]()
    steps = 0
    for number, label in enumerate(labels):
        totals[label.kind] += seconds[number]
        steps += count[number] * (label.kind == "step")
        if label.kind == "kernel" and count[number]:
            calls, spent, made = kernels.get((label.name, label.place.layer), (0, 0.0, 0))
            made += count[number] * operations(label)
            kernels[label.name, label.place.layer] = calls + count[number], spent + seconds[number], made
    return RankSummary(steps, totals["step"], totals["wait"], totals["communication"], kernels, missed)


def _within_steps(slices: Slices) -> np.ndarray:
    """Return the events that are not of something else, such as validation."""
    of_step = [number for number, label in enumerate(slices.labels) if label.kind == "step"]
    steps = slices.events[np.isin(slices.events["label"], of_step)]
    step = np.searchsorted(steps["begin"], slices.events["begin"], side="right") - 1
    ends = np.append(steps["begin"] + steps["duration"], 0)  # in front of all steps is none
    return slices.events[slices.events["begin"] <= ends[step]]


def by_rank(summaries: Sequence[RankSummary]) -> list[RankTime]:
    """Return where the time of each rank went."""
    return [
        RankTime(each.seconds, each.seconds - each.wait - each.communication, each.wait, each.communication)
        for each in summaries
    ]


def by_kernel(summaries: Sequence[RankSummary]) -> list[KernelTime]:
    """Return what kernels took on all ranks, the longest first."""
    found: dict[tuple[str, str], Any] = {}
    for summary in summaries:
        for key, numbers in summary.kernels.items():
            found[key] = np.add(found.get(key, 0), numbers)
    made = [KernelTime(*key, int(calls), float(s), int(done)) for key, (calls, s, done) in found.items()]
    return sorted(made, key=lambda each: -each.seconds)
