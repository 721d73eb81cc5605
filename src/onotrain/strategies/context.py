"""What a strategy is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

from onotrain._kernels.recording import Events
from onotrain.config import Config
from onotrain.nn import ParameterLayout
from onotrain.optim import Optimizer
from onotrain.parallel.world import World
from onotrain.strategies.balance import Balance
from onotrain.strategies.injection import Injection


@dataclass(frozen=True)
class Context:
    """All that a strategy is built from; `of` makes it of a configuration.  *Collective*: the same on all ranks."""

    world: World
    layout: ParameterLayout
    optimizer: Optimizer
    #: The ``strategy`` section of the configuration.
    options: Any
    #: Micro-batches that a rank computes its slice of a batch in (``training.gradient_accumulation``).
    micro_batches: int = 1
    #: Of the run.
    seed: int = 0
    #: Whether the others go on when a rank dies.
    outlives_ranks: bool = False
    #: Options of the codec of gradients and parameters; None: they are sent as they are.
    codec: Any = None
    #: Returns the load balance of a number of ranks; None: slices are equal.
    make_balance: Callable[[int], Balance] | None = None
    #: Slows down computing and messages, if that is to be simulated.
    injection: Injection = field(default_factory=Injection)
    #: Time source of the strategy's telemetry [s].
    now: Callable[[], float] = perf_counter
    #: Gets what ranks wait for and send, by that clock; None: nobody wants to know.
    events: Events | None = None
    #: What `Replica.notes` of a strategy of this name returned, maybe with other options; empty for a new run.
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def one_by_one(self) -> bool:
        """Whether what a rank computes in each step is to be observed, or slowed down: no several steps at a time."""
        return self.make_balance is not None or self.injection.active

    @classmethod
    def of(
        cls,
        config: Config,
        world: World,
        layout: ParameterLayout,
        optimizer: Optimizer,
        injection: Injection | None = None,
        notes: Mapping[str, Any] | None = None,
        events: Events | None = None,
    ) -> Context:
        """Return the context of a configuration."""
        codec, training = config.communication.codec, config.training
        balanced = training.load_balance == "throughput"
        return cls(
            world=world,
            layout=layout,
            optimizer=optimizer,
            options=config.strategy,
            micro_batches=training.gradient_accumulation,
            seed=training.seed,
            outlives_ranks=config.fault_tolerance.outlives_ranks,
            codec=None if codec.name == "none" else codec,
            make_balance=partial(Balance, batch_size=training.batch_size) if balanced else None,
            injection=injection or Injection(),
            now=perf_counter if events is None else events.now,
            events=events,
            notes=notes or {},
        )
