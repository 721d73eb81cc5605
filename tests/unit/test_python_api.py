"""The examples of the page of the Python API run, and the page has all public names."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import onotrain
from launch import run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python-api.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path) -> None:
    """As one program, in a process of its own, for it starts MPI."""
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "examples.py").write_text("\n".join(examples))
    done = run([sys.executable, "examples.py"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 0." in done.stdout and "done: 0." in done.stdout
    assert len(examples) > 6


def test_every_public_name_is_on_the_page() -> None:
    for name in onotrain.__all__:
        assert f"`onotrain.{name}`" in PAGE, name
