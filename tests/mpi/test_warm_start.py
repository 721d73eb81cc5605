"""A new run that begins with the parameters of another one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from builders import config, refused, relu
from onotrain.config import Config
from onotrain.errors import CheckpointError, DataError, UsageError
from onotrain.parallel.world import World
from onotrain.runs.metadata import ModelMetadata
from onotrain.runs.run_directory import RunDirectory, find_checkpoint
from onotrain.training import train
from onotrain.training.components import Components
from onotrain.training.observers import Observer, RunStart

RANKS = (1, 3)

HIDDEN = (relu(16), relu(12))


class Notes(Observer):
    """Keeps the notes of the header."""

    def __init__(self) -> None:
        self.text = ""

    def started(self, start: RunStart) -> None:
        self.text = "\n".join(start.notes)


@pytest.fixture
def first_values(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Return a dict that gets this rank's tensors before the first step of each training."""
    found: dict[str, np.ndarray] = {}

    def see(components: Components) -> None:
        views = components.model.layout.views(components.strategy.replica.parameters)
        found.clear()
        found.update({name: view.copy() for name, view in views.items()})

    builders.at_start(monkeypatch, see)
    return found


def tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the parameters of the best or newest checkpoint of a run."""
    arrays = find_checkpoint(path).checkpoint.arrays
    return {name.removeprefix("parameters/"): a for name, a in arrays.items() if name.startswith("parameters/")}


def digits(*layers: Any, origin: Path | None = None, model: dict[str, Any] | None = None, **sections: Any) -> Config:
    """Return a configuration on the digits."""
    start = {} if origin is None else {"from": str(origin)}
    sections = {"data": {"validation": 0.2}, "training": {"batch_size": 96}} | sections
    return config(*(layers or (*HIDDEN, 10)), model=start | (model or {}), **sections)


def table(world: World, path: Path, classes: str = "abc", shift: float = 0.0, order: str = "pqr") -> Path:
    """Write a table of three columns and a class.  *Collective*."""
    if world.rank == 0:
        rng = np.random.default_rng(5)
        values = rng.normal(size=(90, 3)) * [1, 10, 100] + shift
        rows = [[f"{row['pqr'.index(name)]:.4f}" for name in order] for row in values]
        lines = [",".join([*row, classes[number % len(classes)]]) for number, row in enumerate(rows)]
        path.write_text("\n".join([",".join([*order, "label"]), *lines]) + "\n")
    world.barrier()
    return path


def on_table(path: Path, outputs: int, origin: Path | None = None, **sections: Any) -> Config:
    """Return a configuration on such a table."""
    model = ({} if origin is None else {"from": str(origin)}) | sections.pop("model", {})
    columns = {"[pq]": "numeric", "r": {"name": "numeric", "missing": "median"}}
    data = {"train": str(path), "normalize": "standard", "columns": columns} | sections.pop("data", {})
    return config(relu(8), outputs, model=model, data=data, **({"training": {"batch_size": 30}} | sections))


def description(run: Path) -> ModelMetadata:
    """Return the metadata of a run's checkpoint."""
    found = find_checkpoint(run)
    return ModelMetadata.from_dict(found.checkpoint.metadata, str(found.path))


@pytest.mark.parametrize("strategy", ["allreduce", "flat", "local_sgd", "parameter_server"])
def test_all_ranks_begin_with_those_bits(
    world: World, place: Path, first_values: dict[str, np.ndarray], strategy: str
) -> None:
    if strategy == "parameter_server" and world.size == 1:
        pytest.skip("Test requires 2 MPI processes")
    train(digits(), world.comm, output=place / "old")
    other = digits(
        origin=place / "old", optimizer={"name": "sgd", "learning_rate": 0.5}, strategy={"name": strategy},
        training={"batch_size": 64, "seed": 9}, schedule="cosine",
    )  # fmt: skip
    result = train(other, world.comm, output=place / "new")
    old = tensors(place / "old")
    assert first_values.keys() == old.keys()
    assert all(first_values[name].tobytes() == old[name].tobytes() for name in old)
    sha256 = find_checkpoint(place / "old").checkpoint.metadata["parameters_sha256"]
    origin = result.summary["origin"]
    assert (origin["parameters_sha256"], origin["head"]) == (sha256, "keep")
    assert origin["path"].startswith(str(place / "old")) and origin["step"] == 15
    assert RunDirectory.open(place / "new").environment()["origin"] == origin
    assert result.summary["steps"] == 23


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")])
def test_numbers_of_the_other_precision(
    world: World, place: Path, first_values: dict[str, np.ndarray], dtypes: tuple[str, str]
) -> None:
    train(digits(training={"batch_size": 96, "dtype": dtypes[0]}), world.comm, output=place / "old")
    made = digits(origin=place / "old", training={"batch_size": 96, "dtype": dtypes[1]})
    train(made, world.comm, output=place / "new")
    for name, array in tensors(place / "old").items():
        np.testing.assert_array_equal(first_values[name], array.astype(dtypes[1]))


