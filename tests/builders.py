"""Small configurations, networks and strategies to build tests on, so that a test says only what matters for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from onotrain import _kernels
from onotrain.config import Config
from onotrain.config.optimizer import UPDATE_RULES, UpdateRule
from onotrain.data import DataSpec, load_dataset
from onotrain.errors import OnotrainError
from onotrain.evaluation.metrics import make_metrics
from onotrain.evaluation.rows import Rows
from onotrain.evaluation.statistics import Statistic
from onotrain.nn import Model, ParameterLayout
from onotrain.nn.losses import Loss
from onotrain.optim import Optimizer
from onotrain.parallel.agreement import agreed
from onotrain.parallel.exchange import Exchange
from onotrain.parallel.world import Comm, World
from onotrain.runs.run_directory import RunDirectory
from onotrain.strategies import BatchShape, Context, build
from onotrain.strategies.allreduce.nodes import NodesSum
from onotrain.training import train
from onotrain.training.components import Components
from onotrain.training.trainer import Trainer

#: Tensors of a small network, whose flat vector has gaps between them.
SHAPES = [("dense_0/weight", (37, 11)), ("dense_0/bias", (37,)), ("dense_1/weight", (5, 37)), ("dense_1/bias", (5,))]


def _optimizers() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, rule in UPDATE_RULES.items():
        plain, decayed = {"name": name}, {"name": name, "weight_decay": 0.01}
        if "momentum" not in rule.model_fields:
            yield name, decayed
            continue
        yield name, plain
        yield f"{name}-momentum", decayed | {"momentum": 0.5}
        if "nesterov" in rule.model_fields:
            yield f"{name}-nesterov", decayed | {"momentum": 0.9, "nesterov": True}


#: Every update rule, and its variants with another arithmetic.
OPTIMIZERS: dict[str, dict[str, Any]] = dict(_optimizers())
#: Those under which each parameter goes its own way.
ELEMENTWISE = [name for name, options in OPTIMIZERS.items() if UPDATE_RULES[options["name"]].elementwise]


def update_rule(optimizer: str, **options: Any) -> UpdateRule:
    """Return one of `OPTIMIZERS`, with other options."""
    whole = OPTIMIZERS[optimizer] | options
    return UPDATE_RULES[whole["name"]].model_validate(whole)


# Configurations -------------------------------------------------------------------------------------------------------


def mapping(*layers: Any, **sections: Any) -> dict[str, Any]:
    """Return a configuration: one layer on the digits for an epoch, with other layers and sections as in `changed`."""
    base = {
        "data": {"train": "digits"},
        "model": {"layers": [{"dense": 10}]},
        "loss": "cross_entropy",
        "training": {"epochs": 1, "batch_size": 24},
    }
    return changed(base, *layers, **sections)


def changed(base: Mapping[str, Any], *layers: Any, **sections: Any) -> dict[str, Any]:
    """Return a configuration with other keys in its sections.

    A section that has a name, as a strategy has, and one that is no mapping is replaced as a whole.  A layer that is a
    number is a dense one.
    """
    if layers:
        sections["model"] = {"layers": [{"dense": layer} if isinstance(layer, int) else layer for layer in layers]} | (
            sections.get("model", {})
        )
    merged = {
        name: {**base[name], **section}
        for name, section in sections.items()
        if isinstance(section, Mapping) and "name" not in section and isinstance(base.get(name), Mapping)
    }
    return {**base, **sections, **merged}


def config(*layers: Any, **sections: Any) -> Config:
    """Return the configuration of `mapping`, checked."""
    return Config.from_mapping(mapping(*layers, **sections))


def relu(units: int) -> dict[str, Any]:
    """Return a dense layer with that activation."""
    return {"dense": {"units": units, "activation": "relu"}}


#: Layers with a block in a block, which has a projection, and another block with one behind it.
BLOCKS: tuple[Any, ...] = (
    relu(20),
    {"residual": [{"dropout": 0.1}, {"residual": {"layers": [relu(12)], "activation": "relu"}}, {"dense": 20}]},
    {"residual": [{"activation": "tanh"}, {"dense": 16}]},
    10,
)


# What a configuration describes ---------------------------------------------------------------------------------------


def optimizer(made: Config) -> Optimizer:
    """Return the update rule of a configuration."""
    return Optimizer(made.optimizer, made.training.clip_norm, _kernels.load(made.training.dtype))


def model(made: Config, *shape: int) -> Model:
    """Return the network of a configuration for samples of this shape."""
    return Model.of(made, shape, _kernels.load(made.training.dtype))


def strategy(made: Config, world: World, layout: ParameterLayout) -> Any:
    """Return the strategy of a configuration.  *Collective*."""
    with agreed(world.comm):
        return build(Context.of(made, world, layout, optimizer(made)))


class NoModel:
    """What a strategy gives memory to, where a test writes the gradients."""

    def reserve(self, *arguments: Any, **options: Any) -> None:
        """Take no memory."""

    def bind(self, *arguments: Any, **options: Any) -> None:
        """Forget the arrays."""


def prepare(run: Any, samples: int, network: Any = None) -> None:
    """Have a strategy get ready for batches of `samples` samples.  *Collective*."""
    run.bind(network or NoModel(), BatchShape(samples, run.batches.capacity(samples), 1))


def at_start(monkeypatch: pytest.MonkeyPatch, see: Callable[[Components], None]) -> None:
    """Let a test see, and change, what each training works with before its first step."""
    run = Trainer.run

    def seen(self: Trainer) -> None:
        see(self.components)
        run(self)

    monkeypatch.setattr(Trainer, "run", seen)


def watch_sends(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that gets for each step how many sums over nodes this rank had begun when its backward pass ended,
    and how many in all: one for each bucket of layers, and on a node's first rank one of statistics."""
    begun, steps = [0], []
    start, finish = Exchange.start, NodesSum.finish

    def count(self: Exchange) -> None:
        begun[0] += 1
        start(self)

    def note(self: NodesSum, slot: int) -> None:
        early = begun[0]
        finish(self, slot)
        steps.append((early, begun[0]))
        begun[0] = 0

    monkeypatch.setattr(Exchange, "start", count)
    monkeypatch.setattr(NodesSum, "finish", note)
    return steps


