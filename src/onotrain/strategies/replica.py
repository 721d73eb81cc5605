"""What a strategy keeps of a model on this rank: parameters and state, and how checkpoints get and set them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np

from onotrain.memory import check_memory
from onotrain.parallel.collectives import broadcast_vector
from onotrain.parallel.world import Comm
from onotrain.runs.json_objects import restore
from onotrain.strategies.context import Context
from onotrain.strategies.local_steps import WholeUpdate
from onotrain.strategies.memory import Job
from onotrain.strategies.sums.world_sum import WorldSum
from onotrain.strategies.telemetry import Traffic

#: What Open MPI keeps of a rank's memory for the sum of a vector, of its length (measured for 2 to 4 ranks).
MPI_SHARE = 0.5


class Noted(Protocol):
    """A part of a strategy with a state that is no array."""

    def notes(self) -> dict[str, Any]:
        """Return what a checkpoint must keep of it (rank 0, between steps; JSON-able, exact through JSON)."""
        ...

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Go on from the `notes` of all parts, as far as this one's are among them."""
        ...


class Committed(NamedTuple):
    """State after some steps, which is whole whatever happens to other ranks in later ones."""

    steps: int
    #: Some of `Replica.vectors`.
    vectors: Mapping[str, np.ndarray]
    notes: Mapping[str, Any]


class Replica:
    """Parameters, state and gradient of this rank.

    Parameters
    ----------
    parameters
        Flat vector that this rank computes with.
    gradient
        Flat vector that this rank's gradient is written to; None if it computes none, or none of that form.
    optimizer_state
        Flat vectors of the optimiser's state by name: views, which rank 0 reads and writes between steps.
    strategy_state
        The strategy's own ones; a run that is resumed with another strategy does without.
    noted
        Parts whose notes a checkpoint keeps.
    notes
        What they go on from; see `Context.notes`.
    complete
        Whether `parameters` and the state are whole on rank 0 after every step, without a synchronisation point and
        without `gather`.
    """

    def __init__(
        self,
        parameters: np.ndarray,
        gradient: np.ndarray | None,
        optimizer_state: Mapping[str, np.ndarray],
        strategy_state: Mapping[str, np.ndarray] | None = None,
        *,
        noted: Sequence[Noted] = (),
        notes: Mapping[str, Any] | None = None,
        complete: bool = True,
    ) -> None:
        self.parameters, self.gradient = parameters, gradient
        self.optimizer_state: Mapping[str, np.ndarray] = optimizer_state
        self.strategy_state: Mapping[str, np.ndarray] = strategy_state or {}
        self.complete = complete
        self.noted = noted
        for part in noted:
            restore(part.restore, part.notes(), notes or {})

    #: Whether all copies of the parameters are the same after every step, not only after a synchronisation point.
    always_alike = False

    @property
    def copies(self) -> Comm | None:
        """The ranks with a copy of the parameters each, and this one among them; None: another one speaks for it."""
        return None

    def gather(self) -> None:
        """Make the state whole on rank 0, after a synchronisation point.  *Collective*."""

    def broadcast(self) -> None:
        """Make what rank 0 wrote to parameters and state everyone's.  *Collective*."""
        raise NotImplementedError

    def vectors(self) -> dict[str, np.ndarray]:
        """Return parameters and state as this rank has them, by names that tell them apart."""
        return {
            "parameters": self.parameters,
            **{f"state/{name}": vector for name, vector in self.optimizer_state.items()},
            **{f"strategy/{name}": vector for name, vector in self.strategy_state.items()},
        }

    def commit(self, steps: int, *, whole: bool) -> bool:
        """Note the end of a step, from which on the state shall outlive other ranks; return whether this rank has it.

        *Collective*: on all ranks, before the next step.

        Parameters
        ----------
        steps
            How many have been made.
        whole
            Whether this is a synchronisation point, and `gather` has been called.
        """
        return False

    def committed(self) -> Committed | None:
        """Return the newest state that is whole, now that ranks have died; None if this rank has none."""
        return None

    def notes(self) -> dict[str, Any]:
        """Return what else a checkpoint must keep (rank 0, between steps; JSON-able, exact through JSON)."""
        return {key: value for part in self.noted for key, value in part.notes().items()}


