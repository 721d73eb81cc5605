"""What a configuration gives a cluster to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from onotrain.bench.subject import Subject, of_array
from onotrain.config import Config
from onotrain.data.prepare import prepare
from onotrain.memory import available_bytes
from onotrain.nn import Model
from onotrain.optim import Optimizer
from onotrain.parallel import kernels as kernel_choice
from onotrain.parallel.agreement import agreed
from onotrain.parallel.world import World
from onotrain.simulation.costs import Costs
from onotrain.simulation.machine import Machine
from onotrain.strategies.context import Context
from onotrain.strategies.memory import Job


@dataclass(frozen=True)
class Workload:
    """A configuration with the network and the number of samples that its data ask for.

    Attributes
    ----------
    config
        The configuration.
    model
        Its network, not bound to parameters.
    samples
        To train on.
    subject
        The same for measurements.
    nbytes
        Of the data, as each node has them in memory.
    """

    config: Config
    model: Model
    samples: int
    subject: Subject
    nbytes: int

    @classmethod
    def of(cls, config: Config, world: World) -> Workload:
        """Read the data.  *Collective*: the same configuration on all ranks.

        Raises
        ------
        DataError, ConfigError, ShapeError
            They cannot be read, or the network does not fit them.
        """
        training = config.training
        kernels = kernel_choice.agree(world.comm, training.dtype, training.precision)
        with agreed(world.comm):
            memory = available_bytes()
            data = prepare(config.data, config.task, config.targets, training.dtype, memory, config.loss,
                           model=config.model)  # fmt: skip
            found = data.description
            model = Model.of(config, found.feature_shape, kernels, found.categories)
        plain = of_array(config, model) if found.categories else config
        subject = Subject(plain, found.feature_shape, np.dtype(found.feature_dtype), kernels)
        samples = data.training_samples
        return cls(config, model, samples, subject, data.nbytes(config.data.window_mib))

    @property
    def batch(self) -> int:
        """Samples of a full batch."""
        return min(self.config.training.batch_size, self.samples)

    def with_config(self, config: Config) -> Workload:
        """Return it with another configuration of the same network and data."""
        return replace(self, config=config)

    def jobs(self, nodes: int, ranks_per_node: int) -> Iterator[Job]:
        """Yield the job as each rank of the first node sees it."""
        return Job.ranks(self.config, self.model, nodes, ranks_per_node, self.samples)

    def job_on(self, machine: Machine) -> Job:
        """Return the job as the first rank of a machine sees it."""
        sizes = tuple(np.bincount(machine.node_of).tolist())
        node = SimpleNamespace(rank=0, size=sizes[0])
        world: Any = SimpleNamespace(
            rank=0, size=machine.ranks, node=node, nodes=machine.nodes, node_sizes=sizes, shards=min(sizes)
        )
        optimizer = Optimizer(self.config.optimizer, self.config.training.clip_norm, self.model.kernels)
        return Job(Context.of(self.config, world, self.model.layout, optimizer), self.model.plan, self.batch)


def given_costs(config: Any) -> Costs:
    """Return the costs that a study's section ``cluster.computing`` gives."""
    order = np.argsort(config.rows)
    rows, seconds = (np.array(values, np.float64)[order] for values in (config.rows, config.seconds))
    return Costs(rows, seconds, config.update_seconds)
