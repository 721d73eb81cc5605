"""Every command of the tutorial works, one after the other, in an empty folder."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"


def commands() -> Iterator[str]:
    """Yield the commands of the blocks that show a console, long ones joined to a line."""
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            assert line.startswith("$ "), f"{line!r} is no command"
            yield " ".join(line.removeprefix("$ ").split())


def epochs(folder: Path) -> list[dict[str, float]]:
    """Return the records of a run."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_commands_work(tmp_path: Path) -> None:
    output = {}
    for command in commands():
        done = run(["bash", "-c", command], cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        output[command.split(" --set")[0]] = done.stdout
    runs = tmp_path / "runs"
    one, two, nodes = (epochs(runs / name) for name in ("one", "two", "nodes"))
    # What the text says of them: the same losses on two ranks, a stop in epoch 3 that leaves no trace, a good network.
    assert [record["train_loss"] for record in two] == pytest.approx([record["train_loss"] for record in one], rel=1e-4)
    assert [record["epoch"] for record in nodes] == list(range(1, 13)) and nodes[-1]["nodes"] == 2
    assert nodes[-1]["validation_accuracy"] > 0.9
    assert "after step 100, in epoch 3" in output["mpirun -n 2 onotrain train config.yaml --output runs/nodes --resume"]
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 1797
    assert (tmp_path / "digits.npz").exists()
