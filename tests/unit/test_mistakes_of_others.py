"""What went wrong in other systems for distributed training, as far as one process can tell: 2, 6, 9, a half of 10.

The others, by their number in the design, are in tests/mpi/test_mistakes_of_others.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from onotrain import _kernels
from onotrain.config import json_schema
from onotrain.config.communication import TopKCodec
from onotrain.errors import ConfigError
from onotrain.strategies import codecs


def gradient(layers: list[Any], loss: str, parameters: list[Any], x: np.ndarray, targets: np.ndarray) -> Any:
    """Return the mean loss and its gradient, tensor by tensor, of a network with these parameters."""
    model = builders.model(builders.config(*layers, loss=loss, training={"dtype": "float64"}), x.shape[1])
    flat, gradients, loss_sums = model.layout.zeros(), model.layout.zeros(), np.zeros(2)
    for view, values in zip(model.layout.views(flat).values(), parameters, strict=True):
        view[...] = values
    model.reserve(len(x))
    model.bind(flat, gradients)
    model.kernels.program(model.record(x, targets, len(x), loss_sums, seed=0)).run(0)
    return loss_sums[0] / len(x), list(model.layout.views(gradients).values())


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_2_cross_entropy_is_divided_by_samples_and_not_by_classes(classes: int) -> None:
    """Loss and gradient were divided by the classes too: a published comparison ran at a tenth of its learning rate."""
    targets = np.arange(7, dtype=np.int32) % 2
    loss, (_, db) = gradient([{"dense": classes}], "cross_entropy", [0.0, 0.0], np.ones((7, 3)), targets)
    assert loss == pytest.approx(math.log(classes))
    np.testing.assert_allclose(db, 1 / classes - np.bincount(targets, minlength=classes) / 7)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "binary_cross_entropy"])
def test_2_other_losses_are_summed_over_the_outputs(loss: str) -> None:
    """The same mistake where every output has a loss of its own: that of two equal outputs is twice that of one."""
    x, target = np.random.default_rng(0).normal(size=(7, 3)), (np.arange(7.0) % 2)[:, np.newaxis]
    one, (dw, db) = gradient([{"dense": 1}], loss, [0.3, 0.1], x, target)
    many, (dws, dbs) = gradient([{"dense": 5}], loss, [0.3, 0.1], x, np.repeat(target, 5, axis=1))
    assert many == pytest.approx(5 * one)
    np.testing.assert_allclose(dws, np.repeat(dw, 5, axis=0))
    np.testing.assert_allclose(dbs, np.repeat(db, 5))


@given(size=st.integers(1, 2000), fraction=st.floats(1e-4, 0.499), dtype=st.sampled_from([np.float32, np.float64]))
def test_6_topk_keeps_its_fraction_and_never_sends_more_than_dense(size: int, fraction: float, dtype: Any) -> None:
    """The wrong fraction was kept, and cost more bytes than all values at the documented settings."""
    part, options = codecs.Part.plain(size, dtype), TopKCodec(name="topk", fraction=fraction)
    count, itemsize = max(1, round(fraction * size)), np.dtype(dtype).itemsize
    codec = codecs.build(options, part, seed=0)
    assert codec.nbytes == min(count * (itemsize + 4), size * itemsize) <= codec.raw_bytes
    if codec.nbytes == codec.raw_bytes:
        count = size  # all are sent, as they are
    values = np.random.default_rng(size).permutation(np.arange(1, size + 1)).astype(dtype)
    message, out = np.zeros(codec.nbytes, np.uint8), np.empty(size, dtype)
    codec.encode(values, message)
    codec.decode(message, out)
    np.testing.assert_array_equal(out, np.where(values > size - count, values, 0))


@pytest.mark.parametrize("path", _kernels.available())
@pytest.mark.parametrize("apart", [False, True], ids=["in the dense layer", "a layer of its own"])
def test_9_the_gradient_of_leaky_relu_is_made_of_the_upstream_gradient(path: str, apart: bool) -> None:
    """Backward took the activation for the upstream gradient; here no two numbers are equal, and one input is < 0."""
    chosen, slope, x, v, target = _kernels.path(), 0.2, np.array([[1.5, -2.0]]), np.array([[3.0, -0.7]]), 0.4
    fused = {"units": 2, "activation": "leaky_relu", "negative_slope": slope}
    own = {"name": "leaky_relu", "negative_slope": slope}
    hidden = [{"dense": 2}, {"activation": own}] if apart else [{"dense": fused}]
    w = [np.eye(2), np.array([0.25, 0.5]), v, 0.1]
    _kernels.select(path)
    try:
        _, found = gradient([*hidden, {"dense": 1}], "mse", w, x, np.array([[target]]))
    finally:
        _kernels.select(chosen)
    z = x[0] + w[1]
    assert z[0] > 0 > z[1]
    upstream = 2 * (np.where(z > 0, z, slope * z) @ v[0] + 0.1 - target) * v[0]
    dz = upstream * np.where(z > 0, 1, slope)
    np.testing.assert_allclose(found[1], dz)
    np.testing.assert_allclose(found[0], np.outer(dz, x))


def words(schema: Any) -> Iterator[str]:
    """Yield all keys and all values that a configuration may have, as the JSON schema names them."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (str(value) for value in [*schema.get("enum", []), schema.get("const", "")])
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from words(item)


def test_10_there_is_no_option_for_updates_without_locks() -> None:
    """A server without locks cannot be correct with an optimiser that has a state: it is not offered."""
    offered = set(words(json_schema()))
    assert {"parameter_server", "staleness", "unbounded"} <= offered
    assert not [word for word in offered for wrong in ("hogwild", "lock", "race") if wrong in word.lower()]
    for options in ({"name": "hogwild"}, {"name": "parameter_server", "locks": False}):
        with pytest.raises(ConfigError):
            builders.config(strategy=options)
