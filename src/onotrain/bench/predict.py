"""Prediction of samples in memory, beside the bare matrix products of the same shapes.

Alone it is `Predictor.predict`; with more ranks the samples lie once on each node, rank 0 hands them out and collects,
as ``onotrain predict`` does without its files.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from onotrain.bench.measure import Call, Say, measure, spread
from onotrain.bench.subject import Subject, check_positive
from onotrain.data.samples import ArraySamples
from onotrain.evaluation.forward_pass import PASS_ROWS
from onotrain.inference import distributed
from onotrain.inference.predictor import Predictor
from onotrain.inference.source import Source
from onotrain.memory import check_memory
from onotrain.nn.layers import Dense
from onotrain.nn.operations import of_product
from onotrain.parallel import threads
from onotrain.parallel.agreement import agreed
from onotrain.parallel.shared_memory import share
from onotrain.parallel.world import World


def run(world: World, subject: Subject, samples: int, budget_s: float, say: Say) -> dict[str, Any]:
    """Measure prediction with all ranks; *collective*.

    Parameters
    ----------
    samples
        How many are predicted at once.
    budget_s
        Time for the measurement [s].
    """
    check_positive("samples", [samples])
    with agreed(world.comm):
        check_memory(
            samples * subject.inputs * subject.storage.itemsize, f"{samples} samples", hint="use fewer --samples"
        )
        arrays, _ = share(world.node, lambda: ({"features": subject.features(samples)}, None))
    metadata = subject.metadata
    model = metadata.model(subject.kernels)
    parameters = model.layout.zeros()
    model.initialize(parameters, 0)
    predictor = Predictor(metadata, parameters, subject.kernels)
    say(f"{samples:,} samples on {world.size} rank{'s' * (world.size > 1)}")
    # As prediction does: its output is the same for any number of ranks, and BLAS threads would change it.
    with threads.limit(1):
        products, bare_operations = _products(world, predictor, samples)
        own, bare = measure([_prediction(world, predictor, arrays["features"]), products], budget_s, world.comm)
    operations = sum(of_product(layer, samples) for layer in predictor.model.layers)
    return {
        **subject.describe(), "build": subject.kernels.path, "ranks": world.size, "samples": samples,
        "seconds": own.to_dict(), "samples_per_s": spread(samples / own.seconds),
        "operations": operations, "gflops": operations / own.median / 1e9,
        "gemm_seconds": bare.to_dict(), "gemm_gflops": bare_operations / bare.median / 1e9, "of_gemm": bare.of(own),
    }  # fmt: skip


def _prediction(world: World, predictor: Predictor, features: np.ndarray) -> Call:
    """Return the prediction of all samples into an array of rank 0."""
    if world.size == 1:
        return partial(predictor.predict, features)
    source = Source("samples", ArraySamples(features, np.empty(0)))
    sink = _ArraySink(len(features), predictor.outputs, predictor.model.dtype) if world.rank == 0 else None
    return partial(distributed.predict, world, predictor, source, sink)


class _ArraySink:
    """Keeps predictions in memory."""

    def __init__(self, rows: int, outputs: int, dtype: np.dtype) -> None:
        self.values = np.empty((rows, outputs), dtype)

    def write(self, begin: int, block: np.ndarray) -> None:
        """Keep the predictions of the rows from `begin` on."""
        self.values[begin : begin + len(block)] = block

    def finish(self) -> None:
        """Do nothing: everything is in its place."""


def _products(world: World, predictor: Predictor, samples: int) -> tuple[Call, int]:
    """Return this rank's share of the dense layers' bare products, in chunks as prediction makes them.

    Also the operations of all ranks.
    """
    kernels, model = predictor.kernels, predictor.model
    layers = [layer for layer in model.layers if isinstance(layer, Dense)]
    tensors = model.layout.views(predictor.parameters)
    weights = [tensors[f"{layer.name}/weight"] for layer in layers]
    chunks = [min(PASS_ROWS, samples - begin) for begin in range(0, samples, PASS_ROWS)]
    draw = np.random.default_rng(0)
    x = [draw.standard_normal((PASS_ROWS, weight.shape[1])).astype(model.dtype) for weight in weights]
    y = [np.empty((PASS_ROWS, len(weight)), model.dtype) for weight in weights]
    mine = chunks[world.rank :: world.size]

    def call() -> None:
        for rows in mine:
            for a, weight, c in zip(x, weights, y, strict=True):
                kernels.gemm(a[:rows], weight, False, True, 1.0, 0.0, c[:rows])

    return call, sum(of_product(layer, samples) for layer in layers)
