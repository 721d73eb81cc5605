"""Layer embedding: output, gradients, what it refuses, and what is said and exported of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import builders
import onotrain
from kernels.oracle import central_differences
from onotrain import _kernels
from onotrain.config import Config
from onotrain.errors import ConfigError, DataError
from onotrain.inference.export import export
from onotrain.nn import ParameterLayout
from onotrain.nn.layers.base import Saved
from onotrain.nn.layers.embedding import default_width
from onotrain.optim import Optimizer
from stack import Stack, network

COLUMNS = {"embedding": {"columns": {"1": 7, "3": 30}, "widths": {"3": 5}, "width": 2}}


def stack(rows: int = 9, dtype: str = "float64") -> Stack:
    """Return the layer of `COLUMNS` on random samples of four features."""
    made, rng = Stack([COLUMNS], (4,), rows, dtype), np.random.default_rng(5)
    for feature, count in ((1, 7), (3, 30)):
        made.values[0][:, feature] = rng.integers(0, count, rows)
    return made


def test_vectors_come_first_and_then_the_other_features() -> None:
    made = stack()
    x, tables = made.values[0], made.parameters[0]
    assert {name: table.shape for name, table in tables.items()} == {"feature_1": (7, 2), "feature_3": (30, 5)}
    vectors = [tables["feature_1"][x[:, 1].astype(int)], tables["feature_3"][x[:, 3].astype(int)]]
    expected = np.hstack([*vectors, x[:, [0, 2]]])
    np.testing.assert_array_equal(made.forward(), expected)
    made.values[-1][...] = np.nan
    np.testing.assert_array_equal(made.predict(), expected)


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_gradients_are_those_of_the_forward_pass(rows: int) -> None:
    made = stack(rows)
    dy = np.random.default_rng(3).standard_normal(made.values[-1].shape)

    def objective() -> float:
        return float((made.forward() * dy).sum())

    expected = {name: central_differences(objective, table) for name, table in made.parameters[0].items()}
    objective()
    made.backward(dy)
    for name, wanted in expected.items():
        np.testing.assert_allclose(made.dparameters[0][name], wanted, rtol=1e-6, atol=1e-7)


def test_features_that_are_no_codes_may_be_missing() -> None:
    assert network([{"embedding": {"columns": {"0": 3}, "width": 4}}], (1,)).shapes == [(1,), (4,)]


def test_first_values_and_widths() -> None:
    (node,) = network([{"embedding": {"columns": {"0": 1000, "2": 3}}}], (3,)).nodes
    assert {name: each.shape for name, each in node.layer.parameters.items()} == {
        "feature_0": (1000, 77), "feature_2": (3, 3),
    }  # fmt: skip
    assert node.layer.saved == {name: Saved((), np.int32) for name in ("feature_0", "feature_2")}
    assert [default_width(n) for n in (1, 2, 3, 10, 10**6)] == [2, 2, 3, 6, 600]
    names = [tensor.name for tensor in builders.model(builders.config(COLUMNS, 3), 4).layout]
    assert names[:2] == ["embedding_0/feature_1", "embedding_0/feature_3"]
    model = builders.model(builders.config({"embedding": {"columns": {"0": 5000}}}, 3), 4)
    flat = model.layout.zeros()
    model.initialize(flat, seed=1)
    table = model.layout.views(flat)["embedding_0/feature_0"]
    assert abs(table.std() - 0.01) < 1e-4 and abs(table.mean()) < 1e-4


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ([{"embedding": {"columns": {"4": 3}}}], (4,), "layers.0.embedding.columns: feature 4 is none of the 4"),
        (["embedding"], (4,), "layers.0.embedding: no feature is a code of categories"),
        ([{"dense": 4}, {"embedding": {"columns": {"0": 3}}}], (4,), "layers.1.embedding: must be the first layer"),
        ([{"embedding": {"columns": {"0": 3}}}], (4, 4), "layers.0.embedding: reads samples .* one axis .got 4x4"),
        ([{"embedding": {"columns": {"0": 3}}}], (3, 4, 4), "layers.0.embedding: reads samples .* .got 3x4x4"),
    ],
)
def test_what_does_not_fit_the_samples_is_located(layers: list[Any], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        builders.model(builders.config(*layers, 10), *shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"city": 3}}, "columns.city: must be the number of a feature"),
        ({"columns": {"01": 3}}, "columns.01: must be the number of a feature"),
        ({"columns": {"1": 0}}, "columns.1: must be at least 1"),
        ({"columns": {"1": 2**24 + 1}}, "columns.1: must be at most 16777216 categories"),
        ({"columns": {"1": 3}, "widths": {"2": 4}}, "widths.2: is none of `columns`"),
    ],
)
def test_options_that_make_no_sense_are_located(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model.layers.0.embedding.{message}"):
        builders.config({"embedding": options}, 10)


def test_options_can_be_written_and_read_again() -> None:
    made = builders.config({"embedding": {"columns": {1: 7, 3: 30}, "widths": {3: 5}, "width": 2}}, 10)
    assert made == builders.config(COLUMNS, 10) == Config.from_mapping(made.to_mapping())
    assert made.model.codes == {1: 7, 3: 30} and builders.config(10).model.codes == {}
    assert builders.config({"embedding": 3}, 10).model.layers[0].options.width == 3


# Trained --------------------------------------------------------------------------------------------------------------


def samples(count: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Return features of which two are codes, and targets that depend on one of these."""
    rng = np.random.default_rng(1)
    x = rng.normal(5, 3, (count, 4))
    x[:, 1], x[:, 3] = rng.integers(0, 7, count), rng.integers(0, 30, count)
    return x, x[:, 0] / 3 + 2 * rng.normal(size=30)[x[:, 3].astype(int)]


