"""``onotrain validate``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from onotrain.cli.subcommand import Subcommand, overrides
from onotrain.text import count

EXAMPLES = """
onotrain validate configs/digits.yaml
onotrain validate config.yaml --set optimizer.learning_rate=0.1 --resolved
onotrain validate --schema > onotrain.schema.json
"""

#: Larger data files are not read to be described [bytes].
LARGEST_BYTES = 64 << 20
#: What memory is for, in the order in which it is shown.
_SUBJECTS = ("parameters", "state", "gradients", "messages", "activations", "validation", "checkpoint")
#: More than any cluster has on a node, or nodes.
MOST_RANKS = 1 << 20


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("config", type=click.Path(path_type=Path), required=False)
@overrides
@click.option("--ranks", type=click.IntRange(1, MOST_RANKS), default=1, help="Ranks on a node, for its memory.")
@click.option("--nodes", type=click.IntRange(1, MOST_RANKS), default=1, help="Nodes, for the same.")
@click.option("--resolved", is_flag=True, help="Print the configuration with every default written out.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of configurations, for editors.")
def command(
    config: Path | None, overrides: Sequence[str], ranks: int, nodes: int, resolved: bool, schema: bool
) -> None:
    """Check CONFIG, and say what it stands for or everything that is wrong with it.

    Also how much memory a training takes on a node: parameters, state of the optimiser, gradients, messages,
    activations, buffers of the validation and of checkpoints, data; and what of that a rank has alone.  The program
    itself comes on top.

    Trains nothing and starts no MPI.
    """
    if schema:
        from onotrain.config import json_schema

        click.echo(json.dumps(json_schema(), indent=2))
        return
    if config is None:
        raise click.UsageError("missing argument 'CONFIG'")
    from onotrain.config import load_config

    loaded = load_config(config, overrides)
    if resolved:
        click.echo(loaded.to_yaml(), nl=False)
        return
    from onotrain.cli.terminal import text_columns
    from onotrain.text import wrapped

    columns = text_columns()
    for name, fact in _facts(loaded, nodes, ranks):
        click.echo(wrapped(fact, columns, 13, first=f"  {name:<10} "))
    click.echo(f"{config}: OK")


def _facts(config: Any, nodes: int, ranks: int) -> Iterator[tuple[str, str]]:
    """Yield what a configuration stands for, subject by subject."""
    from onotrain.text import figure
    from onotrain.training.warm_start import WarmStart

    warm = WarmStart.read(config)
    data, seen = _data(config, None if warm is None else warm.inherited(config))
    yield "data", seen
    yield from _network(config, warm, None if data is None else data.description)
    optimizer, training = config.optimizer, config.training
    yield "loss", config.loss.name
    rate = figure(optimizer.learning_rate, short=True)
    yield "optimizer", f"{optimizer.name}, learning rate {rate}, schedule {config.schedule.name}"
    steps = f"{count(training.epochs, 'epoch')}, {count(training.batch_size, 'sample')} a step"
    yield "training", f"{steps}, {training.dtype}, seed {training.seed}"
    yield "strategy", config.strategy.name
    if data is not None:
        yield "memory", _memory(config, data, nodes, ranks)


def _memory(config: Any, data: Any, nodes: int, ranks: int) -> str:
    """Return what a training takes on a node."""
    from onotrain.cli.network import model_of
    from onotrain.strategies import memory
    from onotrain.strategies.memory import Job, evaluation_bytes, on_node
    from onotrain.text import size

    if nodes * ranks < config.strategy.fewest_ranks:
        return f"not known: {config.strategy.shown} needs {config.strategy.fewest_ranks} ranks or more (--ranks)"
    model = model_of(config, data.description.feature_shape, data.description.categories)
    jobs = Job.ranks(config, model, nodes, ranks, data.training_samples)
    found = [memory(job) for job in jobs]
    total = {**dict.fromkeys(_SUBJECTS, 0), **on_node(found)}
    if config.data.has_validation:
        total["validation"] = ranks * evaluation_bytes(model.plan)
    total["data"] = data.nbytes(config.data.window_mib)
    parts = ", ".join(f"{what} {size(nbytes)}" for what, nbytes in total.items() if nbytes)
    alone = max(sum(each.own.values()) for each in found) + total["validation"] // ranks
    rest = f"; of that each rank alone up to {size(alone)}" if ranks > 1 else ""
    return f"{size(sum(total.values()))} on a node with {count(ranks, 'rank')}: {parts}{rest}"


def _data(config: Any, inherited: Any) -> tuple[Any, str]:
    """Return the prepared data, None if they are not known yet, and what they look like."""
    from onotrain.cli.display import files_progress
    from onotrain.data.prepare import prepare
    from onotrain.data.reading import FileReader
    from onotrain.data.several import expand
    from onotrain.errors import DataError
    from onotrain.memory import available_bytes

    data, files = config.data, list[Path]()
    try:
        files = [Path(name).expanduser() for name in expand(data.files)]
        if not data.is_built_in and sum(file.stat().st_size for file in files if file.is_file()) > LARGEST_BYTES:
            return None, f"{data.name} (large, not read)"
        with files_progress() as progress:
            prepared = prepare(
                data, config.task, config.targets, config.training.dtype, available_bytes(), config.loss,
                inherited, reader=FileReader(progress), model=config.model,
            )  # fmt: skip
    except DataError as error:
        if files and all(file.is_file() for file in files) and not data.is_built_in:  # what training would say
            raise
        return None, f"{data.name}, which cannot be read yet: {error.message}"
    samples, features = len(prepared.arrays["targets"]), math.prod(prepared.description.feature_shape)
    size = f"{count(samples, 'sample')} of {count(features, 'feature')}"
    return prepared, f"{data.name}: {size}; validation: {_part(data.validation)}"


def _part(where: Any) -> str:
    """Return where samples of another part are: a share, a file, or arrays with names of their own."""
    if where is None or isinstance(where, (str, float)):
        return "none" if where is None else str(where)
    names = [", ".join([name] if isinstance(name, str) else name) for name in (where.features, where.targets)]
    return " and ".join(names) + ("" if where.path is None else f" of {where.path}")


def _network(config: Any, warm: Any, description: Any) -> Iterator[tuple[str, str]]:
    """Yield the widths of the network and, where the shape of a sample is known, what parameters it has."""
    from onotrain.cli.network import model_of

    shape = config.data.shape if description is None else description.feature_shape
    if shape is None or (description is None and config.model.reads_codes):
        widths = [layer.options.units for layer in config.model.every_layer if layer.kind == "dense"]
        yield "network", "-".join(["?", *map(str, widths)])
        return
    model = model_of(config, shape, {} if description is None else description.categories)
    layout = model.layout
    yield "network", f"{model.widths}, {count(layout.parameter_count, 'parameter')}"
    if description is None:
        return
    codes = [f"{column} ({count(n, 'category', 'categories')})" for column, n in description.categories.values()]
    if codes:
        yield "codes", f"{', '.join(codes)}, for layer embedding"
    _check_metrics(config, model.loss, description)
    if warm is not None:
        for note in warm.copy(config, description, layout, layout.zeros())[1]:
            yield "note", note


def _check_metrics(config: Any, loss: Any, description: Any) -> None:
    """Refuse metrics of classes and outputs that the data have not, as training does."""
    import numpy as np

    from onotrain.evaluation.metrics import make_metrics

    if config.data.validation is None and config.data.split.folds is None and config.data.split.file is None:
        return  # nothing is measured
    names = description.codec.shown_names(description.target_names)
    weighted = config.data.weights is not None
    make_metrics(config.training.metrics, loss, np.zeros(loss.targets), of=names, weighted=weighted)
