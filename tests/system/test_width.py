"""What every subcommand prints is whole at 80 and at 60 columns: no line is too wide, and no number is broken."""

from __future__ import annotations

import csv
import os
import pty
import re
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

import builders
import launch
from onotrain.training import train

TARGETS = [
    "surface_temperature_of_the_wall",
    "pressure_at_the_outlet_of_nozzle",
    "mass_flow_rate_at_the_inlet",
    "k",
    "drag",
]
EARLY = {"patience": 5, "metric": "validation_loss"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with data whose names are long and numbers very different, and networks trained on them."""
    place = tmp_path_factory.mktemp("width")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 4))
    with h5py.File(place / "five.h5", "w") as file:
        file["x"] = x
        y = file.create_dataset(
            "y", data=x[:, [0, 1, 2, 3, 0]] * [1e6, 1e9, 1e-7, 1.0, 1e-3] + [300.0, 1e10, 1e-6, 0, 0]
        )
        y.attrs["units"] = np.array(["K", "Pa", "kg/s", "", "1"], dtype=object)
        file.attrs["target_names"] = np.array(TARGETS, dtype=object)
    with open(place / "twelve.csv", "w", newline="") as file:
        write = csv.writer(file)
        write.writerow([*(f"a_long_name_of_measured_value_{k}" for k in range(40)), "label"])
        wide = rng.normal(size=(240, 40)) * 10.0 ** rng.integers(-8, 9, 40)
        write.writerows([*row, f"class with a long name {k % 12}"] for k, row in enumerate(wide))
    training = {"epochs": 3, "batch_size": 24, "early_stopping": EARLY, "metrics": "auto"}
    for name, outputs, loss in (("five.h5", 5, "mse"), ("twelve.csv", 12, "cross_entropy")):
        data = {"train": str(place / name), "validation": 0.25}
        made = builders.mapping(8, outputs, data=data, loss=loss, training=training)
        train(made, output=place / name.partition(".")[0])
    return place


def shown(place: Path, columns: int, *arguments: str) -> str:
    """Return what a subcommand shows on a terminal of so many columns."""
    main, other = pty.openpty()
    terminal = {"TERM": "xterm", "COLUMNS": str(columns)}
    process = launch.fork(*arguments, out=other, err=other, env=terminal, cwd=place)
    os.close(other)
    kept = b""
    try:
        with suppress(OSError):  # the last one has closed the terminal
            while part := os.read(main, 65536):
                kept += part
        process.join(60)
        assert process.exitcode == 0, kept.decode()
    finally:
        process.kill()
        os.close(main)
    text = re.sub(r"\x1b\[[\d;]*m", "", kept.decode().replace("\r\n", "\n"))  # colours
    text = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "\r", text)  # what takes a bar away
    return "\n".join(max(line.split("\r"), key=len).rstrip() for line in text.splitlines())


COMMANDS = {
    "evaluate values": ["evaluate", "five", "five.h5"],
    "evaluate classes": ["evaluate", "twelve", "twelve.csv"],
    "inspect values": ["inspect", "five"],
    "inspect classes": ["inspect", "twelve"],
    "data info array": ["data", "info", "five.h5"],
    "data info table": ["data", "info", "twelve.csv"],
    "validate": ["validate", "five/config.yaml"],
    "init": ["init", "twelve.csv", "--force"],
    "train": ["train", "twelve/config.yaml", "--output", "again", "--overwrite"],
    "train values": ["train", "five/config.yaml", "--output", "again", "--overwrite"],
    "predict": ["predict", "five", "five.h5", "--output", "p.csv"],
}


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("name", COMMANDS)
def test_all_is_whole(place: Path, name: str, columns: int) -> None:
    text = shown(place, columns, *COMMANDS[name])
    assert text.strip()
    text = text.replace(str(place), "place")  # paths are for copying, and stay whole
    too_wide = [line for line in text.splitlines() if len(line) > columns]
    assert too_wide == []
    text = re.sub(r"(?m)^sha256.*$", "", text)
    # A broken number leaves a line that ends or begins with a part of one: 1.2345e-, +05, 123,.
    assert not re.search(r"(\d\.|\de|e[+-]|\d,)$", text, re.MULTILINE)
    assert not re.search(r"^\s*([+-]\d\d\b(?!\.)|e[+-]\d\d|\.\d)", text, re.MULTILINE)
    assert not re.search(r"\d\.\.\.", text)
    for found in re.findall(r"\d+\.\d+(?:e[+-]\d\d)?", re.sub(r"(?m)^onotrain \d.*$|^.*\bs of training.*$", "", text)):
        digits = re.sub(r"e.*|\.", "", found).lstrip("0")
        assert len(digits) <= 5, found


def test_units_stand_beside_errors(place: Path) -> None:
    text = shown(place, 80, "evaluate", "five", "five.h5", "--units", "k=J")
    for name, unit in zip(TARGETS, ("K", "Pa", "kg/s", "J", "1"), strict=True):
        assert re.search(rf"^{name[:10]}\S*\s+{unit}\s+\S+\s+\S+\s+\S+$", text, re.MULTILINE), text


def test_all_metrics_are_there_at_80_columns(place: Path) -> None:
    text = shown(place, 80, "inspect", "five")
    (heading,) = re.findall(r"^epoch +train loss.*", text, re.MULTILINE)
    assert [name in heading for name in ("val loss", "val r2", "val rmse", "samples/s")] == [True, True, True, False]
    assert re.search(r"\(too narrow for: .*samples/s, seconds\)", " ".join(text.split()))
    assert re.search(r"^\d\*", text, re.MULTILINE) and "* marks the best one" in text


def test_what_to_do_next_can_be_copied(place: Path) -> None:
    text = shown(place, 60, *COMMANDS["train"])
    assert "\nnext: onotrain evaluate again DATA\n" in text
    assert "\n      onotrain predict again DATA --output predictions.csv\n" in f"{text}\n"
    assert "* marks the best epoch so far" in " ".join(text.split())
