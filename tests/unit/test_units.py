"""Units of the targets: from files and from the configuration, through joining and converting, to metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from onotrain.cli.program import run
from onotrain.config import Config, load_config
from onotrain.data import DataSpec, load_dataset
from onotrain.data.convert import convert
from onotrain.data.dataset import Dataset, make_dataset
from onotrain.data.prepare import prepare
from onotrain.data.several import concatenate_datasets
from onotrain.errors import ConfigError, DataError
from onotrain.inference.evaluation import evaluate
from onotrain.training import train

X = np.random.default_rng(0).normal(size=(40, 4))


def part(source: str, units: tuple[str, ...] | None) -> Dataset:
    return make_dataset(X[:, :2], X[:, 2:], source, target_names=["p", "q"], target_units=units)


def csv(path: Path) -> Path:
    np.savetxt(path, X, delimiter=",", header="a,b,p,q", comments="")
    return path


def mapping(path: Path, **data: Any) -> dict[str, Any]:
    return {
        "data": {"train": str(path), "targets": ["p", "q"], **data}, "model": {"layers": [{"dense": 2}]}, "loss": "mse",
        "optimizer": "adam", "training": {"epochs": 1, "batch_size": 8},
    }  # fmt: skip


def test_units_of_files_are_joined() -> None:
    whole = concatenate_datasets([part("a", None), part("b", ("mm", "")), part("c", ("mm", "Pa"))])
    assert whole.target_units == ("mm", "Pa")
    assert concatenate_datasets([part("a", None), part("b", None)]).target_units is None


def test_units_that_differ_are_refused() -> None:
    with pytest.raises(DataError, match="c: target 'p' is in m, but in mm in b") as caught:
        concatenate_datasets([part("a", None), part("b", ("mm", "")), part("c", ("m", ""))])
    assert caught.value.hint == "convert it to the same units"


@pytest.mark.parametrize("units", [("mm", "Pa"), ("°C", ""), ("m/s", "m/s")])
@pytest.mark.parametrize("files", [1, 2])
def test_a_conversion_keeps_them(tmp_path: Path, units: tuple[str, ...], files: int) -> None:
    for number in range(files):
        with h5py.File(tmp_path / f"part-{number}.h5", "w") as file:
            file["x"], file["y"] = X[:, :2], X[:, 2:]
            file["y"].attrs["units"] = list(units)
    assert load_dataset(DataSpec(str(tmp_path / "part-0.h5"))).target_units == units
    convert(DataSpec(str(tmp_path / "part-*.h5")), tmp_path / "all.hdf5", shuffle_seed=1)
    assert load_dataset(DataSpec(str(tmp_path / "all.hdf5"))).target_units == units


@pytest.mark.parametrize(
    ("given", "expected"),
    [("mm", ("mm", "mm")), ({"q": "Pa"}, ("", "Pa")), ({"p": "mm", "q": "Pa"}, ("mm", "Pa")), (None, None)],
)
def test_units_of_the_configuration(tmp_path: Path, given: Any, expected: Any) -> None:
    made = Config.from_mapping(mapping(csv(tmp_path / "a.csv"), units=given))
    assert prepare(made.data, "regression", 2, "float32", 10**9).description.target_units == expected


def test_the_configuration_counts_before_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = X[:, :2], X[:, 2:]
        file["y"].attrs["units"] = ["m", "Pa"]
    made = mapping(tmp_path / "a.h5", units={"y[0]": "km"})
    del made["data"]["targets"]
    section = Config.from_mapping(made).data
    assert prepare(section, "regression", 2, "float32", 10**9).description.target_units == ("km", "Pa")
    with pytest.raises(DataError, match=r"data.units names the target 'z', expected some of y\[0\], y\[1\]"):
        prepare(section.model_copy(update={"units": {"z": "m"}}), "regression", 2, "float32", 10**9)


def test_a_name_that_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data.units.z: is no target; expected some of p, q"):
        Config.from_mapping(mapping(csv(tmp_path / "a.csv"), units={"z": "mm"}))


def test_classes_have_no_units() -> None:
    made = {"data": {"train": "digits", "units": "mm"}, "model": {"layers": [{"dense": 10}]},
            "loss": "cross_entropy", "optimizer": "adam", "training": {"epochs": 1, "batch_size": 8}}  # fmt: skip
    with pytest.raises(DataError, match="data.units is given, but the targets are classes"):
        prepare(Config.from_mapping(made).data, "multiclass", 10, "float32", 10**9)


def test_metrics_are_in_these_units(tmp_path: Path) -> None:
    trained = train(mapping(csv(tmp_path / "a.csv"), units={"p": "mm", "q": "Pa"}), output=tmp_path / "run").output
    found = evaluate(trained, DataSpec(str(tmp_path / "a.csv")))
    assert [output["unit"] for output in found.to_mapping()["outputs"]] == ["mm", "Pa"]
    assert evaluate(trained, DataSpec(str(tmp_path / "a.csv")), units={"p": "km"}).output_units == ("km", "Pa")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--units", "mm"], "mm"),
        (["--units", "p=mm,q=m/s"], {"p": "mm", "q": "m/s"}),
        (["--units", "p=mm", "--units", "q=°C"], {"p": "mm", "q": "°C"}),
    ],
)
def test_init_writes_them(tmp_path: Path, options: list[str], expected: Any) -> None:
    output = tmp_path / "config.yaml"
    arguments = ["init", str(csv(tmp_path / "a.csv")), "--targets", "p", "--targets", "q", "-o", str(output), *options]
    assert run(arguments) == 0
    assert load_config(output).data.units == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--units", "p=mm,z=Pa"], "a unit is given for 'z'"), (["--units", "=mm"], "expected NAME=UNIT")],
)
def test_init_refuses_what_is_no_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    arguments = ["init", str(csv(tmp_path / "a.csv")), "--targets", "p", "--targets", "q",
                 "-o", str(tmp_path / "c.yaml"), *options]  # fmt: skip
    assert run(arguments) != 0
    assert message in capsys.readouterr().err
