"""Columns of categories as codes, for embeddings: prepared, trained on, predicted, exported, and taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
import onotrain
from onotrain.config.columns import CategoricalColumn, Categories
from onotrain.data.tables.categorical import CategoricalEncoder
from onotrain.data.tables.table import Column, Table, coded
from onotrain.errors import CheckpointError, ConfigError, DataError
from onotrain.inference.export import export
from onotrain.runs.run_directory import find_checkpoint
from onotrain.training import train

CITIES = [f"c{number:02}" for number in range(12)]


def rows(count: int = 400, *, missing: bool = True) -> list[str]:
    """Return lines of a table: two columns of categories, two of numbers, and a target that depends on the first."""
    rng = np.random.default_rng(0)
    city, size = rng.integers(0, 12, count), rng.normal(50, 20, count)
    lines = []
    for number in range(count):
        name = "" if missing and number % 20 == 7 else CITIES[city[number]]
        target = 3 * np.sin(city[number]) + size[number] / 20
        lines.append(f"{name},{size[number]:.3f},{'abc'[number % 3]},{rng.normal():.3f},{target:.4f}")
    return lines


def write(path: Path, lines: list[str]) -> str:
    return builders.write_csv(str(path), lines, "city,size,grade,noise,y")


def config(path: str, *first: Any, **sections: Any) -> Any:
    """Return a configuration with an embedding first."""
    data = {"train": path, "targets": "y", "validation": 0.2, "normalize": "standard", **sections.pop("data", {})}
    layers = first or ("embedding",)
    return builders.config(
        *layers, builders.relu(16), 1, loss="mse", data=data, optimizer={"name": "adam", "learning_rate": 0.01},
        training={"epochs": 30, "batch_size": 32}, **sections,
    )  # fmt: skip


def column(values: list[str]) -> Column:
    codes, categories = coded(values)
    return Column("city", codes, categories)


@pytest.mark.parametrize("options", [{}, {"most": 2}, {"values": ["b", "a"]}])
def test_codes_are_the_numbers_of_the_columns_of_0_and_1(options: dict[str, Any]) -> None:
    """And what has none of these is `other`, whether or not the training data have others."""
    training = column(["a", "b", "a", "", "b", "c"])
    later = column(["c", "a", "new", "", "b"])
    kind = CategoricalColumn.model_validate({"name": "categorical", **options})
    one_hot, code = (
        CategoricalEncoder.fit(kind, Table((training,), "t"), training, None, embedded=embedded)
        for embedded in (False, True)
    )
    assert code.names("city") == ("city",) and code.count == len(code.categories)
    assert CategoricalEncoder.from_dict(code.to_dict()) == code
    assert CategoricalEncoder.from_dict(one_hot.to_dict()) == one_hot and "code" not in one_hot.to_dict()
    table = Table((later,), "t")
    columns, codes = np.empty((5, one_hot.count)), np.empty((5, 1))
    one_hot.encode(table, later, columns)
    code.encode(table, later, codes)
    for place, text in enumerate(["c", "a", "new", "", "b"]):
        said = code.categories[int(codes[place, 0])]
        assert said == (text if text in code.values else "missing" if text == "" else "other")
        if columns[place].any():
            assert one_hot.categories[int(columns[place].argmax())] == said


def test_a_missing_value_that_training_lacked_is_another_value() -> None:
    training, later = column(["a", "b"]), column(["", "b", "x"])
    kind = CategoricalColumn.model_validate({"name": "categorical"})
    encoder = CategoricalEncoder.fit(kind, Table((training,), "t"), training, None, embedded=True)
    codes = np.empty((3, 1))
    encoder.encode(Table((later,), "t"), later, codes)
    assert encoder.categories == ("a", "b", "other") and codes[:, 0].tolist() == [2, 1, 2]


def test_a_network_with_embeddings_gets_codes(tmp_path: Path) -> None:
    made = config(write(tmp_path / "t.csv", rows()), {"embedding": {"widths": {"city": 4}}})
    done = train(made, output=tmp_path / "run")
    assert done.summary["validation_loss"] < 0.5
    network = onotrain.load(tmp_path / "run")
    assert network.metadata.feature_names == ("city", "size", "grade", "noise")
    assert network.metadata.categories == {0: Categories("city", 14), 2: Categories("grade", 4)}
    shapes = {tensor.name: tensor.shape for tensor in network.model.layout}
    assert shapes["embedding_0/city"] == (14, 4) and shapes["embedding_0/grade"] == (4, 3)
    assert network.model.layers[0].out == (4 + 3 + 2,)
    table = {"city": ["c03", "c04", "elsewhere", ""], "size": [50.0] * 4, "grade": list("aabd"), "noise": [0.0] * 4}
    found = network.predict(table)[:, 0]
    assert abs(found[0] - found[1] - 3 * (np.sin(3) - np.sin(4))) < 1 and np.isfinite(found).all()
    unchanged = {**table, "city": ["c03", "c04", "nowhere", ""]}
    np.testing.assert_array_equal(network.predict(unchanged)[:, 0], found)


def test_what_is_said_in_the_configuration_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", rows(60))
    columns = {"grade": {"name": "categorical", "encode": "one_hot"}}
    train(config(path, data={"columns": columns}, model={}), output=tmp_path / "run")
    network = onotrain.load(tmp_path / "run")
    assert list(network.metadata.categories) == [0]
    assert network.metadata.feature_names[2:5] == ("grade = a", "grade = b", "grade = c")
    with pytest.raises(
        ConfigError, match="data.columns.grade.encode: code is for a network that begins with layer emb"
    ):
        builders.config(3, data={"train": path, "columns": {"grade": {"name": "categorical", "encode": "code"}}})


@pytest.mark.parametrize(
    ("first", "kind", "message"),
    [
        ({"embedding": {"columns": {"0": 12}}}, DataError, "layer embedding has `columns`, which are for arrays"),
        ({"embedding": {"widths": {"citty": 3}}}, ConfigError, "embedding.widths: 'citty' is no column of categories"),
        ({"dense": 3}, ConfigError, "layers.1.embedding: must be the first layer"),
    ],
)
def test_what_does_not_fit_is_located(tmp_path: Path, first: dict[str, Any], kind: Any, message: str) -> None:
    layers = [first] if "embedding" in first else [first, "embedding"]
    made = config(write(tmp_path / "t.csv", rows(60)), *layers)
    with pytest.raises(kind, match=message) as error:
        train(made, output=tmp_path / "run")
    assert error.value.exit_code == (3 if kind is DataError else 2)


def test_a_table_without_categories(tmp_path: Path) -> None:
    path = builders.write_csv(str(tmp_path / "t.csv"), ["1.5,2,3", "2.5,3,4", "3.5,4.5,6", "4.5,5,7"], "a,b,y")
    with pytest.raises(ConfigError, match="layers.0.embedding: no feature is a code of categories") as error:
        train(config(path, data={"validation": None}), output=tmp_path / "run")
    assert "data.columns" in str(error.value.hint)


def test_columns_with_any_name(tmp_path: Path) -> None:
    """Names of tensors are words; what is none goes by the number of the feature."""
    lines = [f"{'xyz'[n % 3]},{'uv'[n % 2]},{n / 7:.2f},{n % 3}" for n in range(40)]
    path = builders.write_csv(str(tmp_path / "t.csv"), lines, "a/b,größe,feature_9,y")
    columns = {"feature_9": "categorical", "größe": "categorical", "a/b": "categorical"}
    train(config(path, data={"columns": columns}), output=tmp_path / "run")
    names = [t.name for t in onotrain.load(tmp_path / "run").model.layout if t.name.startswith("embedding")]
    assert names == ["embedding_0/feature_0", "embedding_0/größe", "embedding_0/feature_2"]


def test_streams_and_files_are_alike(tmp_path: Path) -> None:
    """Parquet that stays on the disk, in memory, and CSV."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet  # noqa: PLC0415 - after the check

    path = write(tmp_path / "t.csv", rows(200))
    table = csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True))
    parquet.write_table(pa.table(table), tmp_path / "t.parquet", row_group_size=64)
    found = []
    for name, stream in (("t.csv", False), ("t.parquet", False), ("t.parquet", True)):
        output = tmp_path / f"run-{name}-{stream}"
        made = config(str(tmp_path / name), data={"stream": stream, "validation": str(tmp_path / name)})
        done = train(made, output=output)
        network = onotrain.load(output)
        found.append((network.metadata.preparation.coded, done.summary["validation_loss"] < 1))
    assert found[0] == found[1] == found[2] and found[0][1]