def test_the_best_checkpoint_is_taken_and_a_file_is_itself(
    world: World, place: Path, first_values: dict[str, np.ndarray]
) -> None:
    stopping = {"metric": "validation_loss", "mode": "max", "patience": 3}
    train(
        digits(training={"batch_size": 96, "epochs": 3, "early_stopping": stopping}), world.comm, output=place / "old"
    )
    run = RunDirectory.open(place / "old")
    best, last = run.checkpoint("best"), run.checkpoint("latest")
    assert best.path != last.path
    for origin, expected in ((place / "old", best), (last.path, last)):
        train(digits(origin=origin), world.comm, output=place / origin.name / "new")
        for name, array in first_values.items():
            assert array.tobytes() == expected.checkpoint.arrays[f"parameters/{name}"].tobytes()


def test_another_head_is_new(world: World, place: Path, first_values: dict[str, np.ndarray]) -> None:
    train(on_table(table(world, place / "old.csv"), 3), world.comm, output=place / "old")
    old = tensors(place / "old")
    cases: list[tuple[str, int, dict[str, Any], bool, str]] = [
        ("abc", 3, {}, True, ""),
        ("abc", 3, {"head": "new"}, False, "is new"),
        ("ab", 3, {}, True, ""),  # no c among them, which stays a class
        ("xyz", 3, {}, False, "is new: the classes are others"),
        ("abcd", 4, {}, False, "is new: its shape is another one"),
    ]
    for number, (classes, outputs, model, keeps, said) in enumerate(cases):
        data, notes = table(world, place / f"{number}.csv", classes), Notes()
        made = on_table(data, outputs, place / "old", model=model)
        result = train(made, world.comm, output=place / str(number), observers=[notes])
        for layer, same in (("dense_0", True), ("dense_1", keeps)):
            weight = f"{layer}/weight"
            assert (first_values[weight].tobytes() == old[weight].tobytes()) == same, (classes, weight)
        assert result.summary["origin"]["head"] == ("keep" if keeps else "new")
        assert world.rank > 0 or said in notes.text
        if classes == "ab":
            assert description(place / str(number)).codec.class_names == ("a", "b", "c")


def test_other_tensors_are_listed(world: World, place: Path) -> None:
    train(digits(), world.comm, output=place / "old")
    wider = refused(
        world, CheckpointError, "other layers", digits(relu(16), relu(13), 10, origin=place / "old"), world.comm,
        output=place / "wider",
    )  # fmt: skip
    assert "dense_1/weight: got 12x16, expected 13x16" in wider.message and "dense_0" not in wider.message
    deeper = digits(*HIDDEN, relu(10), 10, origin=place / "old", model={"head": "keep"})
    error = refused(world, CheckpointError, "other layers", deeper, world.comm, output=place / "deeper")
    assert "dense_3/bias: got nothing, expected 10" in error.message
    shallower = digits(relu(16), 10, origin=place / "old")
    error = refused(world, CheckpointError, "other layers", shallower, world.comm, output=place / "shallower")
    assert "dense_2/bias: got 10, expected nothing" in error.message
    refused(world, UsageError, "no such run", digits(origin=place / "no"), world.comm, output=place / "none")


def test_an_unknown_class_is_refused_where_the_head_is_kept(world: World, place: Path) -> None:
    train(on_table(table(world, place / "old.csv"), 3), world.comm, output=place / "old")
    made = on_table(table(world, place / "new.csv", "abx"), 3, place / "old", model={"head": "keep"})
    refused(world, DataError, "'x' is outside the classes", made, world.comm, output=place / "new")


