"""The house's one-way rule: a room imports only from rooms below it, and each foreign library has its rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "onotrain"

# Lowest first; `config` and `errors` are ground under all of them.  Where the design names several rooms of one height
# (nn, optim, data), this order is the one-way street between them.
GROUND = ("errors", "names", "memory", "files", "hdf5_layout", "seeds", "config")
ROOMS = (
    *GROUND, "_kernels", "nn", "optim", "data", "parallel", "evaluation", "runs", "strategies", "inference", "training",
    "reporting", "bench", "cli",
)  # fmt: skip

# Library -> the files that may import it.
HOMES = {
    "mpi4py": ("parallel/*",),
    "h5py": ("hdf5_layout.py", "*/checkpoint_image.py", "*/hdf5*"),
    "click": ("cli/*",),
    "rich": ("cli/*",),
}
# The lazy names of the public package and the `python -m onotrain` entry stand above all rooms.
ROOF = ("__init__.py", "__main__.py")


def imported(tree: ast.AST, package: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything a module of `package` imports; a name also as `module.name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def violations(path: str, text: str) -> list[str]:
    """Return what one file (path relative to the package) does against the rules."""
    tree = ast.parse(text, path)
    parts = Path(path).parts
    room = parts[0].removesuffix(".py")
    found = []
    if path not in ROOF and room not in ROOMS:
        found.append(f"{path}: no room is called {room}; the rooms are {', '.join(ROOMS)}")
    for line, name in imported(tree, ["onotrain", *parts[:-1]]):
        library, _, inner = name.partition(".")
        other = inner.partition(".")[0]
        if library == "onotrain" and other in ROOMS and path not in ROOF and room in ROOMS:
            if other != room and ROOMS.index(other) >= ROOMS.index(room):
                found.append(f"{path}:{line}: {room} imports {other}, which is not below it")
        elif library in HOMES and not any(fnmatch(path, home) for home in HOMES[library]):
            found.append(f"{path}:{line}: {library} is imported only by {', '.join(HOMES[library])}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print" and room != "cli":
            found.append(f"{path}:{node.lineno}: only cli prints")
    return found


FILES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_file_keeps_the_rules(path: str) -> None:
    assert violations(path, (SOURCE / path).read_text(encoding="utf-8")) == []


def test_kernel_sources_import_no_room() -> None:
    for path in sorted(SOURCE.rglob("*.pyx")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            words = line.split()
            if words[:1] in (["import"], ["from"], ["cimport"]) and words[1].startswith("onotrain."):
                room = words[1].split(".")[1]
                assert room in (*GROUND, "_kernels"), f"{path.name}:{number}: kernels import {room}"


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("nn/model.py", "from onotrain.training import Trainer", "nn imports training"),
        ("nn/model.py", "from onotrain import cli", "nn imports cli"),
        ("nn/model.py", "from ..strategies import x", "nn imports strategies"),
        ("nn/deep/model.py", "from ...training.loop import x", "nn imports training"),
        ("nn/model.py", "def f():\n    import onotrain.parallel.world", "nn imports parallel"),
        ("nn/model.py", "import importlib\nimportlib.import_module('onotrain.cli.main')", "nn imports cli"),
        ("config/schema.py", "from onotrain.nn import layers", "config imports nn"),
        ("errors.py", "from onotrain.config import Config", "errors imports config"),
        ("training/loop.py", "from mpi4py import MPI", "mpi4py is imported only"),
        ("training/loop.py", "import h5py", "h5py is imported only"),
        ("reporting/table.py", "import rich.table", "rich is imported only"),
        ("inference/predictor.py", "from onotrain.training.session import train", "inference imports training"),
        ("__init__.py", "import click", "click is imported only"),
        ("training/loop.py", "print('loss')", "only cli prints"),
        ("misc/tool.py", "", "no room is called misc"),
    ],
)
def test_a_breach_is_seen(path: str, text: str, complaint: str) -> None:
    assert [complaint in found for found in violations(path, text)] == [True]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nn/model.py", "from onotrain import _kernels\nfrom onotrain.config import Config\nfrom .layers import Dense"),
        ("parallel/world.py", "def f():\n    from mpi4py import MPI"),
        ("runs/checkpoint_image.py", "import h5py"),
        ("inference/hdf5_sink.py", "import h5py"),
        ("data/hdf5.py", "import h5py"),
        ("cli/train.py", "import click, rich.console\nfrom onotrain.reporting import x\nprint('done')"),
        ("__init__.py", "from onotrain.training import train"),
    ],
)
def test_what_is_allowed_is_not_a_breach(path: str, text: str) -> None:
    assert violations(path, text) == []


def test_the_rooms_were_found() -> None:
    assert {"errors.py", "__init__.py"} <= set(FILES)
