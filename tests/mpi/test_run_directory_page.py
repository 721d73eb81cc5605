"""The page of the run directory documents exactly the fields that runs write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from builders import mapping, relu, write_digits
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.observers import Observer, Stop

pytestmark = pytest.mark.mpi(min_size=3)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "run-directory.md"
#: Trainings that write every field between them.
RUNS: dict[str, dict[str, Any]] = {
    "balanced": {
        "simulate": {"delay_ms": 0.0},
        "metrics": {"every_steps": 3},
        "training": {"load_balance": "throughput", "early_stopping": {"patience": 1, "metric": "validation_accuracy"}},
    },
    "switched": {"strategy": {"name": "strategy_switch", "at_epoch": 2, "window": 2}, "training": {"epochs": 3}},
    "noisy": {"metrics": {"noise_scale": 2}},
    "slow": {"simulate": {"slow_ranks": {1: 50}}, "training": {"epochs": 1}},
    "federated": {
        "strategy": {"name": "local_sgd", "period": {"name": "adaptive", "steps": 4}},
        "data": {"partition": "by_label"},
    },
}
FILES = ("metrics.jsonl", "steps.jsonl", "summary.json", "environment.json", "progress.json", "events.jsonl")
#: Fields that are one thing, whatever is in them.
SECTIONS = ("packages", "variables", "strategy_options", "codec_options", "simulate")
#: Fields that appear only where something went wrong: a gradient too stale to use, a loss that no rule can use, a
#: network that has learned nothing.
RARE = {"dropped_samples", "period_problem", "warnings"}
#: Of events: what tests/mpi/test_requests.py brings about.
RARE_OF = {"events.jsonl": {"request", "host", "message", "exit_code"}}


class Ended(Observer):
    """Ends a run after an epoch."""

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        raise Stop("enough")


def documented(heading: str) -> set[str]:
    """Return the fields in the tables below a heading of the page."""
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"`{heading}`\n")]
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def fields(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of fields; of an object those within, joined by dots."""
    for name, inner in value.items():
        name = re.sub(r"^validation_.*", "validation_<metric>", name)
        if isinstance(inner, Mapping) and f"{prefix}{name}" not in SECTIONS:
            yield from fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def write_two_files(world: World, place: Path) -> str:
    """Write the digits in two files, and return their pattern.  *Collective*."""
    for number in range(2):
        write_digits(world, place / f"digits-{number}.h5", 200)
    return f"{place}/digits-*.h5"


def test_every_field_is_documented_and_written(world: World, place: Path) -> None:
    files = {"two files": {"data": {"train": write_two_files(world, place)}}}
    for name, sections in (RUNS | files).items():
        sections = {**sections, "data": {"validation": 0.2, **sections.get("data", {})}}
        made = mapping(relu(8), 10, **{**sections, "training": {"epochs": 2, **sections.get("training", {})}})
        train(made, world.comm, output=place / name)
    warm = mapping(relu(8), 10, model={"from": str(place / "balanced")}, training={"epochs": 2})
    train(warm, world.comm, output=place / "warm", observers=[Ended()])
    if world.rank == 0:
        found: dict[str, set[str]] = {name: set() for name in FILES}
        for name in (*RUNS, *files, "warm"):
            for file in FILES:
                text = (place / name / file).read_text() if (place / name / file).exists() else ""
                for each in text.splitlines() if file.endswith("jsonl") else [text]:
                    found[file].update(fields(json.loads(each)))
        for file, names in found.items():
            missing = documented(file) - names
            assert names <= documented(file), f"{file}: not documented: {sorted(names - documented(file))}"
            assert missing <= RARE | RARE_OF.get(file, set()), f"{file}: no run writes {sorted(missing)}"
    world.barrier()
