"""Bad input inside one job: every rank raises the same error, with the documented exit code, and is still in step.

That a job which ends with such an error prints one message and has its exit code is in tests/system/test_bad_input.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import networks
from builders import CSV_HEADER, csv_rows, write_csv
from onotrain.cli.program import program
from onotrain.errors import OnotrainError
from onotrain.parallel.world import World

pytestmark = pytest.mark.mpi(min_size=2)
RANKS = (2, 3)

CONFIG = """\
data:
  train: {train}
model:
  layers:
    - dense: {{units: 8, activation: relu}}
    - dense: {{units: 3}}
loss: cross_entropy
training:
  epochs: 2
  batch_size: 8
"""


@pytest.fixture
def place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty working directory."""
    monkeypatch.chdir(place)
    return place


def config(train: object = None, **replaced: str) -> None:
    """Write a configuration, by default of data that there are, with other lines in it."""
    text = CONFIG.format(train=write_csv("d.csv", csv_rows()) if train is None else train)
    for old, new in replaced.items():
        text = text.replace(old, new)
    Path("config.yaml").write_text(text)


def first(world: World, make: Callable[[], object]) -> None:
    """Let rank 0 make files.  *Collective*."""
    if world.rank == 0:
        make()
    world.barrier()


def onotrain(*arguments: str) -> None:
    program.main([*arguments], prog_name="onotrain", standalone_mode=False)


def train(*options: str, output: str = "run") -> tuple[str, ...]:
    return ("train", "config.yaml", "--quiet", "--output", output, *options)


def refused(world: World, code: int, words: list[str], arguments: tuple[str, ...]) -> str:
    """Check how a command fails, and return its message."""
    with pytest.raises(OnotrainError) as caught:
        onotrain(*arguments)
    message = str(caught.value)
    assert caught.value.agreed and caught.value.exit_code == code, message
    assert len(set(world.comm.allgather(message))) == 1
    what, _, _ = message.partition("\n  hint: ")  # a hint may say them again
    for word in words:
        assert (what if word in what else message).count(word) == 1, f"{word!r} in {message!r}"
    return message


# --- configuration


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("batch_size: 8", "batch_sice: 8", ["config.yaml:10:3: training.batch_sice", "did you mean 'batch_size'?"]),
        ("epochs: 2", "epochs: many", ["config.yaml:9:11: training.epochs: must be a whole number", "got 'many'"]),
        ("epochs: 2", "epochs: 0", ["training.epochs: must be at least 1", "got 0"]),
        ("cross_entropy", "cross_entropi", ["unknown loss", "did you mean 'cross_entropy'?"]),
        ("units: 8", "units: 8.5", ["model.layers.0.dense.units", "must be a whole number"]),
        ("model:", "model: [", ["config.yaml:5:5: not YAML"]),
        ("loss: cross_entropy", "", ["loss: required key is missing"]),
    ],
    ids=["unknown-key", "type", "range", "name", "fraction", "syntax", "missing-section"],
)
def test_configuration(world: World, place: Path, old: str, new: str, words: list[str]) -> None:
    first(world, lambda: config(**{old: new}))
    refused(world, 2, words, train())
    assert not Path("run").exists()


def test_all_problems_of_a_configuration_at_once(world: World, place: Path) -> None:
    wrong = {"units: 8": "units: -8", "epochs: 2": "epoch: 2", "batch_size: 8": "batch_size: x"}
    first(world, lambda: config("digits", **wrong))
    places = re.findall(r"config\.yaml:(\d+):(\d+): (\S+):", refused(world, 2, [], train()))
    assert [(int(line), key) for line, _, key in places if key != "training.epochs"] == [
        (5, "model.layers.0.dense.units"),
        (9, "training.epoch"),
        (10, "training.batch_size"),
    ]


def test_a_configuration_that_is_missing(world: World, place: Path) -> None:
    refused(world, 2, ["config.yaml: no such file"], train())


# --- data


def arrays(**changed: np.ndarray) -> str:
    """Write 20 samples of 4 features and 3 classes, or others."""
    np.savez("d.npz", **{"x": np.ones((20, 4), np.float32), "y": np.arange(20) % 3, **changed})
    return "d.npz"


def with_nan() -> str:
    x = np.zeros((20, 4), np.float32)
    x[5, 2] = np.nan
    return arrays(x=x)


def half(name: str) -> str:
    """Cut a file."""
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) // 2])
    return name


def half_of_hdf5() -> str:
    with h5py.File("d.h5", "w") as file:
        file["x"], file["y"] = np.ones((2000, 4), np.float32), np.arange(2000) % 3
    return half("d.h5")


def with_line(number: int, line: str) -> Callable[[], str]:
    """Return what makes a CSV file in which one line (counted from 1, with the header) is another."""
    lines = csv_rows()
    lines[number - 2] = line
    return lambda: write_csv("d.csv", lines)


def four_classes() -> str:
    return write_csv("d.csv", [line[:-1] + str(number % 4) for number, line in enumerate(csv_rows())])


def nothing() -> str:
    Path("d.csv").write_text("")
    return "d.csv"


