"""Parameter layout, initialisers, fusing of layers, and the golden loss curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from onotrain import _kernels
from onotrain.nn import Model, ParameterLayout
from onotrain.nn.initializers import initialize
from onotrain.seeds import generator

shapes = st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=3), min_size=1, max_size=8)


@given(shapes, st.sampled_from(["float32", "float64"]), st.integers(1, 9))
def test_layout_is_aligned_and_its_shards_partition_it(shapes: list[list[int]], dtype: str, count: int) -> None:
    """Tensors start at 64 bytes and do not overlap; shards are contiguous, aligned, and cover everything once."""
    layout = ParameterLayout([(f"t{i}/weight", tuple(shape)) for i, shape in enumerate(shapes)], dtype)
    itemsize = np.dtype(dtype).itemsize
    end = 0
    for tensor in layout:
        assert tensor.offset >= end and tensor.offset * itemsize % 64 == 0
        end = tensor.range.stop
    assert end <= layout.size and layout.parameter_count == sum(math.prod(shape) for shape in shapes)
    parts = [layout.shard(index, count) for index in range(count)]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])] and parts[-1].stop == layout.size
    assert all(part.start * itemsize % 64 == 0 for part in parts)


@given(shapes, st.integers(0, 5000), st.integers(1, 5))
def test_buckets_are_whole_layers_from_the_last_to_the_first(shapes: list[list[int]], nbytes: int, count: int) -> None:
    """Each is large enough, or the one that is left; their shards partition them, aligned."""
    tensors = [(f"dense_{i}/{name}", tuple(shape)) for i, shape in enumerate(shapes) for name in ("weight", "bias")]
    layout = ParameterLayout(tensors, "float32")
    layers = [tensor.offset for tensor in layout.tensors[::2]]
    end = layout.size
    for bucket in (buckets := layout.buckets(nbytes)):
        assert bucket.stop == end and bucket.start in layers
        assert bucket.start == 0 or 4 * (bucket.stop - bucket.start) >= nbytes > 0
        parts = [layout.shard(index, count, bucket) for index in range(count)]
        cuts = [bucket.start, *(part.stop for part in parts)]
        assert [part.start for part in parts] == cuts[:-1] and cuts[-1] == bucket.stop
        assert all(4 * cut % 64 == 0 for cut in cuts)
        end = bucket.start
    assert end == 0 and (nbytes > 0 or len(buckets) == 1)


def test_layout_digest_tells_networks_apart() -> None:
    """Other names, shapes, order or dtype are another layout."""
    base = [("a/weight", (3, 4)), ("a/bias", (3,))]
    others = [
        ParameterLayout([("b/weight", (3, 4)), ("a/bias", (3,))], "float32"),
        ParameterLayout([("a/weight", (4, 3)), ("a/bias", (3,))], "float32"),
        ParameterLayout(base[::-1], "float32"),
        ParameterLayout(base, "float64"),
    ]
    digests = {layout.digest for layout in [ParameterLayout(base, "float32"), *others]}
    assert len(digests) == 5
    assert ParameterLayout(base, "float32").digest == ParameterLayout(base, "float32").digest


def test_views_and_gather_are_inverse() -> None:
    """Named tensors go into the flat vector and come out of it; another dtype or a missing name is refused."""
    layout = ParameterLayout([("w", (3, 5)), ("b", (5,))], "float32")
    flat = layout.zeros()
    tensors = {"w": np.arange(15, dtype=np.float32).reshape(3, 5), "b": np.ones(5, np.float32)}
    layout.gather(tensors, flat)
    for name, view in layout.views(flat).items():
        np.testing.assert_array_equal(view, tensors[name])
    with pytest.raises(KeyError):
        layout.gather({"w": tensors["w"]}, flat)
    with pytest.raises(TypeError):
        layout.gather({**tensors, "b": np.ones(5)}, flat)


@pytest.mark.parametrize(
    ("name", "variance"),
    [("xavier", lambda i, o: 2 / (i + o)), ("kaiming", lambda i, o: 2 / i), ("lecun", lambda i, o: 1 / i)],
)
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_variance_of_initialisers(name: str, variance: Any, distribution: str) -> None:
    """Mean 0 and the published variance; uniform ones within their bound."""
    weight = np.empty((300, 700))
    made = builders.config(model={"initializer": f"{name}_{distribution}"})
    initialize(made.model.initializer, weight, generator(0, "w"), weight.shape)
    expected = variance(700, 300)
    assert abs(weight.mean()) < 5 * math.sqrt(expected / weight.size)
    assert weight.var() == pytest.approx(expected, rel=0.02)
    if distribution == "uniform":
        assert np.abs(weight).max() <= math.sqrt(3 * expected)


def test_biases_may_have_the_variance_of_their_layers_weights() -> None:
    """Glorot: bound sqrt(6 / (inputs + outputs)) of the layer, whatever the shape of a bias."""
    made = builders.config({"dense": 4000}, {"dense": 3}, model={"bias_initializer": "xavier_uniform"})
    net = builders.model(made, 6)
    parameters = net.layout.zeros()
    net.initialize(parameters, seed=1)
    bias = net.layout.views(parameters)["dense_0/bias"]
    bound = math.sqrt(6 / 4006)
    assert 0.99 * bound < np.abs(bias).max() <= bound
    assert bias.var() == pytest.approx(bound**2 / 3, rel=0.1)


def test_first_values_depend_on_seed_and_name_alone() -> None:
    """A network's first layers start alike whatever follows them."""
    draws = {key: generator(*key).normal() for key in [(0, "a"), (0, "b"), (1, "a")]}
    assert len(set(draws.values())) == 3
    assert generator(0, "a").normal() == draws[0, "a"]


