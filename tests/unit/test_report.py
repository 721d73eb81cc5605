"""Reports on runs: what the page shows, its pictures and its numbers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import mapping, relu
from onotrain.cli.program import run as command
from onotrain.errors import DataError, UsageError
from onotrain.reporting.groups import grouped
from onotrain.reporting.held_out import held_out
from onotrain.reporting.history import History
from onotrain.reporting.plots import Plot
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train

VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """A page of which every element is closed, and every id occurs once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.text = ""
        self.feed(path.read_text())
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids += [given["id"] or ""] if "id" in given else []
        links = [given.get(name) or "" for name in ("src", "href", "xlink:href") if tag not in ("a",)]
        self.outside += [link for link in links if link and not link.startswith(("#", "data:"))]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def trained(folder: Path, name: str, **sections: Any) -> Path:
    """Train on the digits for two epochs, and return the run."""
    sections = {"training": {"epochs": 2, "batch_size": 64}} | sections
    layers: list[Any] = sections.pop("layers", [relu(8), 10])
    data = sections.pop("data", {"train": "digits", "validation": 0.2})
    train(mapping(*layers, data=data, **sections), output=folder / name)
    return folder / name


def reported(folder: Path, *words: Any) -> Page:
    assert command(["report", *map(str, words), "--output", str(folder)]) == 0
    return Page(folder / "report.html")


def rows(path: Path) -> list[Mapping[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def printing_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw for the page alone: it is half of the time."""
    monkeypatch.setattr(Plot, "files", lambda plot: {})


def test_a_classifier(tmp_path: Path) -> None:
    run = trained(tmp_path, "digits", metrics={"every_steps": 4})
    page = reported(tmp_path / "report", run)
    assert page.outside == [] and len(page.ids) == len(set(page.ids))
    for shown in ("loss-epoch", "accuracy-time", "loss-steps", "ranks-1", "confusion", "reliability", "worst"):
        assert shown in page.ids
        for kind in ("png", "pdf", "svg"):
            assert (tmp_path / "report" / "plots" / f"{shown}.{kind}").stat().st_size > 1000
    assert b"/FontType 3" not in (tmp_path / "report" / "plots" / "loss-epoch.pdf").read_bytes()
    epochs = rows(tmp_path / "report" / "numbers" / "epochs.csv")
    for row, record in zip(epochs, RunDirectory.open(run).records(), strict=True):
        assert float(row["validation_loss"]) == record["validation_loss"]
    assert len(rows(tmp_path / "report" / "numbers" / "steps.csv")) == len(RunDirectory.open(run).step_records())
    (whole,) = rows(tmp_path / "report" / "numbers" / "runs.csv")
    assert whole["method"] == "allreduce" and whole["simulated"] == "False"


def test_what_the_network_says_is_what_was_measured(tmp_path: Path) -> None:
    """The samples are those of the run's own split, and the network is the one that it leaves behind."""
    run = trained(tmp_path, "digits")
    found = held_out(run)
    accuracy = np.mean(found.predictor.output.decide(found.predictions) == np.rint(found.targets).ravel())
    assert found.part == "validation"
    assert accuracy == pytest.approx(RunDirectory.open(run).records()[-1]["validation_accuracy"], abs=1e-12)


@pytest.mark.usefixtures("printing_left_out")
@pytest.mark.parametrize("scaled", [True, False])
def test_a_regression(tmp_path: Path, scaled: bool) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3))
    y = np.stack([1000 + 50 * x[:, 0], x[:, 1] ** 2], axis=1)
    np.savez(tmp_path / "flow.npz", x=x, y=y, target_names=np.array(["pressure $p$", "<b>speed</b>"]))
    data = {
        "train": str(tmp_path / "flow.npz"), "validation": 0.2, "test": 0.1,
        "normalize_targets": "standard" if scaled else "none",
    }  # fmt: skip
    run = trained(tmp_path, "flow", layers=[relu(8), 2], data=data, loss="mse")
    page = reported(tmp_path / "report", run)
    assert {"parity-1", "residuals-1", "parity-2", "residuals-2", "r2-epoch"} <= set(page.ids)
    assert "pressure $p$" in page.text and "<b>speed</b>" in page.text  # as text, not as markup
    found = held_out(run)
    assert found.part == "test" and found.targets[:, 0].mean() == pytest.approx(1000, abs=60)
    rmse = np.sqrt(np.mean((found.predictions - found.targets) ** 2))
    assert rmse == pytest.approx(RunDirectory.open(run).summary()["test_rmse"], rel=1e-4)  # type: ignore[index]


