"""``onotrain export``."""

from __future__ import annotations

from pathlib import Path

import click

from onotrain.cli.subcommand import Subcommand
from onotrain.known_names import EXPORT_FORMATS

EXAMPLES = """
onotrain export runs/digits --format safetensors
onotrain export runs/digits --format onnx --output network.onnx
onotrain export runs/d/checkpoints/step-000001000.h5 --format npz -o d.npz
"""


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option("--format", "kind", type=click.Choice(EXPORT_FORMATS), required=True, help="What to write.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE",
    help="File to write.  [default: the run's name with .FORMAT, here, if there is no such file]",
)  # fmt: skip
def command(run: str, kind: str, output: Path | None) -> None:
    """Write the network of RUN, a run directory or a checkpoint, for other programs.

    Parameters, normalisation, class names and the description of the layers go with it.  safetensors and onnx need
    `pip install 'onotrain[export]'`.
    """
    from onotrain.errors import UsageError
    from onotrain.inference.export import export
    from onotrain.parallel import launcher

    if launcher.rank() > 0:
        return  # one process is enough
    if output is None:
        output = Path(f"{Path(run).resolve().stem if Path(run).is_file() else Path(run).resolve().name}.{kind}")
        if output.exists():
            raise UsageError(f"{output}: exists already", hint="name a file with --output; --output replaces it")
    path = export(run, kind, output)
    click.echo(f"wrote {path} ({path.stat().st_size:,} bytes)")
