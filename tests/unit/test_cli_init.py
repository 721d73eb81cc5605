"""The configurations that init writes are valid, fit the data, and train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.cli.program import run
from onotrain.config import load_config
from onotrain.config.yaml_reader import read_yaml
from onotrain.data.first_sizes import batch_size, epochs, hidden_widths, learning_rate, weight_decay
from onotrain.data.yaml_text import scalar


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def features(rows: int = 30) -> np.ndarray:
    return np.random.Generator(np.random.Philox(2)).normal(size=(rows, 5)).astype(np.float32)


CASES = {
    "classes": (np.arange(30) % 3, "cross_entropy", 3),
    "names": (np.array(["cat", "dog"] * 15), "cross_entropy", 2),
    "values": (np.linspace(0, 1, 30, dtype=np.float32) ** 2, "mse", 1),
    "several-values": (features()[:, :2], "mse", 2),
    "labels": ((np.arange(90).reshape(30, 3) % 4 == 0).astype(np.int64), "binary_cross_entropy", 3),
}


@pytest.mark.parametrize(("targets", "loss", "outputs"), CASES.values(), ids=CASES)
def test_init(targets: np.ndarray, loss: str, outputs: int) -> None:
    np.savez("d.npz", x=features(), y=targets)
    assert run(["init", "d.npz"]) == 0
    config = load_config("config.yaml")
    assert (config.data.train, config.loss.name, config.model.outputs) == ("d.npz", loss, outputs)
    assert run(["validate", "config.yaml"]) == 0
    assert run(["train", "config.yaml", "--output", "run", "--set", "training.epochs=1", "--quiet"]) == 0


def test_init_passes_on_how_to_read_the_file() -> None:
    np.savez("d.npz", samples=features(), what=np.arange(30) % 4)
    assert run(["init", "d.npz", "--features", "samples", "--targets", "what", "--output", "my.yaml"]) == 0
    config = load_config("my.yaml")
    assert (config.data.features, config.data.targets) == ("samples", "what")


def test_init_never_overwrites_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text("mine")
    assert run(["init", "digits"]) == 2
    assert Path("config.yaml").read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert run(["init", "digits", "--force"]) == 0
    assert load_config("config.yaml").model.outputs == 10


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"x": features()}, "no targets"),
        ({"x": features(1), "y": np.zeros(1, np.int64)}, "too few"),
        ({"x": features(), "y": np.zeros(30, np.int64)}, "same target"),
        ({"x": np.full((30, 2), np.nan, np.float32), "y": np.arange(30) % 2}, "NaN"),
        ({"x": features(), "y": np.full(30, np.nan, np.float32)}, "no target"),
    ],
    ids=["no-targets", "one-sample", "one-class", "nan", "nan-targets"],
)
def test_data_that_cannot_be_learned_from(
    arrays: dict[str, np.ndarray], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("d.npz", **arrays)
    assert run(["init", "d.npz"]) == 3
    assert word in capsys.readouterr().err
    assert not Path("config.yaml").exists()


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.isprintable()))
def test_any_name_survives_yaml(text: str) -> None:
    assert read_yaml(f"key: {scalar(text)} # comment\n".encode()).data == {"key": text}


@given(st.integers(2, 10**9), st.integers(1, 10**6), st.integers(1, 10**5))
def test_sizes_are_sane(samples: int, columns: int, outputs: int) -> None:
    batch = batch_size(samples)
    assert 8 <= batch <= 128
    assert 5 <= epochs(samples, batch) <= 100
    first, second = hidden_widths(columns, outputs, samples)
    assert 32 <= second <= first <= 512
    assert 1e-3 <= learning_rate(batch) <= 2e-3
    assert 1e-9 <= weight_decay(samples) <= 1e-2


@pytest.mark.parametrize(("samples", "rate", "decay"), [(150, 1e-3, 7e-3), (1000, 1.4e-3, 1e-3), (60000, 2e-3, 2e-5)])
def test_rate_and_penalty_follow_from_the_number_of_samples(samples: int, rate: float, decay: float) -> None:
    """The rate goes with the square root of the batch, which goes with the samples; the penalty with 1 / samples."""
    np.savez("d.npz", x=np.arange(float(samples)), y=np.arange(samples) % 3)
    assert run(["init", "d.npz"]) == 0
    config = load_config("config.yaml")
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (rate, decay)
    assert config.model.bias_initializer.name == "xavier_uniform"
