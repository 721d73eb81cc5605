"""The pictures of evaluations: what is on them, and the fonts in the files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onotrain.data.ranges import is_wide
from onotrain.evaluation.class_scores import PerClass
from onotrain.evaluation.confusion import ConfusionCounts
from onotrain.evaluation.curves import Pairs
from onotrain.evaluation.value_scores import PerOutput
from onotrain.inference.evaluation import Evaluation
from onotrain.reporting.curves import draw as draw_run
from onotrain.reporting.evaluation import draw

pytest.importorskip("matplotlib")
EPOCHS = [
    {
        "epoch": e,
        "train_loss": 10.0**-e,
        "validation_loss": 2 * 10.0**-e,
        "validation_rmse": 1.0 / e,
        "ranks_seconds": {},
    }
    for e in (1, 2, 3, 4)
]


def regression(samples: int, **given: Any) -> Evaluation:
    """Return an evaluation of three outputs; the second one's values lie four decades apart."""
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(samples, 3))
    targets[:, 1] = 10.0 ** rng.uniform(0, 4, samples)
    predictions = targets * 1.01
    n, zeros = np.full(3, float(samples)), np.zeros(3)
    errors = PerOutput(n, n, np.square(targets - predictions).sum(0), zeros, np.square(targets).sum(0))
    return Evaluation(
        "a.csv", samples, {}, output_names=("T", "cost in $ and $", "third"), per_output=errors,
        drawable=Pairs(targets, predictions, samples), **given,
    )  # fmt: skip


def texts(evaluation: Evaluation, path: Path) -> str:
    """Return all that is written on the picture of an evaluation."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(evaluation, path)
    return "\n".join(re.findall(r">([^<>\n]+)</(?:text|tspan)>", path.read_text()))


@pytest.mark.parametrize("samples", [200, 6000])
def test_predictions_over_targets(tmp_path: Path, samples: int) -> None:
    found = texts(regression(samples, output_units=("K", "", "")), tmp_path / "p.svg")
    for text in ("true [K]", "predicted [K]", "cost in $ and $", "R2 0.999", f"a.csv: {samples:,} samples"):
        assert text in found
    assert ("\nsamples" in found) == (samples > 5000)  # the scale of the hexagons
    assert "third" in found and found.count("true") == 3


def test_axes_are_logarithmic_where_the_range_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    seen: list[list[str]] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (seen.append([x.get_yscale() for x in self.axes]), save(self, *a, **k))
    )
    draw(regression(200), tmp_path / "p.png")
    draw_run(EPOCHS, "a run", tmp_path / "r.png")
    assert seen == [["linear", "log", "linear"], ["log", "linear", "linear"]]
    assert [is_wide(values) for values in ([1, 101], [1, 99], [0, 1e9], [-1, 1e9], [float("nan"), 1, 1e9], [])] == [
        True, False, False, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_fonts_are_those_that_journals_take(tmp_path: Path, suffix: str) -> None:
    for number, make in enumerate((lambda p: draw(regression(6000), p), lambda p: draw_run(EPOCHS, "a run", p))):
        path = tmp_path / f"{number}{suffix}"
        make(path)
        content = path.read_bytes()
        assert len(content) > 5000
        if suffix == ".pdf":
            assert b"/Subtype /Type3" not in content and b"/FontFile2" in content


def test_the_best_epoch_is_marked(tmp_path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw_run(EPOCHS, "runs/" + "a/long/path/" * 20 + "end", tmp_path / "r.svg", best=3, unit="K")
    found = (tmp_path / "r.svg").read_text()
    for text in ("best: 0.0020000 (epoch 3)", "best: 0.33333 (epoch 3)", "rmse [K]", "time per rank [s]", "path/end"):
        assert text in found


def test_nothing_lies_outside_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    outside: list[tuple[str, float]] = []
    save = Figure.savefig

    def looked_at(self: Any, *arguments: Any, **options: Any) -> None:
        save(self, *arguments, **options)
        tight, size = self.get_tightbbox(), self.get_size_inches()
        outside.extend((name, value) for name, value in zip("xy", (tight.x0, tight.y0), strict=True) if value < -0.02)
        ends = zip("XY", (tight.x1 - size[0], tight.y1 - size[1]), strict=True)
        outside.extend((name, value) for name, value in ends if value > 0.02)

    monkeypatch.setattr(Figure, "savefig", looked_at)
    draw(regression(6000, output_units=("a long unit of work", "Pa", "")), tmp_path / "a.png")
    draw_run(EPOCHS, "runs/" + "a/long/path/" * 20, tmp_path / "b.png", best=3, unit="K")
    draw(classes(12), tmp_path / "c.png")
    draw(classes(2), tmp_path / "d.png")
    assert outside == []


def classes(number: int) -> Evaluation:
    """Return an evaluation of classes with long names, some of them told apart well."""
    from onotrain.evaluation.curves import CurvesOf

    rng = np.random.default_rng(0)
    truth, names = rng.integers(0, number, 600), tuple(f"class with a long name {k}" for k in range(number))
    scores = rng.random((600, number)) + np.eye(number)[truth] * np.linspace(0, 1, number)
    predicted = scores.argmax(1)
    pairs, counts = np.unique(truth * number + predicted, return_counts=True)
    matrix = ConfusionCounts(number, pairs // number, pairs % number, counts)
    support, taken = np.bincount(truth, minlength=number), np.bincount(predicted, minlength=number)
    curves = CurvesOf(names).result([(scores[:300], truth[:300]), (scores[300:], truth[300:])])
    return Evaluation(
        "c.csv", 600, {}, class_names=names, counts=matrix, drawable=curves,
        per_class=PerClass(600.0, support, taken, np.diag(matrix.dense())),
    )  # fmt: skip


@pytest.mark.parametrize("number", [2, 5, 12])
def test_curves_and_confusion_of_classes(tmp_path: Path, number: int) -> None:
    found = texts(classes(number), tmp_path / "c.svg")
    for text in ("false positive rate", "true positive rate", "recall", "precision", "true class", "predicted class"):
        assert text in found
    assert ("ROC AUC (worst 7 of 12)" in found) == (number == 12)
    assert len(re.findall(r"^class.*: [01]\.\d+$", found, re.MULTILINE)) == 2 * {2: 1, 5: 5, 12: 7}[number]


def test_curves_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    from onotrain.evaluation.curves import CurvesOf

    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 500)
    scores = np.round(rng.random((500, 3)) + np.eye(3)[truth] * 0.4, 2)  # many are equal
    found = CurvesOf(("a", "b", "c")).result([(scores[:200], truth[:200]), (scores[200:], truth[200:])])
    for number, curve in enumerate(found):
        positive, score = truth == number, scores[:, number]
        false, true, _ = metrics.roc_curve(positive, score, drop_intermediate=False)
        np.testing.assert_allclose(curve.false_positive_rate, false, atol=1e-12)
        np.testing.assert_allclose(curve.true_positive_rate, true, atol=1e-12)
        precision, recall, _ = metrics.precision_recall_curve(positive, score)
        np.testing.assert_allclose(curve.precision[1:], precision[:-1][::-1], atol=1e-12)
        np.testing.assert_allclose(curve.true_positive_rate[1:], recall[:-1][::-1], atol=1e-12)
        assert curve.roc_auc == pytest.approx(metrics.roc_auc_score(positive, score), abs=1e-12)
        assert curve.average_precision == pytest.approx(metrics.average_precision_score(positive, score), abs=1e-12)
