"""What tells runs apart, in words."""

from __future__ import annotations

from typing import Any

import pytest

from builders import mapping
from onotrain.config import Config
from onotrain.config.method import method_of


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({}, "allreduce"),
        ({"strategy": "flat", "simulate": {}}, "flat"),
        ({"strategy": {"name": "parameter_server", "staleness": 0}}, "parameter_server"),
        (
            {"strategy": {"name": "parameter_server", "servers": 2, "staleness": "unbounded"}},
            "parameter_server (servers 2, staleness unbounded)",
        ),
        (
            {"strategy": {"name": "parameter_server", "staleness": 3, "compensation": "delay"}},
            "parameter_server (staleness 3, compensation delay)",
        ),
        (
            {"strategy": {"name": "strategy_switch", "at_epoch": 3, "server": {"staleness": 2}}},
            "strategy_switch (at_epoch 3, server.staleness 2)",
        ),
        (
            {"strategy": {"name": "local_sgd", "outer": {"name": "nesterov", "momentum": 0.5}}},
            "local_sgd (outer nesterov (momentum 0.5))",
        ),
        (
            {"communication": {"codec": {"name": "topk", "fraction": 0.1}}, "training": {"load_balance": "throughput"}},
            "allreduce, codec topk (fraction 0.1), load balance throughput",
        ),
        (
            {"simulate": {"slow_ranks": {1: 4}, "delay_ms": 2, "ranks_per_node": 1}},
            "allreduce; SIMULATED: slow_ranks [{rank 1, factor 4}], delay_ms 2, ranks_per_node 1",
        ),
    ],
)
def test_what_is_not_the_default_is_named(sections: dict[str, Any], words: str) -> None:
    assert method_of(Config.from_mapping(mapping(8, 10, **sections))) == words
