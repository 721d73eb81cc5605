"""The picture of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from onotrain.errors import DataError, ResourceError, UsageError
from onotrain.reporting.curves import draw


def records(metric: str = "accuracy") -> list[dict[str, Any]]:
    """Return three epochs, one of them with a value that is not finite."""
    return [
        {
            "epoch": epoch,
            "train_loss": 1.0 / epoch,
            f"train_{metric}": 1 - 0.1 / epoch,
            "validation_loss": None if epoch == 2 else 1.2 / epoch,
            f"validation_{metric}": 0.9,
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


def test_without_validation_and_for_regression(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plain = [{k: v for k, v in record.items() if not k.startswith("validation")} for record in records("r2")]
    for number, rows in enumerate((plain, records("r2"))):
        draw(rows, "a run", tmp_path / f"{number}.svg")
        assert (tmp_path / f"{number}.svg").stat().st_size > 5000


def test_what_was_hidden_is_said_where_something_was(tmp_path: Path) -> None:
    """Text of an SVG stays text with this setting."""
    matplotlib = pytest.importorskip("matplotlib")
    rows = records()
    for row in rows:
        row["ranks_seconds"] |= {"communication": [0.3, 0.3], "hidden": [0.0, 0.2]}
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(records(), "a run", tmp_path / "node.svg")
        draw(rows, "a run", tmp_path / "nodes.svg")
    assert "hidden" not in (tmp_path / "node.svg").read_text()
    assert "25% of communication hidden" in (tmp_path / "nodes.svg").read_text()


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
    with pytest.raises(ResourceError, match=r"run.png: could not write"):
        draw(records(), "a run", tmp_path / "run.png")
