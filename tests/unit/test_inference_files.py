"""Files to predict and to evaluate: which columns and arrays, what is refused, and the numbers that come out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import networks
import onotrain
from onotrain.data import DataSpec, streaming
from onotrain.data.samples import ArraySamples, StreamSamples
from onotrain.errors import DataError, OnotrainError, UsageError
from onotrain.evaluation.class_scores import PerClass
from onotrain.evaluation.confusion import ConfusionCounts
from onotrain.inference.evaluation import Evaluation, evaluate
from onotrain.inference.export import export
from onotrain.inference.job import predict_file
from onotrain.inference.source import open_source

COLUMNS = ("v", "w", "x", "y", "z")


def samples(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)


def doubles(n: int) -> np.ndarray:
    """Return samples as a text table holds them: in double precision."""
    return np.random.default_rng(0).normal(size=(n, 5))


def save(folder: Path, task: str, **changes: Any) -> Path:
    return networks.save(folder / "net.h5", networks.example(task, **changes))


def write_csv(path: Path, columns: dict[str, Any]) -> str:
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(str(value) for value in row) for row in rows)]) + "\n")
    return str(path)


def predicted(net: Path, spec: DataSpec, **options: Any) -> np.ndarray:
    output = net.parent / "out.npy"
    report = predict_file(net, spec, output, **options)
    assert report is not None
    assert report.samples == len(np.load(output))
    return np.load(output)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_hdf5_without_targets(tmp_path: Path, kind: type, stream: bool) -> None:
    net, x = save(tmp_path, "multiclass"), (40 * samples(1300) + 100).astype(kind)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(100, 5), compression="gzip")
    expected = onotrain.load(net).predict(x)  # in the type of the file: rounded after shift and scale only
    np.testing.assert_array_equal(predicted(net, DataSpec(str(tmp_path / "x.h5")), stream=stream), expected)


def test_large_files_are_streamed_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = save(tmp_path, "multiclass"), samples(2000)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(512, 5))
    spec, network = DataSpec(str(tmp_path / "x.h5")), onotrain.load(net)
    for memory, kind in ((10**9, ArraySamples), (x.nbytes, StreamSamples)):
        monkeypatch.setattr(streaming, "available_bytes", lambda memory=memory: memory)
        with ExitStack() as stack:
            assert isinstance(open_source(stack, None, network.metadata, spec, "auto", labelled=False).samples, kind)
        np.testing.assert_array_equal(predicted(net, spec), network.predict(x))


def test_npz_by_the_names_of_the_training(tmp_path: Path) -> None:
    x = samples(30)
    net = save(tmp_path, "multiclass", data={"train": str(tmp_path / "train.npz"), "features": "pictures"})
    expected = onotrain.load(net).predict(x)
    for name in ("x.npz", "train.npz"):
        np.savez(tmp_path / name, pictures=x, x=x + 1)
        np.testing.assert_array_equal(predicted(net, DataSpec(str(tmp_path / name))), expected)
    other = predicted(net, DataSpec(str(tmp_path / "x.npz"), features="x"))
    np.testing.assert_array_equal(other, onotrain.load(net).predict(x + 1))


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    net, x = save(tmp_path, "multiclass", feature_names=COLUMNS), doubles(30)
    expected = onotrain.load(net).predict(x)
    columns = dict(zip(COLUMNS, x.T, strict=True))
    with_label = {"label": ["rose"] * 30, **dict(reversed(columns.items())), "note": ["n/a"] * 30}
    for name, content in {"plain": columns, "labelled": with_label}.items():
        path = write_csv(tmp_path / f"{name}.csv", content)
        np.testing.assert_array_equal(predicted(net, DataSpec(path)), expected)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    net = save(tmp_path, "multiclass", feature_names=COLUMNS)
    path = write_csv(tmp_path / "x.csv", dict(zip("vxz", samples(3).T, strict=False)))
    with pytest.raises(
        DataError, match="2 of the columns that the network needs are missing: w, y; the header has v, x, z"
    ):
        predicted(net, DataSpec(path))


def test_columns_without_names(tmp_path: Path) -> None:
    net, x = save(tmp_path, "multiclass"), doubles(30)
    expected = onotrain.load(net).predict(x)
    np.savetxt(tmp_path / "x.csv", x, fmt="%.17g", delimiter=",")
    np.savetxt(tmp_path / "labelled.csv", np.column_stack([x, np.arange(30) % 3]), fmt="%.17g", delimiter=",")
    for name in ("x.csv", "labelled.csv"):
        np.testing.assert_array_equal(predicted(net, DataSpec(str(tmp_path / name))), expected)


def test_built_in_data(tmp_path: Path) -> None:
    net = save(tmp_path, "multiclass", shape=(8, 8))
    assert predicted(net, DataSpec("digits")).shape == (1797, 3)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 6), np.float32), "samples have 6 features; the network expects 5"),
        (np.where(np.arange(20).reshape(4, 5) == 13, np.nan, 1).astype(np.float32), "row 2, column 3"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, x: np.ndarray, message: str, stream: bool) -> None:
    net = save(tmp_path, "multiclass")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = x
    with pytest.raises(DataError, match=message):
        predicted(net, DataSpec(str(tmp_path / "x.h5")), stream=stream)
    assert {path.name for path in tmp_path.iterdir()} == {"net.h5", "x.h5"}


def test_what_is_not_streamed_is_refused(tmp_path: Path) -> None:
    net = save(tmp_path, "multiclass")
    np.save(tmp_path / "x.npy", samples(3))
    with pytest.raises(DataError, match="only arrays in HDF5 files and Parquet files are streamed"):
        predicted(net, DataSpec(str(tmp_path / "x.npy")), stream=True)


def test_the_output_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="suffix"):
        predict_file(tmp_path / "no-run", DataSpec("no-file.csv"), tmp_path / "out.txt")


def labelled(folder: Path, net: Path, n: int = 1500) -> tuple[DataSpec, np.ndarray, np.ndarray, np.ndarray]:
    """Return data whose labels are sometimes what the network says, with features, labels and probabilities."""
    x, rng = samples(n), np.random.default_rng(1)
    probabilities = onotrain.load(net).predict(x)
    y = np.where(rng.random(n) < 0.6, probabilities.argmax(axis=1), rng.integers(0, probabilities.shape[1], n))
    with h5py.File(folder / "data.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(100, 5))
        file["y"] = y
    return DataSpec(str(folder / "data.h5")), x, y, probabilities


def test_the_output_never_replaces_what_is_read(tmp_path: Path) -> None:
    net = save(tmp_path, "multiclass")
    for path in (tmp_path / "x.npy", tmp_path / "link.npy"):
        if path.name == "x.npy":
            np.save(path, samples(4))
        else:
            path.symlink_to(tmp_path / "x.npy")
        with pytest.raises(UsageError, match="is read as well"):
            predict_file(net, DataSpec(str(tmp_path / "x.npy")), path)
    with pytest.raises(UsageError, match="is read as well"):
        predict_file(net, DataSpec(str(tmp_path / "x.npy")), net)
    with pytest.raises(UsageError, match="is read as well"):
        export(net, "npz", net)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), samples(4))


@pytest.mark.parametrize("stream", [False, True])
def test_metrics_of_classes(tmp_path: Path, stream: bool) -> None:
    net = save(tmp_path, "multiclass")
    spec, _, y, p = labelled(tmp_path, net)
    found = evaluate(net, spec, stream=stream)
    guess = p.argmax(axis=1)
    assert found.samples == 1500
    assert list(found.metrics) == [
        "loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "mcc", "roc_auc", "average_precision",
        "log_loss", "brier", "calibration_error",
    ]  # fmt: skip
    assert found.metrics["accuracy"] == np.mean(guess == y)
    assert found.metrics["loss"] == pytest.approx(-np.log(p[np.arange(1500), y]).mean(), rel=1e-5)
    assert found.confusion is not None
    assert found.class_names == ("rose", 'täg, "x"', "iris")
    for true in range(3):
        for guessed in range(3):
            assert found.confusion[true, guessed] == np.count_nonzero((y == true) & (guess == guessed))
    for number, score in enumerate(found.scores):
        assert score.support == np.count_nonzero(y == number)
        assert score.recall == np.mean(guess[y == number] == number)
        assert score.precision == np.mean(y[guess == number] == number)
        assert score.f1 == pytest.approx(2 / (1 / score.precision + 1 / score.recall))
    mapping = json.loads(json.dumps(found.to_mapping(), allow_nan=False))
    assert mapping["confusion"] == found.confusion.tolist()
    assert [entry["name"] for entry in mapping["classes"]] == list(found.class_names)


def test_passes_do_not_change_the_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = save(tmp_path, "multiclass")
    spec, *_ = labelled(tmp_path, net)
    whole = evaluate(net, spec)
    monkeypatch.setattr("onotrain.evaluation.evaluator.TABLE_BYTES", 1)
    for stream in (False, True):
        parts = evaluate(net, spec, stream=stream)
        np.testing.assert_array_equal(parts.confusion, whole.confusion)
        assert parts.metrics["accuracy"] == whole.metrics["accuracy"]
        assert parts.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-12)


def test_metrics_can_be_chosen(tmp_path: Path) -> None:
    net = save(tmp_path, "multiclass")
    spec, _, y, p = labelled(tmp_path, net)
    found = evaluate(net, spec, ["top_2"])
    assert list(found.metrics) == ["loss", "top_2"]
    best = np.argsort(-p, axis=1)[:, :2]
    assert found.metrics["top_2"] == np.mean((best == y[:, None]).any(axis=1))
    with pytest.raises(UsageError, match="metric 'mae' does not fit"):
        evaluate(net, DataSpec("no-such-file.csv"), ["mae"])


def test_metrics_of_a_regression(tmp_path: Path) -> None:
    net, x = save(tmp_path, "regression"), samples(700)
    y = onotrain.load(net).predict(x) + np.random.default_rng(3).normal(size=(700, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    found = evaluate(net, DataSpec(str(tmp_path / "data.npz")))
    errors = y - onotrain.load(net).predict(x)
    assert found.confusion is None
    assert found.scores == []
    assert found.metrics == pytest.approx(
        {
            "loss": np.square(errors).sum(axis=1).mean(),
            "mae": np.abs(errors).mean(),
            "rmse": np.sqrt(np.square(errors).mean()),
            "r2": np.mean(1 - np.square(errors).sum(axis=0) / np.square(y - y.mean(axis=0)).sum(axis=0)),
        },
        rel=1e-4,
    )


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_metrics_of_yes_and_no(tmp_path: Path, task: str) -> None:
    net, x = save(tmp_path, task), 10 * samples(700)
    p = onotrain.load(net).predict(x)
    y = (np.random.default_rng(3).random(p.shape) < p).astype(np.int64)
    np.savez(tmp_path / "data.npz", x=x, y=y[:, 0] if task == "binary" else y)
    found = evaluate(net, DataSpec(str(tmp_path / "data.npz")))
    assert found.metrics["accuracy"] == pytest.approx(np.mean((p > 0.5) == y))
    if task == "binary":
        assert found.class_names == ("no", "yes")
        assert found.confusion is not None
        assert found.confusion[0, 1] == np.count_nonzero((y == 0) & (p > 0.5))
    else:
        assert found.confusion is None


def test_classes_without_samples_have_no_scores() -> None:
    counts = ConfusionCounts(2, *(np.array([number]) for number in (0, 0, 3)))
    per_class = PerClass.of(np.array([3.0, 3, 0, 3, 0, 3, 0]))
    found = Evaluation("x", 3, {"loss": float("nan")}, ("a", "b"), counts, per_class)
    assert found.to_mapping()["confusion"] == [[3, 0], [0, 0]]
    assert found.to_mapping()["metrics"] == {"loss": None}
    assert found.to_mapping()["classes"][1] == {
        "name": "b",
        "precision": None,
        "recall": None,
        "f1": None,
        "support": 0,
    }


def test_labels_by_name_in_columns(tmp_path: Path) -> None:
    net, x = (
        save(tmp_path, "multiclass", feature_names=COLUMNS, target_names=("kind",), class_names=("p", "q", "r")),
        samples(90),
    )
    kinds = onotrain.load(net).predict_names(x)
    path = write_csv(
        tmp_path / "data.csv", {"kind": kinds, **dict(zip(COLUMNS, x.T, strict=True)), "last": kinds[::-1]}
    )
    assert evaluate(net, DataSpec(path)).metrics["accuracy"] == 1.0


@pytest.mark.parametrize("labels", [[0, 1, 3], ["rose", "iris", "oak"]])
def test_a_label_outside_the_classes(tmp_path: Path, labels: list[Any]) -> None:
    net = save(tmp_path, "multiclass")
    np.savez(tmp_path / "data.npz", x=samples(3), y=np.array(labels))
    with pytest.raises(DataError, match=f"row 2: label {labels[2]!r} is outside the classes"):
        evaluate(net, DataSpec(str(tmp_path / "data.npz")))


def test_data_without_labels(tmp_path: Path) -> None:
    net = save(tmp_path, "multiclass")
    np.savez(tmp_path / "data.npz", x=samples(3))
    with pytest.raises(OnotrainError, match="no targets"):
        evaluate(net, DataSpec(str(tmp_path / "data.npz")))


def write_arrays(path: Path, **arrays: np.ndarray) -> DataSpec:
    """Write an HDF5 or NPZ file."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
            file.attrs["feature_names"] = list(COLUMNS)
    return DataSpec(str(path))