class Copy:
    """A copy of a replica's state, which is taken now and then, for as little time as `SHARE` of all."""

    #: Largest part of a rank's time.
    SHARE = 0.05

    def __init__(self) -> None:
        self.taken: Committed | None = None
        self._due = 0.0

    def take(self, replica: Replica, steps: int, *, whole: bool) -> bool:
        """Copy the state of this rank's replica, as of `Replica.commit`; return whether it was copied."""
        start = perf_counter()
        if not (whole or (replica.complete and start >= self._due)):
            return False
        live = replica.vectors()
        kept = {name: np.empty_like(each) for name, each in live.items()} if self.taken is None else self.taken.vectors
        for name, vector in live.items():
            np.copyto(kept[name], vector)
        self.taken = Committed(steps, kept, replica.notes())
        now = perf_counter()
        self._due = now + (now - start) / self.SHARE
        return True


class WholeReplica(Replica):
    """Everything on each rank: parameters, gradient and optimiser state, and the sum of a vector over the ranks.

    Parameters
    ----------
    context
        *Collective*: the same on all ranks.
    traffic
        Counts the bytes of the sum.
    summed
        Which vector is summed over the ranks, ``gradient`` or ``delta``, for which the parameters' memory is used.
    hint
        What to do where memory does not suffice.
    extra_vectors
        Further vectors of the parameters' length that the strategy allocates.
    noted
        As of `Replica`.

    Raises
    ------
    ResourceError
        The node has not so much memory.
    """

    gradient: np.ndarray
    always_alike = True

    def __init__(
        self,
        context: Context,
        traffic: Traffic,
        summed: str,
        *,
        hint: str,
        extra_vectors: int = 0,
        noted: Sequence[Noted] = (),
    ) -> None:
        layout, optimizer, world = context.layout, context.optimizer, context.world
        vectors = 2 + extra_vectors + WorldSum.vectors(context) + len(optimizer.state_names)
        check_memory(
            vectors * layout.size * layout.dtype.itemsize * world.node.size,
            f"parameters on each of {world.node.size} ranks",
            hint=hint,
        )
        state = {name: layout.zeros() for name in optimizer.state_names}
        parameters, gradient = layout.zeros(), layout.zeros()
        #: Sums the gradient, or the delta in the parameters' memory, over the ranks.
        self.sum = WorldSum(context, gradient if summed == "gradient" else parameters, traffic)
        residual = {} if self.sum.residual is None else {f"{summed}_residual": self.sum.residual}
        super().__init__(parameters, gradient, state, residual, noted=noted, notes=context.notes, complete=not residual)
        self._comm, self._update = world.comm, WholeUpdate(context, parameters, gradient, state.values())
        self._steps = 0

    @property
    def copies(self) -> Comm | None:
        """All ranks."""
        return self._comm

    def commit(self, steps: int, *, whole: bool) -> bool:
        """Note the step: between two of them no message can fail, so that what is there is whole."""
        self._steps = steps
        return True

    def committed(self) -> Committed | None:
        """Return what is there, without what messages of a codec had left to send."""
        vectors = {name: each for name, each in self.vectors().items() if each is not self.sum.residual}
        return Committed(self._steps, vectors, self.notes())

    @staticmethod
    def memory(job: Job) -> dict[str, int]:
        """Return the bytes of it."""
        messages = WorldSum.vectors(job.context) * job.vector or MPI_SHARE * job.vector * (job.world.size > 1)
        return {"parameters": job.vector, "state": job.state, "gradients": job.vector, "messages": int(messages)}

    def update(self, learning_rate: float, number: int) -> float:
        """Update all parameters with the gradient, as one shard; return the sum of its squares."""
        return self._update(learning_rate, number)

    def gather(self) -> None:
        """Sum what messages of a codec have left to send.  *Collective*."""
        self.sum.share_residuals()

    def broadcast(self) -> None:
        """Copy rank 0's parameters and state to all ranks.  *Collective*."""
        for vector in (self.parameters, *self.optimizer_state.values(), *self.strategy_state.values()):
            broadcast_vector(self._comm, vector)
        self.sum.take_residuals()
