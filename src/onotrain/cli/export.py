"""``onotrain export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onotrain.cli.subcommand import Subcommand
from onotrain.known_names import EXPORT_FORMATS

if TYPE_CHECKING:
    from onotrain.inference.exported_ports import Port

EXAMPLES = """
onotrain export runs/digits --format safetensors
onotrain export runs/digits --output network.onnx
onotrain export runs/d/checkpoints/step-000001000.h5 --output d.npz
"""
#: Inputs that are shown.
SHOWN_PORTS = 40


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option(
    "--format", "kind", type=click.Choice(EXPORT_FORMATS),
    help="What to write.  [default: as the suffix of --output says]",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE",
    help="File to write.  [default: the run's name with .FORMAT, here, if there is no such file]",
)  # fmt: skip
def command(run: str, kind: str | None, output: Path | None) -> None:
    """Write the network of RUN, a run directory or a checkpoint, for other programs.

    All that is between a file and a prediction goes with it: preparation of the columns of a table, normalisation,
    parameters, class names, and the scaling of targets, which ONNX files undo.  safetensors and onnx need `pip install
    'onotrain[export]'`.
    """
    from onotrain.cli.terminal import console, terminal_columns
    from onotrain.errors import UsageError
    from onotrain.inference.export import write
    from onotrain.parallel import launcher

    if launcher.rank() > 0:
        return  # one process is enough
    kind = kind or _format_of(output)
    if output is None:
        output = Path(f"{Path(run).resolve().stem if Path(run).is_file() else Path(run).resolve().name}.{kind}")
        if output.exists():
            raise UsageError(f"{output}: exists already", hint="name a file with --output; --output replaces it")
    written = write(run, kind, output)
    click.echo(f"wrote {written.path} ({written.path.stat().st_size:,} bytes)")
    screen = console(terminal_columns())
    for what, ports in (("input", written.ports.inputs), ("output", written.ports.outputs)):
        screen.print()
        screen.print(_table(what, ports))


def _format_of(output: Path | None) -> str:
    """Return the format that the suffix of a file stands for."""
    from onotrain.errors import UsageError

    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    if suffix not in EXPORT_FORMATS:
        known = ", ".join(EXPORT_FORMATS)
        raise UsageError(
            "no format to write is given" if output is None else f"{output}: its suffix is no format to write",
            hint=f"give --format ({known}), or an --output that ends like one of them",
        )
    return suffix


def _table(what: str, ports: tuple[Port, ...]) -> Any:
    """Return the table of inputs or outputs."""
    from onotrain.cli.tables import table

    rows = [[port.name, port.dtype, _shape(port), _meaning(port)] for port in ports[:SHOWN_PORTS]]
    title = f"{what}s" if len(rows) == len(ports) else f"{len(rows):,} of {len(ports):,} {what}s"
    return table(title, ["name", "type", "shape", "meaning"], rows, text=["type", "shape", "meaning"])


def _shape(port: Port) -> str:
    return f"[{', '.join(map(str, port.shape))}]"


def _meaning(port: Port) -> str:
    return port.meaning if port.column in (None, port.name) else f"{port.column}: {port.meaning}"
