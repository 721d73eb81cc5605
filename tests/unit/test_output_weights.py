"""``loss.output_weights``: how much each output counts, by place or by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from onotrain import load
from onotrain._kernels import load as load_kernels
from onotrain.config import Config, load_config
from onotrain.config.loss import PLUGINS  # noqa: F401  (losses are known)
from onotrain.config.yaml_reader import read_yaml
from onotrain.data.prepare import prepare
from onotrain.data.weights import output_weights
from onotrain.errors import ConfigError, DataError
from onotrain.nn.losses import build
from onotrain.training import train

RNG = np.random.default_rng(5)
LOSSES = ["mse", "mae", "huber", "binary_cross_entropy"]
YAML = """\
data: {{train: {train}, targets: [p, q]}}
model: {{layers: [{{dense: 2}}]}}
optimizer: adam
training: {{epochs: 1, batch_size: 9}}
loss:
  name: mse
  output_weights: {weights}
"""


def table(path: Path) -> Path:
    x = RNG.normal(size=(40, 4))
    np.savetxt(path, x, delimiter=",", header="a,b,p,q", comments="")
    return path


def loss_of(loss: Any, outputs: int = 2) -> Any:
    return builders.config(outputs, data={"train": "a.csv"}, loss=loss).loss


def test_weights_have_a_mean_of_one() -> None:
    np.testing.assert_allclose(output_weights((3.0, 1.0), ("p", "q"), "a.csv"), [1.5, 0.5])
    np.testing.assert_allclose(output_weights({"q": 4.0}, ("p", "q", "r"), "a.csv"), [0.5, 2.0, 0.5])
    assert output_weights(None, ("p", "q"), "a.csv") is None


def test_names_that_only_the_data_know(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="output_weights names the output 'z', expected some of p, q"):
        output_weights({"z": 4.0}, ("p", "q"), "a.csv")
    with pytest.raises(DataError, match="all outputs have weight 0"):
        output_weights({"p": 0.0, "q": 0.0}, ("p", "q"), "a.csv")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("{p: 2, z: 1}", "7:26: loss.output_weights.z: is no target; expected some of p, q"),
        ("[1, 2, 3]", "7:19: loss.output_weights: must be one number for each of the network's 2 outputs (got 3)"),
        ("[0, 0]", "7:19: loss.output_weights: are all 0; expected a number above 0 for one output at least"),
        ("[1, -1]", "7:23: loss.output_weights.1: must be at least 0 (got -1)"),
        ("{p: -1}", "7:23: loss.output_weights.p: must be at least 0 (got -1)"),
        ("heavy", "7:19: loss.output_weights: expected a list of weights or a mapping of outputs to weights"),
    ],
)
def test_what_is_wrong_has_a_place(tmp_path: Path, weights: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(YAML.format(train=table(tmp_path / "a.csv"), weights=weights))
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "run.yaml")
    assert message in str(caught.value)


def test_classes_have_no_weights_of_outputs() -> None:
    with pytest.raises(ConfigError, match="output_weights"):
        loss_of({"name": "cross_entropy", "output_weights": [1, 2]})


@pytest.mark.parametrize("weights", ["[2, 1]", "{p: 2}"])
def test_they_are_part_of_a_configuration(tmp_path: Path, weights: str) -> None:
    loaded = Config.from_mapping(read_yaml(YAML.format(train=table(tmp_path / "a.csv"), weights=weights)).data)
    assert read_yaml(loaded.to_yaml()).data == loaded.to_mapping()
    assert hash(loaded) == hash(Config.from_mapping(loaded.to_mapping()))
    found = prepare(loaded.data, "regression", 2, "float64", 10**9, loaded.loss).arrays["output_weights"]
    np.testing.assert_allclose(found, [4 / 3, 2 / 3])


@pytest.mark.torch
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("missing", [False, True])
def test_losses_and_gradients_are_those_of_pytorch(name: str, missing: bool) -> None:
    torch = pytest.importorskip("torch")
    functions = {
        "mse": torch.nn.functional.mse_loss, "mae": torch.nn.functional.l1_loss,
        "huber": torch.nn.functional.huber_loss,
        "binary_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
    }  # fmt: skip
    logits, weights, rows = RNG.normal(size=(6, 3)), np.array([0.5, 2.0, 0.0]), RNG.uniform(0, 2, 6)
    targets = RNG.random((6, 3)).round()
    known = RNG.random((6, 3)) < (0.6 if missing else 1.1)
    z = torch.tensor(logits, requires_grad=True)
    each = functions[name](z, torch.tensor(targets), reduction="none")
    total = (each * torch.tensor(weights * rows[:, None] * known)).sum()
    (total / 6).backward()
    loss, got, sums = build(loss_of(name, 3), 3, load_kernels("float64")), np.empty((6, 3)), np.zeros(2)
    loss(logits, np.where(known, targets, np.nan), 1 / 6, got, sums, rows, weights)
    np.testing.assert_allclose(sums[0], total.item(), rtol=1e-13)
    np.testing.assert_allclose(got, z.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_an_output_of_weight_zero_is_not_learned(tmp_path: Path) -> None:
    made = {
        "data": {"train": str(table(tmp_path / "a.csv")), "targets": ["p", "q"]}, "optimizer": "sgd",
        "model": {"layers": [{"dense": {"units": 2, "initializer": "zeros"}}]},
        "loss": {"name": "mse", "output_weights": {"q": 0}}, "training": {"epochs": 2, "batch_size": 8},
    }  # fmt: skip
    made["model"] = {"layers": [{"dense": 2}]}
    network = load(train(made, output=tmp_path / "run").output)
    bias = next(v for n, v in network.model.layout.views(network.parameters).items() if n.endswith("bias"))
    assert bias[0] != 0 and bias[1] == 0
    assert network.metadata.config.loss.output_weights == {"q": 0.0}
