"""A layer of a package that is not in the tree: its gradient, and trainings with it under every strategy."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
import launch
import toy_layer
from onotrain import _kernels
from onotrain.config import Config
from onotrain.nn import Model


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the environment in which the package is installed."""
    folder = tmp_path_factory.mktemp("site")
    toy_layer.install(folder)
    return toy_layer.environment(folder)


@pytest.fixture
def here(site: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Install it in this process, too."""
    toy_layer.load_here(Path(site["PYTHONPATH"].split(os.pathsep)[0]), monkeypatch)


def trained(folder: Path, site: Mapping[str, str], ranks: int) -> dict[str, dict[str, Any]]:
    """Return the results of all trainings on some ranks."""
    done = launch.mpirun(ranks, sys.executable, toy_layer.__file__, folder, env=site, timeout=150)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.long
def test_it_trains_with_every_strategy_on_any_number_of_ranks(tmp_path: Path, site: Mapping[str, str]) -> None:
    """As on one rank where updates are the same; of shared activations every bit.

    So of gradients that are products, of others, and of sums over the batch.
    """
    found = {ranks: trained(tmp_path, site, ranks) for ranks in (1, 2, 3)}
    expected = {kind: found[1][f"{kind} allreduce"] for kind in ("norm", "whole", "centre")}
    assert expected["norm"]["validation_accuracy"] > 0.7
    for ranks, results in found.items():
        assert len(results) == 3 * (len(toy_layer.STRATEGIES) if ranks > 1 else 4)
        for name, result in results.items():
            kind, strategy = name.split()
            alike = toy_layer.ALIKE if kind != "centre" else toy_layer.TOGETHER
            # One worker makes the updates of one rank, however late they are.
            if strategy in (*alike, *(("stale", "asynchronous") if ranks == 2 else ())):
                assert result["train_loss"] == pytest.approx(expected[kind]["train_loss"], rel=1e-9), (ranks, name)
            assert result["validation_accuracy"] > (0.6 if kind != "centre" else 0.3), (ranks, name)
    for kind in expected:
        assert len({results[f"{kind} allreduce"]["parameters_sha256"] for results in found.values()}) == 1
    assert expected["whole"]["train_loss"] == pytest.approx(expected["norm"]["train_loss"], rel=1e-9)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("kind", "parts"), [("norm", 2), ("whole", 2), ("centre", 1)])
@pytest.mark.parametrize("frozen", [None, ["{}_1"], ["dense_0"]])
def test_its_gradient_is_right(kind: str, parts: int, frozen: list[str] | None) -> None:
    """Of all parameters against fourth-order differences in float64, in micro-batches where rows are independent."""
    mapping = toy_layer.configuration(kind, {"name": "allreduce"})
    mapping["model"]["freeze"] = frozen and [name.format(kind) for name in frozen]
    model = builders.model(Config.from_mapping(mapping), 64)
    rng = np.random.default_rng(1)
    x, targets = rng.normal(size=(6, 64)), rng.integers(0, 10, 6).astype(np.int32)
    parameters, gradient, loss = builders.filled(model.layout, 3), model.layout.zeros(), np.zeros(2)
    model.bind(parameters, gradient)
    model.reserve(6)
    cuts = [slice(0, 6)] if parts == 1 else [slice(0, 4), slice(4, 6)]
    calls = [
        call
        for rows in cuts
        for call in model.record(x[rows], targets[rows], 6, loss, seed=2, begin=rows.start, accumulate=rows.start > 0)
    ]
    program = _kernels.load("float64").program(calls)

    def value() -> float:
        loss[:] = 0.0
        program.run(5)
        return float(loss[0]) / 6

    value()
    found = gradient.copy()
    for tensor in model.layout:
        for i in range(tensor.offset, tensor.offset + min(tensor.size, 40)):
            values, start = [], parameters[i]
            for shift in (-2, -1, 1, 2):
                parameters[i] = start + shift * 1e-3
                values.append(value())
            parameters[i] = start
            expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12e-3
            assert found[i] == pytest.approx(expected if tensor.trained else 0.0, abs=1e-7), (tensor.name, i)


@pytest.mark.usefixtures("here")
def test_the_layout_says_which_gradients_are_no_products() -> None:
    """Of each tensor."""
    for kind, products in (("norm", True), ("whole", False)):
        made: Model = builders.model(Config.from_mapping(toy_layer.configuration(kind, {"name": "allreduce"})), 64)
        of_layer = {tensor.name: tensor.is_product for tensor in made.layout}
        assert of_layer == {
            f"{kind}_0/gain": products, "dense_0/weight": True, "dense_0/bias": True, f"{kind}_1/gain": products,
            "dense_1/weight": True, "dense_1/bias": True,
        }  # fmt: skip


def test_it_is_validated_inspected_exported_and_predicted_with(tmp_path: Path, site: Mapping[str, str]) -> None:
    """Like layers of the tree, but for ONNX, which it says no word of."""
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(toy_layer.configuration("norm", {"name": "allreduce"}, epochs=1)))
    assert launch.onotrain("validate", config, env=site).returncode == 0
    assert (
        launch.onotrain("train", config, "--output", "run", "--quiet", ranks=2, env=site, cwd=tmp_path).returncode == 0
    )
    done = launch.onotrain("inspect", "run", "--json", env=site, cwd=tmp_path)
    assert [layer["name"] for layer in json.loads(done.stdout)["layers"]] == ["norm_0", "dense_0", "norm_1", "dense_1"]
    assert launch.onotrain("evaluate", "run", "digits", env=site, cwd=tmp_path).returncode == 0
    done = launch.onotrain("export", "run", "--format", "npz", "--output", "n.npz", env=site, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "n.npz") as file:
        assert file["norm_1.gain"].shape == (12,)
        described = json.loads(str(file["description"]))["layers"]
    assert described[0] == {"kind": "norm", "name": "norm_0", "eps": 1e-3, "inputs": [64], "outputs": [64]}
    done = launch.onotrain("export", "run", "--format", "onnx", "--output", "n.onnx", env=site, cwd=tmp_path)
    assert done.returncode == 2 and "layer norm of toy cannot be written in operators of ONNX" in done.stderr


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        ("{norm: -1}", "model.layers.0.norm.eps: must be greater than 0 (got -1)"),
        ("{norm: {esp: 1}}", "model.layers.0.norm.esp: unknown key of layer 'norm'; did you mean 'eps'?"),
        ("{nrm: 1}", "model.layers.0.nrm: unknown kind of layer; did you mean 'norm'?"),
        (
            "{other: 1}",
            "model.layers.0.other: entry point 'other' of toy 1.0 (group onotrain.layers) has Options of another name "
            "(got norm)",
        ),
        ("{lost: {}}", "layer lost of toy: has 1 parameters, but has_parameters of its options is False"),
    ],
)
def test_what_is_wrong_with_it_is_said(tmp_path: Path, site: Mapping[str, str], layer: str, found: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(toy_layer.configuration("norm", {"name": "allreduce"})))
    done = launch.onotrain("validate", config, "--set", f"model.layers=[{layer}, {{dense: 10}}]", env=site)
    assert done.returncode == 2 and found in done.stderr, done.stderr
