"""A layer of a package outside of the tree, in NumPy, and trainings with it under every strategy.

``PYTHONPATH=FOLDER mpirun -n 3 python toy_layer.py OUTPUT`` where FOLDER has what `install` leaves.  Rank 0 prints, as
JSON, loss and digest of the parameters of each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from onotrain.config import Config
from onotrain.parallel.world import World
from onotrain.training import train

#: Root mean square normalisation (Zhang and Sennrich, arXiv 1910.07467), with two saved arrays of different shapes.
PACKAGE = '''
import numpy as np
from pydantic import Field

from onotrain.config import LayerOptions
from onotrain.nn.layers import Layer
from onotrain.nn.layers.base import Parameter, Product, Saved


class NormOptions(LayerOptions):
    """Values divided by their root mean square."""

    kind, short_key, has_parameters = "norm", "eps", True

    eps: float = Field(1e-6, gt=0, description="Added to the mean square.")


class Norm(Layer):
    Options = NormOptions
    reads_again = frozenset()

    def __init__(self, options, shape, defaults):
        super().__init__(options, shape, defaults)
        self.parameters = {"gain": Parameter(shape, (1, 1), 1.0, decays=False)}
        self.saved = {"normal": Saved(shape), "inverse": Saved((1,), np.float64)}

    def forward(self, r):
        r.call(self._forward, r.x, r.parameters["gain"], r.saved["normal"], r.saved["inverse"], r.y)

    def _forward(self, x, gain, normal, inverse, y):
        inverse[:] = 1.0 / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + self.options.eps)
        np.multiply(x, inverse, out=normal)
        np.multiply(normal, gain, out=y)

    def backward(self, r):
        arrays = r.parameters["gain"], r.saved["normal"], r.saved["inverse"], r.dy
        r.call(self._backward, *arrays, r.accumulate, r.dx, r.gradients["gain"])

    def _backward(self, gain, normal, inverse, dy, accumulate, dx, dgain):
        if dx is not None:
            dnormal = dy * gain
            dx[:] = inverse * (dnormal - normal * np.mean(dnormal * normal, axis=1, keepdims=True))
        normal *= dy
        if dgain is not None:
            dgain[:] = normal.sum(axis=0) + (dgain if accumulate else 0.0)

    def predict(self, r):
        r.call(self._predict, r.x, r.parameters["gain"], r.y)

    def _predict(self, x, gain, y):
        self._forward(x, gain, np.empty_like(x), np.empty((len(x), 1)), y)

    def outer_products(self):
        return {"gain": Product("normal")}


class WholeOptions(NormOptions):
    kind = "whole"


class Whole(Norm):
    """The same, of which ranks share the gradient."""

    Options = WholeOptions

    def outer_products(self):
        return {}


class FollowOptions(LayerOptions):
    """Values less the mean of what came before, and a shift that is trained."""

    kind, has_parameters = "follow", True

    rate: float = Field(0.25, gt=0, le=1, description="Weight of a batch in the mean.")


class Follow(Layer):
    Options = FollowOptions
    reads_again = frozenset()
    #: Means of the rows of each pass: of whole batches, if there is one rank.
    means = []

    def __init__(self, options, shape, defaults):
        super().__init__(options, shape, defaults)
        self.parameters = {
            "mean": Parameter(shape, (1, 1), 0.0, averaged=True, rate=options.rate),
            "shift": Parameter(shape, (1, 1), 0.5, decays=False),
        }
        self.saved = {"change": Saved(shape)}

    def forward(self, r):
        r.call(self._forward, r.x, *r.parameters.values(), r.weight, r.saved["change"], r.y)

    def _forward(self, x, mean, shift, weight, change, y):
        self.means.append(x.mean(axis=0) if len(x) else None)
        np.multiply(mean - x, weight, out=change)
        np.add(x - mean, shift, out=y)

    def backward(self, r):
        if r.dx is not None:
            r.call(np.copyto, r.dx, r.dy)
        for name, rows in (("mean", r.saved["change"]), ("shift", r.dy)):
            if r.gradients[name] is not None:
                r.call(self._sum, rows, r.accumulate, r.gradients[name])

    def _sum(self, rows, accumulate, out):
        out[:] = rows.sum(axis=0) + (out if accumulate else 0.0)

    def predict(self, r):
        r.call(self._predict, r.x, *r.parameters.values(), r.y)

    def _predict(self, x, mean, shift, y):
        np.add(x - mean, shift, out=y)

    def outer_products(self):
        return {"mean": Product("change"), "shift": Product("dy")}


class LostOptions(LayerOptions):
    kind = "lost"


class Lost(Norm):
    Options = LostOptions

    def __init__(self, options, shape, defaults):
        super().__init__(WholeOptions(), shape, defaults)
        self.options = options
'''
ENTRY_POINTS = """
[onotrain.layers]
norm = toy:Norm
whole = toy:Whole
follow = toy:Follow
lost = toy:Lost
dense = toy:Norm
other = toy:Norm
"""
SERVER: dict[str, Any] = {"name": "parameter_server"}
STRATEGIES: dict[str, dict[str, Any]] = {
    "allreduce": {"name": "allreduce"},
    "gradients": {"name": "allreduce", "share": "gradients"},
    "flat": {"name": "flat"},
    "local": {"name": "local_sgd", "period": 1, "inner_state": "keep"},
    "server": SERVER,
    "stale": {**SERVER, "staleness": 1},
    "asynchronous": {**SERVER, "staleness": "unbounded"},
    "switch": {"name": "strategy_switch", "at_epoch": 1, "server": {"staleness": 0}},
}
#: Those that make the updates of one rank, however many there are.
ALIKE = ("allreduce", "gradients", "flat", "local", "server", "switch")


def install(folder: Path) -> None:
    """Write what an installed package leaves."""
    (folder / "toy.py").write_text(PACKAGE)
    info = folder / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)


def configuration(kind: str, strategy: dict[str, Any], **training: Any) -> dict[str, Any]:
    """Return a configuration in which a layer of this kind is the first one, and another one is within."""
    layers = [{kind: 1e-3}, {"dense": {"units": 12, "activation": "tanh"}}, {"dropout": 0.1}, {kind: {}}, {"dense": 10}]
    return {
        "data": {"train": "digits", "validation": 0.2},
        "model": {"layers": layers},
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": 0.3},
        "training": {"epochs": 2, "batch_size": 60, "dtype": "float64", **training},
        "strategy": strategy,
    }


def main(folder: str) -> None:
    """Train with every kind and strategy that the ranks suffice for."""
    world, found = World.connect(), {}
    for kind in ("norm", "whole"):
        for name, strategy in STRATEGIES.items():
            if world.size == 1 and (strategy["name"] == "parameter_server" or name == "switch"):
                continue
            config = Config.from_mapping(configuration(kind, strategy))
            summary = train(config, world.comm, output=Path(folder) / f"{world.size}-{kind}-{name}").summary
            figures = ("train_loss", "validation_loss", "validation_accuracy", "parameters_sha256")
            found[f"{kind} {name}"] = {key: summary[key] for key in figures}
    if world.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
