"""Batch normalisation (Ioffe and Szegedy, ICML 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onotrain.config import layers_norm as config
from onotrain.nn.layers.base import Layer, OperatorGraph, Parameter, Product, Saved
from onotrain.nn.layers.group_norm import affine_parameters, by_channel, export_affine, sum_parameters
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.shapes import Shape


class BatchNorm(Layer):
    """``y = weight x' + bias`` with ``x' = (x - mean) / sqrt(variance + epsilon)``.

    Mean and variance are those of a channel over all samples and positions of the global batch, on whatever ranks they
    are.  The running mean and variance, which take their place after training and in a frozen layer, are averages with
    the share `momentum` of the newest batch; of the variance, averages of unbiased estimates.
    """

    Options = config.BatchNorm
    reads_again = frozenset(("x",))

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.channels = shape[-1]
        self.positions = self.inputs // self.channels
        self.fewest_samples = 2 if self.positions == 1 else 1
        self.parameters = affine_parameters(self.channels) if options.affine else {}
        for name, first in (("running_mean", 0.0), ("running_var", 1.0)):
            self.parameters[name] = Parameter(
                (self.channels,), (1, 1), first, decays=False, averaged=True, rate=options.momentum
            )
        self.saved = {f"d{name}": Saved((self.channels,)) for name in self.parameters}
        self.batch_sums = {"values": 2 * self.channels, "gradients": 2 * self.channels}

    def forward(self, r: Recorder) -> None:
        """``y`` by the moments of the batch: sums of ``x`` and of its square."""
        if not r.trained:
            self.predict(r)
            return
        r.call("batch_norm_sums", by_channel(r.x), r.batch_sums["values"].mine)
        r.call(
            "batch_norm_forward", by_channel(r.x), r.exchange("values"), r.samples * self.positions,
            self.options.epsilon, r.parameters.get("weight"), r.parameters.get("bias"), by_channel(r.y),
        )  # fmt: skip

    def backward(self, r: Recorder) -> None:
        """``dx = weight / sqrt(variance + epsilon) (dy - mean of dy - x' mean of (dy x'))``, means over the batch.

        For each sample ``dweight`` is the sum of ``dy x'`` over the positions, and ``dbias`` that of ``dy``.  The rows
        of ``drunning_mean`` and ``drunning_var`` add up to what the running moments are above those of the batch.
        """
        if not r.trained:
            self._backward_frozen(r)
            return
        values, count, weight = r.batch_sums["values"].total, r.samples * self.positions, r.parameters.get("weight")
        r.call(
            "batch_norm_backward_sums", by_channel(r.x), values, count, self.options.epsilon, by_channel(r.dy),
            r.batch_sums["gradients"].mine, r.saved.get("dweight"), r.saved.get("dbias"),
        )  # fmt: skip
        if r.dx is not None:
            r.call(
                "batch_norm_backward", by_channel(r.x), values, r.exchange("gradients"), count, self.options.epsilon,
                weight, by_channel(r.dy), by_channel(r.dx),
            )  # fmt: skip
        r.call(
            "batch_norm_running", r.parameters["running_mean"], r.parameters["running_var"], values, count,
            1.0 / r.samples, r.saved["drunning_mean"], r.saved["drunning_var"],
        )  # fmt: skip
        sum_parameters(r)

    def _backward_frozen(self, r: Recorder) -> None:
        """``dx = weight / sqrt(variance + epsilon) dy``: the forward pass without mean and bias."""
        if r.dx is not None:
            r.call(
                "batch_norm_predict", by_channel(r.dy), None, r.parameters["running_var"], self.options.epsilon,
                r.parameters.get("weight"), None, by_channel(r.dx),
            )  # fmt: skip

    def predict(self, r: Recorder) -> None:
        """``y`` by the running moments."""
        r.call(
            "batch_norm_predict", by_channel(r.x), r.parameters["running_mean"], r.parameters["running_var"],
            self.options.epsilon, r.parameters.get("weight"), r.parameters.get("bias"), by_channel(r.y),
        )  # fmt: skip

    def outer_products(self) -> Mapping[str, Product]:
        """Gradients, and what running moments are to change by, are sums of what is left for each sample."""
        return {name: Product(f"d{name}") for name in self.parameters}

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add the normalisation by running moments."""
        centred = graph.node("Sub", [*inputs, graph.parameter("running_mean")])
        variance = graph.node("Add", [graph.parameter("running_var"), graph.constant(self.options.epsilon)])
        return export_affine(graph, self, graph.node("Div", [centred, graph.node("Sqrt", [variance])]))