def trained(x: Any, y: Any, **sections: Any) -> Any:
    """Train a small network."""
    made = builders.mapping(COLUMNS, builders.relu(16), 1, loss="mse", **sections)
    made["data"] = sections.get("data", {})
    made["optimizer"] = {"name": "adam", "learning_rate": 0.01}
    made["training"] = {"epochs": 25, "batch_size": 50, **sections.get("training", {})}
    return onotrain.fit(x, y, made, validation=0.2)


def test_a_network_learns_what_a_code_means_and_codes_are_not_normalised() -> None:
    x, y = samples()
    fitted = trained(x, y, data={"normalize": "standard"})
    assert fitted.summary["validation_loss"] < 0.1
    normalization = fitted.predictor.metadata.normalization
    assert normalization.mean[[1, 3]].tolist() == [0, 0] and normalization.std[[1, 3]].tolist() == [1, 1]
    assert normalization.mean[0] != 0 and normalization.std[2] != 1
    with pytest.raises(DataError, match="sample 2, feature 3: the feature is 30.0, expected .* from 0 to 29"):
        fitted.predict(np.where(np.arange(4) == 3, [[3], [4], [30]], x[:3]))
    with pytest.raises(DataError, match="sample 0, feature 1: the feature is nan"):
        fitted.predict(np.where(np.arange(4) == 1, np.nan, x[:3]))


def test_bytes_are_codes_too() -> None:
    """Pixels are divided by 255, codes beside them are not."""
    x = np.random.default_rng(1).integers(0, 256, (600, 4), np.uint8)
    x[:, 1], x[:, 3] = x[:, 1] % 7, x[:, 3] % 30
    y = np.random.default_rng(2).normal(size=30)[x[:, 3]]
    fitted = trained(x, y)
    assert fitted.predictor.metadata.feature_dtype == "uint8"
    assert fitted.summary["validation_loss"] < 0.2


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_code_is_located(tmp_path: Path, stream: bool) -> None:
    x, y = samples(200)
    x[120, 3] = 2.5
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"], file["y"] = x, y
    made = builders.config(
        COLUMNS, 1, loss="mse", data={"train": str(tmp_path / "data.h5"), "stream": stream, "normalize": "none"}
    )
    with pytest.raises(DataError, match=r"data.h5: row 120, column 3: the feature is 2.5, expected .* from 0 to 29"):
        onotrain.train(made, output=tmp_path / "run")


