"""Targets that are scaled inside, and whatever is said of them in the units of the data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import onotrain
from builders import config, records, relu
from onotrain.data import DataSpec
from onotrain.data.target_scaling import TargetScaling
from onotrain.errors import DataError
from onotrain.inference.evaluation import evaluate
from onotrain.inference.predictor import Predictor
from onotrain.runs.metadata import parameters_sha256
from onotrain.training import train
from tables import prepared, refused, write

VALUES = np.random.default_rng(3).lognormal(2, 1, (200, 3)) * [1e-7, 1, 1e6]


@pytest.mark.parametrize(("setting", "judge"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())])
def test_scaling_is_that_of_scikit_learn(setting: str, judge: Any) -> None:
    """Each output by itself, fitted on the training part."""
    rows = np.arange(0, 200, 3)
    made = TargetScaling.fit(setting, VALUES, rows)
    assert made is not None
    np.testing.assert_allclose(made.apply(VALUES), judge.fit(VALUES[rows]).transform(VALUES), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(made.undo(judge.transform(VALUES)), VALUES, rtol=1e-12)
    assert TargetScaling.fit("none", VALUES, rows) is None


def test_logarithm() -> None:
    made = TargetScaling.fit("log", VALUES, None)
    assert made is not None
    scaled = made.apply(VALUES)
    np.testing.assert_allclose((scaled.mean(0), scaled.std(0)), ([0] * 3, [1] * 3), atol=1e-12)
    np.testing.assert_allclose(scaled, StandardScaler().fit_transform(np.log(VALUES)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(made.undo(scaled), VALUES, rtol=1e-12)


def test_what_does_not_vary_is_divided_by_one() -> None:
    for setting in ("standard", "minmax", "log"):
        made = TargetScaling.fit(setting, np.full((5, 1), 0.1), None)
        assert made is not None
        assert made.scale.tolist() == [1]
        np.testing.assert_allclose(made.apply(np.full((1, 1), 0.1)), 0, atol=1e-15)


@given(arrays(np.float64, (4, 2), elements=st.floats(-1e9, 1e9)), st.sampled_from(["standard", "minmax"]))
def test_json_keeps_every_bit(values: np.ndarray, setting: str) -> None:
    made = TargetScaling.fit(setting, values, None)
    assert made is not None
    again = TargetScaling.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    np.testing.assert_array_equal(again.undo(again.apply(values)), made.undo(made.apply(values)))


@pytest.mark.parametrize("change", [{"scale": [0.0]}, {"shift": [1.0, 2.0]}, {"scale": [-1.0]}, {"shift": [np.nan]}])
def test_json_of_something_else_is_refused(change: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="of a target scaling"):
        TargetScaling.from_dict({"shift": [0.0], "scale": [1.0], "log": False, **change})


def test_given_scaling(tmp_path: Path) -> None:
    path = write(tmp_path, "a,y\n5,10\n6,14\n9,18\n")
    made = prepared(path, normalize_targets={"mean": 10, "std": 4})
    assert made.arrays["targets"].tolist() == [[0], [1], [2]]
    assert "data.normalize_targets.std: 2 values, expected 1 or 1" in str(
        pytest.raises(DataError, prepared, path, normalize_targets={"mean": 10, "std": [4, 5]}).value
    )


def test_what_cannot_be_scaled_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a,y\n5,10\n6,0\n9,-18\n")
    assert refused(path, normalize_targets="log").startswith(
        "a.csv:3:2: the target is 0.0, expected a number above 0 (log) (the first of 2)"
    )
    path = write(tmp_path, "a,y\n5,u\n6,v\n9,u\n")
    message = refused(path, "multiclass", 2, normalize_targets="standard")
    assert message.startswith("a.csv: data.normalize_targets is 'standard', but the targets are classes")


def table(path: Path, factor: float = 1.0, shift: float = 0.0) -> Path:
    """Write samples with two targets of other units."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 3)).round(3)
    y = np.tanh(x[:, :2]) + 0.1 * rng.normal(size=(96, 2)).round(4)
    y = (y.round(6) + shift) * factor
    lines = [",".join(map(repr, row)) for row in np.c_[x, y].tolist()]
    path.write_text("a,b,c,u,v\n" + "\n".join(lines) + "\n")
    return path


