"""``onotrain inspect``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from onotrain.cli.subcommand import Subcommand

EXAMPLES = """
onotrain inspect runs/digits
onotrain inspect runs/digits/checkpoints/step-000001800.h5
onotrain inspect runs/digits --plot digits.png
onotrain inspect runs/digits --json | python -m json.tool
"""
#: Epochs that are listed, counted from the last.
SHOWN_EPOCHS = 10
#: Columns of epochs that stay where others have no place.
_MOST = ("train loss", "val loss")


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN|CHECKPOINT")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the run to a .png, .svg or .pdf.")
def command(path: Path, as_json: bool, plot: Path | None) -> None:
    """Show what a run directory or a checkpoint file holds.

    The network layer by layer, how far the training has come, its last and its best figures, and which checkpoints
    there are and whether they are sound.  Reads only; a run that is still going on may be inspected.
    """
    from onotrain.runs.run_files import kind_of_path

    facts = _run(path) if kind_of_path(path) != "checkpoint" else _checkpoint(path)
    if plot is not None:
        _draw(path, facts, plot)
        if not as_json:
            click.echo(f"drawn to {plot}\n")
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _show(facts)


def _draw(path: Path, facts: Mapping[str, Any], plot: Path) -> None:
    from onotrain.reporting.curves import draw

    if "run" not in facts:
        raise click.UsageError(f"{path}: only a run directory can be drawn, a checkpoint has no history")
    units = set(facts.get("target_units") or ())
    draw(facts["metrics"], str(path), plot, best=_best_epoch(facts), unit=units.pop() if len(units) == 1 else "")


def _run(path: Path) -> dict[str, Any]:
    """Return what a run directory holds, JSON-able."""
    from onotrain.errors import CheckpointError
    from onotrain.runs.run_directory import RunDirectory

    run = RunDirectory.open(path)
    environment = run.environment()
    facts: dict[str, Any] = {
        "run": str(path),
        "summary": run.summary(),
        "environment": environment,
        "metrics": run.records(),
        "checkpoints": list(_files(run.store().paths())),
    }
    try:
        # The network that predicts, and how far the training has come: two checkpoints where it stopped early.
        found, latest = run.checkpoint("best"), run.checkpoint("latest")
    except CheckpointError as error:
        return {**facts, "problem": error.message}
    progress = _progress(latest.checkpoint, str(latest.path))
    content = _content(found.checkpoint, str(found.path))
    return {**facts, "checkpoint": str(found.path), **content, "progress": progress}


def _checkpoint(path: Path) -> dict[str, Any]:
    """Return what one checkpoint file holds, JSON-able."""
    from onotrain.runs.checkpoint_store import read_checkpoint

    return {"checkpoint": str(path), "bytes": path.stat().st_size, **_content(read_checkpoint(path), str(path))}


def _progress(checkpoint: Any, source: str) -> dict[str, Any]:
    """Return how far a training had come; nothing where a checkpoint does not say."""
    from onotrain.training.run_position import Progress

    return Progress.of(checkpoint.metadata, source).to_dict() if "progress" in checkpoint.metadata else {}


def _content(checkpoint: Any, source: str) -> dict[str, Any]:
    from onotrain import _kernels
    from onotrain.cli.network import layer_rows
    from onotrain.runs.metadata import ModelMetadata, check_parameters

    metadata = ModelMetadata.from_dict(checkpoint.metadata, source)
    # Nothing is computed, so the kernels that are always there will do.
    model = metadata.model_of(_kernels.load(metadata.config.training.dtype, "reference"), source)
    check_parameters(checkpoint, model.layout, source)
    return {
        "config": metadata.config.to_mapping(),
        "inputs": metadata.inputs,
        "feature_shape": list(metadata.feature_shape),
        "classes": metadata.codec.class_names,
        "target_names": metadata.target_names,
        "target_units": metadata.target_units,
        "layers": [row._asdict() for row in layer_rows(model)],
        "parameters": model.layout.parameter_count,
        "averaged_values": model.layout.averaged_count,
        "parameters_sha256": checkpoint.metadata.get("parameters_sha256"),
        "arrays": {name: [str(array.dtype), list(array.shape)] for name, array in checkpoint.arrays.items()},
        "progress": _progress(checkpoint, source),
    }


def _files(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield every checkpoint file with its soundness; reads them one at a time."""
    from onotrain.errors import OnotrainError
    from onotrain.runs.checkpoint_store import read_checkpoint

    for path in paths:
        steps = problem = None
        try:
            steps = _progress(read_checkpoint(path), str(path)).get("steps")
        except OnotrainError as error:
            problem = error.message
        with suppress(FileNotFoundError):  # a run that is going on may have removed it meanwhile
            size = path.stat().st_size
            yield {"name": path.name, "steps": steps, "bytes": size, "sound": problem is None, "problem": problem}


