"""Losses `log_cosh`, `quantile`, `poisson` and `gaussian_nll` from the configuration to predictions and exports."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

import networks
import onotrain
from builders import config, mapping, records, relu
from onotrain.cli.program import run
from onotrain.config import Config
from onotrain.data import DataSpec
from onotrain.data.target_scaling import TargetScaling
from onotrain.errors import ConfigError, DataError
from onotrain.inference.evaluation import evaluate
from onotrain.inference.export import export
from onotrain.inference.predictor import Predictor
from onotrain.training import train
from onotrain.training.observers import Observer, RunStart

QUANTILES = [0.1, 0.5, 0.9]
#: Outputs for each target, and what is appended to the name of the target.
LOSSES: dict[str, tuple[Any, Sequence[str]]] = {
    "log_cosh": ("log_cosh", [""]),
    "poisson": ("poisson", [""]),
    "quantile": ({"name": "quantile", "quantiles": QUANTILES}, ["_q0.1", "_q0.5", "_q0.9"]),
    "gaussian_nll": ("gaussian_nll", ["", "_std"]),
}


def samples(rows: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """Return features, and two targets of other units, whose spread grows with the first feature."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (rows, 2))
    noise = (0.2 + 0.15 * x[:, :1]) * rng.normal(size=(rows, 2))
    return x, np.c_[x.sum(axis=1), x[:, 0]] * [1.0, 2.0] + noise * [1.0, 50.0] + [10.0, 300.0]


class Notes(Observer):
    """Keeps the notes of the header."""

    notes: Sequence[str] = ()

    def started(self, start: RunStart) -> None:
        self.notes = start.notes


def table(path: Path, x: np.ndarray, y: np.ndarray) -> Path:
    rows = ["a,b,u,v", *(",".join("" if np.isnan(v) else repr(v) for v in row) for row in np.c_[x, y].tolist())]
    path.write_text("\n".join(rows) + "\n")
    return path


