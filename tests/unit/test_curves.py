"""The picture of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from onotrain.errors import DataError, ResourceError, UsageError
from onotrain.reporting.curves import draw


def records(regression: bool = False) -> list[dict[str, Any]]:
    """Return three epochs, one of them with a value that is not finite."""
    return [
        {
            "epoch": epoch,
            "train_loss": 1.0 / epoch,
            "validation_loss": None if epoch == 2 else 1.2 / epoch,
            **({"validation_r2": 0.9} if regression else {"train_accuracy": 0.8, "validation_accuracy": 0.9}),
            "ranks_seconds": {"compute": [1.0, 1.1], "wait": [0.2, 0.1], "communication": [0.0, 0.0]},
        }
        for epoch in (1, 2, 3)
    ]


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_picture_of_each_kind(tmp_path: Path, suffix: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"run{suffix}"
    draw(records(), "a run", path)
    assert path.read_bytes().startswith(magic) and path.stat().st_size > 5000


def texts(rows: list[dict[str, Any]], path: Path) -> list[str]:
    """Return the texts of a picture."""
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(rows, "a run", path)
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize(("regression", "metrics"), [(False, ["accuracy"]), (True, ["r2"])])
def test_what_is_drawn(tmp_path: Path, regression: bool, metrics: list[str], validation: bool) -> None:
    """A regression has no metric but the loss without validation data, and then no panel for one."""
    rows = records(regression)
    if not validation:
        rows = [{k: v for k, v in row.items() if not k.startswith("validation")} for row in rows]
        metrics = [] if regression else metrics
    found = texts(rows, tmp_path / "run.svg")
    assert ("validation" in found) == validation and {"loss", "train", *metrics} <= set(found)
    assert found.count("epoch") == 2 + len(metrics) and not {"accuracy", "r2", "rmse"} - set(metrics) & set(found)


def test_what_was_hidden_is_said_where_something_was(tmp_path: Path) -> None:
    rows = records()
    for row in rows:
        row["ranks_seconds"] |= {"communication": [0.3, 0.3], "hidden": [0.0, 0.2]}
    assert not any("hidden" in text for text in texts(records(), tmp_path / "node.svg"))
    assert "25% of communication hidden" in "".join(texts(rows, tmp_path / "nodes.svg"))


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no epoch has ended"):
        draw([], "a run", tmp_path / "run.png")
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        draw(records(), "a run", tmp_path / "run.gif")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match="there is no directory"):
        draw(records(), "a run", tmp_path / "no" / "run.png")
    (tmp_path / "run.png").mkdir()
    with pytest.raises(ResourceError, match=r"run.png: could not finish the file: Is a directory"):
        draw(records(), "a run", tmp_path / "run.png")
