"""Exported networks: the same outputs from nothing but the exported file."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import networks
import onotrain
import tables
from onotrain.cli import terminal
from onotrain.cli.program import run
from onotrain.data.tables.memory import table_of
from onotrain.data.tables.preparation import Preparation
from onotrain.data.target_scaling import TargetScaling
from onotrain.errors import PlatformError, UsageError
from onotrain.inference.export import export
from onotrain.known_names import ACTIVATIONS, EXPORT_FORMATS

ATTEMPTS = [(task, dtype) for task in networks.TASKS for dtype in ("float32", "float64")]


def exported(folder: Path, kind: str, task: str, dtype: str = "float32") -> tuple[Path, np.ndarray, np.ndarray]:
    """Return the exported file, samples, and what the network predicts for them."""
    net = networks.save(folder / "net.h5", networks.example(task, dtype=dtype))
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(dtype)
    return export(net, kind, folder / f"net.{kind}"), x, onotrain.load(net).predict(x)


def test_every_activation_is_exported_by_what_follows() -> None:
    """A new one is to be in an example."""
    examples = json.dumps(networks.TASKS)
    assert [name for name in ACTIVATIONS if name != "identity" and f'"{name}"' not in examples] == []


@pytest.mark.parametrize(("task", "dtype"), ATTEMPTS)
def test_npz(tmp_path: Path, task: str, dtype: str) -> None:
    path, x, expected = exported(tmp_path, "npz", task, dtype)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    described = json.loads(str(arrays["description"]))
    assert described["normalization"]["mean"] == arrays["normalization_mean"].tolist()
    assert described["normalization"]["std"] == arrays["normalization_std"].tolist()
    np.testing.assert_allclose(networks.forward(described, arrays, x), expected, atol=1e-5)


@pytest.mark.parametrize(("task", "dtype"), ATTEMPTS)
def test_safetensors(tmp_path: Path, task: str, dtype: str) -> None:
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    path, x, expected = exported(tmp_path, "safetensors", task, dtype)
    with safetensors.safe_open(path, "numpy") as file:
        described = json.loads(file.metadata()["onotrain"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    assert arrays["dense_0.weight"].dtype == dtype
    assert described["config"]["loss"]["name"] == networks.TASKS[task].get("loss", "cross_entropy")
    np.testing.assert_allclose(networks.forward(described, arrays, x), expected, atol=1e-5)


@pytest.mark.parametrize(("task", "dtype"), ATTEMPTS)
def test_onnx(tmp_path: Path, task: str, dtype: str) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx.reference import ReferenceEvaluator

    path, x, expected = exported(tmp_path, "onnx", task, dtype)
    names = [] if task in ("regression", "multilabel") else onotrain.load(tmp_path / "net.h5").predict_names(x)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 17
    session = ReferenceEvaluator(model)
    assert session.input_names == ["input"]
    label = [] if task in ("regression", "multilabel") else ["label"]
    assert session.output_names == ["values" if task == "regression" else "probabilities", *label]
    for rows in (1, 40):  # the batch is dynamic
        got, *labels = session.run(None, {"input": x[:rows]})
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected[:rows], atol=1e-5)
        assert [each.tolist() for each in labels] == [names[:rows] for _ in label]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["onotrain"])["task"]
    assert ("classes" in metadata) == (task != "regression")
    if task == "multiclass":
        assert json.loads(metadata["classes"]) == ["rose", 'täg, "x"', "iris"]


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_the_same_network_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    pytest.importorskip({"npz": "numpy"}.get(kind, kind), reason=f"{kind} is not installed")
    first = exported(tmp_path, kind, "multiclass")[0].read_bytes()
    for _ in range(3):
        assert exported(tmp_path, kind, "multiclass")[0].read_bytes() == first


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_a_missing_library_is_named(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == kind:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.partition(".")[0] == kind or name.endswith("onnx_graph")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PlatformError, match=f"the Python package {kind} is not installed") as caught:
        exported(tmp_path, kind, "multiclass")
    assert caught.value.hint == "pip install 'onotrain[export]'"
    assert not (tmp_path / f"net.{kind}").exists()


def test_the_default_name_is_that_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    networks.save(tmp_path / "net.h5", networks.example("multiclass"))
    monkeypatch.chdir(tmp_path)
    assert run(["export", "net.h5", "--format", "npz"]) == 0
    assert "wrote net.npz" in capsys.readouterr().out
    before = (tmp_path / "net.npz").read_bytes()
    assert run(["export", "net.h5", "--format", "npz"]) == 2  # it might be anything, data for example
    assert "net.npz: exists already" in capsys.readouterr().err
    assert (tmp_path / "net.npz").read_bytes() == before


def test_the_format_follows_from_the_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    networks.save(tmp_path / "net.h5", networks.example("multiclass"))
    monkeypatch.chdir(tmp_path)
    for kind in EXPORT_FORMATS:
        assert run(["export", "net.h5", "--output", f"a.{kind}"]) == 0
        assert run(["export", "net.h5", "--output", "b.bin", "--format", kind]) == 0
        assert Path(f"a.{kind}").read_bytes() == Path("b.bin").read_bytes()
    capsys.readouterr()
    for options in ([], ["--output", "c.bin"]):
        assert run(["export", "net.h5", *options]) == 2
        assert "--format (safetensors, npz, onnx)" in " ".join(capsys.readouterr().err.split())
    assert not Path("c.bin").exists()


def test_what_goes_in_and_comes_out_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole at 80 columns."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    columns = {"age": [1.0, 2.0], "marital status (at the time of the interview)": ["no", "yes"]}
    kinds = {name: {"name": kind} for name, kind in zip(columns, ("numeric", "categorical"), strict=True)}
    preparation = tables.fitted(table_of(columns, list(columns)), kinds)
    networks.save(tmp_path / "net.h5", networks.example("binary", preparation=preparation))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(terminal, "terminal_columns", lambda: 80)
    assert run(["export", "net.h5", "--output", "a.onnx"]) == 0
    shown = click.unstyle(capsys.readouterr().out)
    assert max(map(len, shown.splitlines())) <= 80
    words = shown.split()
    assert words[:2] == ["wrote", "a.onnx"]
    for word in ("age", "float64", "string", "probabilities", "float32", "label", "[batch,", "yes"):
        assert word in words
    assert "marital_status" in shown and "missing" in shown
    assert run(["export", "net.h5", "--output", "a.npz"]) == 0
    assert {"features", "outputs", "prepared"} <= set(click.unstyle(capsys.readouterr().out).split())


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("log", [False, True])
def test_the_description_has_all_between_a_table_and_values_in_units(tmp_path: Path, log: bool, kind: str) -> None:
    """From the raw columns by nothing but the file, as docs/inference.md says."""
    pytest.importorskip({"npz": "numpy"}.get(kind, kind), reason=f"{kind} is not installed")
    size, colour = np.array([1.0, 4.0, np.nan, 9.0]), np.array(["red", "blue", "", "unseen"])
    known = table_of({"size": [1.0, 2.0, 6.0], "colour": ["red", "blue", ""]}, ["size", "colour"])
    kinds = {"size": {"name": "numeric", "missing": "median", "indicator": True}, "colour": {"name": "categorical"}}
    scaling = TargetScaling(np.array([3.0, -2.0]), np.array([0.5, 1.5]), log)
    made = networks.example("regression", scaling=scaling, preparation=tables.fitted(known, kinds, "standard"))
    net = networks.save(tmp_path / "net.h5", made)
    described, arrays = opened(export(net, kind, tmp_path / f"net.{kind}"))
    of_size, of_colour = described["preparation"]["columns"]
    filled = np.where(np.isnan(size), of_size["fill"], size)
    features = [
        (filled - of_size["shift"]) / of_size["scale"],
        np.isnan(size),
        *(colour == v for v in of_colour["values"]),
    ]
    features += [~np.isin(colour, [*of_colour["values"], ""])] * of_colour["other"] + [colour == ""] * of_colour[
        "missing"
    ]
    outputs = networks.forward(described, arrays, np.stack(features, axis=1))
    values = outputs * described["target_scaling"]["scale"] + described["target_scaling"]["shift"]
    values = np.exp(values) if described["target_scaling"]["log"] else values
    expected = onotrain.load(net).predict({"size": size, "colour": colour})
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert TargetScaling.from_dict(described["target_scaling"]) == scaling
    assert Preparation.from_dict(described["preparation"]).inputs == ("size", "colour")


def opened(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the description and the tensors of a file."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        return json.loads(str(arrays.pop("description"))), arrays
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return json.loads(file.metadata()["onotrain"]), arrays


def test_an_output_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no directory"):
        export(tmp_path / "net.h5", "npz", tmp_path / "no" / "net.npz")
