"""A network exported as safetensors, loaded into PyTorch."""

from __future__ import annotations

import json
from collections import OrderedDict
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


def sequential(described: dict[str, Any], dtype: Any) -> Any:
    """Return the network that an exported description tells of, with parameters of its own."""
    modules: OrderedDict[str, Any] = OrderedDict()
    for number, layer in enumerate(described["layers"]):
        if layer["kind"] == "dense":
            linear = torch.nn.Linear(layer["inputs"], layer["outputs"], bias=layer["bias"], dtype=dtype)
            modules[layer["name"]] = linear
        else:
            modules[f"activation_{number}"] = activation(layer)
    return torch.nn.Sequential(modules)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("task", networks.TASKS)
def test_torch_gives_the_same_outputs(tmp_path: Path, task: str, dtype: str) -> None:
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    from safetensors.torch import load_file

    net = networks.save(tmp_path / "net.h5", networks.example(task, dtype=dtype))
    path = export(net, "safetensors", tmp_path / "net.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        described = json.loads(file.metadata()["onotrain"])
    model = sequential(described, getattr(torch, dtype))
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
