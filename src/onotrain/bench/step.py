"""Where the time of a training step goes, and how the throughput grows with the ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from onotrain.bench.loop import Loop
from onotrain.bench.measure import Say, others_asleep
from onotrain.bench.subject import Subject, check_positive
from onotrain.parallel.world import World

#: Readings of each number of ranks.
REPEATS = 5


def run(world: World, subject: Subject, rows: Sequence[int], budget_s: float, say: Say) -> dict[str, Any]:
    """Measure steps with 1, 2, 4, ... and all ranks, the others being asleep; *collective*.

    A strategy that needs more ranks begins with as many as it needs, which speed-ups are then against.

    Parameters
    ----------
    rows
        Rows of a rank's batches.
    budget_s
        Time for each number of rows and ranks [s].

    Returns
    -------
    dict
        Complete on rank 0 alone.
    """
    check_positive("rows", rows)
    results = [result for count in rows for result in _by_ranks(world, subject, count, budget_s, say)]
    for result in results if world.rank == 0 else ():  # the others have slept through some of it
        first = next(r for r in results if r["rows"] == result["rows"])
        speed_up = result["samples_per_s"]["median"] / first["samples_per_s"]["median"]
        result["speed_up"], result["efficiency"] = speed_up, speed_up * first["ranks"] / result["ranks"]
    config = subject.config
    facts = {"build": subject.kernels.path, "strategy": config.strategy.name, "optimizer": config.optimizer.name}
    return {**subject.describe(), **facts, "steps": results}


def _by_ranks(world: World, subject: Subject, rows: int, budget_s: float, say: Say) -> list[dict[str, Any]]:
    """Measure growing numbers of ranks, in turn; return the results of those that this rank belongs to."""
    with ExitStack() as stack:
        loops: list[Loop | None] = []
        numbers = numbers_of_ranks(world.size, subject.config.strategy.fewest_ranks)
        for ranks in numbers:
            group = stack.enter_context(_some(world, ranks))
            with others_asleep(world):
                loop = None if group is None else stack.enter_context(closing(Loop(group, subject, rows)))
                loops.append(loop)
                if loop is not None:
                    loop.prepare(budget_s / (3 * REPEATS))
        for number in range(REPEATS):
            for loop, ranks in zip(loops, numbers, strict=True):
                say(f"{rows} rows on each of {ranks} rank{'s' * (ranks > 1)}, {number + 1} of {REPEATS}")
                with others_asleep(world):
                    if loop is not None:
                        loop.read()
        return [loop.result() for loop in loops if loop is not None]


def numbers_of_ranks(size: int, fewest: int = 1) -> list[int]:
    """Return `fewest`, the powers of two above it, and `size` itself, which may be too few."""
    powers = (1 << power for power in range(size.bit_length()))
    return sorted({min(fewest, size), *(power for power in powers if power > fewest), size})


@contextmanager
def _some(world: World, ranks: int) -> Iterator[World | None]:
    """Give the first `ranks` ranks a world of their own, and the others None; *collective*."""
    part = world.comm.Split(int(world.rank >= ranks), world.rank)
    with World.connect(part) as group:
        part.Free()
        yield group if world.rank < ranks else None