DATA: dict[str, tuple[Callable[[], str], list[str]]] = {
    "missing": (lambda: "nothing.csv", ["nothing.csv: no such file"]),
    "directory": (lambda: ".", ["is a directory"]),
    "empty": (nothing, ["d.csv", "empty"]),
    "header-only": (lambda: write_csv("d.csv", []), ["d.csv", "no samples"]),
    "ragged": (with_line(7, "1,2,3,k1"), ["d.csv:7"]),
    "not-a-number": (with_line(9, "1,2,three,4,k1"), ["d.csv:9:3", "three"]),
    "missing-value": (with_line(9, "1,,3,4,k1"), ["d.csv:9:2"]),
    "missing-label": (with_line(12, "1,2,3,4,"), ["d.csv:12:5"]),
    "nan-in-csv": (with_line(9, "1,2,3,nan,k1"), ["d.csv:9:4"]),
    "nan": (with_nan, ["d.npz", "row 5, column 2", "nan"]),
    "truncated-npz": (lambda: half(arrays(x=np.ones((200, 4)))), ["d.npz: not a usable NPZ file"]),
    "truncated-hdf5": (half_of_hdf5, ["d.h5", "truncated"]),
    "lengths-differ": (lambda: arrays(y=np.arange(19) % 3), ["19 targets for 20 samples"]),
    "too-many-classes": (four_classes, ["d.csv: 4 classes (k0, k1, k2, k3), but the network has 3"]),
    "label-outside": (
        lambda: arrays(y=np.array([0, 1, 2] * 6 + [0, 7])),
        ["d.npz: 4 classes (0, 1, 2, 7), but the network has 3"],
    ),
}


@pytest.mark.parametrize(("make", "words"), DATA.values(), ids=DATA)
def test_data(world: World, place: Path, make: Callable[[], str], words: list[str]) -> None:
    first(world, lambda: config(make()))
    refused(world, 3, words, train())


def test_a_label_column_that_is_not_there(world: World, place: Path) -> None:
    first(world, lambda: config(f"{write_csv('d.csv', csv_rows())}\n  targets: lable"))
    assert "'label'" in refused(world, 3, ["lable"], train())


@pytest.mark.parametrize(
    ("header", "lines", "words"),
    [
        ("a,b,c,label", csv_rows(features=3), ["v.csv: 1 of the columns that the network needs is missing: d"]),
        (
            "0.5,0.1,0.2,k1",
            csv_rows(features=3),
            ["v.csv: 5 of the columns that the network needs are missing: a, b, c, d, label"],
        ),
        (CSV_HEADER, [*csv_rows(), "1,2,3,4,k9"], ["v.csv:42:5", "k9"]),
    ],
    ids=["names", "no-names", "unknown-label"],
)
def test_validation_data(world: World, place: Path, header: str, lines: list[str], words: list[str]) -> None:
    first(world, lambda: config(f"{write_csv('d.csv', csv_rows())}\n  validation: {write_csv('v.csv', lines, header)}"))
    refused(world, 3, words, train())


def test_too_few_samples(world: World, place: Path) -> None:
    def make() -> None:
        data = f"{arrays(x=np.ones((1, 4)), y=np.ones(1))}\n  validation: 0.5"
        config(data, **{"cross_entropy": "mse", "units: 3": "units: 1"})

    first(world, make)
    refused(world, 3, ["1 sample cannot be split in training and validation"], train())


# --- run directory and checkpoints


def test_a_run_directory_that_holds_something_else(world: World, place: Path) -> None:
    def make() -> None:
        config()
        Path("run").mkdir()
        Path("run/thesis.tex").write_text("")

    first(world, make)
    refused(world, 2, ["thesis.tex"], train())


@pytest.fixture
def trained(world: World, place: Path) -> None:
    """Have a run that is finished."""
    first(world, config)
    onotrain(*train())
    world.barrier()


ONE_MORE = ("--resume", "--set", "training.epochs=3")


@pytest.mark.usefixtures("trained")
def test_a_run_directory_that_holds_a_run(world: World) -> None:
    refused(world, 2, ["holds a finished run already", "--resume"], train())


@pytest.mark.usefixtures("trained")
def test_resuming_with_another_network(world: World) -> None:
    other = train("--resume", "--set", "model.layers.0.dense.units=9")
    refused(world, 2, ["the configuration differs from the run's in model.layers"], other)


@pytest.mark.usefixtures("trained")
def test_a_checkpoint_of_another_network(world: World) -> None:
    onotrain(*train("--set", "model.layers.0.dense.units=9", output="other"))

    def exchange() -> None:
        for file in Path("run/checkpoints").glob("*.h5"):
            os.replace(f"other/checkpoints/{file.name}", file)

    world.barrier()
    first(world, exchange)
    refused(world, 4, ["another network", "parameters/dense_0/weight"], train(*ONE_MORE))


@pytest.mark.usefixtures("trained")
def test_checkpoints_that_are_all_damaged(world: World) -> None:
    def damage() -> None:
        for file in Path("run/checkpoints").glob("*.h5"):
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)

    first(world, damage)
    refused(world, 4, ["no checkpoint is sound"], train(*ONE_MORE))


# --- prediction


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("predict", "net.h5", "x.npy", "-o", "p.txt"), 2, "suffix '.txt'; expected one of .h5, .npy, .csv"),
        (("predict", "nothing", "x.npy", "-o", "p.csv"), 2, "nothing: no such run directory"),
        (("evaluate", "nothing", "digits"), 2, "nothing: no such run directory"),
        (("predict", "x.npy", "x.npy", "-o", "p.csv"), 4, "x.npy: not an onotrain checkpoint"),
        (("predict", "net.h5", "digits", "-o", "p.csv"), 3, "samples have 64 features; the network expects 5"),
        (("evaluate", "net.h5", "x.npy"), 3, "x.npy: no targets"),
        (("evaluate", "net.h5", "data.npz", "--metrics", "mae"), 2, "metric 'mae' does not fit"),
    ],
)
def test_prediction(world: World, place: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    def make() -> None:
        networks.save(Path("net.h5"), networks.example("multiclass"))
        np.save("x.npy", np.ones((20, 5), np.float32))
        np.savez("data.npz", x=np.ones((20, 5), np.float32), y=np.arange(20) % 3)

    first(world, make)
    refused(world, code, [message], arguments)
    assert not list(Path().glob("p.*"))
