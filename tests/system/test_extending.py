"""The code of the page on extending works: its package trains, its layer has the right gradient, the rest is ours."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import launch
from onotrain import _kernels
from onotrain.nn.layers.recorder import Recorder

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SOURCES = ("python", "cython")


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def parts(file: str) -> str:
    """Return the blocks that begin with the name of this file, one after the other."""
    found = [code for language in SOURCES for code in blocks(language) if code.startswith(f"# {file}\n")]
    assert found, file
    return "\n\n".join(code.partition("\n")[2] for code in found)


def install(folder: Path) -> Mapping[str, str]:
    """Leave what pip would make of the package; return the environment in which it is installed."""
    (folder / "tilt.py").write_text(parts("tilt.py"))
    (project,) = [tomllib.loads(text)["project"] for text in blocks("toml")]
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tilt\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    text = "".join(f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items()) for group, points in groups)
    (info / "entry_points.txt").write_text(text)
    return {"PYTHONPATH": str(folder)}


def test_the_package_trains(tmp_path: Path) -> None:
    environment = install(tmp_path)
    (tmp_path / "config.yaml").write_text("".join(blocks("yaml")))
    done = launch.onotrain("train", "config.yaml", "--output", "run", ranks=2, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["train_loss"] < 0.7 * records[0]["train_loss"]
    assert records[-1]["validation_within_half"] > 0.2 and records[-1]["strategy"] == "majority_vote"


def test_the_gradient_of_the_layer_is_right() -> None:
    """Against central differences of a weighted sum of its outputs, for some rows added to others."""
    namespace: dict[str, Any] = {}
    exec(parts("tilt.py"), namespace)
    layer, rng = namespace["Gain"](namespace["GainOptions"](), (3,), None), np.random.default_rng(1)
    kernels, (x, weights, y, products) = _kernels.load("float64"), rng.normal(size=(4, 4, 3))
    factor, dx, gradient = rng.normal(size=3), np.empty((4, 3)), np.ones(3)

    def run(record: Callable[[Recorder], None], **more: Any) -> None:
        r = Recorder(kernels, [], 0, (x,), y, {"factor": factor}, {"products": products}, **more)
        record(r)
        kernels.program(r.calls).run(0)

    def value() -> float:
        run(layer.forward)
        return float((weights * y).sum())

    value()
    run(layer.backward, gradients={"factor": gradient}, dinputs=(dx,), dy=weights.copy(), accumulate=True)
    np.testing.assert_allclose(products.sum(axis=0), gradient - 1.0)
    for array, derivative in ((factor, gradient - 1.0), (x, dx)):
        for index in np.ndindex(array.shape):
            kept, around = array[index], []
            for step in (1e-4, -1e-4):
                array[index] = kept + step
                around.append(value())
            array[index] = kept
            assert np.isclose((around[0] - around[1]) / 2e-4, derivative[index])


def test_what_is_shown_of_the_tree_is_in_it() -> None:
    shown = [code for language in SOURCES for code in blocks(language) if code.startswith("# onotrain/")]
    assert len(shown) == 2
    for code in shown:
        name, _, text = code.partition("\n")
        source = (ROOT / "src" / name.removeprefix("# ")).read_text(encoding="utf-8")
        assert " ".join(text.split()) in " ".join(source.split()), name  # lines of a page are shorter
