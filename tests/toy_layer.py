"""A layer of a package outside of the tree, in NumPy, and trainings with it under every strategy.

``PYTHONPATH=FOLDER mpirun -n 3 python toy_layer.py OUTPUT`` where FOLDER has what `install` leaves.  Rank 0 prints, as
JSON, loss and digest of the parameters of each.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onotrain.config import Config
from onotrain.config.layers import PLUGINS
from onotrain.parallel.world import World
from onotrain.training import train

if TYPE_CHECKING:
    import pytest

#: Root mean square normalisation (Zhang and Sennrich, arXiv 1910.07467), with two saved arrays of different shapes.
PACKAGE = '''
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field

from onotrain.config import LayerOptions
from onotrain.nn.layers import Layer
from onotrain.nn.layers.base import Parameter, Product, Saved, ShapeError


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
    """The same, with a gradient that is no product."""

    Options = WholeOptions

    def outer_products(self):
        return {}


class CentreOptions(NormOptions):
    kind = "centre"


class Centre(Norm):
    """``y = gain (x - mean of x over the batch)``."""

    Options = CentreOptions

    def __init__(self, options, shape, defaults):
        super().__init__(options, shape, defaults)
        self.batch_sums = {"values": shape[0], "gradients": shape[0]}

    def forward(self, r):
        r.call(self._copy, r.x, r.batch_sums["values"].mine)
        r.call(self._centre, r.x, r.parameters["gain"], r.exchange("values"), r.samples, r.saved["normal"], r.y)

    def _copy(self, x, y):
        y[:] = x

    def _centre(self, x, gain, sums, samples, normal, y):
        normal[:] = x - sums / samples
        np.multiply(normal, gain, out=y)

    def backward(self, r):
        normal, gain, dy = r.saved["normal"], r.parameters["gain"], r.dy
        r.call(self._weigh, dy, gain, r.batch_sums["gradients"].mine)
        sums = r.exchange("gradients")
        r.call(self._backwards, gain, normal, dy, sums, r.samples, r.accumulate, r.dx, r.gradients["gain"])

    def _weigh(self, dy, gain, out):
        np.multiply(dy, gain, out=out)

    def _backwards(self, gain, normal, dy, sums, samples, accumulate, dx, dgain):
        if dx is not None:
            dx[:] = dy * gain - sums / samples
        normal *= dy
        if dgain is not None:
            dgain[:] = normal.sum(axis=0) + (dgain if accumulate else 0.0)

    def predict(self, r):
        r.call(np.multiply, r.x, r.parameters["gain"], r.y)
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


class StripOptions(LayerOptions):
    """Weighted sums of neighbours in each row of an image."""

    kind, short_key, has_parameters = "strip", "size", True

    size: int = Field(gt=0, description="Number of neighbours.")


class Strip(Layer):
    """``y[h, j] = sum over k of x[h, j + k] w[k]``, of samples (height, width)."""

    Options = StripOptions
    reads_again = frozenset(("x",))

    def __init__(self, options, shape, defaults):
        super().__init__(options, shape, defaults)
        if len(shape) != 2:
            raise ShapeError(None, f"reads samples of two axes (got {len(shape)})", hint="give data.shape")
        if options.size > shape[1]:
            raise ShapeError("size", f"is {options.size}, more than the width of the image, {shape[1]}")
        self.out = shape[0], shape[1] - options.size + 1
        self.parameters = {"weight": Parameter((options.size,), (1, options.size), 0.5)}

    def forward(self, r):
        r.call(self.predicted, r.x, r.parameters["weight"], r.y)

    def backward(self, r):
        r.call(self._backward, r.x, r.parameters["weight"], r.dy, r.accumulate, r.dx, r.gradients["weight"])

    def _backward(self, x, weight, dy, accumulate, dx, dw):
        if dx is not None:
            dx[:] = 0.0
            for k, w in enumerate(weight):
                dx[:, :, k : k + self.out[1]] += w * dy
        if dw is not None:
            windows = sliding_window_view(x, self.options.size, axis=2)
            dw[:] = np.einsum("rhjk,rhj->k", windows, dy) + (dw if accumulate else 0.0)

    def predict(self, r):
        self.forward(r)

    def predicted(self, x, weight, y):
        y[:] = sliding_window_view(x, self.options.size, axis=2) @ weight


class NestOptions(LayerOptions):
    """A strip of 2, and behind it one whose size is given."""

    kind, short_key, has_parameters = "nest", "last", False

    last: int = Field(gt=0, description="Size of the last one.")


class Nest(Layer):
    Options = NestOptions

    @classmethod
    def build(cls, network, options, x):
        x = network.build("strip", StripOptions(size=2), x)
        return network.build("strip", StripOptions(size=options.last), x, "layers", 1)

    forward = backward = predict = None
'''
ENTRY_POINTS = """
[onotrain.layers]
norm = toy:Norm
whole = toy:Whole
centre = toy:Centre
follow = toy:Follow
lost = toy:Lost
strip = toy:Strip
nest = toy:Nest
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
#: Those whose ranks compute each batch together, as layers see it that sum over the batch.
TOGETHER = ("allreduce", "gradients", "flat", "server", "switch")


def install(folder: Path) -> None:
    """Write what an installed package leaves."""
    (folder / "toy.py").write_text(PACKAGE)
    info = folder / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)


def environment(folder: Path) -> dict[str, str]:
    """Return what makes another process find the package."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def load_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process find the package for the time of a test."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(vars(PLUGINS), "_points", raising=False)
    monkeypatch.setattr(PLUGINS, "_loaded", {})


def configuration(kind: str, strategy: dict[str, Any], **training: Any) -> dict[str, Any]:
    """Return a configuration in which a layer of this kind is the first one, and another one is within."""
    layers = [{kind: 1e-3}, {"dense": {"units": 12, "activation": "tanh"}}, {"dropout": 0.1}, {kind: {}}, {"dense": 10}]
    return {
        "data": {"train": "digits", "validation": 0.2, "shape": [64]},
        "model": {"layers": layers},
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": 0.3},
        "training": {"epochs": 2, "batch_size": 60, "dtype": "float64", **training},
        "strategy": strategy,
    }


def main(folder: str) -> None:
    """Train with every kind and strategy that the ranks suffice for."""
    world, found = World.connect(), {}
    for kind in ("norm", "whole", "centre"):
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
