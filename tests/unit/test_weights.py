"""Weights of samples and classes: what they are, where they go, and that they do what copies of samples would."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight

import builders
import networks
from feeding import fill
from onotrain import load
from onotrain._kernels import load as load_kernels
from onotrain.config import Config, LossOptions
from onotrain.config.yaml_reader import read_yaml
from onotrain.data import DataSpec
from onotrain.data.batches import Batch
from onotrain.data.dataset import Dataset, make_dataset
from onotrain.data.feed import ArrayFeed
from onotrain.data.normalization import Normalization
from onotrain.data.prepare import prepare
from onotrain.data.targets import TargetCodec
from onotrain.data.weights import sample_weights, training_weights
from onotrain.errors import ConfigError, DataError, UsageError
from onotrain.inference.evaluation import evaluate
from onotrain.nn.losses import Loss
from onotrain.training import train

CODEC = TargetCodec("multiclass", 3, ("a", "b", "c"))
TARGETS = np.array([0, 0, 0, 0, 1, 1, 2, 0], np.int32)


def data(weights: Any) -> Dataset:
    made = make_dataset(np.zeros((8, 1)), TARGETS, "t.csv")
    return replace(made, weights=None if weights is None else np.array(weights))


def test_balanced_classes_are_those_of_scikit_learn() -> None:
    """Counted over the samples to train on; 1 in their mean."""
    index = np.array([0, 1, 2, 4, 6])
    got = training_weights(None, "balanced", CODEC, TARGETS, index, "t.csv")
    classes = compute_class_weight("balanced", classes=np.arange(3), y=TARGETS[index])
    np.testing.assert_allclose(got, classes[TARGETS])
    assert got is not None and got[index].mean() == pytest.approx(1.0)


def test_a_class_without_samples_does_not_matter() -> None:
    got = training_weights(None, "balanced", CODEC, np.array([0, 0, 0, 1], np.int32), None, "t.csv")
    np.testing.assert_allclose(got, [2 / 3, 2 / 3, 2 / 3, 2.0])


def test_weights_of_samples_and_of_named_classes_are_multiplied() -> None:
    own = np.array([1.0, 0, 2, 1, 1, 3, 1, 1])
    got = training_weights(own, {"b": 4.0, "c": 0.0}, CODEC, TARGETS, None, "t.csv")
    expected = own * np.array([1.0, 4.0, 0.0])[TARGETS]
    np.testing.assert_allclose(got, expected / expected.mean())
    assert training_weights(None, None, CODEC, TARGETS, None, "t.csv") is None


def test_two_classes_of_one_output() -> None:
    codec, targets = TargetCodec("binary", 1, ("no", "yes")), np.array([[0.0], [0], [0], [1]], np.float32)
    got = training_weights(None, {"yes": 3.0}, codec, targets, None, "t.csv")
    np.testing.assert_allclose(got, np.array([1, 1, 1, 3]) / 1.5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 1, -1, 1, 1, 1, 1, 1], "row 2: the sample's weight is -1, expected a number from 0 on"),
        ([1, np.nan, 1, 1, 1, 1, 1, 1], "row 1: the sample's weight is nan"),
        ([0] * 8, "all weights of samples are 0"),
        ([1, 2], "2 weights for 8 samples"),
    ],
)
def test_weights_that_are_none(weights: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        sample_weights(data(weights))


def test_classes_that_are_none() -> None:
    with pytest.raises(DataError, match="names the class 'd', expected some of a, b, c"):
        training_weights(None, {"d": 1.0}, CODEC, TARGETS, None, "t.csv")
    with pytest.raises(DataError, match="all samples to train on have weight 0"):
        training_weights(None, {"a": 0.0}, CODEC, TARGETS, np.array([0, 1]), "t.csv")
    with pytest.raises(ConfigError, match="class_weights: needs one class a sample, which 3 outputs"):
        builders.config(3, loss={"name": "binary_cross_entropy", "class_weights": "balanced"})


def test_a_feed_gives_each_sample_its_weight() -> None:
    numbers = np.arange(50)
    feed = ArrayFeed(
        numbers[:, None].astype(np.float32), numbers.astype(np.int32), numbers[::2], Normalization.none(), 3,
        load_kernels("float32"), weights=(numbers / 10).astype(np.float32),
    )  # fmt: skip
    x, y, w = np.empty((7, 1), np.float32), np.empty(7, np.int32), np.empty(7, np.float32)
    fill(feed, 1, Batch(5, 12), Batch(5, 12), x, y, w)
    assert feed.weighted and len(set(y.tolist())) == 7
    np.testing.assert_allclose(w, y / 10, rtol=1e-6)


class Plain(Loss):
    """A loss of another package, of before there were weights."""

    Options = LossOptions

    def __call__(self, logits: Any, targets: Any, weight: Any, dlogits: Any, loss_sums: Any) -> None:  # type: ignore[override]
        loss_sums[0] += 1.0


def test_a_loss_that_takes_no_weights() -> None:
    """Is named, where there are some; no other argument is passed where there are none (tests/system/test_plugins)."""
    model = builders.model(builders.config(2, loss="mse"), 3)
    assert model.loss.weighs_rows
    model.loss = Plain(LossOptions(name="plain"), 2, load_kernels("float32"))
    with pytest.raises(UsageError, match="loss plain takes no weights of samples") as caught:
        model.loss.check_weights(rows=True, outputs=False)
    assert "row_weights" in str(caught.value)
    with pytest.raises(UsageError, match="loss plain takes no weights of outputs") as caught:
        model.loss.check_weights(rows=False, outputs=True)
    assert "output_weights" in str(caught.value)
    model.loss.check_weights(rows=False, outputs=False)


def table(path: Path, rows: list[int], weights: list[float], values: bool = False) -> str:
    """Write samples, chosen by number from a few, with their weights."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), np.arange(12) % 3
    lines = [
        ",".join([*map(repr, x[row].tolist()), repr(weight), repr(float(x[row, 0])) if values else f"k{y[row]}"])
        for row, weight in zip(rows, weights, strict=True)
    ]
    path.write_text("\n".join(["a,b,c,w,target", *lines]) + "\n")
    return str(path)