def write_table(path: Path, *columns: Any) -> DataSpec:
    """Write a table without a header."""
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True)))
    return DataSpec(str(path))


@pytest.mark.parametrize(("suffix", "stream"), [("npz", False), ("h5", False), ("h5", True)])
@pytest.mark.parametrize("several", [False, True])
def test_arrays_have_the_names_that_the_training_file_has(
    tmp_path: Path, suffix: str, several: bool, stream: bool
) -> None:
    """Beside arrays of the names that are taken by default, and names of columns."""
    names = {"features": "pictures", "targets": "kinds"}
    data = {"train": f"train.{suffix}", **{key: [name] if several else name for key, name in names.items()}}
    net = save(tmp_path, "multiclass", data=data, feature_names=COLUMNS if suffix == "h5" else None)
    x = samples(90)
    kinds = onotrain.load(net).predict_classes(x)
    path = tmp_path / f"other.{suffix}"
    spec = write_arrays(path, x=x + 1, y=(kinds + 1) % 3, pictures=x, kinds=kinds)
    assert evaluate(net, spec, stream=stream).metrics["accuracy"] == 1.0
    np.testing.assert_array_equal(predicted(net, spec, stream=stream), onotrain.load(net).predict(x))
    given = DataSpec(str(path), features="x", targets="y")
    others = onotrain.load(net).predict_classes(x + 1)
    assert evaluate(net, given, stream=stream).metrics["accuracy"] == np.mean(others == (kinds + 1) % 3)
    np.testing.assert_array_equal(predicted(net, given, stream=stream), onotrain.load(net).predict(x + 1))
    without = write_arrays(path, pictures=x)
    np.testing.assert_array_equal(predicted(net, without, stream=stream), onotrain.load(net).predict(x))


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_targets_of_the_training_are_no_features(tmp_path: Path, suffix: str) -> None:
    """Features are the only other array: the targets tell which, also where they are not read."""
    net, x = save(tmp_path, "multiclass", data={"train": f"train.{suffix}", "targets": "kinds"}), samples(30)
    for extra in ({"kinds": np.array(["what"] * 30, "S4")}, {}):
        spec = write_arrays(tmp_path / f"x.{suffix}", pictures=x, **extra)
        np.testing.assert_array_equal(predicted(net, spec), onotrain.load(net).predict(x))


