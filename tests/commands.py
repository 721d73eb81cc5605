"""The way from a table to a network by the commands, in the working directory."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from onotrain.cli.program import run
from onotrain.config import load_config


def write(name: str, header: str, *rows: Any) -> str:
    """Write a table; a row is a line, or values."""
    Path(name).write_text(
        "\n".join([header, *(r if isinstance(r, str) else ",".join(map(str, r)) for r in rows)]) + "\n"
    )
    return name


def initialised(data: str, *options: str) -> Any:
    """Return the configuration that init writes, which validate accepts."""
    assert run(["init", data, "-o", "c.yaml", "--force", *options]) == 0
    assert run(["validate", "c.yaml"]) == 0
    return load_config("c.yaml")


def trained(data: str, *overrides: str, options: tuple[str, ...] = ()) -> Any:
    """Return the configuration that init writes, and train it into ``r``."""
    config = initialised(data, *options)
    sets = [word for override in overrides for word in ("--set", override)]
    assert run(["train", "c.yaml", "--output", "r", "--progress", "none", *sets]) == 0
    return config


def evaluated(data: str, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Return the metrics of the network in ``r``."""
    capsys.readouterr()
    assert run(["evaluate", "r", data, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["metrics"]


def predicted(data: str) -> list[dict[str, str]]:
    """Return the rows of predictions of the network in ``r``."""
    assert run(["predict", "r", data, "-o", "p.csv"]) == 0
    with open("p.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