def _show(facts: Mapping[str, Any]) -> None:
    from onotrain.cli.terminal import console, terminal_columns, text_columns
    from onotrain.text import cut, printable, wrapped

    out = console(terminal_columns())
    columns = text_columns()
    for name, value in _state(facts):
        if name == "sha256" and columns is not None:
            value = cut(value, max(20, columns - 12))  # noqa: PLW2901 - --json has all of it
        value = value if name == "problem" else printable(value)  # noqa: PLW2901
        out.print(wrapped(value, columns, 12, first=f"{name:<12}"), markup=False, soft_wrap=True)
    for table in _tables(facts):
        out.print()
        out.print(table)


def _state(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts that are one line each."""
    from onotrain.cli.display import duration
    from onotrain.text import count, figure, size

    yield ("run", facts["run"]) if "run" in facts else ("checkpoint", f"{facts['checkpoint']} ({size(facts['bytes'])})")
    summary = facts.get("summary")
    if "run" in facts:
        environment = facts["environment"]
        ranks = summary or (facts["metrics"] or [{}])[-1]
        if "ranks" in ranks:
            place = f"{count(ranks['ranks'], 'rank')} on {count(ranks['nodes'], 'node')}"
            method = ranks.get("method", ranks["strategy"])
            yield "trained by", f"{place}, strategy {method}, kernels {environment.get('kernels', '?')}"
        if ranks.get("ranks_seconds"):
            yield "ranks", _shares(ranks["ranks_seconds"])
        if ranks.get("ranks_bytes") and any(ranks["ranks_bytes"]["raw"]):
            yield "sent", _traffic(ranks["ranks_bytes"])
        noise = [record for record in facts["metrics"] if record.get("noise_scale") is not None]
        if noise:
            yield "noise", f"scale {figure(noise[-1]['noise_scale'], short=True)} samples in epoch {noise[-1]['epoch']}"
        if "problem" in facts:
            yield "problem", facts["problem"]
    progress, config = facts.get("progress"), facts.get("config")
    if progress and config:
        epochs = config["training"]["epochs"]
        end = "" if progress.get("finished") else " (not finished)"
        end = " (stopped early)" if progress.get("stopped_early") else end
        yield "progress", f"{progress['epoch']} of {count(epochs, 'epoch')}, {count(progress['steps'], 'step')}{end}"
        yield "time", f"{duration(progress['train_seconds'])} of training"
        best = progress.get("best")
        if best:
            yield "best", f"{best['metric'].replace('_', ' ')} {figure(best['value'])} in epoch {best['epoch']}"
        optimizer = config["optimizer"]
        rate = figure(optimizer["learning_rate"], short=True)
        yield "optimizer", f"{optimizer['name']}, learning rate {rate}; loss {config['loss']['name']}"
        yield "data", str(config["data"]["train"])
        if "run" in facts:
            yield "network", f"{Path(facts['checkpoint']).name}, {'the best' if best else 'the newest'}"
        if facts["averaged_values"]:
            yield "averages", f"{count(facts['averaged_values'], 'value')} that follow the data"
        yield "sha256", str(facts["parameters_sha256"])


def _shares(seconds: Mapping[str, Sequence[float]]) -> str:
    """Return what the ranks' time went to, and how much of the exchange between nodes lay under computing."""
    total = {kind: sum(of_ranks) for kind, of_ranks in seconds.items()}
    hidden = total.pop("hidden", 0.0)  # a part of computing
    everything = sum(total.values()) or 1.0
    text = ", ".join(f"{kind} {value / everything:.0%}" for kind, value in total.items() if value)
    if hidden:
        text += f"; {hidden / (hidden + total.get('communication', 0.0)):.0%} of the communication under computing"
    return text


def _traffic(nbytes: Mapping[str, Sequence[int]]) -> str:
    """Return what ranks sent to others that they share no memory with, and what a codec saved."""
    from onotrain.text import size

    sent, raw = sum(nbytes["sent"]), sum(nbytes["raw"])
    return f"{size(sent)} in steps" + (f"; {size(raw)} without a codec" if sent != raw else "")


def _tables(facts: Mapping[str, Any]) -> Iterator[Any]:
    from onotrain.cli.tables import table
    from onotrain.text import size

    if "layers" in facts:
        yield _layers(facts)
    if facts.get("metrics"):
        yield _metrics(facts["metrics"], _best_epoch(facts))
    if facts.get("checkpoints"):
        rows = [
            [
                file["name"],
                str(file["steps"] or ""),
                size(file["bytes"]),
                f"NO: {file['problem']}" if file["problem"] else "yes",
            ]
            for file in facts["checkpoints"]
        ]
        yield table("checkpoints", ["file", "steps", "size", "sound"], rows, text=["sound"], least=["size", "steps"])


def _best_epoch(facts: Mapping[str, Any]) -> int | None:
    """Return the best epoch by what early stopping watches; None if there is none."""
    best = (facts.get("progress") or {}).get("best")
    return None if best is None else int(best["epoch"])


def _layers(facts: Mapping[str, Any]) -> Any:
    from onotrain.cli.tables import table
    from onotrain.nn.shapes import in_words

    rows = [
        [
            layer["name"],
            layer["activation"],
            f"{layer['dropout']:g}" if layer["dropout"] else "",
            f"{in_words(layer['input_shape'])} -> {in_words(layer['output_shape'])}",
            f"{layer['parameters']:,}",
        ]
        for layer in facts["layers"]
    ]
    columns = ["layer", "activation", "dropout", "width", "parameters"]
    footer = ["all", "", "", "", f"{facts['parameters']:,}"]
    return table("network", columns, rows, text=["activation"], footer=footer, least=["dropout", "activation"])


def _metrics(records: Sequence[Mapping[str, Any]], best: int | None) -> Any:
    """Return the last epochs as a table, and the best one where it is not among them; a star marks it."""
    from onotrain.cli.epochs import STAR
    from onotrain.cli.tables import table
    from onotrain.runs.records import metrics_of
    from onotrain.text import figure

    shown = records[-SHOWN_EPOCHS:]
    shown = [*(r for r in records[:-SHOWN_EPOCHS] if r["epoch"] == best), *shown]
    last = shown[-1]
    names = [name for name, value in metrics_of(last).items() if isinstance(value, float)]
    width = len(str(last["epoch"]))
    rows = [
        [
            f"{record['epoch']:>{width}}{STAR * (record['epoch'] == best)}",
            *(figure(record[name]) if isinstance(record.get(name), float) else "" for name in names),
            figure(record["learning_rate"], short=True),
            f"{record['samples_per_second']:,.0f}",
            f"{record['train_seconds']:.2f}",
        ]
        for record in shown
    ]
    titles = [name.replace("validation_", "val ").replace("_", " ") for name in names]
    title = (
        "epochs"
        if len(shown) == len(records)
        else f"last {min(len(records), SHOWN_EPOCHS):,} of {len(records):,} epochs"
    )
    title += "" if best is None else f"; {STAR} marks the best one, {best}"
    least = ["seconds", "samples/s", "learning rate", *reversed([t for t in titles if t not in _MOST])]
    return table(title, ["epoch", *titles, *reversed(least[:3])], rows, least=least)
