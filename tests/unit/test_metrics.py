"""Metrics against their definitions, in any split of the samples, and evaluation in chunks."""

from __future__ import annotations

import numpy as np
import pytest

import builders
from onotrain import _kernels
from onotrain.data.normalization import Normalization
from onotrain.data.samples import ArraySamples
from onotrain.errors import UsageError
from onotrain.evaluation import metrics
from onotrain.evaluation.evaluator import Evaluator
from onotrain.evaluation.forward_pass import PASS_ROWS
from onotrain.evaluation.rows import Rows
from onotrain.nn.losses import Loss

ROWS = 101


def loss(name: str, outputs: int) -> Loss:
    """Return a float64 loss."""
    return builders.model(builders.config(outputs, loss=name, training={"dtype": "float64"}), 1).loss


def values(names: list[str], criterion: Loss, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return metrics from the sums over three uneven splits."""
    return builders.measured(names, criterion, logits, targets)


def test_classification() -> None:
    """Loss, accuracy and top-k, by their definitions."""
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(ROWS, 6)), rng.integers(0, 6, ROWS).astype(np.int32)
    got = values(["accuracy", "top_1", "top_3", "top_6"], loss("cross_entropy", 6), logits, targets)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    order = np.argsort(-logits, axis=1)
    assert got["loss"] == pytest.approx(-log_p[np.arange(ROWS), targets].mean(), rel=1e-12)
    assert got["accuracy"] == got["top_1"] == pytest.approx((order[:, 0] == targets).mean())
    assert got["top_3"] == pytest.approx((order[:, :3] == targets[:, None]).any(axis=1).mean())
    assert got["top_6"] == 1.0


def test_a_ruined_network_is_right_about_nothing() -> None:
    """No comparison with NaN is true, also not "k or more logits are larger than this one"."""
    logits = np.full((3, 6), np.nan)
    logits[1, 2:] = 0.5
    logits[2] = [0.1, 0.9, 0.3, 0.3, 0.3, 0.2]
    targets = np.array([0, 1, 2], np.int32)
    got = values(["top_1", "top_2", "top_5", "accuracy", "recall_micro"], loss("cross_entropy", 6), logits, targets)
    assert got["top_1"] == got["accuracy"] == got["recall_micro"] == 0.0
    assert got["top_2"] == got["top_5"] == 1 / 3


def test_regression_with_a_large_mean() -> None:
    """R2 must not drown in the square of the mean: targets around a million with a spread of one."""
    rng = np.random.default_rng(1)
    targets = 1e6 + rng.normal(size=(ROWS, 2))
    predicted = targets + 0.3 * rng.normal(size=(ROWS, 2))
    got = values(["mae", "rmse", "r2"], loss("mse", 2), predicted, targets)
    errors = predicted - targets
    residual, total = (errors**2).sum(axis=0), ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    assert got["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-9)
    assert got["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-9)
    assert got["r2"] == pytest.approx((1 - residual / total).mean(), rel=1e-9)
    assert got["loss"] == pytest.approx((errors**2).sum(axis=1).mean(), rel=1e-9)


def test_r2_of_constant_targets_is_not_a_number() -> None:
    """There is no variance to explain."""
    got = values(["r2"], loss("mse", 1), np.ones((ROWS, 1)), np.full((ROWS, 1), 2.0))
    assert np.isnan(got["r2"])


def test_binary_and_multi_label_accuracy() -> None:
    """A yes or no for each output."""
    rng = np.random.default_rng(2)
    for outputs in (1, 3):
        logits, targets = rng.normal(size=(ROWS, outputs)), rng.integers(0, 2, (ROWS, outputs)).astype(float)
        got = values(["accuracy"], loss("binary_cross_entropy", outputs), logits, targets)
        assert got["accuracy"] == pytest.approx(((logits > 0) == (targets > 0.5)).mean())


def test_a_metric_that_does_not_fit_is_named() -> None:
    """With those that do."""
    with pytest.raises(UsageError, match="'mae' does not fit loss 'cross_entropy'") as caught:
        metrics.make_metrics(["mae"], loss("cross_entropy", 4), np.zeros(1))
    assert "accuracy" in str(caught.value) and "top_4" in str(caught.value)


@pytest.mark.parametrize("rows", [1, PASS_ROWS - 1, PASS_ROWS, PASS_ROWS + 1, 3 * PASS_ROWS + 7])
def test_evaluation_covers_every_sample_once(rows: int) -> None:
    """Whole and broken chunks against the same network computed by hand; an index picks samples."""
    kernels = _kernels.load("float64")
    model = builders.model(builders.config(4, training={"dtype": "float64"}), 5)
    flat = model.layout.zeros()
    model.initialize(flat, 0)
    model.bind(flat)
    rng = np.random.default_rng(3)
    features = rng.normal(size=(2 * rows, 5)).astype(np.float32)
    targets = rng.integers(0, 4, 2 * rows).astype(np.int32)
    index = np.sort(rng.permutation(2 * rows)[:rows])
    chosen = metrics.make_metrics(["accuracy"], model.loss, targets[:1])
    got = Evaluator(
        model, ArraySamples(features, targets, index), Normalization.given((1.0,), (2.0,)), chosen, kernels
    )(None)
    views = model.layout.views(flat)
    logits = (features[index].astype(float) - 1) / 2 @ views["dense_0/weight"].T + views["dense_0/bias"]
    assert got["accuracy"] == pytest.approx((logits.argmax(axis=1) == targets[index]).mean())


def test_values_are_judged_in_the_units_of_the_data() -> None:
    """The network learns other numbers, whose loss it is; errors and R2 are of the data's."""
    rng = np.random.default_rng(5)
    learned = rng.normal(size=(ROWS, 2))
    given = learned + 0.1 * rng.normal(size=learned.shape)
    criterion, scale = loss("mse", 2), np.array([1e-6, 1e3])
    rows = Rows(criterion, given, learned, undo=lambda values: values * scale + 5)
    (judged,) = metrics.make_metrics(["rmse[1]"], criterion, (learned * scale + 5)[0])[1:]
    expected = 1e3 * np.sqrt(np.square(given - learned)[:, 1].mean())
    assert judged.value(judged.statistic.sums(rows)) == pytest.approx(expected, rel=1e-9)
    assert rows.loss_sums[0] == pytest.approx(np.square(given - learned).sum())
