"""What is advised after a divergence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import builders
from onotrain.training.divergence import advice


def said(records: list[dict[str, float]], **sections: Any) -> str:
    directory: Any = SimpleNamespace(
        path=Path("run"), store=lambda: SimpleNamespace(paths=lambda: [Path("last")]), records=lambda: records
    )
    return advice(directory, builders.config(4, **sections))


@pytest.mark.parametrize(
    ("loss", "records", "usable"),
    [
        ("mse", [{"train_loss": 3.0}, {"train_loss": 2.0, "validation_r2": 0.4}], True),
        ("mse", [{"train_loss": 3.0}, {"train_loss": 31.0}], False),
        ("mse", [{"train_loss": 1e290, "validation_r2": -1e286}], False),
        ("cross_entropy", [{"train_loss": 1.3}], True),
        ("cross_entropy", [{"train_loss": 1e30}], False),
        ("cross_entropy", [], True),
    ],
)
def test_a_network_that_is_lost_is_no_beginning(loss: str, records: list[dict[str, float]], usable: bool) -> None:
    advised = said(records, loss=loss, optimizer={"name": "sgd", "learning_rate": 0.5})
    assert ("--from run" in advised) == usable
    assert ("of no use any more: start again" in advised) != usable
    assert "optimizer.learning_rate=0.05" in advised