def filled(layout: ParameterLayout, *seed: int) -> np.ndarray:
    """Return a flat vector of normal numbers, with zeros in the gaps; a rank in the seed makes it that rank's own."""
    flat, rng = layout.zeros(), np.random.default_rng(seed)
    for view in layout.views(flat).values():
        view[...] = rng.normal(size=view.shape)
    return flat


def gaps(layout: ParameterLayout) -> np.ndarray:
    """Return where a flat vector has no tensor."""
    found = np.ones(layout.size, bool)
    for tensor in layout:
        found[tensor.range] = False
    return found


def measured(
    names: Sequence[str],
    criterion: Loss,
    logits: np.ndarray,
    targets: np.ndarray,
    *,
    of: Sequence[str] | None = None,
    weights: np.ndarray | None = None,
    threshold: Any = None,
) -> dict[str, float]:
    """Return metrics of a network with these outputs, from three uneven parts of the samples."""
    chosen = make_metrics(
        names, criterion, targets[0], of=of, weighted=weights is not None, threshold=threshold is not None
    )
    parts = [
        Rows(criterion, logits[rows], targets[rows], None if weights is None else weights[rows], threshold)
        for rows in (slice(0, 1), slice(1, 60), slice(60, None))
    ]
    found = {}
    for measure in chosen:
        statistic = measure.statistic
        if isinstance(statistic, Statistic):
            total: Any = sum(statistic.sums(part) for part in parts)
        else:
            total = statistic.result([statistic.keep(part) for part in parts])
        found[measure.name] = measure.value(total)
    return found


# Whole trainings ------------------------------------------------------------------------------------------------------


#: Ways to come to the same parameters, for a test with `sections` of a configuration.
in_every_way = pytest.mark.parametrize(
    "sections",
    [
        {},
        {"strategy": {"name": "allreduce", "share": "gradients"}},
        {"strategy": "flat", "training": {"gradient_accumulation": 3}},
        {"data": {"stream": True}},
    ],
    ids=["activations", "gradients", "accumulated", "streamed"],
)


def train_alone(world: World, made: Any, folder: Path) -> Path:
    """Train on every rank by itself; return its run.  *Collective*."""
    output, own = folder / f"alone-{world.rank}", world.comm.Split(world.rank)
    train(made, own, output=output)
    own.Free()
    return output


def records(run: Path) -> list[dict[str, Any]]:
    """Return the epochs of a run."""
    return [dict(record) for record in RunDirectory.open(run).records()]


def refused(world: World, kind: type[OnotrainError], match: str, *arguments: Any, **options: Any) -> OnotrainError:
    """Expect a training to fail with the same error, marked as such, on all ranks, which are still in step then."""
    with pytest.raises(kind, match=match) as caught:
        train(*arguments, **options)
    assert caught.value.agreed or world.size == 1
    assert len(set(world.comm.allgather((type(caught.value).__name__, caught.value.message)))) == 1
    return caught.value


def write_digits(world: World, path: Path, samples: int = 600) -> None:
    """Write an HDF5 file with some of the digits.  *Collective*."""
    if world.rank == 0:
        digits = load_dataset(DataSpec("digits"))
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=digits.features[:samples], chunks=(50, 64))
            file["y"] = digits.targets[:samples]
    world.barrier()


CSV_HEADER = "a,b,c,d,label"


def csv_rows(count: int = 40, features: int = 4) -> list[str]:
    """Return lines of a CSV file with three classes."""
    values = np.random.default_rng(3).normal(size=(count, features))
    return [",".join([*(f"{value:.3f}" for value in row), f"k{number % 3}"]) for number, row in enumerate(values)]


def write_csv(path: str, lines: list[str], header: str = CSV_HEADER) -> str:
    """Write a CSV file; return its path."""
    Path(path).write_text("\n".join([header, *lines]) + "\n")
    return path


def two_nodes(comm: Comm) -> World:
    """Return a job as if its last third of ranks were another node.  *Collective*."""
    first = comm.size - comm.size // 3
    if first == comm.size:
        pytest.skip("Test requires 3 MPI processes")
    index = int(comm.rank >= first)
    return World(comm, comm.Split(index, key=comm.rank), index, (first, comm.size - first))
