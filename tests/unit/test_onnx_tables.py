"""ONNX files in onnxruntime: from raw columns, as a table has them, to what `Predictor.predict` gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import networks
import onotrain
from onotrain.data.tables.memory import table_of
from onotrain.data.tables.preparation import Preparation
from onotrain.data.target_scaling import TargetScaling
from onotrain.inference.export import export
from onotrain.inference.exported_ports import identifiers
from onotrain.inference.predictor import Predictor
from onotrain.runs.checkpoint_format import Checkpoint
from tables import fitted

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

N = 200
DTYPES = ("float32", "float64")
#: A regression without scaled targets, whose outputs are of the order of 1.
REGRESSION: dict[str, Any] = {
    "layers": [{"dense": {"units": 12, "activation": "relu"}}, {"dense": {"units": 8, "activation": "tanh"}}, 2],
    "loss": "mse",
    "task": "regression",
    "target_names": ("length", "pressure"),
}
SECONDS = np.timedelta64(1, "s")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def preparation_of(columns: Mapping[str, Any], kinds: Mapping[str, Any]) -> Preparation:
    """Return the preparation that is fitted on these columns."""
    return fitted(table_of(columns, list(columns)), kinds, "standard")


def session_of(folder: Path, made: Checkpoint) -> tuple[Predictor, Any, dict[str, str]]:
    """Return a network, its ONNX file opened, and the file's metadata."""
    net = networks.save(folder / "net.h5", made)
    session = onnxruntime.InferenceSession(export(net, "onnx", folder / "net.onnx"))
    return onotrain.load(net), session, session.get_modelmeta().custom_metadata_map