def test_names_of_columns_are_no_names_of_arrays(tmp_path: Path) -> None:
    data = {"train": "train.csv", "features": list(COLUMNS), "targets": "kind"}
    net, x = save(tmp_path, "multiclass", data=data, feature_names=COLUMNS, target_names=("kind",)), samples(30)
    spec = write_arrays(tmp_path / "x.h5", x=x, y=onotrain.load(net).predict_classes(x))
    assert evaluate(net, spec).metrics["accuracy"] == 1.0


@pytest.mark.parametrize("order", [(4, 1, 5, 0, 3), None])
def test_columns_without_names_go_by_their_numbers(tmp_path: Path, order: tuple[int, ...] | None) -> None:
    """As the configuration of the training says, in files with the targets and without them."""
    features = None if order is None else [str(column + 1) for column in order]
    net = save(tmp_path, "numbered", data={"train": "train.csv", "features": features, "targets": "3"})
    network, columns = onotrain.load(net), np.random.default_rng(0).normal(size=(60, 6))
    x = columns[:, list(order or (0, 1, 3, 4, 5))]
    kinds, rest = network.predict_classes(x), columns.T[3:]
    spec = write_table(tmp_path / "labelled.csv", *columns.T[:2], kinds, *rest)
    assert evaluate(net, spec).metrics["accuracy"] == 1.0
    unlabelled = write_table(tmp_path / "unlabelled.csv", *columns.T[:2], [""] * 60, *rest)
    alone = write_table(tmp_path / "alone.csv", *x.T)
    for data in (spec, unlabelled, alone):
        np.testing.assert_array_equal(predicted(net, data), network.predict(x))
    given = DataSpec(spec.path, features=("6", "5", "4", "2", "1"))
    np.testing.assert_array_equal(predicted(net, given), network.predict(columns[:, [5, 4, 3, 1, 0]]))


