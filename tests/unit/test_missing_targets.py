"""``data.missing_targets``: error, drop or mask, in every format; what is masked counts for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sklearn import metrics as oracle

import builders
from onotrain import fit, load
from onotrain.config import Config
from onotrain.data import DataSpec
from onotrain.data.prepare import Prepared, prepare
from onotrain.data.target_scaling import TargetScaling
from onotrain.data.targets import TargetCodec
from onotrain.data.weights import measured_weights
from onotrain.errors import DataError
from onotrain.inference.evaluation import evaluate
from onotrain.training import train

RNG = np.random.default_rng(3)
X = RNG.normal(size=(60, 3))
#: Quantities of different size, of which some were not measured; samples 7 and 30 have none at all.
Y = X @ RNG.normal(size=(3, 2)) * [1.0, 100.0] + [5.0, -300.0]
Y[RNG.random(60) < 0.3, 0] = np.nan
Y[RNG.random(60) < 0.5, 1] = np.nan
Y[[7, 30]] = np.nan
NONE, ANY = np.isnan(Y).all(axis=1), np.isnan(Y).any(axis=1)
FORMATS = ["a.csv", "a.npz", "a.h5", "a.parquet"]


def write(path: Path, x: np.ndarray = X, y: np.ndarray = Y) -> Path:
    columns = dict(zip(("a", "b", "c", "p", "q"), np.c_[x, y].T, strict=True))
    if path.suffix == ".csv":
        rows = [",".join("" if np.isnan(v) else repr(float(v)) for v in row) for row in np.c_[x, y]]
        path.write_text("\n".join(["a,b,c,p,q", *rows]) + "\n")
    elif path.suffix == ".npz":
        np.savez(path, x=x, y=y)
    elif path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        arrow.parquet = pytest.importorskip("pyarrow.parquet")
        arrow.parquet.write_table(arrow.table(columns), path)
    else:
        with h5py.File(path, "w") as file:
            file["x"], file["y"] = x, y
    return path


def mapping(path: Path | str, loss: Any = "mse", training: Any = None, **data: Any) -> dict[str, Any]:
    targets = {"targets": ["p", "q"]} if str(path).endswith((".csv", ".parquet")) else {}
    return {
        "data": {"train": str(path), **targets, **data}, "model": {"layers": [{"dense": 2}]}, "loss": loss,
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "training": {"epochs": 3, "batch_size": 100, "dtype": "float64", **(training or {})},
    }  # fmt: skip


def prepared(path: Path | str, policy: str, loss: Any = "mse", **data: Any) -> Prepared:
    config = Config.from_mapping(mapping(path, loss, missing_targets=policy, **data))
    return prepare(config.data, config.task, 2, "float64", 10**9, config.loss)


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_target_is_an_error_that_says_what_helps(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        prepared(write(tmp_path / name), "error")
    assert "missing_targets: drop" in str(caught.value.hint) and "`mask`" in str(caught.value.hint)


@pytest.mark.parametrize("name", FORMATS)
def test_samples_without_a_target_are_left_out(tmp_path: Path, name: str) -> None:
    found = prepared(write(tmp_path / name), "drop")
    np.testing.assert_allclose(found.arrays["targets"], Y[~ANY])
    np.testing.assert_allclose(found.arrays["features"], X[~ANY], rtol=1e-6)
    assert f"{ANY.sum()} samples without a target are left out (data.missing_targets: drop)" in found.notes
    assert "output_weights" not in found.arrays


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_measured_is_masked(tmp_path: Path, name: str) -> None:
    """Samples that have some target stay; weights of outputs make up for the others."""
    found = prepared(write(tmp_path / name), "mask")
    np.testing.assert_allclose(found.arrays["targets"], Y[~NONE])
    counts = (~np.isnan(Y)).sum(axis=0)
    np.testing.assert_allclose(found.arrays["output_weights"], (~NONE).sum() / counts)
    names = ("p", "q") if name in ("a.csv", "a.parquet") else ("y[0]", "y[1]")
    assert f"{NONE.sum()} samples without any target are left out (data.missing_targets: mask)" in found.notes
    assert found.notes[-1].endswith(
        f"measured of {(~NONE).sum()} samples: {names[0]} {counts[0]}, {names[1]} {counts[1]}"
    )
    assert found.description.codec.masked
    assert TargetCodec.from_dict(found.description.codec.to_dict()) == found.description.codec


def test_a_mask_over_whole_targets_changes_nothing(tmp_path: Path) -> None:
    """The kernels without weights of outputs compute, as without the setting."""
    path = write(tmp_path / "a.npz", X[~ANY], Y[~ANY])
    found = prepared(path, "mask")
    assert "output_weights" not in found.arrays and found.notes == ()
    runs = [
        train(mapping(path, missing_targets=policy), output=tmp_path / policy).output for policy in ("error", "mask")
    ]
    np.testing.assert_array_equal(*(load(run).parameters for run in runs))


@pytest.mark.parametrize("setting", ["standard", "minmax"])
def test_scaling_is_that_of_measured_values(tmp_path: Path, setting: str) -> None:
    scaling = prepared(write(tmp_path / "a.npz"), "mask", normalize_targets=setting).description.codec.scaling
    assert scaling is not None
    known = [column[~np.isnan(column)] for column in Y.T]
    if setting == "standard":
        expected = [c.mean() for c in known], [c.std() for c in known]
    else:
        expected = [c.min() for c in known], [np.ptp(c) for c in known]
    np.testing.assert_allclose([scaling.shift, scaling.scale], expected)


def test_logarithms_of_measured_values() -> None:
    y = np.array([[1.0, np.nan], [np.e**2, 1.0], [np.nan, np.e]])
    scaling = TargetScaling.fit("log", y, None)
    assert scaling is not None
    np.testing.assert_allclose(scaling.shift, [1.0, 0.5])
    np.testing.assert_allclose(scaling.undo(scaling.apply(y)), y)


@pytest.mark.parametrize("rows", [slice(None), slice(0, 50)])
def test_an_output_that_is_never_measured(tmp_path: Path, rows: slice) -> None:
    y = Y.copy()
    y[rows, 1] = np.nan
    with pytest.raises(DataError, match="the target 'q' is missing in all samples to train on"):
        prepared(write(tmp_path / "a.csv", X, y), "mask", validation=0.25, split={"by": "order"})


def test_an_output_that_only_samples_of_no_weight_have(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y, w=np.isnan(Y[:, 0]).astype(float))
    with pytest.raises(DataError, match=r"the target 'y\[0\]' is missing in all samples to train on"):
        prepared(tmp_path / "a.npz", "mask", weights="w")


def test_places_are_those_of_the_file(tmp_path: Path) -> None:
    y = Y[:, :1].copy()
    y[40] = np.inf
    np.savez(tmp_path / "a.npz", x=X, y=np.c_[y, Y[:, 1]])
    with pytest.raises(DataError, match=r"a\.npz: row 40: the target is inf"):
        prepared(tmp_path / "a.npz", "mask")


def test_a_class_that_is_missing_is_a_sample_without_a_target(tmp_path: Path) -> None:
    """Of one target a sample, mask is the same as drop."""
    labels = np.arange(60.0) % 3
    labels[[2, 5]] = np.nan
    np.savez(tmp_path / "a.npz", x=X, y=labels)
    for policy in ("drop", "mask"):
        made = builders.config(3, data={"train": str(tmp_path / "a.npz"), "missing_targets": policy})
        found = prepare(made.data, "multiclass", 3, "float64", 10**9, made.loss)
        assert found.arrays["targets"].tolist() == np.delete(labels, [2, 5]).astype(int).tolist()


def test_a_stream_masks_and_does_not_drop(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    found = prepared(path, "mask", stream=True)
    assert len(found.arrays["targets"]) == 60
    np.testing.assert_allclose(found.arrays["output_weights"], 60 / (~np.isnan(Y)).sum(axis=0))
    with pytest.raises(DataError, match="no sample can be left out") as caught:
        prepared(path, "drop", stream=True)
    assert "mask" in str(caught.value.hint)


@pytest.mark.parametrize("name", FORMATS)
def test_every_sample_lacks_one_of_several(tmp_path: Path, name: str) -> None:
    """Dropping leaves nothing, and the message names what helps; a mask trains."""
    y = np.where(np.arange(60)[:, None] % 2 == [0, 1], 1.0 + X[:, :2], np.nan)
    path = write(tmp_path / name, X, y)
    with pytest.raises(DataError) as caught:
        prepared(path, "drop")
    assert "`data.missing_targets: mask`" in str(caught.value.hint)
    np.testing.assert_allclose(prepared(path, "mask").arrays["output_weights"], [2.0, 2.0])


def test_weights_make_up_for_what_is_missing() -> None:
    targets, weights = np.array([[1, np.nan], [np.nan, np.nan], [1, 1], [1, 1]]), np.array([2.0, 1.0, 3.0, 2.0])
    np.testing.assert_allclose(measured_weights(None, [(targets, None)]), [4 / 3, 2.0])
    np.testing.assert_allclose(measured_weights(np.array([0.5, 1.5]), [(targets, weights)]), [0.5 * 8 / 7, 1.5 * 8 / 5])
    blocks = [(targets[:1], weights[:1]), (targets[1:], weights[1:])]
    np.testing.assert_allclose(measured_weights(None, blocks), [8 / 7, 8 / 5])
    assert measured_weights(None, [(targets[2:], weights[2:])]) is None
    np.testing.assert_allclose(measured_weights(None, [(np.array([[1.0, np.nan]]), None)]), [1.0, 0.0])


def test_the_gradient_is_that_of_the_means_over_what_is_measured(tmp_path: Path) -> None:
    """One step of gradient descent on the whole data, against the closed form of a linear network."""
    path = write(tmp_path / "a.npz", X, Y / [1.0, 100.0])
    weights = {"name": "mse", "output_weights": [3.0, 1.0]}
    made = mapping(path, weights, {"epochs": 1}, missing_targets="mask")
    start = initial(made, tmp_path)
    got = load(train(made, output=tmp_path / "run").output)
    y = (Y / [1.0, 100.0])[~NONE]
    x = X[~NONE].astype(np.float32).astype(np.float64)
    measured = ~np.isnan(y)
    error = np.where(measured, x @ start["weight"].T + start["bias"] - y, 0.0)
    slope = 2 * error * np.array([1.5, 0.5]) / measured.sum(axis=0)
    np.testing.assert_allclose(tensors(got)["weight"], start["weight"] - 0.1 * slope.T @ x, rtol=1e-6)
    np.testing.assert_allclose(tensors(got)["bias"], start["bias"] - 0.1 * slope.sum(axis=0), rtol=1e-6)
    loss = (error**2 / measured.sum(axis=0) * [1.5, 0.5]).sum()
    assert builders.records(tmp_path / "run")[0]["train_loss"] == pytest.approx(loss, rel=1e-6)


def tensors(predictor: Any) -> dict[str, np.ndarray]:
    """Return weight and bias of the only layer."""
    views = predictor.model.layout.views(predictor.parameters)
    return {name.split("/")[-1]: view for name, view in views.items()}


def initial(made: dict[str, Any], tmp_path: Path) -> dict[str, np.ndarray]:
    """Return the initial parameters: those after a step of no length."""
    still = {**made, "optimizer": {"name": "sgd", "learning_rate": 1e-300}}
    return tensors(load(train(still, output=tmp_path / "still").output))


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("validation", [0.3, "held-out.npz"])
def test_metrics_are_those_of_what_is_measured(tmp_path: Path, loss: str, validation: Any) -> None:
    path = write(tmp_path / "a.npz")
    write(tmp_path / "held-out.npz", X[::-1], Y[::-1])
    part = validation if isinstance(validation, float) else str(tmp_path / validation)
    made = mapping(path, {"name": loss, "output_weights": [3, 1]}, missing_targets="mask", validation=part,
                   normalize_targets="standard")  # fmt: skip
    run = train(made, output=tmp_path / "run").output
    record, network = builders.records(run)[-1], load(run)
    if isinstance(validation, float):
        rows = np.load(run / "split.npz")["validation_index"]
        x, y = X[rows], Y[rows]
    else:
        x, y = X[::-1][~NONE[::-1]], Y[::-1][~NONE[::-1]]
    p, known = network.predict(x), ~np.isnan(y)
    each = [(y[known[:, k], k], p[known[:, k], k]) for k in range(2)]
    assert record["validation_r2"] == pytest.approx(np.mean([oracle.r2_score(*pair) for pair in each]), rel=1e-4)
    assert record["validation_mae"] == pytest.approx(np.abs(p - y)[known].mean(), rel=1e-4)
    assert record["validation_rmse"] == pytest.approx(np.sqrt(np.square(p - y)[known].mean()), rel=1e-4)
    error = (p - y) / network.metadata.codec.scaling.scale
    losses = {"mse": error**2, "mae": abs(error), "huber": np.where(abs(error) > 1, abs(error) - 0.5, error**2 / 2)}
    assert record["validation_loss"] == pytest.approx(np.nanmean(losses[loss], axis=0) @ [1.5, 0.5], rel=1e-4)
    if not isinstance(validation, float):
        found = evaluate(run, DataSpec(part))
        assert found.metrics["loss"] == pytest.approx(record["validation_loss"])
        outputs = found.to_mapping()["outputs"]
        assert [output["samples"] for output in outputs] == known.sum(axis=0).tolist()
        assert [output["r2"] for output in outputs] == pytest.approx([oracle.r2_score(*pair) for pair in each])


def test_an_output_that_validation_does_not_have(tmp_path: Path) -> None:
    write(tmp_path / "held-out.npz", X, np.where([True, False], Y, np.nan))
    made = mapping(write(tmp_path / "a.npz"), missing_targets="mask", validation=str(tmp_path / "held-out.npz"),
                   normalize_targets="standard")  # fmt: skip
    record = builders.records(train(made, output=tmp_path / "run").output)[-1]
    assert np.isfinite([record["validation_loss"], record["validation_r2"]]).all()
    found = evaluate(tmp_path / "run", DataSpec(str(tmp_path / "held-out.npz")))
    assert found.to_mapping()["outputs"][1] == {"name": "y[1]", "mae": None, "rmse": None, "r2": None, "samples": 0}


def test_metrics_of_labels_are_those_of_what_is_measured(tmp_path: Path) -> None:
    y = (X @ RNG.normal(size=(3, 2)) > 0).astype(float)
    y[RNG.random(y.shape) < 0.4] = np.nan
    y[np.isnan(y).all(axis=1)] = 0.0
    w = RNG.uniform(0.5, 3, 60)
    np.savez(tmp_path / "a.npz", x=X, y=y, w=w)
    made = mapping(tmp_path / "a.npz", "binary_cross_entropy", missing_targets="mask", weights="w")
    run = train(made, output=tmp_path / "run").output
    found = evaluate(run, DataSpec(str(tmp_path / "a.npz"))).metrics
    p, known = load(run).predict(X), ~np.isnan(y)
    each = [(y[known[:, k], k], p[known[:, k], k], w[known[:, k]]) for k in range(2)]
    entries = y[known], p[known], np.broadcast_to(w[:, None], y.shape)[known]
    for prefix, options in (("", [{}, {}]), ("weighted_", [{"sample_weight": weights} for *_, weights in each])):
        whole = {"sample_weight": entries[2]} if prefix else {}
        losses = [oracle.log_loss(t, q, labels=[0, 1], **more) for (t, q, _), more in zip(each, options, strict=True)]
        expected = {
            "loss": sum(losses),
            "accuracy": oracle.accuracy_score(entries[0], entries[1] > 0.5, **whole),
            "log_loss": oracle.log_loss(entries[0], entries[1], **whole),
            "brier": oracle.brier_score_loss(entries[0], entries[1], **whole),
        }
        for name, score in (("f1", oracle.f1_score), ("roc_auc", oracle.roc_auc_score),
                            ("average_precision", oracle.average_precision_score)):  # fmt: skip
            pairs = [(t, q > 0.5 if name == "f1" else q) for t, q, _ in each]
            expected[name] = np.mean([score(*pair, **more) for pair, more in zip(pairs, options, strict=True)])
        for name, value in expected.items():
            assert found[prefix + name] == pytest.approx(value, rel=1e-5), prefix + name
    assert evaluate(run, DataSpec(str(tmp_path / "a.npz")), threshold="best_f1", drawable=True).drawable is not None


def test_fit_with_targets_that_are_missing() -> None:
    fitted = fit(X, Y, {"model": {"layers": [{"dense": 2}]}, "loss": "mse", "optimizer": "adam",
                        "data": {"missing_targets": "mask", "normalize_targets": "standard"},
                        "training": {"epochs": 2, "batch_size": 16}})  # fmt: skip
    assert np.isfinite(fitted.predict(X)).all()
