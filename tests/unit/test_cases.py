"""Tables as people have them, from the file to a good network, without an edit of what `init` writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import onotrain
from commands import evaluated, predicted, trained, write
from onotrain.cli.program import run


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def quantities() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(4).normal(size=(600, 3)).round(3)
    return x, np.tanh(x[:, 0] + x[:, 1]) + 0.3 * x[:, 2]


@pytest.mark.parametrize(("offset", "unit"), [(250_000, 80_000), (0, 1e-7)], ids=["price", "flux"])
def test_targets_of_any_size_are_learned(offset: float, unit: float, capsys: pytest.CaptureFixture[str]) -> None:
    """And everything that is said of them is in their units."""
    x, s = quantities()
    y = offset + unit * s
    np.savetxt("t.csv", np.c_[x, y], "%.9g", ",", header="a,b,c,y", comments="")
    config = trained("t.csv")
    assert config.data.normalize_targets == "standard"
    metrics = evaluated("t.csv", capsys)
    assert metrics["r2"] > 0.95
    values = np.array([float(row["y"]) for row in predicted("t.csv")])
    np.testing.assert_allclose(metrics["rmse"], np.sqrt(np.mean((values - y) ** 2)), rtol=1e-4)
    np.testing.assert_allclose(metrics["mae"], np.mean(np.abs(values - y)), rtol=1e-4)
    assert metrics["rmse"] < 0.25 * y.std()


CLASSES = {
    "quality": [(0.1, 1.2, 3), (0.4, 1.1, 4), (0.9, 0.2, 5), (1.4, 0.3, 6), (2.1, 2.2, 7), (2.5, 2.1, 8)] * 2,
    "sign": [(0.1, 1, -1), (0.2, 1, -1), (3.1, 2, 1), (3.2, 2, 1), (0.3, 1, -1), (3.3, 2, 1)],
    "two_four": [(0.1, 1, 2), (0.2, 1, 2), (3.1, 2, 4), (3.2, 2, 4), (0.3, 1, 2), (3.3, 2, 4)],
    "cover": [(0.5 * k + d, k * k, k) for k in range(1, 8) for d in (0, 0.1)],
    "gaps": [(float(k), k % 2 + d, [10, 20, 50][k]) for k in range(3) for d in (0, 0.1, 0.2)],
}


@pytest.mark.parametrize("name", CLASSES)
def test_whole_numbers_are_classes_of_these_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = CLASSES[name]
    names = [str(number) for number in sorted({row[-1] for row in rows})]
    write("t.csv", f"a,b,{name}", *rows)
    config = trained("t.csv", "training.epochs=200", "data.validation=null", "training.batch_size=4")
    assert (config.loss.name, config.model.outputs) == ("cross_entropy", len(names))
    assert onotrain.load("r").class_names == tuple(names)
    right = [row["class"] == str(of_file[-1]) for row, of_file in zip(predicted("t.csv"), rows, strict=True)]
    accuracy = evaluated("t.csv", capsys)["accuracy"]
    assert accuracy == pytest.approx(np.mean(right))
    assert accuracy == 1.0 or len(names) > 3


@pytest.mark.parametrize(
    ("text", "columns", "target"),
    [
        ("400.5,402.5,404.5,grade\n.11,.12,.13,low\n.12,.13,.13,low\n.31,.32,.35,high\n.30,.33,.36,high\n",
         ["400.5", "402.5", "404.5"], "grade"),
        ("0,1,2,3,4\n.11,.12,.13,.2,0\n.12,.13,.13,.1,0\n.31,.32,.35,.3,1\n.30,.33,.36,.4,1\n",
         ["0", "1", "2", "3"], "4"),
        ("gdp,2018,2019,2020,label\n1.5,.12,.13,.1,0\n1.2,.13,.13,.2,0\n1.9,.32,.35,.3,1\n1.1,.33,.36,.4,1\n",
         ["gdp", "2018", "2019", "2020"], "label"),
        ("sample_id,9.99,9.98,9.97,classification\n101,13.7,-12.5,20.9,case\n102,39.5,41.4,29.5,case\n"
         "103,29.1,24.8,59.7,control\n104,-12.1,-27.2,-54.1,control\n",
         ["9.99", "9.98", "9.97"], "classification"),
    ],
    ids=["spectra", "pandas", "years", "nmr"],
)  # fmt: skip
def test_numbers_may_be_the_names_of_columns(
    text: str, columns: list[str], target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("t.csv").write_text(text)
    assert run(["data", "info", "t.csv"]) == 0
    out = capsys.readouterr().out
    assert "samples   4" in out and "2 classes" in out and f"taken: {target}" in out
    assert "the first line is a header, though it holds numbers" in out
    trained("t.csv", "training.epochs=1")
    assert list(onotrain.load("r").metadata.feature_names) == columns
    # Who knows it better can say so.
    assert run(["data", "info", "t.csv", "--csv", "header=false"]) == 0
    assert "samples   5" in capsys.readouterr().out


ENERGIES = [(k - 3, f"{-76543.213 + 0.001 * k:.6f}") for k in range(8)]


def test_small_differences_of_large_targets_are_learned(capsys: pytest.CaptureFixture[str]) -> None:
    write("t.csv", "a,E", *ENERGIES)
    for dtype, scaling in (("float64", "none"), ("float32", "standard"), ("float64", "standard")):
        text = (
            f"data: {{train: t.csv, normalize: standard, normalize_targets: {scaling}, columns: {{a: numeric}}}}\n"
            "model: {layers: [{dense: 1}]}\nloss: mse\noptimizer: {name: sgd, learning_rate: 0.2}\n"
            f"training: {{epochs: 500, batch_size: 8, dtype: {dtype}}}\ncheckpoint: {{every_epochs: 500}}\n"
        )
        Path("c.yaml").write_text(text)
        shutil.rmtree("r", ignore_errors=True)
        assert run(["train", "c.yaml", "--output", "r", "--quiet"]) == 0
        assert evaluated("t.csv", capsys)["r2"] > 0.999
        values = np.array([float(row["E"]) for row in predicted("t.csv")])
        np.testing.assert_allclose(values, [float(energy) for _, energy in ENERGIES], rtol=0, atol=3e-5)


def test_times_of_a_day_and_tiny_numbers_are_distinguished(capsys: pytest.CaptureFixture[str]) -> None:
    write("time.csv", "t,a,label", *((1700000000000 + 700 * k, (0, 1, 2)[k % 3], k % 2) for k in range(8)))
    write("sigma.csv", "sigma,mass,label", "1.5e-46,1,0", "2.5e-46,2,0", "7.5e-46,1,1", "8.5e-46,2,1")
    assert run(["data", "info", "time.csv", "sigma.csv"]) == 0
    out = capsys.readouterr().out
    assert "the same" not in out
    for name, different, summary in (("t", 8, "sd 1603.9"), ("sigma", 4, "1.5e-46 to 8.5e-46")):
        line = next(line for line in out.splitlines() if line.split()[:2] == [name, "numeric"])
        assert line.split()[2] == str(different) and summary in line
    trained("time.csv", "training.epochs=1")
    features = onotrain.load("r").features({"t": [1700000000000, 1700000004900], "a": [0, 1]})
    np.testing.assert_allclose(features[1, 0] - features[0, 0], 4900 / 1603.9, rtol=0.3)


def test_the_command_and_python_predict_the_same_of_julian_dates() -> None:
    days = 2460000.5 + np.arange(40) / 1000
    np.savetxt("t.csv", np.c_[days, np.sin(np.arange(40) / 5)], "%.17g", ",", header="day,y", comments="")
    for dtype in ("float64", "float32"):
        trained("t.csv", f"training.dtype={dtype}", "training.epochs=30", "data.normalize_targets=none")
        rows = np.array([[float(row["y"])] for row in predicted("t.csv")])
        network = onotrain.load("r")
        for given in (days[:, None], {"day": days}):
            np.testing.assert_array_equal(network.predict(given), rows.astype(dtype))
        assert np.ptp(rows) > 0.1
        assert run(["evaluate", "r", "t.csv"]) == 0
        shutil.rmtree("r")
