"""What the README shows works."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

from launch import run
from onotrain.config import Config
from onotrain.known_names import ACTIVATIONS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs(tmp_path: Path) -> None:
    """It trains on real data and predicts; in a process of its own, for it starts MPI."""
    (example,) = blocks("python")
    (tmp_path / "example.py").write_text(example + "\nprint(probabilities.shape)\n")
    done = run([sys.executable, "example.py"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy, shape = done.stdout.splitlines()
    assert float(accuracy) > 0.9 and shape == "(5, 10)" and done.stderr == ""


def test_the_configuration_in_full_is_valid() -> None:
    """Every key of the example is known."""
    (text,) = blocks("yaml")
    config = Config.from_mapping(yaml.safe_load(text.replace("1e-3", "0.001").replace("1e-5", "0.00001")))
    assert config.optimizer.weight_decay == 1e-5 and config.training.clip_norm == 5.0
    assert f"# {' '.join(ACTIVATIONS)}\n" in text