def test_exported_to_onnx(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    x, y = samples(200)
    made = builders.mapping(COLUMNS, builders.relu(16), 1, loss="mse")
    del made["data"]
    onotrain.fit(x, y, made, output=tmp_path / "run")
    fitted = onotrain.load(tmp_path / "run")
    export(tmp_path / "run", "onnx", tmp_path / "network.onnx")
    session = runtime.InferenceSession(str(tmp_path / "network.onnx"))
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}[session.get_inputs()[0].type]
    (got, *_) = session.run(None, {session.get_inputs()[0].name: x.astype(kind)})
    np.testing.assert_allclose(got, fitted.predict(x), rtol=0, atol=1e-5)


def test_described() -> None:
    (operation,) = stack().layers[0].describe().operations
    assert operation["columns"] == [
        {"name": "feature_1", "feature": 1, "categories": 7, "width": 2},
        {"name": "feature_3", "feature": 3, "categories": 30, "width": 5},
    ]
    assert (operation["inputs"], operation["outputs"]) == ([4], [9])


# Updates --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", [1, 3, 16, 24, 600])
def test_shards_cut_no_row(row: int, dtype: str) -> None:
    """Nor a cache line; together they are the whole vector, for any number of them."""
    shapes = [("a/weight", (37, 11)), ("b/table", (200, row)), ("c/bias", (5,))]
    layout, step = ParameterLayout(shapes, dtype, rows={"b/table"}), 64 // np.dtype(dtype).itemsize
    table = layout.tensors[1]
    assert (table.row, layout.tensors[0].row) == (row, 0)
    for count in (1, 2, 3, 7, 64):
        shards = [layout.shard(index, count) for index in range(count)]
        ends = [each.stop for each in shards]
        assert [each.start for each in shards] == [0, *ends[:-1]] and ends[-1] == layout.size
        for end in ends[:-1]:
            assert end % step == 0
            assert not table.offset < end < table.range.stop or (end - table.offset) % row == 0


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", builders.OPTIMIZERS)
def test_rows_without_a_gradient_stay_under_every_rule(name: str, clip: float | None) -> None:
    """However the parameters are cut into shards; with decay and momenta, which other tensors have."""
    shapes = [("embedding_0/a", (40, 3)), ("embedding_0/b", (9, 5)), ("dense_0/weight", (6, 8))]
    layout, rng = ParameterLayout(shapes, "float64", rows={"embedding_0/a", "embedding_0/b"}), np.random.default_rng(1)
    optimizer = Optimizer(builders.update_rule(name), clip, _kernels.load("float64"))
    first = builders.filled(layout, 3)
    gradients = [builders.filled(layout, 4 + number) for number in range(4)]
    touched = {tensor: rng.random((4, n)) < 0.3 for tensor, (n, _) in shapes[:2]}
    for number, gradient in enumerate(gradients):
        for tensor, rows in touched.items():
            layout.views(gradient)[tensor][~rows[number]] = 0
    ends = []
    for count in (1, 3):
        flat, state = first.copy(), [np.zeros_like(first) for _ in optimizer.state_names]
        parts = [layout.shard(index, count) for index in range(count)]
        if clip is not None and count > 1 or not optimizer.elementwise and count > 1:
            continue  # needs sums over the shards
        for number, gradient in enumerate(gradients, start=1):
            for part in parts:
                shard = optimizer.shard(layout.tensors, part, flat[part], [each[part] for each in state])
                optimizer.update(shard, gradient[np.newaxis, part].copy(), 0.1, number, lambda values: None)
        ends.append(flat)
        for tensor, rows in touched.items():
            never = ~rows.any(axis=0)
            for before, after in zip((first, *map(np.zeros_like, state)), (flat, *state), strict=True):
                np.testing.assert_array_equal(layout.views(after)[tensor][never], layout.views(before)[tensor][never])
            assert never.any() and (layout.views(flat)[tensor] != layout.views(first)[tensor])[~never].all()
        assert (layout.views(flat)["dense_0/weight"] != layout.views(first)["dense_0/weight"]).all()
    assert all(end.tobytes() == ends[0].tobytes() for end in ends)
