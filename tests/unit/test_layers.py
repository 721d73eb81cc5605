"""The one-way rule: a package imports only from packages below it, and each foreign library has its places."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "onotrain"

# Lowest first.  Where the design names several packages of one height (nn, optim, data), this order is the one-way
# street between them.
GROUND = ("errors", "known_names", "control_groups", "memory", "files", "hdf5_layout", "seeds", "text", "config")
LAYERS = (
    *GROUND, "_kernels", "nn", "optim", "data", "parallel", "evaluation", "runs", "simulation", "strategies",
    "inference", "training", "supervisor", "reporting", "watching", "bench", "planning", "cli",
)  # fmt: skip

# Library -> the files that may import it.
HOMES = {
    "mpi4py": ("parallel/*",),
    "h5py": ("hdf5_layout.py", "*/checkpoint_image.py", "*/hdf5*"),
    "pyarrow": ("data/tables/*",),
    "click": ("cli/*",),
    "rich": ("cli/*",),
    "matplotlib": ("reporting/*",),
    "jinja2": ("reporting/*",),
    "tensorboardX": ("training/sinks/tensorboard.py",),
    "prometheus_client": ("training/sinks/prometheus.py",),
    "textual": ("watching/terminal.py",),
    "starlette": ("watching/web.py",),
    "uvicorn": ("watching/web.py",),
    "mlflow": ("training/sinks/mlflow.py",),
}
# The lazy names of the public package and the `python -m onotrain` entry stand above all packages.
ROOF = ("__init__.py", "__main__.py")


def imported(tree: ast.AST, within: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything that a module within a package imports; a name also as `module.name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = within[: len(within) - node.level + 1] if node.level else []
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
    package = parts[0].removesuffix(".py")
    found = []
    if path not in ROOF and package not in LAYERS:
        found.append(f"{path}: no package is called {package}; expected one of {', '.join(LAYERS)}")
    for line, name in imported(tree, ["onotrain", *parts[:-1]]):
        library, _, inner = name.partition(".")
        other = inner.partition(".")[0]
        if library == "onotrain" and other in LAYERS and path not in ROOF and package in LAYERS:
            if other != package and LAYERS.index(other) >= LAYERS.index(package):
                found.append(f"{path}:{line}: {package} imports {other}, which is not below it")
        elif library in HOMES and not any(fnmatch(path, home) for home in HOMES[library]):
            found.append(f"{path}:{line}: {library} is imported only by {', '.join(HOMES[library])}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print" and package != "cli":
            found.append(f"{path}:{node.lineno}: only cli prints")
    return found


FILES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_file_keeps_the_rules(path: str) -> None:
    assert violations(path, (SOURCE / path).read_text(encoding="utf-8")) == []


def test_kernel_sources_import_no_package() -> None:
    for path in sorted(SOURCE.rglob("*.pyx")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            words = line.split()
            if words[:1] in (["import"], ["from"], ["cimport"]) and words[1].startswith("onotrain."):
                package = words[1].split(".")[1]
                assert package in (*GROUND, "_kernels"), f"{path.name}:{number}: kernels import {package}"


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
        ("misc/tool.py", "", "no package is called misc"),
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


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of files that import each other, however long the way round."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            for other in imports.get(left.pop(), set()) - seen:
                seen.add(other)
                left.append(other)
        return seen

    reach = {path: reached(path) for path in imports}
    mutual = {path: sorted(other for other in reach[path] if path in reach.get(other, set())) for path in imports}
    return [list(group) for group in dict.fromkeys(tuple(group) for group in mutual.values() if group)]


def imports_of(path: str, text: str, files: set[str]) -> set[str]:
    """Return the files that one file imports, for type checkers or not; packages' faces hand names on, and are none."""
    found = set()
    for _, name in imported(ast.parse(text, path), ["onotrain", *Path(path).parts[:-1]]):
        parts = name.split(".")[1:]
        candidates = ("/".join(parts[:length]) + ".py" for length in (len(parts), len(parts) - 1) if length > 0)
        found.update(candidate for candidate in candidates if candidate in files)
    return found - {path}


def test_no_files_import_each_other() -> None:
    texts = {path: (SOURCE / path).read_text(encoding="utf-8") for path in FILES}
    assert circles({path: imports_of(path, text, set(FILES)) for path, text in texts.items()}) == []


def test_a_circle_is_seen() -> None:
    files = {"nn/a.py", "nn/b.py", "nn/c.py"}
    texts = {
        "nn/a.py": "from onotrain.nn.b import x",
        "nn/b.py": "def f():\n    from onotrain.nn import c",
        "nn/c.py": "from .a import y",
    }
    imports = {path: imports_of(path, text, files) for path, text in texts.items()}
    assert circles(imports) == [sorted(files)]
    assert circles(imports | {"nn/c.py": set()}) == []


def test_the_packages_were_found() -> None:
    assert {"errors.py", "__init__.py"} <= set(FILES)