def trained(folder: Path, scaling: Any = "standard", factor: float = 1.0, **options: Any) -> Path:
    """Train on a table; return the run."""
    source = table(folder / f"{factor}.csv", factor, **options)
    made = config(
        relu(8), 2,
        data={"train": str(source), "targets": ["u", "v"], "normalize": "standard", "validation": 0.25,
              "normalize_targets": scaling},
        loss="mse", training={"epochs": 6, "batch_size": 16, "metrics": ["loss", "r2", "rmse", "mae"]},
    )  # fmt: skip
    run = folder / f"run-{factor}-{scaling}"
    train(made, output=run)
    return run


def digest(run: Path) -> str:
    network = onotrain.load(run)
    return parameters_sha256(network.model.layout, network.parameters)


def test_a_unit_that_is_a_power_of_two_changes_no_bit_of_the_parameters(tmp_path: Path) -> None:
    base = trained(tmp_path)
    r2 = [record["validation_r2"] for record in records(base)]
    rmse = np.array([record["validation_rmse"] for record in records(base)])
    assert r2[-1] > r2[0]
    for factor in (2.0**-23, 2.0**20):
        other = trained(tmp_path, "standard", factor)
        assert digest(other) == digest(base)
        assert [record["validation_r2"] for record in records(other)] == pytest.approx(r2, rel=1e-12)
        np.testing.assert_allclose([record["validation_rmse"] for record in records(other)], rmse * factor, rtol=1e-12)
        assert [record["train_loss"] for record in records(other)] == [record["train_loss"] for record in records(base)]
    assert digest(trained(tmp_path, "none", 2.0**-23)) != digest(base)


@pytest.mark.parametrize("factor", [1e-7, 1e6])
def test_r2_does_not_depend_on_the_unit(tmp_path: Path, factor: float) -> None:
    of_base = [record["validation_r2"] for record in records(trained(tmp_path))]
    of_other = [record["validation_r2"] for record in records(trained(tmp_path, "standard", factor))]
    assert of_other == pytest.approx(of_base, abs=1e-5)


@pytest.mark.parametrize(
    ("scaling", "options"),
    [("standard", {}), ("minmax", {}), ("log", {"shift": 3.0}), ({"mean": [1e6, 0], "std": 2e6}, {})],
    ids=["standard", "minmax", "log", "given"],
)
def test_predictions_and_metrics_are_in_units(tmp_path: Path, scaling: Any, options: dict[str, float]) -> None:
    """Those of a network whose outputs are scaled by hand."""
    run = trained(tmp_path, scaling, 1e6, **options)
    network, source = onotrain.load(run), str(tmp_path / "1000000.0.csv")
    rows = np.genfromtxt(source, delimiter=",", skip_header=1)
    values = network.predict(rows[:, :3])
    assert values.dtype == np.float64
    made = network.metadata.codec.scaling
    assert made is not None
    plain = replace(network.metadata, codec=replace(network.metadata.codec, scaling=None))
    inside = Predictor(plain, network.parameters).predict(rows[:, :3])
    expected = inside.astype(np.float64) * made.scale + made.shift
    np.testing.assert_allclose(values, np.exp(expected) if made.log else expected, rtol=1e-12)
    assert 1e5 < np.abs(values).mean() < 1e8
    metrics = evaluate(run, DataSpec(source), metrics=("loss", "r2", "rmse", "mae")).metrics
    truth = rows[:, 3:]
    assert metrics["mae"] == pytest.approx(mean_absolute_error(truth, values), rel=1e-5)
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean((truth - values) ** 2)), rel=1e-5)
    # The loss is what was minimised: that of the scaled values.
    assert metrics["loss"] == pytest.approx(np.mean(((made.apply(truth) - inside) ** 2).sum(axis=1)), rel=1e-4)


def test_one_output_that_is_scaled_has_the_r2_of_scikit_learn(tmp_path: Path) -> None:
    run = trained(tmp_path, "standard", 1e6)
    source = str(tmp_path / "1000000.0.csv")
    rows = np.genfromtxt(source, delimiter=",", skip_header=1)
    values = onotrain.load(run).predict(rows[:, :3])
    expected = r2_score(rows[:, 3:], values)
    assert evaluate(run, DataSpec(source), metrics=("r2",)).metrics["r2"] == pytest.approx(expected, rel=1e-5)