def test_exported_with_its_preparation(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    train(config(write(tmp_path / "t.csv", rows(200))), output=tmp_path / "run")
    export(tmp_path / "run", "onnx", tmp_path / "network.onnx")
    session = runtime.InferenceSession(str(tmp_path / "network.onnx"))
    table = {
        "city": ["c03", "", "new", "c11"], "size": [50.0, 20, 30, 1], "grade": list("abcd"), "noise": [0.0, 1, -1, 2],
    }  # fmt: skip
    given = {
        name: np.array(values, object if isinstance(values[0], str) else float)[:, None]
        for name, values in table.items()
    }
    (got, *_) = session.run(None, given)
    np.testing.assert_allclose(got, onotrain.load(tmp_path / "run").predict(table), rtol=1e-5, atol=1e-5)


def test_a_warm_start_keeps_the_categories_or_refuses_others(tmp_path: Path) -> None:
    train(config(write(tmp_path / "t.csv", rows())), output=tmp_path / "first")
    arrays = find_checkpoint(tmp_path / "first", "best").checkpoint.arrays
    # The same number of categories, of which one is another.
    other = write(tmp_path / "other.csv", [line.replace("c11", "zzz") for line in rows()])
    begun = {"from": str(tmp_path / "first")}
    for data in ({"preparation": "from"}, {}):
        made = config(other, data=data, model={**begun, "freeze": ["embedding_0"]})
        train(made, output=tmp_path / f"second-{len(data)}")
        network = onotrain.load(tmp_path / f"second-{len(data)}")
        assert "c11" in network.metadata.preparation.coded["city"]
        table = network.model.layout.views(network.parameters)["embedding_0/city"]
        np.testing.assert_array_equal(table, arrays["parameters/embedding_0/city"])
    with pytest.raises(CheckpointError, match="the vectors of city are of other categories"):
        train(config(other, data={"preparation": "fit"}, model=begun), output=tmp_path / "third")
    with pytest.raises(CheckpointError, match="a network with other layers"):
        train(config(write(tmp_path / "small.csv", rows(missing=False)), data={"preparation": "fit"}, model=begun),
              output=tmp_path / "fourth")  # fmt: skip


def test_a_preparation_for_other_layers_is_not_taken_over(tmp_path: Path) -> None:
    """Columns of 0 and 1 of a network without embeddings are codes in one that has them."""
    path = write(tmp_path / "t.csv", rows())
    train(config(path, {"dense": 4}), output=tmp_path / "first")
    with pytest.raises(CheckpointError, match="embedding_0/city: got nothing"):
        train(config(path, model={"from": str(tmp_path / "first")}), output=tmp_path / "second")