@pytest.mark.usefixtures("printing_left_out")
def test_seeds_are_grouped_and_others_are_not(tmp_path: Path) -> None:
    def of(name: str, seed: int, **sections: Any) -> Path:
        return trained(tmp_path, name, training={"epochs": 2, "batch_size": 64, "seed": seed}, **sections)

    runs = [
        of("a1", 1), of("a2", 2), of("b1", 1, strategy="flat"), of("c1", 1, optimizer={"name": "sgd"}),
        of("d1", 1, simulate={"delay_ms": 0.1}),
    ]  # fmt: skip
    groups = grouped([History.read(run) for run in runs])
    assert [[run.name for run in group.runs] for group in groups] == [["a1", "a2"], ["b1"], ["c1"], ["d1"]]
    assert groups[0].label.startswith("allreduce, optimizer.name adam") and groups[1].label.startswith("flat")
    mean, spread = groups[0].last("validation_loss")
    losses = [RunDirectory.open(run).records()[-1]["validation_loss"] for run in runs[:2]]
    assert mean == pytest.approx(np.mean(losses)) and spread == pytest.approx(np.std(losses, ddof=1))
    page = reported(tmp_path / "report", *runs, "--no-samples")
    assert "slow ranks or the network were simulated (delay_ms 0.1)" in page.text
    assert "±" in page.text and "confusion" not in page.ids


@pytest.mark.usefixtures("printing_left_out")
def test_a_run_whose_data_are_gone_is_reported_without_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.random.default_rng(0).normal(size=(100, 4)), y=np.arange(100) % 2)
    run = trained(tmp_path, "run", layers=[relu(4), 2], data={"train": str(tmp_path / "own.npz"), "validation": 0.5})
    (tmp_path / "own.npz").unlink()
    page = reported(tmp_path / "report", run)
    assert "Not shown: " in page.text and "own.npz: no such file" in page.text
    assert "loss-epoch" in page.ids and "confusion" not in page.ids


@pytest.mark.usefixtures("printing_left_out")
def test_a_run_that_goes_on_or_was_killed(tmp_path: Path) -> None:
    run = trained(tmp_path, "run")
    (run / "summary.json").unlink()
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "st')
    assert "run is not finished: 2 of 2 epochs" in reported(tmp_path / "report", run).text


def test_what_cannot_be_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no such run directory"):
        History.read(tmp_path / "nothing")
    run = trained(tmp_path, "run")
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="no epoch has ended yet"):
        History.read(run)
    assert command(["report", str(run)]) == 3
    assert re.match(r"onotrain: .*run: no epoch has ended yet.*\n  hint: ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("staleness", {"run_histogram": ["<b>"]}, "staleness"),
        ("staleness", 3, "staleness"),
        ("ranks_seconds", {"compute": [1.0, 2.0]}, "compute has 2 entries"),
        ("ranks_bytes", {"raw": [], "sent": []}, "raw has 0 entries"),
        ("warnings", 5, "warnings"),
        ("method", ["x"], "method"),
        ("train_loss", "low", "train_loss"),
    ],
)
def test_records_of_strangers(
    tmp_path: Path, name: str, value: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path, "run")
    record = {**json.loads((run / "metrics.jsonl").read_text().splitlines()[0]), name: value}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert command(["report", str(run), "--output", str(tmp_path / "report")]) == 3
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (tmp_path / "report").exists()


@pytest.mark.usefixtures("printing_left_out")
def test_extreme_values_are_drawn(tmp_path: Path) -> None:
    """Whatever a record may hold: what is drawn is another matter, and no error."""
    run = trained(tmp_path, "run")
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    rows = [{**record, "epoch": n, "train_loss": loss, "validation_loss": -loss, "learning_rate": 0.0,
             "samples_per_second": 1e300} for n, loss in enumerate([1e300, 1e-300, 0.0, 5e-324], 1)]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    reported(tmp_path / "report", run, "--no-samples")


@pytest.mark.usefixtures("printing_left_out")
def test_numbers_that_are_missing_leave_gaps(tmp_path: Path) -> None:
    """JSON has no NaN, and a record of an older version has fewer fields."""
    run = trained(tmp_path, "run")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    for name in ("method", "ranks_bytes", "ranks_seconds", "wall_seconds"):
        del first[name]
    first["validation_loss"] = None
    (run / "metrics.jsonl").write_text(f"{json.dumps(first)}\n{lines[1]}\n")
    assert "loss-epoch" in reported(tmp_path / "report", run).ids
