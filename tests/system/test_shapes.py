"""Images from files of every format to a layer that reads their axes, and what is said if they do not fit."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import launch
import onotrain
import toy_layer
from onotrain.data import DataSpec
from onotrain.errors import ConfigError, DataError, UsageError
from onotrain.inference.evaluation import evaluate
from onotrain.inference.export import export

SAMPLES, HEIGHT, WIDTH = 60, 4, 5
SHAPE = (HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the environment in which the package with the layer is installed."""
    folder = tmp_path_factory.mktemp("site")
    toy_layer.install(folder)
    return {**toy_layer.environment(folder), "FOLDER": str(folder)}


@pytest.fixture(autouse=True)
def _here(site: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    toy_layer.load_here(Path(site["FOLDER"]), monkeypatch)


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return images whose numbers are the same in every format, and classes."""
    rng = np.random.default_rng(1)
    return rng.integers(-999, 999, (SAMPLES, *SHAPE)) / 128.0, np.arange(SAMPLES) % 3


def configuration(data: Mapping[str, Any], **sections: Any) -> dict[str, Any]:
    return {
        "data": {"validation": 0.2, **data},
        "model": {"layers": [{"strip": 2}, {"activation": "tanh"}, {"dense": 3}]},
        "loss": "cross_entropy",
        "training": {"epochs": 2, "batch_size": 12, "dtype": "float64"},
        **sections,
    }


# Files ----------------------------------------------------------------------------------------------------------------


def idx(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    for name, array, kind, dtype in (("x", x, 0x0E, ">f8"), ("y", y, 0x08, "u1")):
        header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
        (folder / f"{name}.idx.gz").write_bytes(gzip.compress(header + array.astype(dtype).tobytes()))
    return {"train": str(folder / "x.idx.gz"), "targets": str(folder / "y.idx.gz"), "format": "idx"}


def npy(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return {"train": str(folder / "x.npy"), "targets": str(folder / "y.npy")}


def npz(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    np.savez(folder / "d.npz", x=x, y=y)
    return {"train": str(folder / "d.npz")}


def hdf5(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    with h5py.File(folder / "d.h5", "w") as file:
        file["x"], file["y"] = x, y
    return {"train": str(folder / "d.h5")}


def streamed(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {**hdf5(folder, x, y), "stream": True}


def csv(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    flat = x.reshape(len(x), -1)
    lines = [",".join([*(f"p{k}" for k in range(flat.shape[1])), "label"])]
    lines += [",".join([*map(repr, row.tolist()), str(label)]) for row, label in zip(flat, y, strict=True)]
    (folder / "d.csv").write_text("\n".join(lines) + "\n")
    return {"train": str(folder / "d.csv")}


def parquet(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    arrow, files = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    flat = x.reshape(len(x), -1)
    columns = {f"p{k}": flat[:, k] for k in range(flat.shape[1])}
    files.write_table(arrow.table({**columns, "label": y}), folder / "d.parquet")
    return {"train": str(folder / "d.parquet")}


Write = Callable[[Path, np.ndarray, np.ndarray], dict[str, Any]]
WITH_AXES: list[Write] = [idx, npy, npz, hdf5, streamed]
TABLES: list[Write] = [csv, parquet]


@pytest.fixture(scope="module")
def expected(site: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Return the summary of a training on the images in memory."""
    with pytest.MonkeyPatch.context() as patch:
        toy_layer.load_here(Path(site["FOLDER"]), patch)
        return onotrain.fit(*images(), configuration({})).summary


@pytest.mark.parametrize(
    ("write", "flat", "shape"),
    [
        *((write, False, None) for write in WITH_AXES),
        *((write, True, list(SHAPE)) for write in (npy, npz, hdf5, csv, parquet)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_every_format_trains_alike(
    write: Write, flat: bool, shape: list[int] | None, tmp_path: Path, expected: Mapping[str, Any]
) -> None:
    """With the axes of the file, or with those that data.shape gives to flat features."""
    x, y = images()
    data = write(tmp_path, x.reshape(SAMPLES, -1) if flat else x, y)
    made = configuration({**data, "shape": shape})
    result = onotrain.train(made, output=tmp_path / "run")
    if write is not streamed:  # which has another order of samples
        assert result.summary["parameters_sha256"] == expected["parameters_sha256"]
    assert result.summary["parameters"] == 2 + 3 * HEIGHT * (WIDTH - 1) + 3
    predictor = onotrain.load(tmp_path / "run")
    assert predictor.metadata.feature_shape == SHAPE
    wanted = predictor.predict(x.reshape(SAMPLES, -1))
    for given in (x, x[:, None], x[..., None]):
        np.testing.assert_array_equal(predictor.predict(given), wanted)
    for given in (x[0], x[0].reshape(-1), x[:1]):
        np.testing.assert_allclose(predictor.predict(given), wanted[:1], rtol=1e-12)
    with pytest.raises(DataError, match="expected"):
        predictor.predict(x.transpose(0, 2, 1))
    evaluated = evaluate(tmp_path / "run", DataSpec(data["train"], targets=data.get("targets")))
    assert evaluated.samples == SAMPLES


@pytest.mark.parametrize("write", [*WITH_AXES, *TABLES])
def test_a_shape_of_another_number_of_features(write: Write, tmp_path: Path) -> None:
    data = write(tmp_path, *images())
    with pytest.raises(DataError, match=r"samples have 20 features.*; data.shape \[4, 6\] has 24") as caught:
        onotrain.train(configuration({**data, "shape": [4, 6]}), output=tmp_path / "run")
    assert caught.value.exit_code == 3


def test_a_file_may_be_rearranged(tmp_path: Path) -> None:
    """Without a change of the order of its values, for the network and for what it predicts."""
    x, y = images()
    made = configuration({**npy(tmp_path, x, y), "shape": [2, 10]})
    assert onotrain.train(made, output=tmp_path / "run").summary["parameters"] == 2 + 3 * 2 * 9 + 3
    predictor = onotrain.load(tmp_path / "run")
    given = x.reshape(SAMPLES, 2, 10)
    np.testing.assert_array_equal(predictor.predict(given), predictor.predict(x.reshape(SAMPLES, -1)))
    with pytest.raises(DataError, match=r"expected \(n, 2, 10\) or \(n, 20\)"):
        predictor.predict(x)


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_and_others_begin_with_it(tmp_path: Path) -> None:
    data = {**csv(tmp_path, *images()), "shape": list(SHAPE)}
    made, run = configuration(data), tmp_path / "run"
    onotrain.train(made, output=run)
    longer = configuration(data, training={**made["training"], "epochs": 3})
    assert onotrain.train(longer, output=run, resume=True).summary["epochs"] == 3
    with pytest.raises(UsageError, match=r"differs from the run's in data\.shape"):
        onotrain.train(configuration({**data, "shape": [2, 10]}), output=run, resume=True)
    warm = configuration(data, model={**made["model"], "from": str(run)})
    assert "origin" in onotrain.train(warm, output=tmp_path / "warm").summary


def test_fit_takes_images_with_channels(tmp_path: Path) -> None:
    """As flat samples to a dense network, in every bit, and so does the predictor."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 256, (SAMPLES, 3, *SHAPE), np.uint8), np.arange(SAMPLES) % 3
    made = configuration({}, model={"layers": [{"dense": 6}, {"dense": 3}]})
    of_images = onotrain.fit(x, y, made, output=tmp_path / "run")
    of_rows = onotrain.fit(x.reshape(SAMPLES, -1), y, made)
    arranged = onotrain.fit(x.reshape(SAMPLES, -1), y, made, data={"shape": [3, *SHAPE]})
    assert of_images.predictor.metadata.feature_shape == arranged.predictor.metadata.feature_shape == (3, *SHAPE)
    assert len({each.summary["parameters_sha256"] for each in (of_images, of_rows, arranged)}) == 1
    expected = of_rows.predict(x.reshape(SAMPLES, -1))
    for given in (x, x.reshape(SAMPLES, -1)):
        np.testing.assert_array_equal(arranged.predict(given), expected)
        np.testing.assert_array_equal(onotrain.load(tmp_path / "run").predict(given), expected)
    with pytest.raises(DataError, match=r"expected \(n, 3, 4, 5\) or \(n, 60\)"):
        arranged.predict(x.transpose(0, 2, 3, 1))
    with pytest.raises(ConfigError, match=r"^model\.layers\.0\.strip: reads samples of two axes \(got 3\)"):
        onotrain.fit(x, y, configuration({}))


def test_an_exported_network_takes_flat_samples(tmp_path: Path) -> None:
    """And its layers the shape of the data."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(5).normal(size=(SAMPLES, 3, *SHAPE)).astype(np.float32)
    layers = [{"activation": "tanh"}, {"dense": {"units": 6, "activation": "relu"}}, {"dense": 3}]
    made = configuration({}, model={"layers": layers}, training={"epochs": 1, "batch_size": 20})
    onotrain.fit(x, np.arange(SAMPLES) % 3, made, output=tmp_path / "run")
    export(tmp_path / "run", "onnx", tmp_path / "n.onnx")
    session = runtime.InferenceSession(tmp_path / "n.onnx", providers=["CPUExecutionProvider"])
    for rows in (SAMPLES, 1):
        (found,) = session.run(["probabilities"], {"input": x[:rows].reshape(rows, -1)})
        np.testing.assert_allclose(found, onotrain.load(tmp_path / "run").predict(x[:rows]), atol=1e-6)


def test_flat_bytes_of_an_image_are_pixels(tmp_path: Path) -> None:
    """However dark they are."""
    dark = np.random.default_rng(4).integers(0, 3, (SAMPLES, 20), np.uint8)
    for shape, dtype in ((None, "float32"), ([20], "float32"), ([4, 5], "uint8")):
        made = configuration({**npz(tmp_path, dark, images()[1]), "shape": shape}, model={"layers": [{"dense": 3}]})
        onotrain.train(made, output=tmp_path / "run", overwrite=True)
        assert onotrain.load(tmp_path / "run").metadata.feature_dtype == dtype


# The command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a configuration of images in a CSV file, whose second layer is refused if the first one is wider."""
    csv(tmp_path, *images())
    path = tmp_path / "c.yaml"
    path.write_text(
        "data: {train: d.csv, validation: 0.2, shape: [4, 5]}\n"
        "model:\n"
        "  layers:\n"
        "    - strip: 2\n"
        "    - strip: {size: 3}\n"
        "    - dense: 3\n"
        "loss: cross_entropy\n"
        "training: {epochs: 1, batch_size: 12}\n"
    )
    return path


def test_a_run_of_two_ranks_from_csv_to_prediction(file: Path, site: Mapping[str, str]) -> None:
    """And what is shown of the network on the way."""

    def run(*arguments: object) -> str:
        done = launch.onotrain(*arguments, env=site, cwd=file.parent)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "4x5-4x4-4x2-3, 32 parameters" in run("validate", file)
    lines = [
        ("train", file, "--output", "run", "--progress", "lines"),
        ("evaluate", "run", "d.csv"),
        ("predict", "run", "d.csv", "--output", "p.csv"),
        ("train", file, "--output", "run", "--resume", "--set", "training.epochs=2", "--quiet"),
        ("bench", "step", file, "--seconds", "0.01"),
    ]
    trained, evaluated, _, _, measured = launch.several(2, lines, env=site, cwd=file.parent)
    assert "4x5-4x4-4x2-3, 32 parameters" in trained
    assert "loss" in evaluated
    assert len((file.parent / "p.csv").read_text().splitlines()) == SAMPLES + 1
    assert "4x5-4x4-4x2-3" in measured
    shown = run("inspect", "run")
    assert "4x5 -> 4x4" in shown and "8 -> 3" in shown
    facts = json.loads(run("inspect", "run", "--json"))
    assert (facts["inputs"], facts["feature_shape"]) == (20, [4, 5])
    assert [(layer["input_shape"], layer["output_shape"], layer["inputs"]) for layer in facts["layers"]] == [
        ([4, 5], [4, 4], 20), ([4, 4], [4, 2], 16), ([4, 2], [8], 8), ([8], [3], 8)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "ranks"),
    [
        (("validate", "c.yaml"), 0),
        (("train", "c.yaml", "--output", "run"), 0),
        (("train", "c.yaml", "--output", "run"), 2),
        (("bench", "step", "c.yaml", "--seconds", "0.01"), 2),
    ],
    ids=["validate", "train", "train on 2 ranks", "bench on 2 ranks"],
)
def test_a_refusal_is_one_message_with_its_place(
    file: Path, site: Mapping[str, str], arguments: tuple[str, ...], ranks: int
) -> None:
    """In the file, or of what the command line says."""
    text = "is 3, more than the width of the image, 2"
    file.write_text(file.read_text().replace("strip: 2", "strip: 4"))
    for more, place in (
        ((), "c.yaml:5:21: model.layers.1.strip.size: "),
        (("--set", "model.layers.1.strip=3"), "--set model.layers.1.strip=3: model.layers.1.strip.size: "),
    ):
        done = launch.onotrain(*arguments, *more, ranks=ranks, env=site, cwd=file.parent)
        assert done.returncode == 2 and done.stderr.count(text) == 1, done.stderr
        assert f"{place}{text}" in " ".join(done.stderr.split())


def test_a_refusal_does_not_wait_for_the_data(file: Path, site: Mapping[str, str]) -> None:
    """If the configuration has their shape."""
    (file.parent / "d.csv").unlink()
    done = launch.onotrain("validate", file, env=site, cwd=file.parent)
    assert done.returncode == 0 and "4x5-4x4-4x2-3" in done.stdout, done.stderr
    done = launch.onotrain("validate", file, "--set", "data.shape=[10, 2]", env=site, cwd=file.parent)
    assert done.returncode == 2 and "model.layers.1.strip.size: is 3" in done.stderr, done.stderr


def test_a_wrong_shape_of_the_data_exits_with_3(file: Path, site: Mapping[str, str]) -> None:
    done = launch.onotrain("train", file, "--set", "data.shape=[3, 5]", ranks=2, env=site, cwd=file.parent)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("d.csv: samples have 20 features; data.shape [3, 5] has 15") == 1


def test_a_layer_that_refuses_what_a_run_has_is_named_with_the_checkpoint(file: Path, site: Mapping[str, str]) -> None:
    """As after an update of the package that the layer is of."""
    done = launch.onotrain("train", file, "--output", "run", "--quiet", env=site, cwd=file.parent)
    assert done.returncode == 0, done.stderr
    newer = file.parent / "newer"
    newer.mkdir()
    toy_layer.install(newer)
    module = newer / "toy.py"
    module.write_text(module.read_text().replace("if options.size > shape[1]:", "if options.size > 2:"))
    for arguments in (("inspect", "run"), ("predict", "run", "d.csv", "--output", "p.csv")):
        done = launch.onotrain(*arguments, env=toy_layer.environment(newer), cwd=file.parent)
        assert done.returncode == 2, done.stderr
        assert ".h5: model.layers.1.strip.size: is 3" in " ".join(done.stderr.split())
