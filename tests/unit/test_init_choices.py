"""What init and data info say and choose of order in time, wide targets, rare classes and many columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onotrain.cli.program import run
from onotrain.config import load_config
from onotrain.data.first_sizes import hidden_widths
from onotrain.data.tables.patterns import with_patterns


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def draw() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(7))


def write(columns: dict[str, object], name: str = "t.csv") -> None:
    texts = [np.asarray(values).astype(str) for values in columns.values()]
    Path(name).write_text("\n".join([",".join(columns), *map(",".join, zip(*texts, strict=True))]) + "\n")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == 0
    return " ".join(capsys.readouterr().out.split())


N = 120
DAYS = np.datetime64("2021-01-01") + np.arange(N)
WAVE, NOISE = np.sin(np.arange(N) / 5), draw().normal(size=N)


@pytest.mark.parametrize(
    ("columns", "time"),
    [
        ({"date": DAYS, "x": NOISE, "load": WAVE}, "date"),
        ({"when": DAYS[::-1], "x": NOISE, "load": WAVE}, "when"),  # the newest first
        ({"date": DAYS, "x": WAVE, "load": NOISE}, "date"),  # a feature is enough
        ({"time": np.arange(N), "x": NOISE, "load": WAVE}, "time"),  # counts the rows, and is not learned from
        ({"time_s": np.arange(N) * 0.5 + 3, "x": NOISE, "load": WAVE}, "time_s"),
        ({"date": DAYS, "x": NOISE, "load": np.where(WAVE > 0, "high", "low")}, "date"),
        ({"date": DAYS, "x": NOISE, "load": np.arange(N) ** 1.5}, "date"),  # a trend
        ({"date": DAYS, "x": NOISE, "load": NOISE[::-1]}, None),  # neighbours are not alike
        ({"date": DAYS, "x": np.arange(N) * 1.5, "load": NOISE}, None),  # another clock says nothing
        ({"date": draw().permutation(DAYS), "x": NOISE, "load": WAVE}, None),  # not in order
        ({"date": np.repeat(DAYS[::10], 10), "x": NOISE, "load": WAVE}, None),  # groups, not a series
        ({"lifetime": np.arange(N) * 0.5 + 3, "x": NOISE, "load": WAVE}, None),  # no time, by its name
        ({"x": NOISE, "load": WAVE}, None),
    ],
)
def test_rows_in_the_order_of_time(
    columns: dict[str, object], time: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    write(columns)
    line = f"split: {{by: order, column: {time}}}"
    info, notes = said(capsys, "data", "info", "t.csv"), said(capsys, "init", "t.csv")
    text = Path("config.yaml").read_text()
    assert ("by: order" in info, "by: order" in notes, "by: order" in text) == (time is not None,) * 3
    assert load_config("config.yaml").data.split.by == "class"  # said, not done
    if time is not None:
        assert line in info
        assert line in notes
        Path("config.yaml").write_text(text.replace(f"# {line}", line))
        assert load_config("config.yaml").data.split.column == time
        assert run(["validate", "config.yaml"]) == 0


def test_wide_targets_are_learned_as_logarithms(capsys: pytest.CaptureFixture[str]) -> None:
    reynolds = 10 ** draw().uniform(2, 6, 200)
    write({"Re": reynolds, "Nu": 0.02 * reynolds**0.8 * np.exp(0.05 * draw().normal(size=200))})
    assert "normalize_targets: log" in said(capsys, "data", "info", "t.csv")
    notes = said(capsys, "init", "t.csv")
    assert "normalize_targets: log" in notes
    assert "standard" in notes
    data = load_config("config.yaml").data
    assert data.normalize_targets == "log"
    assert data.columns["Re"].scale == "log"  # a power law is straight between logarithms
    assert "Re (log)" in notes
    assert run(["validate", "config.yaml"]) == 0


@pytest.mark.parametrize(("factor", "power", "scale"), [(1.0, 0.8, "log"), (1e-9, 0.8, "quantile"), (1.0, 0.1, None)])
def test_wide_columns_are_scaled_as_wide_targets_ask_for(factor: float, power: float, scale: str | None) -> None:
    wide = 10 ** draw().uniform(2, 6, 200)
    write({"x": wide * factor, "angle": draw().normal(size=200), "y": wide**power})
    assert run(["init", "t.csv"]) == 0
    data = load_config("config.yaml").data
    assert (data.normalize_targets, data.columns["x"].scale) == ("log" if scale else "standard", scale)
    assert data.columns["angle"].scale is None


def test_targets_of_arrays_with_wide_columns_keep_their_scale() -> None:
    """A column of an array has no scale of its own, and one logarithm bends a power law."""
    wide = 10 ** draw().uniform(2, 6, 200)
    np.savez("d.npz", x=np.stack([wide, wide[::-1]], axis=1), y=wide**0.8)
    assert run(["init", "d.npz"]) == 0
    assert load_config("config.yaml").data.normalize_targets == "standard"


@pytest.mark.parametrize(
    ("targets", "setting"),
    [
        ([10.0 ** draw().uniform(0, 4, 100)] * 2, "log"),
        ([10.0 ** draw().uniform(0, 4, 100), draw().normal(size=100)], "standard"),  # one has no logarithm
        ([10.0 ** draw().uniform(0, 4, 100), np.full(100, 3.0)], "log"),
        ([10.0 ** draw().uniform(0, 4, 100), np.zeros(100)], "standard"),
    ],
    ids=["both", "one", "constant", "zero"],
)
def test_all_outputs_are_scaled_alike(targets: list[np.ndarray], setting: str) -> None:
    np.savez("d.npz", x=draw().normal(size=(100, 3)), y=np.stack(targets, axis=1))
    assert run(["init", "d.npz"]) == 0
    assert load_config("config.yaml").data.normalize_targets == setting


@pytest.mark.parametrize(
    ("counts", "rare"),
    [([200, 10], "B (10)"), ([200, 11], None), ([500, 480, 3], "C (3)"), ([5] * 60, None)],
    ids=["1:20", "more", "three", "many-classes"],
)
def test_rare_classes_are_named(counts: list[int], rare: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    names = [chr(65 + k) for k in range(len(counts))]
    write({"x": draw().normal(size=sum(counts)), "class": np.repeat(names, counts)})
    info, notes = said(capsys, "data", "info", "t.csv"), said(capsys, "init", "t.csv")
    text = Path("config.yaml").read_text()
    if rare is None:
        assert "class_weights" not in info + notes + text
        return
    for where in (info, notes):
        assert f"rare classes: {rare}" in where
        assert "loss.class_weights: balanced" in where
        assert "validation_balanced_accuracy" in where
    text = text.replace("loss: cross_entropy\n", "").replace("# loss:", "loss:").replace("# early", "early")
    Path("config.yaml").write_text(text.replace("epochs: 100", "epochs: 1"))
    config = load_config("config.yaml")
    assert config.loss.class_weights == "balanced"
    assert config.training.early_stopping.metric == "validation_balanced_accuracy"
    assert run(["validate", "config.yaml"]) == 0
    assert run(["train", "config.yaml", "--set", "training.epochs=1", "--output", "run", "--quiet"]) == 0


def test_many_columns_of_one_prefix_are_a_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"nm_{400 + k}" for k in range(1200)]
    values = draw().normal(size=(40, 1200)).round(2)
    values[:, 7] = 1.0  # never changes
    write({"id": [f"s{k}" for k in range(40)], **dict(zip(names, values.T, strict=True)), "protein": values[:, 3] + 1})
    assert "60 of 1,202 columns" in said(capsys, "data", "info", "t.csv")
    assert run(["init", "t.csv"]) == 0
    columns = load_config("config.yaml").data.columns
    assert {name: kind.name for name, kind in columns.items()} == {"id": "id", "nm_*": "numeric", "nm_407": "ignore"}
    assert run(["validate", "config.yaml"]) == 0
    assert run(["train", "config.yaml", "--set", "training.epochs=1", "--output", "run", "--quiet"]) == 0


NUMERIC, GAPS = {"name": "numeric"}, {"name": "numeric", "missing": "median", "indicator": True}
COMMA = {"name": "numeric", "format": "1.234,5"}
TWENTY = [f"nm_{k}" for k in range(20)]


@pytest.mark.parametrize(
    ("kinds", "others", "expected"),
    [
        (dict.fromkeys(TWENTY, NUMERIC), [], {"nm_*": NUMERIC}),
        (dict.fromkeys(TWENTY[:19], NUMERIC), [], None),  # few
        (dict.fromkeys(TWENTY, NUMERIC), ["nm_total"], None),  # a target, or excluded
        (dict.fromkeys(TWENTY, NUMERIC) | {"nm_b": GAPS}, [], {"nm_*": NUMERIC, "nm_b": GAPS}),
        (dict.fromkeys(TWENTY, COMMA), [], {"nm_*": COMMA}),
        (dict.fromkeys(TWENTY, COMMA) | {"nm_b": NUMERIC}, [], None),
        (dict.fromkeys([f"{k}.5" for k in range(20)], NUMERIC), [], None),  # no prefix
        (dict.fromkeys([f"a[{k}" for k in range(20)], NUMERIC), [], None),  # would be no prefix
    ],
    ids=["all", "few", "target", "exception", "format", "format-and-not", "numbers", "wildcard"],
)
def test_patterns(kinds: dict[str, dict[str, object]], others: list[str], expected: object) -> None:
    assert with_patterns(kinds, [*kinds, *others]) == (kinds if expected is None else expected)


@pytest.mark.parametrize(
    ("features", "samples", "first"),
    [(5000, 60, 32), (5000, 5000, 64), (784, 60000, 512), (64, 1797, 32), (13, 20, 32)],
)
def test_the_first_layer_has_at_most_100_weights_a_sample(features: int, samples: int, first: int) -> None:
    assert hidden_widths(features, 1, samples)[0] == first


def test_samples_without_a_target_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    """A table of which half the rows have a target is learned from as the other half alone."""
    x, y = draw().normal(size=800), draw().normal(size=800).round(3).astype(str)
    write({"x": x[:400], "y": y[:400]}, "half.csv")
    y[400:] = ""
    write({"x": x, "y": y}, "all.csv")
    for name in ("half", "all"):
        assert run(["init", f"{name}.csv", "--output", f"{name}.yaml"]) == 0
    half, every = load_config("half.yaml"), load_config("all.yaml")
    assert every.training == half.training
    assert every.optimizer == half.optimizer
    assert Path("all.yaml").read_text().startswith("# 400 samples of 1 column")


def test_shares_of_classes_are_of_those_that_have_one(capsys: pytest.CaptureFixture[str]) -> None:
    write({"x": draw().normal(size=40), "class": ["A", "B", "", ""] * 10})
    assert "50.0 %" in said(capsys, "data", "info", "t.csv")
