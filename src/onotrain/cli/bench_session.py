"""How a measurement of ``onotrain bench`` is run: by all ranks, shown and written by rank 0."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onotrain.bench.measure import Say
    from onotrain.bench.subject import Subject
    from onotrain.parallel.world import World

    #: Measures, given the ranks, the network, and what is given of the progress.
    Measure = Callable[[World, Subject, Say], dict[str, Any]]


class Session:
    """The options that all measurements have, and how one is run."""

    def __init__(
        self, config: Path | None, overrides: Sequence[str], inputs: int | None, build: str | None, seconds: float,
        json_path: Path | None,
    ) -> None:  # fmt: skip
        self._config, self._overrides, self._inputs, self._build = config, overrides, inputs, build
        self.seconds, self._json = seconds, json_path

    def run(self, kind: str, measure: Measure, tables: Callable[[dict[str, Any]], Iterator[Any]]) -> None:
        """Measure with all ranks, print, and write the numbers."""
        from onotrain import _kernels
        from onotrain.bench.machine import describe
        from onotrain.bench.subject import subject_of
        from onotrain.cli.terminal import console, terminal_columns, text_columns
        from onotrain.parallel.agreement import agreed
        from onotrain.parallel.world import World
        from onotrain.text import wrapped

        with World.connect() as world:
            with agreed(world.comm):
                if world.rank == 0 and self._json is not None:
                    _check_writable(self._json)
                if self._build is not None:
                    _kernels.select(self._build)
            subject = subject_of(world, self._config, self._overrides, self._inputs)
            machine = describe(world)
            with _progress(world.rank == 0) as say:
                result = measure(world, subject, say)
            with agreed(world.comm):
                if world.rank == 0:
                    out = console(terminal_columns())
                    for fact in _header(machine, subject):
                        out.print(wrapped(fact, text_columns(), 2), markup=False, soft_wrap=True)
                    for table in tables(result):
                        out.print()
                        out.print(table)
                    if self._json is not None:
                        _write(self._json, {"bench": kind, "machine": machine, **result})


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written before anything is measured."""
    from onotrain.errors import UsageError

    if path.is_dir() or not path.parent.is_dir():
        what = "is a directory" if path.is_dir() else f"there is no directory {path.parent}"
        raise UsageError(f"{path}: {what}", hint="give --json the name of a file in a directory that exists")


def _write(path: Path, content: dict[str, Any]) -> None:
    from onotrain.files import write_atomically

    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def _header(machine: dict[str, Any], subject: Subject) -> list[str]:
    """Return the facts that the numbers depend on."""
    from onotrain.text import count

    facts, ranks = subject.describe(), machine["ranks"]
    network = f"network {facts['network']}, {facts['dtype']}"
    if facts["precision"] != "full":
        network += f", products in {facts['precision']}"
    pools = ", ".join(f"{b['library']} {b['version']}, {count(b['threads'], 'thread')}" for b in machine["blas"][:1])
    return [
        f"{machine['cpu']}, {count(machine['cores'], 'core')}; {count(ranks, 'rank')} on "
        f"{count(len(machine['ranks_per_node']), 'node')}",
        f"{network}; kernels {subject.kernels.path}; BLAS {pools or 'unknown'}",
    ]


@contextmanager
def _progress(shown: bool) -> Iterator[Say]:
    """Give what shows on a terminal what is being measured."""
    from onotrain.cli.terminal import console, terminal_columns, terminal_stream

    columns = terminal_columns() if shown else None
    if columns is None:
        yield lambda text: None
        return
    from rich.progress import Progress, TextColumn

    # No thread that draws: it would compete with what is measured.
    style = TextColumn("measuring {task.description}", markup=False)
    line = Progress(style, console=console(columns, stream=terminal_stream()), auto_refresh=False, transient=True)
    with line:
        task = line.add_task("")

        def say(text: str) -> None:
            line.update(task, description=text)
            line.refresh()

        yield say