def test_labels_in_a_file_of_their_own(tmp_path: Path) -> None:
    """They belong to the training file alone; for any other one they are to be named."""
    data = {"train": str(tmp_path / "train.npy"), "targets": "labels.npy"}
    net, x = save(tmp_path, "multiclass", data=data), samples(40)
    kinds = onotrain.load(net).predict_classes(x)
    np.save(tmp_path / "train.npy", x)
    np.save(tmp_path / "other.npy", x)
    np.save(tmp_path / "labels.npy", kinds)
    np.save(tmp_path / "other-labels.npy", (kinds + 1) % 3)
    assert evaluate(net, DataSpec(str(tmp_path / "train.npy"))).metrics["accuracy"] == 1.0
    given = DataSpec(str(tmp_path / "train.npy"), targets="other-labels.npy")
    assert evaluate(net, given).metrics["accuracy"] == 0.0
    with pytest.raises(DataError, match="no targets found"):
        evaluate(net, DataSpec(str(tmp_path / "other.npy")))
    np.testing.assert_array_equal(predicted(net, DataSpec(str(tmp_path / "other.npy"))), onotrain.load(net).predict(x))


def test_the_format_of_the_training_where_the_name_does_not_tell(tmp_path: Path) -> None:
    net, x = save(tmp_path, "multiclass", data={"train": "train.txt", "format": "csv"}), doubles(30)
    expected = onotrain.load(net).predict(x)
    np.savetxt(tmp_path / "x.txt", x, fmt="%.17g", delimiter=",")
    np.save(tmp_path / "x.npy", x)
    for name in ("x.txt", "x.npy"):
        np.testing.assert_array_equal(predicted(net, DataSpec(str(tmp_path / name))), expected)
    with pytest.raises(DataError, match="not a usable NPZ file"):
        predicted(net, DataSpec(str(tmp_path / "x.txt"), "npz"))


def test_the_format_of_the_training_where_names_are_alike(tmp_path: Path) -> None:
    """Fields may hold commas where tabs separate them."""
    net = save(tmp_path, "multiclass", data={"train": "train.csv", "format": "tsv", "targets": "6"})
    x = doubles(30)
    rows = ("\t".join([*map(str, row), "a, b"]) for row in x)
    (tmp_path / "x.csv").write_text("\n".join(rows) + "\n")
    expected = onotrain.load(net).predict(x)
    np.testing.assert_array_equal(predicted(net, DataSpec(str(tmp_path / "x.csv"))), expected)
