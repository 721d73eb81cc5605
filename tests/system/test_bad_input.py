"""Bad input on two ranks: one clear message, the documented exit code, and never a traceback or a hang."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import launch

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
DRIVER = """\
import sys

from onotrain.parallel import guard


def main():
    import onotrain
    from onotrain.parallel.world import start_mpi
    from onotrain.training import trainer

    rank = start_mpi().COMM_WORLD.rank
    phase, step = sys.argv[2], trainer.Trainer._account
    if rank == int(sys.argv[3]):
        if phase == "step":
            def account(self, *arguments):
                step(self, *arguments)
                raise ZeroDivisionError("injected")
            trainer.Trainer._account = account
        elif phase == "data":
            from onotrain.training import session
            def prepare(*arguments):
                raise ZeroDivisionError("injected")
            session.prepare = prepare
        else:
            raise ZeroDivisionError("injected")
    onotrain.train(sys.argv[1], output=sys.argv[4])


sys.exit(guard.run(main))
"""


def rows(count: int = 40, features: int = 4) -> list[str]:
    """Return lines of a CSV file with three classes."""
    draw = np.random.Generator(np.random.Philox(3))
    values = draw.normal(size=(count, features))
    return [",".join([*(f"{value:.3f}" for value in row), f"k{number % 3}"]) for number, row in enumerate(values)]


HEADER = "a,b,c,d,label"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give an empty working directory."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def csv(path: Path, lines: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def config(path: Path, train: object, **replaced: str) -> Path:
    text = CONFIG.format(train=train)
    for old, new in replaced.items():
        text = text.replace(old, new)
    path.write_text(text)
    return path


def refused(code: int, *words: str, arguments: tuple[object, ...]) -> str:
    """Run onotrain on two ranks; check how it fails, and return its message."""
    done = launch.onotrain(*arguments, ranks=2)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("onotrain: ") == 1, done.stderr
    message = re.split(r"^-{20,}$", done.stderr, flags=re.MULTILINE)[0]  # what mpirun has to say comes after it
    for word in words:
        assert message.count(word) == 1, f"{word!r} in {message!r}"
    return message


def train(path: Path, *options: object) -> tuple[object, ...]:
    return ("train", path, "--output", "run", *options)


# --- configuration


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("batch_size: 8", "batch_sice: 8", ["config.yaml:10:3: training.batch_sice", "did you mean 'batch_size'?"]),
        ("epochs: 2", "epochs: many", ["config.yaml:9:11: training.epochs: must be a whole number", "got 'many'"]),
        ("epochs: 2", "epochs: 0", ["training.epochs: must be at least 1", "got 0"]),
        ("cross_entropy", "cross_entropi", ["unknown loss", "did you mean 'cross_entropy'?"]),
        ("units: 8", "units: 8.5", ["model.layers.0.dense.units", "must be a whole number"]),
        ("model:", "model: [", ["config.yaml:"]),
        ("loss: cross_entropy", "", ["loss: required key is missing"]),
    ],
    ids=["unknown-key", "type", "range", "name", "fraction", "syntax", "missing-section"],
)
def test_configuration(place: Path, old: str, new: str, words: list[str]) -> None:
    path = config(place / "config.yaml", csv(place / "d.csv", rows()), **{old: new})
    message = refused(2, arguments=train(path))
    assert all(word in message for word in words), message
    assert not (place / "run").exists()


def test_all_problems_of_a_configuration_at_once(place: Path) -> None:
    path = config(
        place / "config.yaml",
        "digits",
        **{"units: 8": "units: -8", "epochs: 2": "epoch: 2", "batch_size: 8": "batch_size: x"},
    )
    message = refused(2, arguments=train(path))
    places = re.findall(r"config\.yaml:(\d+):(\d+): (\S+):", message)
    assert [(int(line), key) for line, _, key in places if key != "training.epochs"] == [
        (5, "model.layers.0.dense.units"),
        (9, "training.epoch"),
        (10, "training.batch_size"),
    ]


def test_a_configuration_that_is_missing(place: Path) -> None:
    refused(2, "nothing.yaml: no such file", arguments=train(place / "nothing.yaml"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian", "x.yaml"), ["no such command 'trian'", "did you mean 'train'?"]),
        (("train", "--outptu", "x"), ["--outptu", "did you mean '--output'?"]),
        (("train",), ["CONFIG"]),
        (("train", "c.yaml", "--resume"), ["--resume needs --output"]),
        (("train", "c.yaml", "--progress", "loud"), ["loud"]),
    ],
    ids=["subcommand", "option", "argument", "resume", "choice"],
)
def test_command_line(place: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    message = refused(2, arguments=arguments)
    assert all(word in message for word in words), message


# --- data


def nan_in_row_5(place: Path) -> Path:
    x = np.zeros((20, 4), np.float32)
    x[5, 2] = np.nan
    np.savez(place / "d.npz", x=x, y=np.arange(20) % 3)
    return place / "d.npz"


def truncated_npz(place: Path) -> Path:
    np.savez(place / "d.npz", x=np.ones((200, 4), np.float32), y=np.arange(200) % 3)
    content = (place / "d.npz").read_bytes()
    (place / "d.npz").write_bytes(content[: len(content) // 2])
    return place / "d.npz"


def truncated_hdf5(place: Path) -> Path:
    import h5py

    with h5py.File(place / "d.h5", "w") as file:
        file["x"], file["y"] = np.ones((2000, 4), np.float32), np.arange(2000) % 3
    content = (place / "d.h5").read_bytes()
    (place / "d.h5").write_bytes(content[: len(content) // 2])
    return place / "d.h5"


def lengths_differ(place: Path) -> Path:
    np.savez(place / "d.npz", x=np.ones((20, 4), np.float32), y=np.arange(19) % 3)
    return place / "d.npz"


def too_many_classes(place: Path) -> Path:
    return csv(place / "d.csv", [line[:-1] + str(number % 4) for number, line in enumerate(rows())])


def label_outside(place: Path) -> Path:
    np.savez(place / "d.npz", x=np.ones((20, 4), np.float32), y=np.array([0, 1, 2] * 6 + [0, 7]))
    return place / "d.npz"


def empty(place: Path) -> Path:
    (place / "d.csv").write_text("")
    return place / "d.csv"


def with_line(number: int, line: str) -> Callable[[Path], Path]:
    """Return what makes a CSV file in which one line (counted from 1, with the header) is another."""

    def make(place: Path) -> Path:
        lines = rows()
        lines[number - 2] = line
        return csv(place / "d.csv", lines)

    return make


DATA: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "missing": (lambda place: place / "nothing.csv", ["nothing.csv", "no such file"]),
    "directory": (lambda place: place, ["is a directory"]),
    "empty": (empty, ["d.csv", "empty"]),
    "header-only": (lambda place: csv(place / "d.csv", []), ["d.csv", "no samples"]),
    "ragged": (with_line(7, "1,2,3,k1"), ["d.csv:7"]),
    "not-a-number": (with_line(9, "1,2,three,4,k1"), ["d.csv:9:3", "three"]),
    "missing-value": (with_line(9, "1,,3,4,k1"), ["d.csv:9:2"]),
    "missing-label": (with_line(12, "1,2,3,4,"), ["d.csv:12:5"]),
    "nan-in-csv": (with_line(9, "1,2,3,nan,k1"), ["d.csv:9:4"]),
    "nan": (nan_in_row_5, ["d.npz", "row 5, column 2", "nan"]),
    "truncated-npz": (truncated_npz, ["d.npz"]),
    "truncated-hdf5": (truncated_hdf5, ["d.h5", "truncated"]),
    "lengths-differ": (lengths_differ, ["19 targets for 20 samples"]),
    "too-many-classes": (too_many_classes, ["d.csv", "4", "3"]),
    "label-outside": (label_outside, ["d.npz", "row 19", "7"]),
}


@pytest.mark.parametrize(("make", "words"), DATA.values(), ids=DATA)
def test_data(place: Path, make: Callable[[Path], Path], words: list[str]) -> None:
    message = refused(3, arguments=train(config(place / "config.yaml", make(place))))
    assert all(word in message for word in words), message


def test_a_label_column_that_is_not_there(place: Path) -> None:
    path = config(place / "config.yaml", f"{csv(place / 'd.csv', rows())}\n  targets: lable")
    assert "'label'" in refused(3, "lable", arguments=train(path))


def test_an_unknown_label_in_the_validation_file(place: Path) -> None:
    csv(place / "v.csv", [*rows(), "1,2,3,4,k9"])
    path = config(place / "config.yaml", f"{csv(place / 'd.csv', rows())}\n  validation: {place / 'v.csv'}")
    refused(3, "v.csv:42:5", "k9", arguments=train(path))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("a,b,c,label", "v.csv: 1 of the columns that the network needs are missing: d"),
        ("0.5,0.1,0.2,k1", "v.csv: samples have 3 features; the network expects 4"),
    ],
    ids=["names", "no-names"],
)
def test_validation_data_of_another_width(place: Path, header: str, words: str) -> None:
    csv(place / "v.csv", rows(features=3), header=header)
    path = config(place / "config.yaml", f"{csv(place / 'd.csv', rows())}\n  validation: {place / 'v.csv'}")
    refused(3, words, arguments=train(path))


def test_too_few_samples(place: Path) -> None:
    path = config(place / "config.yaml", f"{csv(place / 'd.csv', rows(1))}\n  validation: 0.5")
    refused(3, "d.csv", arguments=train(path))


# --- run directory and checkpoints


def small(place: Path, **replaced: str) -> Path:
    return config(place / "config.yaml", csv(place / "d.csv", rows()), **replaced)


def test_a_run_directory_that_holds_a_run(place: Path) -> None:
    path = small(place)
    assert launch.onotrain(*train(path), timeout=60).returncode == 0
    refused(2, "holds a finished run already", "--resume", arguments=train(path))


def test_a_run_directory_that_holds_something_else(place: Path) -> None:
    (place / "run").mkdir()
    (place / "run" / "thesis.tex").write_text("")
    refused(2, "thesis.tex", arguments=train(small(place)))


def test_a_run_directory_that_is_in_use(place: Path) -> None:
    path = small(place, **{"epochs: 2": "epochs: 1000000"})
    with launch.start(launch.onotrain_command(*train(path, "--quiet"))):
        while not (place / "run" / "metrics.jsonl").exists():
            time.sleep(0.05)
        refused(2, "in use by process", arguments=train(path, "--resume"))


def test_resuming_with_another_network(place: Path) -> None:
    path = small(place)
    assert launch.onotrain(*train(path), timeout=60).returncode == 0
    refused(2, "model", arguments=train(path, "--resume", "--set", "model.layers.0.dense.units=9"))


def test_a_checkpoint_of_another_network(place: Path) -> None:
    path = small(place)
    assert launch.onotrain(*train(path), timeout=60).returncode == 0
    other = ("train", path, "--output", "other", "--set", "model.layers.0.dense.units=9")
    assert launch.onotrain(*other, timeout=60).returncode == 0
    for name in os.listdir("run/checkpoints"):
        if name.endswith(".h5"):
            os.replace(f"other/checkpoints/{name}", f"run/checkpoints/{name}")
    message = refused(4, arguments=train(path, "--resume", "--set", "training.epochs=3"))
    assert "another network" in message and "dense_0/weight" in message


def test_checkpoints_that_are_all_damaged(place: Path) -> None:
    path = small(place)
    assert launch.onotrain(*train(path), timeout=60).returncode == 0
    for file in Path("run/checkpoints").glob("*.h5"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    refused(4, "no checkpoint is sound", arguments=train(path, "--resume", "--set", "training.epochs=3"))


def test_a_loss_that_diverges(place: Path) -> None:
    import onotrain

    draw = np.random.Generator(np.random.Philox(4))
    np.savez("d.npz", x=draw.normal(size=(60, 4)).astype(np.float32), y=draw.normal(size=60).astype(np.float32))
    path = config(
        place / "config.yaml", place / "d.npz",
        **{"loss: cross_entropy": "loss: mse\noptimizer: {name: sgd, learning_rate: 1e-3}", "units: 3": "units: 1"},
    )  # fmt: skip
    text = path.read_text() + "schedule: {name: exponential, factor: 1e+9}\n"  # sane at first, then less and less so
    path.write_text(text.replace("epochs: 2", "epochs: 50"))
    refused(5, "training diverged at step", "learning_rate", arguments=train(path))
    assert len(list(Path("run/checkpoints").glob("step-*.h5"))) >= 1
    assert np.isfinite(onotrain.load("run").predict(np.zeros((2, 4), np.float32))).all()
    assert not Path("run/summary.json").exists()


# --- the other subcommands on something that is no run


@pytest.mark.parametrize("subcommand", ["inspect", "evaluate", "predict", "export"])
def test_no_run(place: Path, subcommand: str) -> None:
    more = {
        "evaluate": ("digits",),
        "predict": ("digits", "--output", "p.csv"),
        "export": ("--format", "npz", "--output", "n.npz"),
    }
    refused(2, "nothing: no such run", arguments=(subcommand, "nothing", *more.get(subcommand, ())))


# --- an error of one rank


# Rank 0 alone reads the data of its node.
@pytest.mark.parametrize(("phase", "rank"), [("start", 0), ("start", 1), ("data", 0), ("step", 0), ("step", 1)])
def test_an_exception_on_one_rank_ends_the_job(place: Path, phase: str, rank: int) -> None:
    (place / "driver.py").write_text(DRIVER)
    path = small(place, **{"epochs: 2": "epochs: 100000"})
    done = launch.mpirun(2, sys.executable, "driver.py", path, phase, rank, "run")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.count(f"internal error on rank {rank}") == 1
    assert done.stderr.count("ZeroDivisionError: injected") == 1