def trained(tmp_path: Path, source: str, loss: Any, **training: Any) -> np.ndarray:
    """Return the parameters after a few steps over the whole data."""
    made = builders.mapping(
        {"dense": {"units": 4, "activation": "tanh"}}, 1 if loss == "mse" else 3,
        data={"train": source, "weights": "w"}, loss=loss, optimizer={"name": "sgd", "learning_rate": 0.5},
        training={"epochs": 5, "batch_size": 100, "dtype": "float64", **training},
    )  # fmt: skip
    output = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
    train(made, output=output)
    return load(output).parameters


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_weight_does_what_copies_do(tmp_path: Path, loss: str, accumulation: int) -> None:
    copies = [1, 3, 0, 2, 1, 1, 2, 1, 0, 1, 4, 1]
    rows = [row for row, count in enumerate(copies) for _ in range(count)]
    few = table(tmp_path / "few.csv", list(range(12)), [2.5 * count for count in copies], loss == "mse")
    many = table(tmp_path / "many.csv", rows, [1.0] * len(rows), loss == "mse")
    unweighted = table(tmp_path / "plain.csv", list(range(12)), [1.0] * 12, loss == "mse")
    expected = trained(tmp_path, many, loss)
    np.testing.assert_allclose(trained(tmp_path, few, loss, gradient_accumulation=accumulation), expected, rtol=1e-9)
    assert abs(trained(tmp_path, unweighted, loss) - expected).max() > 1e-3


def test_balanced_classes_do_what_weights_do(tmp_path: Path) -> None:
    rows = [0, 3, 6, 9, 0, 3, 1, 4, 2]  # six, two and one of the classes
    plain = table(tmp_path / "plain.csv", rows, [1.0] * 9)
    by_hand = table(tmp_path / "by-hand.csv", rows, [1.0] * 6 + [3.0] * 2 + [6.0])
    balanced = trained(tmp_path, plain, {"name": "cross_entropy", "class_weights": "balanced"})
    np.testing.assert_allclose(balanced, trained(tmp_path, by_hand, "cross_entropy"), rtol=1e-12)
    named = trained(tmp_path, plain, {"name": "cross_entropy", "class_weights": {"k1": 3.0, "k2": 6.0}})
    np.testing.assert_allclose(named, balanced, rtol=1e-12)