def fed(session: Any, names: Mapping[str, str], columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the columns as the file takes them: ``[batch, 1]``, dates as days since 1970."""
    feed = {}
    for port in session.get_inputs():
        values = np.asarray(columns[names[port.name]])
        if values.dtype.kind == "M":
            days = values.astype("datetime64[us]").astype(np.int64) / 86_400e6
            values = np.where(np.isnat(values), np.nan, days)
        kind = {"tensor(string)": object, "tensor(double)": np.float64}[port.type]
        feed[port.name] = values.astype(kind)[:, None]
    return feed


def agree(
    session: Any, feed: Mapping[str, np.ndarray], expected: np.ndarray, dtype: str = "float32", tolerance: float = 0.0
) -> None:
    """The file gives what is expected, to 1e-5 (float64: 1e-8) of the spread of each output, and NaN where it is."""
    tolerance = tolerance or {"float32": 1e-5, "float64": 1e-8}[dtype]
    got = session.run(None, dict(feed))[0]
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    lost = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), lost)
    spread = np.nanmax(expected, axis=0) - np.nanmin(expected, axis=0)
    assert (spread > 0).all(), "a constant proves nothing"
    assert (np.abs(got - expected)[~lost] <= tolerance * np.broadcast_to(spread, got.shape)[~lost]).all()


def compare(
    folder: Path, train: Mapping[str, Any], kinds: Mapping[str, Any], columns: Mapping[str, Any], **network: Any
) -> np.ndarray:
    """Compare the file with the predictor on columns; return what the latter gives."""
    made = networks.checkpoint(**{**REGRESSION, **network}, preparation=preparation_of(train, kinds))
    predictor, session, metadata = session_of(folder, made)
    expected = predictor.predict(columns)
    agree(session, fed(session, json.loads(metadata["columns"]), columns), expected, network.get("dtype", "float32"))
    return expected


NUMERIC: dict[str, Any] = {
    scale: {"name": "numeric", "scale": scale} for scale in ("none", "standard", "minmax", "robust", "log", "quantile")
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("missing", ["error", "mean", "median", {"constant": 2.5}])
def test_numbers(tmp_path: Path, missing: Any, dtype: str) -> None:
    """Every scaling, clipped or not, with holes; where nothing may be missing, the prediction is NaN."""
    kinds = {f"{scale} {clip}": {**options, "missing": missing, "clip": clip, "indicator": missing != "error"}
             for scale, options in NUMERIC.items() for clip in (None, [1.0, 9.0])}  # fmt: skip
    train = {name: rng(n).lognormal(1, 0.8, N).round(1) for n, name in enumerate(kinds)}
    new = {name: rng(n + 50).lognormal(1, 1.2, N).round(1) for n, name in enumerate(kinds)}
    new["standard None"][:5] = np.nan
    new["quantile None"][3:9] = np.nan
    new["log None"][100:103] = 0.0
    got = compare(tmp_path, train, kinds, new, dtype=dtype)
    assert np.isnan(got).all(axis=1).tolist() == [missing == "error" and row < 9 for row in range(N)]


def test_what_is_missing_is_not_lost_in_a_runtime_that_drops_nan(tmp_path: Path) -> None:
    """ONNX does not say what the larger of a number and NaN is."""
    from onnx import load
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Max(OpRun):
        def _run(self, x: Any, y: Any) -> Any:
            return (np.fmax(x, y),)

    class Min(OpRun):
        def _run(self, x: Any, y: Any) -> Any:
            return (np.fmin(x, y),)

    class Relu(OpRun):
        def _run(self, x: Any) -> Any:
            return (np.fmax(x, x.dtype.type(0)),)

    class Clip(OpRun):
        def _run(self, x: Any, low: Any, high: Any) -> Any:
            return (np.fmin(np.fmax(x, low), high),)

    kinds = {scale: {**options, "clip": [1.0, 9.0]} for scale, options in NUMERIC.items()}
    train = {name: rng(n).lognormal(1, 0.8, N) for n, name in enumerate(kinds)}
    network = {**REGRESSION, "layers": [{"dense": {"units": 12, "activation": "relu"}}, 2]}
    net = networks.save(tmp_path / "net.h5", networks.checkpoint(**network, preparation=preparation_of(train, kinds)))
    model = load(export(net, "onnx", tmp_path / "net.onnx"))
    session = ReferenceEvaluator(model, new_ops=[Max, Min, Relu, Clip])
    new = {name: values[: len(kinds) + 1].copy() for name, values in train.items()}
    for row, values in enumerate(new.values()):
        values[row] = np.nan
    (values,) = session.run(None, {name: values[:, None] for name, values in new.items()})
    assert np.isnan(values).all(axis=1).tolist() == [True] * len(kinds) + [False]
    np.testing.assert_allclose(values[-1], onotrain.load(net).predict(new)[-1], rtol=1e-5)


def test_what_often_comes_is_in_the_middle_of_its_place(tmp_path: Path) -> None:
    """The distribution has steps where values repeat; all of its points, and what is between and beyond."""
    train = {"counts": rng().poisson(2.0, N).astype(float), "wide": rng().normal(size=N)}
    kinds = {name: NUMERIC["quantile"] for name in train}
    values = np.concatenate([np.arange(-1, 9), np.arange(-1, 9) + 0.3])
    compare(tmp_path, train, kinds, {"counts": values, "wide": np.linspace(-9, 9, len(values))})


@pytest.mark.parametrize("scale", ["standard", "minmax", "log", "quantile"])
def test_differences_that_single_precision_loses(tmp_path: Path, scale: str) -> None:
    """Energies of one molecule; and values so small that 1 + x forgets most of them."""
    train = {
        "energy": 76_000.0 + rng(0).normal(size=N) * 1e-3,
        "flux": 1e-14 * rng(1).uniform(1, 9, N),
    }
    compare(tmp_path, train, {name: NUMERIC[scale] for name in train}, train, dtype="float32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_categories(tmp_path: Path, dtype: str) -> None:
    """Known, rare, unseen and missing ones, with and without a column for the last two; numbers as text."""
    train = {
        "colour": np.array(["red", "green", "täg", "rare", ""])[rng(0).choice(5, N, p=[0.4, 0.3, 0.2, 0.05, 0.05])],
        "town": np.array(["Jena", "Bonn"])[rng(1).integers(0, 2, N)],
        "wheels": np.array(["2", "3", "4"])[rng(2).integers(0, 3, N)],
    }
    kinds = {name: {"name": "categorical"} for name in train} | {"colour": {"name": "categorical", "most": 3}}
    new = {
        "colour": np.resize(["red", "green", "täg", "rare", "unseen", "", "other", "missing", "RED"], N),
        "town": np.resize(["Jena", "Bonn", "unseen", ""], N),
        "wheels": np.resize(["2", "3.0", "4", "5", "2.0"], N),
    }
    compare(tmp_path, train, kinds, new, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_yes_and_no(tmp_path: Path, dtype: str) -> None:
    """Of a third value, which the predictor refuses, there is no prediction."""
    train = {"smoker": np.resize(["no", "yes", ""], N), "flag": np.resize(["0", "1"], N)}
    kinds = {name: {"name": "boolean"} for name in train}
    made = networks.checkpoint(**REGRESSION, dtype=dtype, preparation=preparation_of(train, kinds))
    predictor, session, metadata = session_of(tmp_path, made)
    new = {"smoker": np.array(["yes", "no", "", "yes"]), "flag": np.array(["0", "1", "1.0", ""])}
    names = json.loads(metadata["columns"])
    agree(session, fed(session, names, new), predictor.predict(new), dtype)
    new["smoker"] = np.array(["yes", "maybe", "", "yes"])
    values = session.run(None, fed(session, names, new))[0]
    assert np.isnan(values).any(axis=1).tolist() == [False, True, False, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dates(tmp_path: Path, dtype: str) -> None:
    """Every part of dates of five hundred years, before 1970 too, leap days, ends of months and of days."""
    train = np.datetime64("1999-12-30T22:11:00") + rng().integers(0, 10**9, N) * SECONDS
    parts = ["trend", "year", "month", "weekday", "day", "hour", "minute"]
    new = np.datetime64("1650-01-01T00:00:00") + rng(1).integers(0, 500 * 365 * 86_400, 2000) * SECONDS
    edges = ["1900-02-28", "1900-03-01", "2000-02-29", "2024-02-29T23:59:59", "2023-12-31T23:59:59", "1969-12-31",
             "1970-01-01", "2100-03-01", "0001-01-01", "9999-12-31T23:59:59", "NaT"]  # fmt: skip
    new = np.concatenate([new, np.array(edges, "datetime64[s]")])
    compare(
        tmp_path, {"when": train}, {"when": {"name": "date", "parts": parts}}, {"when": new}, dtype=dtype
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("setting", ["standard", "minmax", "log"])
def test_values_are_in_units(tmp_path: Path, setting: str, raw: bool, dtype: str) -> None:
    """Of networks that were trained on arrays too; one output is millions of times another."""
    y = np.stack([rng(1).lognormal(-14, 0.2, N), 101_325 + rng(2).lognormal(0, 0.3, N)], axis=1)
    scaling = TargetScaling.fit(setting, y, None)
    x = {"a": rng(3).normal(size=N), "b": rng(4).normal(size=N)}
    of_table = preparation_of(x, {name: NUMERIC["standard"] for name in x}) if raw else None
    made = networks.checkpoint(**REGRESSION, dtype=dtype, scaling=scaling, shape=(2,), preparation=of_table)
    predictor, session, metadata = session_of(tmp_path, made)
    samples = x if raw else np.stack(list(x.values()), axis=1).astype(dtype)
    expected = predictor.predict(samples)
    assert 1e-9 < expected[:, 0].mean() < 1e-3 < 1e5 < expected[:, 1].mean()
    agree(session, fed(session, json.loads(metadata["columns"]), x) if raw else {"input": samples}, expected, dtype)


@pytest.mark.parametrize("network", ["float32", "float64"])
@pytest.mark.parametrize("stored", ["float32", "float64"])
def test_arrays_keep_the_precision_that_they_have(tmp_path: Path, stored: str, network: str) -> None:
    """Of 1 part in 10 million: float64 data go in as such."""
    made = networks.checkpoint(**REGRESSION, dtype=network, feature_dtype=stored, shape=(3,))
    predictor, session, _ = session_of(tmp_path, made)
    x = rng().normal(size=(N, 3)).astype(max(stored, network))
    assert session.get_inputs()[0].type == {"float32": "tensor(float)", "float64": "tensor(double)"}[x.dtype.name]
    agree(session, {"input": x}, predictor.predict(x), network)
    x[3, 1] = np.nan
    agree(session, {"input": x}, predictor.predict(x), network)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("task", ["multiclass", "numbered", "binary", "multilabel"])
def test_classes_have_labels(tmp_path: Path, task: str, dtype: str) -> None:
    columns = {"a": rng(3).normal(size=N), "kind": np.resize(["x", "y", "z"], N)}
    kinds = {"a": NUMERIC["standard"], "kind": {"name": "categorical"}}
    made = networks.example(task, dtype=dtype, seed=1, preparation=preparation_of(columns, kinds))
    predictor, session, metadata = session_of(tmp_path, made)
    feed = fed(session, json.loads(metadata["columns"]), columns)
    # The error function of onnxruntime is in single precision.
    agree(session, feed, predictor.predict(columns), dtype, 1e-5 if task == "numbered" else 0.0)
    assert json.loads(metadata["classes"]) == list(predictor.output.shown_names)
    if task == "multilabel":
        assert len(session.get_outputs()) == 1
    else:
        names = predictor.predict_names(columns)
        assert len(set(names)) > 1
        assert session.run(["label"], feed)[0].tolist() == names


KINDS = st.sampled_from([
    *({"name": "numeric", "scale": scale, "missing": missing, "indicator": missing == "mean"}
      for scale in NUMERIC for missing in ("mean", "median")),
    {"name": "categorical", "most": 2}, {"name": "categorical"}, {"name": "boolean"}, {"name": "date"},
])  # fmt: skip
NAMES = st.text("ab _1ä.", min_size=1, max_size=4)


def values(kind: str, seed: int, unseen: bool) -> np.ndarray:
    """Return random values of a kind, some of them missing."""
    draw = rng(seed)
    lost = draw.random(N) < 0.1
    if kind == "numeric":
        return np.where(lost, np.nan, draw.exponential(size=N) * 10.0 ** draw.integers(-6, 7))
    if kind == "date":
        when = np.datetime64("2020-01-31T10:00:00") + draw.integers(-(10**8), 10**8, N) * SECONDS
        return np.where(lost, np.datetime64("NaT", "s"), when)
    choices = ["no", "yes"] if kind == "boolean" else ["u", "v", "w", "1.0", *["new"] * unseen]
    return np.where(lost, "", np.array(choices)[draw.integers(0, len(choices), N)])


@given(st.dictionaries(NAMES, KINDS, min_size=1, max_size=6), st.sampled_from(DTYPES), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_any_columns(tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, Any], dtype: str, seed: int) -> None:
    train, new = (
        {name: values(each["name"], 10 * seed + n + 5 * unseen, unseen) for n, (name, each) in enumerate(kinds.items())}
        for unseen in (False, True)
    )
    network = {"layers": [{"dense": {"units": 6, "activation": "tanh"}}, 1], "target_names": None}
    compare(tmp_path_factory.mktemp("net"), train, kinds, new, dtype=dtype, **network)


def test_names_of_inputs(tmp_path: Path) -> None:
    """Names that programs take, each another, and none of an output; the table's names are in the metadata."""
    assert identifiers(["length (cm)", "length [cm]", "2nd", "täg", "", "values", "ok"], ["values"]) == (
        "length_cm", "length_cm_2", "_2nd", "t_g", "_", "values_2", "ok",
    )  # fmt: skip
    columns = {"label": rng(0).normal(size=N), "label 2": rng(1).normal(size=N), "label_2": rng(2).normal(size=N)}
    made = networks.example(
        "binary", preparation=preparation_of(columns, {name: NUMERIC["standard"] for name in columns})
    )
    predictor, session, metadata = session_of(tmp_path, made)
    names = json.loads(metadata["columns"])
    assert list(names.values()) == list(columns) and len(names) == 3
    agree(session, fed(session, names, columns), predictor.predict(columns))
