"""docs/metrics.md has every metric, with the direction and the tasks that the table of metrics has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onotrain.config import metrics
from onotrain.evaluation.metrics import _BUILT_IN as FORMULAS
from onotrain.evaluation.ranking import MOST_SCORES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
ROWS = [row.split(" | ") for row in PAGE.splitlines() if row.startswith("| `") and len(row.split(" | ")) == 5]
#: Name -> direction and tasks.
DOCUMENTED = {
    name: (better, tasks.rstrip(" |")) for names, _, _, better, tasks in ROWS for name in re.findall(r"`(\w+)`", names)
}
TASKS = {
    "all": {"multiclass", "binary", "multilabel", "regression"},
    "classes, labels": {"multiclass", "binary", "multilabel"},
    "classes": {"multiclass", "binary"},
    "several classes": {"multiclass"},
    "values": {"regression"},
}


def test_the_page_has_every_metric_and_no_other() -> None:
    assert set(DOCUMENTED) == set(metrics._BUILT_INS) == set(FORMULAS)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_direction_and_tasks(name: str) -> None:
    facts = metrics._BUILT_INS[name]
    better, tasks = DOCUMENTED[name]
    assert facts.mode == {"less": "min", "more": "max", "neither": None}[better]
    assert set(facts.tasks) == TASKS[tasks]


def test_which_metrics_are_of_one_class() -> None:
    of_one = {name for name, facts in metrics._BUILT_INS.items() if facts.of_one}
    line = next(line for line in PAGE.splitlines() if line.startswith("| `f1[rose]`"))
    assert of_one == set(re.findall(r"`([a-z0-9_]+)`", line.split("For ")[1]))
    assert f"{MOST_SCORES:,}" in PAGE