@pytest.mark.parametrize("preparation", ["auto", "fit", "from"])
def test_who_scales_the_columns(world: World, place: Path, preparation: str) -> None:
    train(on_table(table(world, place / "old.csv"), 3), world.comm, output=place / "old")
    data = {"preparation": preparation}
    other = table(world, place / "new.csv", shift=50.0, order="rqp")
    train(on_table(other, 3, place / "old", data=data), world.comm, output=place / "new")
    old, new = (description(place / name).preparation for name in ("old", "new"))
    assert old is not None and new is not None
    assert new.inputs == old.inputs == ("p", "q", "r")  # in the order of the first layer's weights
    assert (new.to_dict() == old.to_dict()) == (preparation != "fit")
    differently = on_table(other, 3, place / "old", data=data | {"normalize": "minmax"})
    train(differently, world.comm, output=place / "differently")
    new = description(place / "differently").preparation
    assert new is not None and (new.to_dict() == old.to_dict()) == (preparation == "from")


@pytest.mark.parametrize("preparation", ["auto", "fit", "from"])
def test_who_scales_arrays_and_targets(world: World, place: Path, preparation: str) -> None:
    rng = np.random.default_rng(3)
    for name, shift in (("old", 0.0), ("new", 100.0)):
        if world.rank == 0:
            x = rng.normal(size=(60, 4))
            np.savez(place / f"{name}.npz", x=x + shift, y=(x @ [1, 2, 3, 4] + shift))
    world.barrier()
    made = {
        name: config(
            relu(8), 1, loss="mse", training={"batch_size": 30}, model=model,
            data={"train": str(place / f"{name}.npz"), "normalize": "standard", "normalize_targets": "standard"} | data,
        )
        for name, model, data in (
            ("old", {}, {}), ("new", {"from": str(place / "old")}, {"preparation": preparation}),
        )
    }  # fmt: skip
    for name, each in made.items():
        train(each, world.comm, output=place / name)
    old, new = (description(place / name) for name in ("old", "new"))
    assert (new.normalization == old.normalization) == (preparation != "fit")
    assert (new.codec.scaling == old.codec.scaling) == (preparation != "fit")
    assert preparation != "fit" or abs(float(np.mean(new.normalization.mean)) - 100.0) < 1.0


def test_missing_columns_are_named(world: World, place: Path) -> None:
    train(on_table(table(world, place / "old.csv"), 3), world.comm, output=place / "old")
    if world.rank == 0:
        (place / "new.csv").write_text("p,q,s,label\n1,2,3,a\n4,5,6,b\n7,8,9,c\n1,3,2,a\n")
    world.barrier()
    made = on_table(place / "new.csv", 3, place / "old", data={"preparation": "from", "columns": {}})
    refused(world, DataError, "missing here: r", made, world.comm, output=place / "new")


def test_a_warm_started_run_is_resumed_without_its_origin(world: World, place: Path) -> None:
    old, new = table(world, place / "old.csv"), table(world, place / "new.csv", shift=30.0)
    train(on_table(old, 3), world.comm, output=place / "old")
    options = {"batch_size": 30, "epochs": 3}
    whole = train(on_table(new, 3, place / "old", training=options), world.comm, output=place / "whole")
    train(on_table(new, 3, place / "old", training=options | {"max_steps": 4}), world.comm, output=place / "parts")
    world.barrier()
    if world.rank == 0:
        shutil.rmtree(place / "old")
    world.barrier()
    later = on_table(new, 3, training=options)
    parts = train(later, world.comm, output=place / "parts", resume=True)
    assert parts.summary["parameters_sha256"] == whole.summary["parameters_sha256"]
    assert parts.summary["origin"] == whole.summary["origin"]
    assert json.loads((place / "parts" / "environment.json").read_text())["origin"] == whole.summary["origin"]
    other = on_table(new, 3, place / "elsewhere", training=options)
    refused(world, UsageError, "began with the parameters of", other, world.comm, output=place / "parts", resume=True)


def test_who_has_no_checkpoint_yet_must_name_the_origin_again(world: World, place: Path) -> None:
    train(digits(), world.comm, output=place / "old")
    made = digits(origin=place / "old")
    train(made, world.comm, output=place / "new")
    if world.rank == 0:
        shutil.rmtree(place / "new" / "checkpoints")
        (place / "new" / "checkpoints").mkdir()
    world.barrier()
    refused(world, UsageError, "cannot go on with its own", digits(), world.comm, output=place / "new", resume=True)
    again = train(made, world.comm, output=place / "new", resume=True)
    assert again.summary["origin"]["step"] == 15