@pytest.mark.parametrize("validation", [0.5, "held-out.csv"])
def test_validation_has_weights_of_its_own(tmp_path: Path, validation: Any) -> None:
    """Those of the samples, not of the classes; weighted and plain metrics differ."""
    source = table(tmp_path / "t.csv", list(range(12)) * 2, np.linspace(0.1, 5, 24).tolist())
    table(tmp_path / "held-out.csv", list(range(12)), np.linspace(0.1, 5, 12).tolist())
    made = builders.config(
        3,
        loss={"name": "cross_entropy", "class_weights": "balanced"},
        data={
            "train": source,
            "weights": "w",
            "validation": validation if isinstance(validation, float) else str(tmp_path / validation),
        },
    )
    section = made.data
    arrays = prepare(section, "multiclass", 3, "float64", 10**9, made.loss).arrays
    own = np.linspace(0.1, 5, 24 if isinstance(validation, float) else 12)
    expected = own[arrays["validation_index"]] if "validation_index" in arrays else own
    np.testing.assert_allclose(arrays["validation_weights"], expected, rtol=1e-6)
    trained_on = arrays["weights"][arrays["train_index"]] if "train_index" in arrays else arrays["weights"]
    assert trained_on.mean() == pytest.approx(1.0)
    metrics = ["accuracy", "weighted_accuracy", "weighted_loss", "loss"]
    made = builders.mapping(3, data=section.model_dump(), training={"epochs": 1, "batch_size": 100, "metrics": metrics})
    record = builders.records(train(made, output=tmp_path / "run").output)[0]
    assert record["validation_weighted_loss"] != record["validation_loss"]


def test_weighted_metrics_need_weights(tmp_path: Path) -> None:
    made = builders.mapping(
        10, data={"validation": 0.2}, training={"epochs": 1, "batch_size": 100, "metrics": ["weighted_f1"]}
    )
    with pytest.raises(UsageError, match="metric 'weighted_f1' needs weights of the samples"):
        train(made, output=tmp_path / "run")


def test_evaluate_reports_both_forms_where_there_are_weights(tmp_path: Path) -> None:
    net = networks.save(tmp_path / "net.h5", networks.example("multiclass"))
    rng = np.random.default_rng(0)
    weights = rng.choice([0.0, 1.0, 5.0], 700)
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(700, 5)).astype("f4"), y=rng.integers(0, 3, 700), w=weights)
    plain = evaluate(net, DataSpec(str(tmp_path / "t.npz")))
    assert not any(name.startswith("weighted") for name in plain.metrics)
    found = evaluate(net, DataSpec(str(tmp_path / "t.npz"), weights="w"))
    assert {name: found.metrics[name] for name in plain.metrics} == plain.metrics
    network, data = load(net), np.load(tmp_path / "t.npz")
    guess = network.predict_classes(data["x"])
    assert found.metrics["weighted_accuracy"] == pytest.approx(np.average(guess == data["y"], weights=weights))
    assert found.metrics["weighted_f1"] == pytest.approx(
        f1_score(data["y"], guess, average="macro", sample_weight=weights)
    )
    losses = -np.log(network.predict(data["x"])[np.arange(700), data["y"]])
    assert found.metrics["weighted_loss"] == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


def test_weights_of_classes_are_part_of_a_configuration() -> None:
    """Written and read again, whatever types keys have in YAML; hashed, and fixed as all else."""
    text = "{data: {train: digits}, model: {layers: [{dense: 10}]}, training: {epochs: 1, batch_size: 9}, loss: {name: "
    loaded = Config.from_mapping(read_yaml(text + "cross_entropy, class_weights: {3: 2, '8': 0.5}}}").data)
    assert loaded.loss.class_weights == {"3": 2.0, "8": 0.5}
    assert read_yaml(loaded.to_yaml()).data == loaded.to_mapping()
    assert hash(loaded) == hash(Config.from_mapping(loaded.to_mapping()))
    assert pickle.loads(pickle.dumps(loaded)) == loaded
    assert type(loaded.to_mapping()["loss"]["class_weights"]) is dict
    with pytest.raises(TypeError, match="cannot be changed"):
        loaded.loss.class_weights["3"] = 1.0
    with pytest.raises(ConfigError, match=r"class_weights.a: must be at least 0 \(got -1\)"):
        builders.config(10, loss={"name": "cross_entropy", "class_weights": {"a": -1}})
