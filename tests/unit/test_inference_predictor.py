"""A trained network in memory: what it predicts, for whom, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import networks
import onotrain
from onotrain import _kernels
from onotrain.errors import CheckpointError, DataError, NumericsError, UsageError
from onotrain.inference import Predictor
from onotrain.inference.export import description, tensors
from onotrain.nn import ParameterLayout
from onotrain.runs.checkpoint_format import Checkpoint
from onotrain.runs.metadata import parameters_sha256


def network(task: str, **changes: Any) -> Predictor:
    return Predictor.from_checkpoint(networks.example(task, **changes), task)


def samples(n: int, d: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("task", networks.TASKS)
def test_predictions_are_those_of_the_formula(task: str, dtype: str) -> None:
    predictor, x = network(task, dtype=dtype), samples(1100)
    expected = networks.forward(description(predictor), tensors(predictor), x)
    got = predictor.predict(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 if dtype == "float32" else 1e-13)


def test_pixels_are_divided_by_255() -> None:
    predictor = network("multiclass")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 5), np.uint8)
    np.testing.assert_allclose(predictor.predict(pixels), predictor.predict(pixels / 255.0), atol=1e-6)


@pytest.mark.parametrize("kind", ["list", "int", "float64", "bool", "strided", "fortran"])
def test_all_kinds_of_numbers_are_taken(kind: str) -> None:
    predictor = network("multiclass")
    whole = np.arange(20).reshape(4, 5) % 2
    given: dict[str, Any] = {
        "list": whole.tolist(),
        "int": whole,
        "float64": whole.astype(np.float64),
        "bool": whole.astype(bool),
        "strided": np.repeat(whole, 2, axis=0)[::2].astype(np.float32),
        "fortran": np.asfortranarray(whole, np.float32),
    }
    expected = predictor.predict(whole.astype(np.float32))
    # float64 is normalised in other roundings.
    np.testing.assert_allclose(predictor.predict(given[kind]), expected, rtol=0, atol=1e-6 * (kind == "float64"))


def test_one_sample_may_leave_out_the_first_axis() -> None:
    predictor = Predictor.from_checkpoint(networks.example("multiclass", shape=(2, 3)), "test")
    x = samples(4, 6)
    expected = predictor.predict(x)
    assert expected.shape == (4, 3)
    np.testing.assert_array_equal(predictor.predict(x.reshape(4, 2, 3)), expected)
    for one in (x[1], x[1].reshape(2, 3), x[1:2]):
        np.testing.assert_allclose(predictor.predict(one), expected[1:2], atol=1e-6)
    assert predictor.predict(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(4, 7), (7,), (4, 3, 2), (4, 2, 2), (), (4, 6, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    predictor = Predictor.from_checkpoint(networks.example("multiclass", shape=(2, 3)), "test")
    with pytest.raises(DataError, match=r"do not fit the network; expected \(n, 2, 3\) or \(n, 6\)"):
        predictor.predict(np.zeros(shape, np.float32))


def test_flat_networks_take_what_flattens() -> None:
    predictor, x = network("numbered", shape=(6,)), samples(4, 6)
    np.testing.assert_array_equal(predictor.predict(x.reshape(4, 3, 2)), predictor.predict(x))


@pytest.mark.parametrize("values", [np.array([["a"] * 5]), np.ones((1, 5), complex), np.array([[None] * 5])])
def test_what_is_no_number_is_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected numbers"):
        network("multiclass").predict(values)


def test_classes_and_names() -> None:
    x = samples(50)
    flower = network("multiclass")
    chosen = flower.predict_classes(x)
    assert chosen.dtype == np.int64
    np.testing.assert_array_equal(chosen, flower.predict(x).argmax(axis=1))
    assert flower.class_names == ("rose", 'täg, "x"', "iris")
    assert flower.predict_names(x) == [flower.class_names[number] for number in chosen]
    numbered = network("numbered")
    assert numbered.class_names is None
    assert numbered.predict_names(x) == [str(number) for number in numbered.predict_classes(x)]


def test_binary_and_multilabel_decide_at_one_half() -> None:
    x = 10 * samples(50)
    binary = network("binary")
    assert binary.predict(x).shape == (50, 1)
    np.testing.assert_array_equal(binary.predict_classes(x), (binary.predict(x)[:, 0] > 0.5).astype(np.int64))
    assert set(binary.predict_names(x)) == {"no", "yes"}
    labels = network("multilabel")
    chosen = labels.predict_classes(x)
    assert chosen.dtype == bool
    np.testing.assert_array_equal(chosen, labels.predict(x) > 0.5)
    colours = np.array(["red", "green", "blue"])
    assert labels.predict_names(x) == [tuple(colours[row]) for row in chosen]


def test_a_regression_has_no_classes() -> None:
    with pytest.raises(UsageError, match="values, not classes"):
        network("regression").predict_classes(samples(2))
    assert network("regression").class_names is None


def test_threads_may_share_a_network() -> None:
    predictor = network("multiclass")
    parts = [samples(2000, seed=seed) for seed in range(4)]
    expected = [predictor.predict(part) for part in parts]
    got: list[list[np.ndarray]] = [[] for _ in parts]

    def work(number: int) -> None:
        got[number] += [predictor.predict(parts[number]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for results, right in zip(got, expected, strict=True):
        assert len(results) == 20
        for result in results:
            np.testing.assert_array_equal(result, right)


def test_weights_are_packed_once_for_all_numbers_of_rows() -> None:
    """And in every thread, but not at all where they may change."""
    packed = list[tuple[int, ...]]()

    def watch(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name == "pack_weight":
                packed.append(arguments[0].shape)
            return kernel(*arguments)

        return call

    plain, x = network("multiclass"), samples(20)
    kernels = _kernels.load("float32", "baseline").wrapped(watch)
    predictor = Predictor(plain.metadata, plain.parameters, kernels)
    predictor.model.record_prediction({name: np.zeros((1, *each.shape), np.float32) for name, each in
                                       predictor.model.plan.prediction.items()})  # fmt: skip
    assert packed == []
    for rows in (1, 2, 1):
        np.testing.assert_allclose(predictor.predict(x[:rows]), plain.predict(x[:rows]), atol=1e-6)
    other = threading.Thread(target=predictor.predict, args=(x[:1],))
    other.start()
    other.join()
    assert packed == [each.parameters["weight"].shape for each in predictor.model.layers if each.parameters]


def test_nothing_is_packed_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, x = network("multiclass"), samples(1)
    kernels = _kernels.load("float32", "baseline")
    expected = Predictor(plain.metadata, plain.parameters, kernels).predict(x)
    monkeypatch.setattr("onotrain.nn.layers.recorder.available_bytes", lambda: 0)
    monkeypatch.setattr(kernels, "pack_weight", None)
    np.testing.assert_array_equal(Predictor(plain.metadata, plain.parameters, kernels).predict(x), expected)


def test_parameters_are_read_only() -> None:
    """A weight that was packed would go on as it was."""
    with pytest.raises(ValueError, match="read-only"):
        network("multiclass").parameters[0] = 1.0


def test_load_starts_no_mpi(tmp_path: Path) -> None:
    path = networks.save(tmp_path / "net.h5", networks.example("multiclass"))
    x = samples(3)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import json, sys, numpy, onotrain; p = onotrain.load(sys.argv[1]); y = p.predict(numpy.load(sys.argv[2]));"
        "print(json.dumps([y.tolist(), 'mpi4py.MPI' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "x.npy"], capture_output=True, text=True, timeout=60, check=True
    )
    values, started = json.loads(done.stdout)
    assert not started
    np.testing.assert_array_equal(np.array(values, np.float32), onotrain.load(path).predict(x))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such run directory"):
        onotrain.load(tmp_path / "nothing")
    (tmp_path / "text.h5").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="not an onotrain checkpoint"):
        onotrain.load(tmp_path / "text.h5")


def test_arrays_must_be_those_of_the_configuration() -> None:
    made = networks.example("multiclass")
    del made.arrays["parameters/dense_1/bias"]
    with pytest.raises(CheckpointError, match="missing: parameters/dense_1/bias"):
        Predictor.from_checkpoint(made, "net.h5")


def test_pixels_that_became_numbers_of_another_type_are_refused() -> None:
    """They would count 255 times; as fractions of 1, or as uint8, they are right and equal."""
    predictor = Predictor.from_checkpoint(networks.checkpoint([{"dense": 3}], feature_dtype="uint8"), "x.h5")
    pixels = np.array([[0, 10, 100, 200, 255]], np.uint8)
    with pytest.raises(DataError, match="a feature is 255, but the network was trained on pixels"):
        predictor.predict(pixels.astype(np.float32))
    np.testing.assert_allclose(predictor.predict(pixels / 255.0), predictor.predict(pixels), rtol=1e-5, atol=1e-7)


def test_it_says_what_it_is(tmp_path: Path) -> None:
    network = onotrain.load(networks.save(tmp_path / "net.h5", networks.example("multiclass")))
    assert (
        repr(network)
        == f"<Predictor: multiclass, 5 features -> 3 outputs, {network.model.layout.parameter_count} parameters>"
    )


def test_parameters_that_no_training_has_left_are_refused() -> None:
    """Others than the checkpoint's digest is of, and such as predict NaN."""
    found = networks.example("multiclass")
    name = next(name for name in found.arrays if name.startswith("parameters/"))
    sha256 = parameters_sha256_of(found)
    Predictor.from_checkpoint(Checkpoint(found.arrays, {**found.metadata, "parameters_sha256": sha256}), "net.h5")
    found.arrays[name].flat[1] += 1
    other = Checkpoint(found.arrays, {**found.metadata, "parameters_sha256": sha256})
    with pytest.raises(CheckpointError, match="net.h5: its parameters are not those that were saved"):
        Predictor.from_checkpoint(other, "net.h5")
    found.arrays[name].flat[1] = np.nan
    with pytest.raises(NumericsError, match=f"such as those of {name.removeprefix('parameters/')}"):
        Predictor.from_checkpoint(found, "net.h5")


def parameters_sha256_of(found: Checkpoint) -> str:
    predictor = Predictor.from_checkpoint(found, "test")
    return parameters_sha256(predictor.model.layout, predictor.parameters)


@pytest.mark.parametrize("units", [4, 10**9, 2**31 - 1])
def test_a_file_that_claims_to_be_of_a_large_network_takes_no_memory(
    units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = networks.example("multiclass")
    metadata = json.loads(json.dumps(found.metadata))
    metadata["config"]["model"]["layers"][-1] = {"dense": {"units": units}}
    monkeypatch.setattr(ParameterLayout, "zeros", lambda _: pytest.fail("memory is taken"))
    with pytest.raises(CheckpointError, match="net.h5: a checkpoint of another network"):
        Predictor.from_checkpoint(Checkpoint(found.arrays, metadata), "net.h5")