def counts(rows: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Return features, and two counts."""
    rng = np.random.default_rng(6)
    x = rng.uniform(-1, 1, (rows, 2))
    return x, rng.poisson(np.exp(x @ [[1.0, 0.0], [0.5, 1.0]] + [1.0, 0.0])).astype(float)


def trained(folder: Path, name: str, scaling: Any = None, **sections: Any) -> tuple[Path, Path]:
    """Train on a table by the command; return the run and the table."""
    loss, endings = LOSSES[name]
    source = table(folder / "a.csv", *(counts() if name == "poisson" else samples()))
    scaling = scaling or ("none" if name == "poisson" else "standard")
    data = {"train": str(source), "targets": ["u", "v"], "normalize": "standard", "validation": 0.2,
            "normalize_targets": scaling}  # fmt: skip
    training = {"epochs": 12, "batch_size": 32, **sections.pop("training", {})}
    made = mapping(
        relu(16), 2 * len(endings), data=data | sections.pop("data", {}), loss=sections.pop("loss", loss),
        optimizer={"name": "adam", "learning_rate": 0.01}, training=training, **sections,
    )  # fmt: skip
    path = folder / "c.yaml"
    path.write_text(json.dumps(made))
    assert run(["train", str(path), "--output", str(folder / "run"), "--progress", "none"]) == 0
    return folder / "run", source


def predicted(made: Path, source: Path) -> dict[str, np.ndarray]:
    """Return the columns of `predict` by the command."""
    out = made.parent / "p.csv"
    assert run(["predict", str(made), str(source), "-o", str(out)]) == 0
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("name", LOSSES)
def test_train_predict_evaluate(tmp_path: Path, name: str) -> None:
    """Columns say what they are, values are in the units of the data, and metrics are those of what is predicted."""
    made, source = trained(tmp_path, name)
    found = predicted(made, source)
    endings = LOSSES[name][1]
    assert list(found) == [f"{target}{ending}" for target in "uv" for ending in endings]
    x, y = counts() if name == "poisson" else samples()
    np.testing.assert_allclose(onotrain.load(made).predict(x), np.stack(list(found.values()), axis=1), rtol=1e-5)

    result = evaluate(made, DataSpec(str(source)))
    point = "_q0.5" if name == "quantile" else ""
    errors = np.stack([found[f"{target}{point}"] - y[:, number] for number, target in enumerate("uv")], axis=1)
    assert result.metrics["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert result.metrics["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)
    assert [each.name for each in result.outputs] == ["u", "v"]
    explained = 1 - (errors**2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose([each.r2 for each in result.outputs], explained, rtol=1e-3)
    assert explained[0] > 0.5, "the network has learned something"
    last = records(made)[-1]
    assert {"validation_loss", "validation_mae", "validation_rmse", "validation_r2"} <= set(last)
    assert last["train_loss"] < records(made)[0]["train_loss"]


def test_quantiles_are_quantiles(tmp_path: Path) -> None:
    made, source = trained(
        tmp_path, "quantile", training={"epochs": 30, "metrics": ["pinball", "coverage", "pinball[v]"]}
    )
    found, (_, y) = predicted(made, source), samples()
    by_target = {t: np.stack([found[f"{t}_q{q}"] for q in QUANTILES], axis=1) for t in "uv"}
    for number, target in enumerate("uv"):
        below = (y[:, [number]] <= by_target[target]).mean(axis=0)
        np.testing.assert_allclose(below, QUANTILES, atol=0.1)
    metrics = evaluate(made, DataSpec(str(source)), ["pinball", "coverage", "pinball[v]", "coverage[u]"]).metrics
    each = [np.mean([mean_pinball_loss(y[:, n], by_target[t][:, k], alpha=q) for k, q in enumerate(QUANTILES)])
            for n, t in enumerate("uv")]  # fmt: skip
    assert metrics["pinball"] == pytest.approx(np.mean(each), rel=1e-4)
    assert metrics["pinball[v]"] == pytest.approx(each[1], rel=1e-4)
    inside = [((y[:, n] >= by_target[t][:, 0]) & (y[:, n] <= by_target[t][:, 2])).mean() for n, t in enumerate("uv")]
    assert metrics["coverage"] == pytest.approx(np.mean(inside), abs=2e-3) == pytest.approx(0.8, abs=0.06)
    assert metrics["coverage[u]"] == pytest.approx(inside[0], abs=2e-3)
    assert "pinball" in evaluate(made, DataSpec(str(source))).metrics
    assert "validation_coverage" in records(made)[-1]


def test_standard_deviations_are_those_of_the_data(tmp_path: Path) -> None:
    """In the units of each target, and larger where the noise is."""
    made, source = trained(tmp_path, "gaussian_nll", training={"epochs": 30})
    found, (x, _) = predicted(made, source), samples()
    spread = 0.2 + 0.15 * x[:, 0]
    for target, factor in (("u", 1.0), ("v", 50.0)):
        assert np.median(np.abs(found[f"{target}_std"] / (factor * spread) - 1)) < 0.2
        assert np.corrcoef(found[f"{target}_std"], spread)[0, 1] > 0.8


def test_rates_are_those_of_the_counts(tmp_path: Path) -> None:
    made, source = trained(tmp_path, "poisson", training={"epochs": 30})
    found, (x, _) = predicted(made, source), counts()
    rates = np.exp(x @ [[1.0, 0.0], [0.5, 1.0]] + [1.0, 0.0])
    np.testing.assert_allclose(np.median(found["u"] / rates[:, 0]), 1, atol=0.1)
    assert min(found["u"].min(), found["v"].min()) > 0


GIVEN = {"mean": [5.0, 200.0], "std": [3.0, 70.0]}


@pytest.mark.parametrize(
    ("name", "scaling"),
    [
        *(("quantile", scaling) for scaling in ("none", "standard", "minmax", "log", GIVEN)),
        *(("gaussian_nll", scaling) for scaling in ("none", "standard", "minmax", GIVEN)),
    ],
)
def test_scaling_is_undone(tmp_path: Path, name: str, scaling: Any) -> None:
    """Each value of a target by the scale of this target, deviations without shift."""
    made, source = trained(tmp_path, name, scaling, training={"epochs": 1})
    network, (x, y) = onotrain.load(made), samples()
    logits = logits_of(network, network.features(x))
    fitted = network.metadata.codec.scaling
    shift, scale = (np.zeros(2), np.ones(2)) if fitted is None else (fitted.shift, fitted.scale)
    each = logits.reshape(len(x), 2, -1).astype(np.float64)
    if name == "gaussian_nll":
        each[:, :, 1] = np.sqrt(1e-6 + np.exp(each[:, :, 1]))
        expected = each * scale[:, None] + np.stack([shift, np.zeros(2)], axis=1)
    else:
        expected = each * scale[:, None] + shift[:, None]
        expected = np.exp(expected) if scaling == "log" else expected
    got = network.predict(x)
    np.testing.assert_allclose(got, expected.reshape(len(x), -1), rtol=1e-5, atol=1e-5)
    point = got[:, [1, 4]] if name == "quantile" else got[:, ::2]
    found = evaluate(made, DataSpec(str(source)), ["mae"]).metrics["mae"]
    assert found == pytest.approx(np.abs(point - y).mean(), rel=1e-5)


def logits_of(network: Predictor, x: np.ndarray) -> np.ndarray:
    """Return the outputs of the last layer, of a network of one hidden layer."""
    tensors, normalization = network.model.layout.views(network.parameters), network.metadata.normalization
    hidden = np.maximum(
        (x - normalization.mean) / normalization.std @ tensors["dense_0/weight"].T + tensors["dense_0/bias"], 0
    )
    return np.asarray(hidden @ tensors["dense_1/weight"].T + tensors["dense_1/bias"], np.float64)


def test_missing_targets_and_weights_of_targets(tmp_path: Path) -> None:
    """What is missing counts for nothing, in training as in metrics; a weight is one of a target."""
    x, y = samples(200)
    y[::3, 0], y[1::3, 1] = np.nan, np.nan
    for name, mean in (("quantile", 3), ("gaussian_nll", 1)):
        source, (loss, endings) = table(tmp_path / f"{name}.csv", x, y), LOSSES[name]
        options = loss if isinstance(loss, dict) else {"name": loss}
        made = config(
            2 * len(endings), loss={**options, "output_weights": {"u": 1, "v": 3}},
            data={"train": str(source), "targets": ["u", "v"], "missing_targets": "mask",
                  "normalize_targets": "standard", "validation": 0.5}, training={"epochs": 2, "dtype": "float64",
                  "metrics": ["mae", *(["pinball", "coverage"] if mean == 3 else [])]},
        )  # fmt: skip
        train(made, output=tmp_path / name)
        assert all(np.isfinite(v) for k, v in records(tmp_path / name)[-1].items() if k.startswith("validation_"))
        network = onotrain.load(tmp_path / name)
        result = evaluate(tmp_path / name, DataSpec(str(source)))
        values = network.predict(x).reshape(200, 2, len(endings))
        known, errors = ~np.isnan(y), values[:, :, 1 if name == "quantile" else 0] - y
        assert result.metrics["mae"] == pytest.approx(np.abs(errors[known]).mean())
        fitted = network.metadata.codec.scaling
        assert fitted is not None
        e = (y[:, :, None] - values) / fitted.scale[:, None]
        if name == "quantile":
            q = np.array(QUANTILES)
            each = np.maximum(q * e, (q - 1) * e).sum(axis=2)
        else:
            v = (values[:, :, 1] / fitted.scale) ** 2
            each = (np.log(v) + e[:, :, 0] ** 2 / v) / 2
        assert result.metrics["loss"] == pytest.approx(np.nanmean(each, axis=0) @ [0.5, 1.5])


@pytest.mark.parametrize(
    ("layers", "loss", "data", "message"),
    [
        ([5], "quantile", {}, "model.layers.0.dense.units: must be a multiple of 3 with loss quantile (got 5); "
         "the last dense layer needs 6 outputs: 2 targets x 3 quantiles"),
        ([3], "gaussian_nll", {}, "must be a multiple of 2 with loss gaussian_nll (got 3); the last dense layer needs "
         "4 outputs: 2 targets x 2 (mean and log variance)"),
        ([5], "quantile", {"targets": ["y"]}, "the last dense layer needs 3 outputs: 1 target x 3 quantiles"),
        ([3], {"name": "quantile", "quantiles": [0.1, 0.9, 0.9]}, {},
         "loss.quantiles.2: must be above the quantile before it, 0.9 (got 0.9)"),
        ([3], {"name": "quantile", "quantiles": [0.5, 0.1]}, {}, "loss.quantiles.1: must be above the quantile before"),
        ([3], {"name": "quantile", "quantiles": [0.0]}, {}, "loss.quantiles.0: must be greater than 0 (got 0.0)"),
        ([3], {"name": "quantile", "quantiles": []}, {}, "loss.quantiles: must not be empty"),
        ([6], {"name": "quantile", "output_weights": [1, 2, 3]}, {},
         "loss.output_weights: must be one number for each of the 2 targets (got 3)"),
        ([1], "poisson", {"normalize_targets": "standard"}, "data.normalize_targets: must be none with loss poisson, "
         "which is about the counts themselves (got standard)"),
        ([1], "poisson", {"normalize_targets": {"mean": 0, "std": 1}}, "counts themselves (got mean and std)"),
        ([2], "gaussian_nll", {"normalize_targets": "log"}, "data.normalize_targets: must not be log with loss "
         "gaussian_nll, whose standard deviations have the units of the data"),
        ([{"dense": {"units": 1, "activation": "relu"}}], "poisson", {}, "poisson brings its own activation"),
        ([{"dense": {"units": 2, "activation": "relu"}}], "gaussian_nll", {}, "gaussian_nll brings its own activation"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_problem_of_the_configuration(
    layers: list[Any], loss: Any, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping(mapping(*layers, loss=loss, data={"train": "a.csv", **data}))
    assert message in str(caught.value)


def test_problems_have_line_and_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(
        "data: {train: a.csv, targets: [u, v]}\nmodel:\n  layers:\n    - dense: {units: 5}\n"
        "loss: quantile\ntraining: {epochs: 1, batch_size: 4}\n"
    )
    assert run(["validate", str(tmp_path / "c.yaml")]) == 2
    assert "c.yaml:4:22: model.layers.0.dense.units: must be a multiple of 3" in capsys.readouterr().err


@pytest.mark.parametrize("metric", ["validation_pinball", "validation_coverage"])
def test_metrics_of_quantiles_are_of_quantiles_alone(metric: str) -> None:
    name = metric.removeprefix("validation_")
    with pytest.raises(ConfigError, match=f"has no meaning with loss mse .got '{name}'"):
        config(1, loss="mse", training={"metrics": [name]})
    watched = {"metrics": [name], "early_stopping": {"metric": metric, "patience": 1}}
    made = {"loss": "quantile", "data": {"validation": 0.2}, "training": watched}
    if name == "pinball":
        assert config(3, **made).training.early_stopping.mode == "min"
    else:
        with pytest.raises(ConfigError, match="neither less nor more of coverage is better"):
            config(3, **made)


def test_other_numbers_of_targets_than_the_network_has_outputs_for(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", *samples(20))
    for loss, units, expected in (
        ("quantile", 3, "2 targets a sample, but the network has 3 outputs\n  hint: the last dense layer needs 6 "
         "outputs: 2 targets x 3 quantiles, or choose others with data.targets"),
        ("gaussian_nll", 6, "2 targets a sample, but the network has 6 outputs\n  hint: the last dense layer needs 4 "
         "outputs: 2 targets x 2 (mean and log variance)"),
        ("log_cosh", 1, "2 targets a sample, but the network has 1 output\n  hint: set the units of the last dense "
         "layer to 2"),
    ):  # fmt: skip
        made = config(units, loss=loss, data={"train": str(source), "targets": ["u", "v"]})
        with pytest.raises(DataError) as caught:
            train(made, output=tmp_path / loss)
        assert expected in str(caught.value)


@pytest.mark.parametrize("when", ["train", "evaluate"])
def test_a_negative_count_is_an_error_with_its_place(tmp_path: Path, when: str) -> None:
    x, y = counts(30)
    source = table(tmp_path / "a.csv", x, y)
    made = config(2, loss="poisson", data={"train": str(source), "targets": ["u", "v"]})
    if when == "evaluate":
        train(made, output=tmp_path / "run")
    y[4, 0] = -1
    table(source, x, y)
    with pytest.raises(
        DataError, match=r"a\.csv:6:3: the target is -1\.0, expected a count: a finite number, 0 or more"
    ):
        if when == "train":
            train(made, output=tmp_path / "run")
        else:
            evaluate(tmp_path / "run", DataSpec(str(source)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "scaled"), [*((name, False) for name in LOSSES), *((name, True) for name in LOSSES if name != "poisson")]
)
def test_exports(tmp_path: Path, name: str, scaled: bool, dtype: str) -> None:
    """ONNX gives what predict gives; the description of npz and safetensors says how to come there."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    loss, endings = LOSSES[name]
    scaling = TargetScaling(np.array([10.0, -300.0]), np.array([0.5, 40.0])) if scaled else None
    made = networks.checkpoint(
        [relu(8), {"dense": 2 * len(endings)}], loss, task="regression", target_names=("u", "v"), dtype=dtype,
        scaling=scaling,
    )  # fmt: skip
    net = networks.save(tmp_path / "net.h5", made)
    network, x = onotrain.load(net), np.random.default_rng(0).normal(size=(40, 5)).astype(dtype)
    expected = network.predict(x)
    assert expected.shape == (40, 2 * len(endings)) and network.outputs == 2 * len(endings)

    session = runtime.InferenceSession(export(net, "onnx", tmp_path / "net.onnx"))
    (values,) = session.run(["values"], {"input": x})
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
    x[3, 2] = np.nan
    (values,) = session.run(["values"], {"input": x})
    assert np.isnan(values[3]).all() and np.isfinite(values[4]).all()

    with np.load(export(net, "npz", tmp_path / "net.npz")) as file:
        arrays, described = dict(file), json.loads(str(file["description"]))
    assert described["columns"] == [f"{target}{ending}" for target in "uv" for ending in endings]
    z = networks.forward(described, arrays, x)
    if described["output"] == "exp":
        z = np.exp(z)
    elif described["output"] == "gaussian":
        z[:, 1::2] = np.sqrt(described["config"]["loss"]["min_variance"] + np.exp(z[:, 1::2]))
    if scaled:
        undone = described["target_scaling"]
        z = z * undone["scale"] + undone["shift"]
    known = ~np.isnan(x).any(axis=1)
    np.testing.assert_allclose(z[known], expected[known], rtol=1e-4, atol=1e-4)


def test_predictions_as_hdf5_say_what_they_are(tmp_path: Path) -> None:
    made, source = trained(tmp_path, "gaussian_nll", training={"epochs": 1})
    assert run(["predict", str(made), str(source), "-o", str(tmp_path / "p.h5")]) == 0
    with h5py.File(tmp_path / "p.h5") as file:
        assert file["values"].shape == (1200, 4)
        assert [each.decode() for each in file.attrs["columns"]] == ["u", "u_std", "v", "v_std"]
        assert [each.decode() for each in file.attrs["target_names"]] == ["u", "v"]


def test_one_quantile_without_names(tmp_path: Path) -> None:
    """Coverage is the part of the targets at or below it; targets without names have numbers."""
    x, y = samples(400)
    np.savez(tmp_path / "a.npz", x=x, y=y[:, :1])
    made = config(
        1, loss={"name": "quantile", "quantiles": [0.8]}, training={"epochs": 40, "batch_size": 20},
        data={"train": str(tmp_path / "a.npz"), "normalize_targets": "standard"},
        optimizer={"name": "adam", "learning_rate": 0.01},
    )  # fmt: skip
    train(made, output=tmp_path / "run")
    network = onotrain.load(tmp_path / "run")
    assert network.output.columns == ["y_q0.8"]
    assert replace(network.output, names=None, width=2).columns == ["value_0_q0.8", "value_1_q0.8"]
    found = evaluate(tmp_path / "run", DataSpec(str(tmp_path / "a.npz"))).metrics
    values = network.predict(x)[:, 0]
    assert found["coverage"] == pytest.approx((y[:, 0] <= values).mean(), abs=5e-3) == pytest.approx(0.8, abs=0.1)
    assert found["mae"] == pytest.approx(np.abs(values - y[:, 0]).mean())


def test_a_warm_start_with_another_meaning_has_a_new_last_layer(tmp_path: Path) -> None:
    """Values are no logarithms of rates; and a scaling that the loss cannot take is not taken over."""
    source = table(tmp_path / "a.csv", *counts(60))
    data = {"train": str(source), "targets": ["u", "v"]}
    train(config(relu(4), 2, loss="mse", data=data), output=tmp_path / "mse")
    train(config(relu(4), 2, loss="mse", data=data | {"normalize_targets": "standard"}), output=tmp_path / "scaled")
    made = config(relu(4), 2, loss="poisson", data=data, model={"from": str(tmp_path / "mse")})
    seen = Notes()
    train(made, output=tmp_path / "poisson", observers=[seen])
    assert "the last layer, dense_1, is new: its outputs stand for something else" in seen.notes
    made = config(
        relu(4), 2, loss="poisson", data=data | {"preparation": "from"}, model={"from": str(tmp_path / "scaled")}
    )
    with pytest.raises(DataError, match="learned scaled targets"):
        train(made, output=tmp_path / "refused")
