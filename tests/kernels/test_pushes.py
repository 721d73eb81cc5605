"""Servers whose workers do not wait for each other: compiled events against those of the reference implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onotrain._kernels import reference_pushes

compiled = pytest.importorskip("onotrain._kernels.pushes")


def case(seed: int, **changes: Any) -> dict[str, Any]:
    """Return arguments with all that can slow workers down."""
    draw = np.random.default_rng(seed)
    workers, pushes, nodes, groups = 13, 21, 6, 3
    node = np.sort(draw.integers(0, nodes, workers))
    given = {
        "computing": draw.exponential(1.0, (pushes, workers)), "node": node, "group": node // 2,
        "local": (node == 0).astype(np.uint8), "nodes": nodes, "group_seconds": draw.uniform(0.0, 0.1, (2, groups)),
        "link": 0.05, "server_link": 0.04, "apply": 0.02, "latency": 0.003, "bound": -1, "overlap": False, "cores": 0.0,
    }  # fmt: skip
    given |= changes
    seconds = given.pop("computing")
    start = changes.get("start", np.zeros(seconds.shape[1]))
    return {"computing": seconds, "start": start, **{key: given[key] for key in given if key != "start"}}


def outcome(module: Any, arguments: dict[str, Any]) -> list[Any]:
    workers = arguments["computing"].shape[1]
    out = [np.full(workers, np.nan) for _ in range(3)]
    histogram = np.zeros(9, np.int64)
    seconds = module.Pushes(*arguments.values(), *out, histogram).run()
    return [seconds, *out, histogram]


@pytest.mark.parametrize(
    ("bound", "overlap"), [(-1, False), (0, False), (1, False), (4, False), (-1, True), (1, True), (4, True)]
)
@pytest.mark.parametrize("cores", [0.0, 3.0])
def test_both_are_equal_to_the_bit(bound: int, overlap: bool, cores: float) -> None:
    for seed in range(5):
        start = np.random.default_rng(seed).uniform(0.0, 2.0, 13)
        arguments = case(seed, bound=bound, overlap=overlap, cores=cores, start=start)
        for one, other in zip(outcome(compiled, arguments), outcome(reference_pushes, arguments), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("module", [compiled, reference_pushes])
class TestByHand:
    def test_one_worker(self, module: Any) -> None:
        free = {"node": np.array([1]), "group": np.array([0]), "local": np.zeros(1, np.uint8), "nodes": 2}
        arguments = case(0, computing=np.full((3, 1), 1.0), **free, group_seconds=np.zeros((2, 1)))
        seconds, compute, wait, end, histogram = outcome(module, arguments)
        # Each push: 1 s, its link and the latency, the update; each reply but the last: its link and the latency.
        assert seconds == pytest.approx(3 * (1.0 + 0.05 + 0.003 + 0.02) + 2 * (0.05 + 0.003))
        assert end[0] == pytest.approx(seconds - 0.02)
        assert (compute[0], wait[0], list(histogram[:2])) == (3.0, 0.0, [3, 0])

    def test_the_servers_link_is_shared(self, module: Any) -> None:
        workers = 4
        arguments = case(
            0, computing=np.full((1, workers), 1.0), node=np.arange(workers), group=np.zeros(workers, int),
            local=np.zeros(workers, np.uint8), nodes=workers, group_seconds=np.zeros((2, 1)), server_link=0.5, link=0.5,
            apply=0.0, latency=0.0,
        )  # fmt: skip
        seconds, _, _, end, _ = outcome(module, arguments)
        assert seconds == pytest.approx(1.0 + workers * 0.5)
        assert end == pytest.approx(np.full(workers, seconds))  # equal parts: all end together

    def test_who_comes_later_shares_what_is_left(self, module: Any) -> None:
        arguments = case(
            0, computing=np.array([[1.0, 1.2]]), node=np.arange(2), group=np.zeros(2, int),
            local=np.zeros(2, np.uint8), nodes=2, group_seconds=np.zeros((2, 1)), server_link=0.5, link=0.5,
            apply=0.0, latency=0.0,
        )  # fmt: skip
        # Alone for 0.2 s, then at half of the rate until 1.8; the other has 0.2 s left for itself.
        assert outcome(module, arguments)[3] == pytest.approx([1.8, 2.0])

    def test_nobody_is_further_ahead_than_the_bound(self, module: Any) -> None:
        computing = np.full((10, 2), 1.0)
        computing[:, 1] = 3.0
        local = {"node": np.zeros(2, int), "group": np.zeros(2, int), "local": np.ones(2, np.uint8), "nodes": 1}
        none = {"apply": 0.0, "group_seconds": np.zeros((2, 1))}
        for bound, waits in ((0, 18.0), (1, 15.0), (2, 12.0), (9, 0.0), (-1, 0.0)):
            _, _, wait, _, _ = outcome(module, case(0, computing=computing, bound=bound, **local, **none))
            # Replies are held back from the push on that makes it `bound` + 1 ahead: two seconds each, the first less.
            assert wait[0] == pytest.approx(waits), bound

    def test_overlap_hides_the_messages(self, module: Any) -> None:
        arguments = case(0, computing=np.full((50, 1), 1.0), node=np.array([1]), group=np.array([0]),
                         local=np.zeros(1, np.uint8), nodes=2, group_seconds=np.zeros((2, 1)))  # fmt: skip
        plain, overlapped = (outcome(module, {**arguments, "overlap": overlap})[0] for overlap in (False, True))
        assert overlapped == pytest.approx(50 + 0.05 + 0.003 + 0.02)
        assert plain == pytest.approx(overlapped + 49 * (2 * (0.05 + 0.003) + 0.02))

    def test_staleness_of_equal_workers(self, module: Any) -> None:
        workers = 3
        arguments = case(
            0, computing=np.full((20, workers), 1.0), node=np.arange(workers), group=np.zeros(workers, int),
            local=np.zeros(workers, np.uint8), nodes=workers, group_seconds=np.zeros((2, 1)),
        )  # fmt: skip
        histogram = outcome(module, arguments)[-1]
        # After the first round each push follows those of both others.
        assert list(histogram[:4]) == [1, 1, 20 * workers - 2, 0]


def test_wrong_arguments_are_refused() -> None:
    arguments = case(0)
    for key, value in {"node": np.full(13, 6), "group": np.full(13, -1), "local": np.zeros(12, np.uint8)}.items():
        with pytest.raises(ValueError):
            outcome(compiled, {**arguments, key: value})
