"""Metrics of classes against scikit-learn's, with ties, missing classes and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle

import builders
from onotrain.errors import UsageError
from onotrain.nn.losses import Loss

ROWS, CLASSES = 211, 4
NAMES = ("rose", "a, b", "iris", "x[1]")
RATIOS = {"precision": oracle.precision_score, "recall": oracle.recall_score, "f1": oracle.f1_score}


def loss(name: str, outputs: int) -> Loss:
    return builders.model(builders.config(outputs, loss=name, training={"dtype": "float64"}), 1).loss


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def samples(seed: int = 0, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, many of which are equal, classes that they say something of, and weights."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, ROWS).astype(np.int32)
    logits = np.round(rng.normal(size=(ROWS, classes)) + np.eye(classes)[targets], 1)
    return logits, targets, rng.choice([0.0, 0.5, 1.0, 3.0], ROWS)


@pytest.mark.parametrize("weighted", [False, True])
def test_of_several_classes(weighted: bool) -> None:
    logits, y, w = samples()
    p, guess = softmax(logits), logits.argmax(axis=1)
    prefix, options = ("weighted_", {"sample_weight": w}) if weighted else ("", {})
    onehot = np.eye(CLASSES)[y]
    expected = {
        "loss": oracle.log_loss(y, p, **options),
        "accuracy": oracle.accuracy_score(y, guess, **options),
        "balanced_accuracy": oracle.balanced_accuracy_score(y, guess, **options),
        "mcc": oracle.matthews_corrcoef(y, guess, **options),
        "roc_auc": oracle.roc_auc_score(onehot, p, average="macro", **options),
        "average_precision": oracle.average_precision_score(onehot, p, average="macro", **options),
        "log_loss": oracle.log_loss(y, p, **options),
        "brier": np.average(((p - onehot) ** 2).sum(axis=1), **({"weights": w} if weighted else {})),
        **{name: score(y, guess, average="macro", **options) for name, score in RATIOS.items()},
        **{f"{name}_micro": score(y, guess, average="micro", **options) for name, score in RATIOS.items()},
        **{f"{name}_weighted": score(y, guess, average="weighted", **options) for name, score in RATIOS.items()},
        **{
            f"{name}[{of}]": score(y, guess, average=None, **options)[number]
            for name, score in RATIOS.items()
            for number, of in enumerate(NAMES)
        },
        "roc_auc[iris]": oracle.roc_auc_score(y == 2, p[:, 2], **options),
        "average_precision[iris]": oracle.average_precision_score(y == 2, p[:, 2], **options),
    }
    got = builders.measured(
        [f"{prefix}{name}" for name in expected], loss("cross_entropy", CLASSES), logits, y, of=NAMES, weights=w
    )
    assert {name: got[f"{prefix}{name}"] for name in expected} == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_of_two_classes_by_one_output_or_two(outputs: int, weighted: bool) -> None:
    """Both say the same; scores are of the second class."""
    logits, y, w = samples(1, 2)
    z = logits[:, 1] - logits[:, 0]
    criterion = loss("binary_cross_entropy" if outputs == 1 else "cross_entropy", outputs)
    given: Any = (z[:, None], y[:, None].astype(float)) if outputs == 1 else (logits, y)
    p, guess = criterion.predict(given[0])[:, -1], (z > 0).astype(int)  # which probabilities are equal is its own
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-z)), rtol=1e-12)
    prefix, options = ("weighted_", {"sample_weight": w}) if weighted else ("", {})
    expected = {
        "accuracy": oracle.accuracy_score(y, guess, **options),
        "balanced_accuracy": oracle.balanced_accuracy_score(y, guess, **options),
        "mcc": oracle.matthews_corrcoef(y, guess, **options),
        "roc_auc": oracle.roc_auc_score(y, p, **options),
        "average_precision": oracle.average_precision_score(y, p, **options),
        "log_loss": oracle.log_loss(y, p, **options),
        "brier": oracle.brier_score_loss(y, p, **options),
        "f1": oracle.f1_score(y, guess, average="macro", **options),
        "f1[1]": oracle.f1_score(y, guess, **options),
        "f1[0]": oracle.f1_score(y, guess, pos_label=0, **options),
        "roc_auc[1]": oracle.roc_auc_score(y, p, **options),
    }
    got = builders.measured([f"{prefix}{name}" for name in expected], criterion, *given, weights=w)
    assert {name: got[f"{prefix}{name}"] for name in expected} == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_of_labels(weighted: bool) -> None:
    rng = np.random.default_rng(2)
    y = (rng.random((ROWS, 3)) < [0.1, 0.5, 0.7]).astype(float)
    logits, w = np.round(rng.normal(size=y.shape) + y - 0.5, 1), rng.choice([0.5, 2.0], ROWS)
    p, guess = 1 / (1 + np.exp(-logits)), logits > 0
    prefix, options = ("weighted_", {"sample_weight": w}) if weighted else ("", {})
    expected = {
        "accuracy": np.average((guess == y).mean(axis=1), **({"weights": w} if weighted else {})),
        "roc_auc": oracle.roc_auc_score(y, p, average="macro", **options),
        "average_precision": oracle.average_precision_score(y, p, average="macro", **options),
        "log_loss": np.mean([oracle.log_loss(y[:, n], p[:, n], **options) for n in range(3)]),
        "brier": np.mean([oracle.brier_score_loss(y[:, n], p[:, n], **options) for n in range(3)]),
        **{
            f"{name}{suffix}": score(y, guess, average=average, **options)
            for name, score in RATIOS.items()
            for suffix, average in (("", "macro"), ("_micro", "micro"), ("_weighted", "weighted"))
        },
        "recall[2]": oracle.recall_score(y[:, 2], guess[:, 2], **options),
    }
    criterion = loss("binary_cross_entropy", 3)
    got = builders.measured([f"{prefix}{name}" for name in expected], criterion, logits, y, weights=w)
    assert {name: got[f"{prefix}{name}"] for name in expected} == pytest.approx(expected, rel=1e-10)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore::UserWarning")
def test_classes_that_are_missing() -> None:
    """One class neither occurs nor is predicted, one is only predicted, one only occurs."""
    y = np.array([0, 0, 1, 1, 3] * 20, np.int32)[:ROWS]
    logits = np.zeros((len(y), 5))
    logits[np.arange(len(y)), np.where(y == 3, 2, (y + (np.arange(len(y)) % 7 == 0)) % 2)] = 1.0
    guess = logits.argmax(axis=1)
    expected = {name: score(y, guess, average="macro", zero_division=0) for name, score in RATIOS.items()}
    expected["balanced_accuracy"] = oracle.balanced_accuracy_score(y, guess)
    expected["mcc"] = oracle.matthews_corrcoef(y, guess)
    occur = [oracle.roc_auc_score(y == n, softmax(logits)[:, n]) for n in (0, 1, 3)]
    expected["roc_auc"] = float(np.mean(occur))
    got = builders.measured(list(expected), loss("cross_entropy", 5), logits, y)
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_one_class_alone_has_no_curve() -> None:
    logits, y, _ = samples()
    got = builders.measured(["roc_auc", "average_precision[3]", "mcc"], loss("cross_entropy", 4), logits, y * 0)
    assert np.isnan(got["roc_auc"]) and np.isnan(got["average_precision[3]"]) and got["mcc"] == 0.0


def test_equal_outputs_are_no_knowledge() -> None:
    """Of equal logits the first classes count: top_1 is the accuracy, top_k about k / classes."""
    y = np.random.default_rng(0).integers(0, 10, 500).astype(np.int32)
    got = builders.measured(["accuracy", "top_1", "top_3", "top_9"], loss("cross_entropy", 10), np.zeros((500, 10)), y)
    assert got["accuracy"] == got["top_1"] == np.mean(y == 0)
    assert got["top_3"] == np.mean(y < 3) and got["top_9"] == np.mean(y < 9)
    rng = np.random.default_rng(1)
    logits = rng.permuted(np.tile(np.arange(10.0), (500, 1)), axis=1)
    got = builders.measured(["top_3"], loss("cross_entropy", 10), logits, y)
    assert got["top_3"] == oracle.top_k_accuracy_score(y, logits, k=3)


def test_calibration_error_by_its_definition() -> None:
    logits, y, w = samples(3)
    p = softmax(logits)
    confidence, right = p.max(axis=1), logits.argmax(axis=1) == y
    error = 0.0
    for low in np.arange(15) / 15:
        of_bin = (confidence > low) & (confidence <= low + 1 / 15)
        error += abs(w[of_bin] @ (confidence[of_bin] - right[of_bin])) / w.sum()
    got = builders.measured(["weighted_calibration_error"], loss("cross_entropy", CLASSES), logits, y, weights=w)
    assert got["weighted_calibration_error"] == pytest.approx(error, rel=1e-12)
    sure = np.where(np.eye(2)[y % 2] == 1, 50.0, -50.0)
    assert builders.measured(["calibration_error"], loss("cross_entropy", 2), sure, y % 2)["calibration_error"] < 1e-12


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_threshold_decides(outputs: int) -> None:
    logits, y, _ = samples(1, 2)
    z = logits[:, 1] - logits[:, 0]
    guess = 1 / (1 + np.exp(-z)) > 0.3
    criterion = loss("binary_cross_entropy" if outputs == 1 else "cross_entropy", outputs)
    given: Any = (z[:, None], y[:, None].astype(float)) if outputs == 1 else (logits, y)
    got = builders.measured(["accuracy", "f1[1]", "roc_auc"], criterion, *given, threshold=0.3)
    assert got["accuracy"] == oracle.accuracy_score(y, guess) != oracle.accuracy_score(y, z > 0)
    assert got["f1[1]"] == pytest.approx(oracle.f1_score(y, guess))


def test_a_name_of_no_class_and_weights_that_are_not_there() -> None:
    logits, y, _ = samples()
    with pytest.raises(UsageError, match="there is no class 'tulip'; expected one of rose"):
        builders.measured(["f1[tulip]"], loss("cross_entropy", 4), logits, y, of=NAMES)
    with pytest.raises(UsageError, match="needs weights of the samples") as caught:
        builders.measured(["weighted_f1"], loss("cross_entropy", 4), logits, y)
    assert "data.weights" in str(caught.value)
    with pytest.raises(UsageError, match="has a score of 'yes' alone"):
        builders.measured(
            ["roc_auc[no]"], loss("binary_cross_entropy", 1), logits[:, :1], y[:, None] / 4.0, of=("no", "yes")
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_of_values(weighted: bool) -> None:
    """Per output, and the mean over the outputs whose targets vary."""
    rng = np.random.default_rng(4)
    y = rng.normal(size=(ROWS, 3)) * [1.0, 1e-6, 0.0] + [1e6, 0.0, 7.0]
    p, w = y + rng.normal(size=y.shape) * [0.3, 1e-6, 0.1], rng.choice([0.5, 2.0], ROWS)
    prefix, options = ("weighted_", {"sample_weight": w}) if weighted else ("", {})
    each = {
        "mae": oracle.mean_absolute_error(y, p, multioutput="raw_values", **options),
        "rmse": oracle.root_mean_squared_error(y, p, multioutput="raw_values", **options),
        "r2": oracle.r2_score(y, p, multioutput="raw_values", **options),
    }
    of = ("length", "flux", "constant")
    expected = {f"{name}[{of[n]}]": values[n] for name, values in each.items() for n in range(3)}
    expected |= {"mae": each["mae"].mean(), "rmse": np.sqrt(np.mean(each["rmse"] ** 2)), "r2": each["r2"][:2].mean()}
    del expected["r2[constant]"]
    names = [f"{prefix}{name}" for name in (*expected, "r2[constant]")]
    got = builders.measured(names, loss("mse", 3), p, y, of=of, weights=w)
    assert np.isnan(got[f"{prefix}r2[constant]"])
    assert {name: got[f"{prefix}{name}"] for name in expected} == pytest.approx(expected, rel=1e-8)
