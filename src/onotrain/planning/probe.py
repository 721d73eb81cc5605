"""A short look at what this machine computes and, under mpirun, at the network between its ranks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from onotrain.bench.loop import Loop
from onotrain.bench.measure import Say, measure
from onotrain.config import Config
from onotrain.memory import check_memory
from onotrain.parallel.collectives import chunks
from onotrain.parallel.world import World
from onotrain.planning.workload import Workload
from onotrain.simulation.costs import Costs
from onotrain.strategies.codecs import Compressor, Part, without_feedback

#: Time for each measurement [s]; there are four of computing at most.
BUDGET_S = 0.12
#: Sizes of messages by which latency and bandwidth are told apart [bytes].
_SMALL, _LARGE = 8, 1 << 20
_TAG = 7
#: What a training asks for that changes the steps of a rank that is alone, in the place of it.
_ALONE = {
    "strategy": {"name": "flat"}, "communication": {"codec": {"name": "none"}}, "simulate": None,
    "fault_tolerance": {}, "metrics": {},
}  # fmt: skip


def costs_of(workload: Workload, rows: Sequence[int], world: World, say: Say = lambda what: None) -> Costs:
    """Measure what a rank needs for steps of some numbers of rows, all ranks of `world` at the same time.

    *Collective*: the same arguments on all ranks, which get the times of the slowest.

    Parameters
    ----------
    workload
        What is computed.
    rows
        Numbers of rows that there will be; the least, the most, and one in between are measured.
    say
        Learns what is being measured.
    """
    subject = replace(workload.subject, config=_alone(workload.subject.config))
    measured = _between(min(rows), max(rows))
    seconds, updates = [], []
    part = world.comm.Split(world.rank)
    with World.connect(part) as alone:
        part.Free()
        for count in measured:
            say(f"steps of {count:,} rows")
            with closing(Loop(alone, subject, count)) as loop:
                loop.prepare(BUDGET_S / 3)
                loop.read()
                found = loop.result()
            update = found["parts_seconds"]["reduce + update"][0]
            updates.append(update)
            seconds.append(max(found["seconds"]["median"] - update, 0.0))
    table = np.array([*seconds, float(np.median(updates)), *coding_of(workload)])
    slowest = np.max(world.comm.allgather(table), axis=0)
    # More rows never take less time: what says so was disturbed.
    slowest[: len(measured)] = np.minimum.accumulate(slowest[len(measured) - 1 :: -1])[::-1]
    update, encode, decode = slowest[len(measured) :].tolist()
    return Costs(np.array(measured, np.float64), slowest[: len(measured)], update, encode, decode)


def _alone(config: Config) -> Config:
    """Return the configuration of the same steps on one rank."""
    mapping = config.to_mapping()
    mapping |= _ALONE
    mapping["training"] = {**mapping["training"], "load_balance": "none"}
    mapping["data"] = {key: value for key, value in mapping["data"].items() if key != "partition"}
    return Config.from_mapping(mapping)


def _between(least: int, most: int) -> list[int]:
    """Return both, and their geometric mean."""
    return sorted({least, round((least * most) ** 0.5), most})


def coding_of(workload: Workload) -> tuple[float, float]:
    """Measure how long the codec takes to encode and to decode all parameters [s]; 0 without one.

    Raises
    ------
    ResourceError
        There is no memory for that.
    """
    options, layout = workload.config.communication.codec, workload.model.layout
    if options.name == "none":
        return 0.0, 0.0
    codec = without_feedback(options, Part.of(layout, slice(0, layout.size)), 0)
    check_memory(3 * layout.size * layout.dtype.itemsize, "messages of the codec", hint="use a smaller model")
    values = np.random.default_rng(0).standard_normal(layout.size).astype(layout.dtype)
    if isinstance(codec, Compressor):

        def rounds(codec: Compressor = codec) -> None:
            numbers = codec.begin(values)
            while numbers is not None:
                numbers = codec.advance()
            codec.finish(values)

        return measure([rounds], BUDGET_S)[0].median, 0.0
    message, decoded = np.empty(codec.nbytes, np.uint8), np.empty_like(values)
    encode, decode = measure([lambda: codec.encode(values, message), lambda: codec.decode(message, decoded)], BUDGET_S)
    return encode.median, decode.median


def network_of(world: World) -> dict[str, Any] | None:
    """Measure latency [us] and bandwidth [Mbit/s] between the first ranks of two nodes; None where there is one.

    *Collective*.
    """
    if world.nodes == 1:
        return None
    first, second = 0, world.node_sizes[0]
    times = [_round_trip(world, first, second, size) for size in (_SMALL, _LARGE)]
    small, large = world.comm.bcast(times, root=0)
    latency = small / 2
    seconds = max(large / 2 - latency, 1e-9)
    return {"latency_us": 1e6 * latency, "bandwidth_mbit": 8e-6 * (_LARGE - _SMALL) / seconds}


def _round_trip(world: World, first: int, second: int, size: int) -> float:
    """Return the median time of messages there and back, as rank `first` has measured it [s]."""
    buffer, found = np.zeros(size, np.uint8), list[float]()
    for _ in range(7):
        world.barrier()
        if world.rank not in (first, second):
            continue
        start = perf_counter()
        for sender, receiver in ((first, second), (second, first)):
            for chunk in chunks(buffer):
                if world.rank == sender:
                    world.comm.Send(chunk, receiver, _TAG)
                else:
                    world.comm.Recv(chunk, sender, _TAG)
        found.append(perf_counter() - start)
    return float(np.median(found[1:])) if found else 0.0
