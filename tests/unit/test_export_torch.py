"""A network exported as safetensors, loaded into PyTorch."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import networks
import onotrain
from onotrain.inference.export import export

if find_spec("torch") is not None:
    import torch
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed"),
]


def activation(layer: dict[str, Any]) -> Any:
    nn = torch.nn
    if layer["name"] == "leaky_relu":
        return nn.LeakyReLU(layer["negative_slope"])
    return {
        "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU,
        "softplus": nn.Softplus,
    }[layer["name"]]()  # fmt: skip


class Network(torch.nn.Module if find_spec("torch") is not None else object):  # type: ignore[misc]
    """The network that an exported description tells of, with parameters of its own."""

    def __init__(self, described: dict[str, Any], dtype: Any) -> None:
        super().__init__()
        self._layers = described["layers"]
        for number, layer in enumerate(self._layers):
            if layer["kind"] == "dense":
                linear = torch.nn.Linear(layer["inputs"], layer["outputs"], bias=layer["bias"], dtype=dtype)
                self.add_module(layer["name"], linear)
            elif layer["kind"] == "activation":
                self.add_module(f"activation_{number}", activation(layer))

    def forward(self, x: Any) -> Any:
        values = [x]
        for number, layer in enumerate(self._layers):
            read = [values[place] for place in layer.get("of", [-1])]
            name = layer["name"] if layer["kind"] == "dense" else f"activation_{number}"
            values.append(sum(read) if layer["kind"] == "sum" else self.get_submodule(name)(*read))
        return values[-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("task", networks.TASKS)
def test_torch_gives_the_same_outputs(tmp_path: Path, task: str, dtype: str) -> None:
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    from safetensors.torch import load_file

    net = networks.save(tmp_path / "net.h5", networks.example(task, dtype=dtype))
    path = export(net, "safetensors", tmp_path / "net.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        described = json.loads(file.metadata()["onotrain"])
    model = Network(described, getattr(torch, dtype))
    model.load_state_dict(load_file(path))  # strict: exactly these names and shapes

    x = np.random.default_rng(0).normal(size=(700, 5)).astype(dtype)
    mean, std = (torch.tensor(described["normalization"][key], dtype=torch.float64) for key in ("mean", "std"))
    with torch.no_grad():
        logits = model(((torch.from_numpy(x) - mean) / std).to(getattr(torch, dtype)))
        if described["output"] == "softmax":
            logits = torch.softmax(logits, dim=1)
        elif described["output"] == "sigmoid":
            logits = torch.sigmoid(logits)
    np.testing.assert_allclose(onotrain.load(net).predict(x), logits.numpy(), rtol=0, atol=1e-5)