def model(layers: list[Any], dtype: str = "float64", loss: str = "cross_entropy") -> Model:
    """Return a network on 6 inputs."""
    return builders.model(builders.config(*layers, loss=loss, training={"dtype": dtype}), 6)


def test_activation_and_dropout_are_computed_in_the_dense_layers_pass() -> None:
    """Three layers of the configuration become one; what cannot be fused stays its own."""
    fused = model([{"dense": 5}, {"activation": "relu"}, {"dropout": 0.5}, {"dense": 3}])
    assert [type(layer).__name__ for layer in fused.layers] == ["Dense", "Dense"]
    assert fused.layers[0].dropout == 0.5 and fused.layers[0].activation.name == "relu"
    apart = model([{"dropout": 0.1}, {"dense": 5}, {"dropout": 0.5}, {"activation": "relu"}, {"dense": 3}])
    assert [type(layer).__name__ for layer in apart.layers] == ["Dropout", "Dense", "Activation", "Dense"]
    assert [name for name, _ in ((t.name, t.shape) for t in apart.layout)] == [
        "dense_0/weight", "dense_0/bias", "dense_1/weight", "dense_1/bias",
    ]  # fmt: skip


def test_the_model_says_which_gradients_are_final() -> None:
    """Layer after layer from the back, those without parameters included; what was final is not touched again."""
    net = model([{"activation": "tanh"}, {"dense": 5}, {"dropout": 0.1}, {"activation": "relu"}, {"dense": 3}])
    parameters, gradient = net.layout.zeros(), net.layout.zeros()
    net.initialize(parameters, seed=1)
    net.bind(parameters, gradient)
    net.reserve(6)
    seen: list[tuple[int, np.ndarray]] = []
    calls = net.record(
        np.ones((6, 6)), np.zeros(6, np.int32), 1.0, np.zeros(2), seed=1,
        gradient_ready=lambda offset: seen.append((offset, gradient[offset:].copy())),
    )  # fmt: skip
    net.kernels.program(calls).run(0)
    second = next(tensor.offset for tensor in net.layout if tensor.name == "dense_1/weight")
    assert [offset for offset, _ in seen] == [second, second, 0]
    for offset, values in seen:
        np.testing.assert_array_equal(values, gradient[offset:])


#: Losses of ten steps of the network below, computed once with the NumPy kernels in float64.
GOLDEN = [
    1.1690641659871335,
    1.0582593434406073,
    0.9854198755220176,
    1.003231770289522,
    0.9282651506599283,
    0.9062658357031192,
    0.8634113996632179,
    0.9239487186874241,
    0.8665285460727932,
    0.7919872637950063,
]


@pytest.mark.parametrize("path", _kernels.available())
def test_golden_loss_curve(path: str) -> None:
    """Forward, backward, dropout masks and Adam, ten steps, against stored values: nothing may change unnoticed."""
    chosen = _kernels.path()
    _kernels.select(path)
    try:
        losses = ten_steps()
    finally:
        _kernels.select(chosen)
    assert losses == pytest.approx(GOLDEN, rel=1e-9)


def ten_steps() -> list[float]:
    """Return the losses of ten Adam steps on fixed data."""
    net = model(
        [
            {"dense": {"units": 16, "activation": "gelu"}},
            {"dropout": 0.25},
            {"dense": {"units": 8, "activation": "tanh"}},
            {"dense": 3},
        ]
    )
    rng = np.random.default_rng(42)
    x, targets = rng.normal(size=(20, 6)), rng.integers(0, 3, 20).astype(np.int32)
    parameters, gradient = net.layout.zeros(), net.layout.zeros()
    net.initialize(parameters, seed=9)
    net.bind(parameters, gradient)
    net.reserve(20)
    rule = {"name": "adam", "weight_decay": 1e-3}
    optimizer = builders.optimizer(builders.config(optimizer=rule, training={"clip_norm": 1.0, "dtype": "float64"}))
    state = {name: net.layout.zeros() for name in optimizer.state_names}
    shard = optimizer.shard(net.layout.tensors, slice(0, net.layout.size), parameters, state.values())
    losses, loss_sums = [], np.zeros(2)
    program = net.kernels.program(net.record(x, targets, 20, loss_sums, seed=3))
    for step in range(10):
        loss_sums[:] = 0
        program.run(step)
        losses.append(float(loss_sums[0]) / 20)
        optimizer.update(shard, gradient[None], 0.02, step + 1, lambda values: None)
    return losses
