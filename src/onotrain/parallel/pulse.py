"""What the ranks of a node tell each other of themselves all the time, in memory that they share."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic_ns
from typing import TYPE_CHECKING

import numpy as np

from onotrain.parallel.failure_detector import Process, start_time
from onotrain.parallel.shared_memory import allocate

if TYPE_CHECKING:
    from mpi4py import MPI


class Phase(IntEnum):
    """What a rank is at."""

    START = 0
    DATA = 1
    TRAINING = 2
    EVALUATION = 3
    CHECKPOINT = 4
    END = 5

    @property
    def words(self) -> str:
        """What a reader calls it."""
        return ("starting", "reading data", "training", "evaluating", "saving", "ending")[self]


class Field(IntEnum):
    """What the numbers in a rank's line of the memory are; a line is one of the cache's, and the rank's alone."""

    #: When the rank's watchdog last looked [ns of the node's monotonic clock].
    ALIVE = 0
    #: When the rank last made progress [ns].
    PROGRESS = 1
    #: Optimiser steps made.
    STEP = 2
    PHASE = 3
    #: Whether the rank says itself that it waits for others.
    SAYS_WAITS = 4
    #: Since when it waits, as its watchdog sees it [ns]; 0: it does not.
    WAITS = 5
    #: The longest step so far [ns].
    LONGEST = 6
    #: A `State`.
    STATE = 7


#: What is written at every step, as plain numbers.
_PROGRESS, _STEP, _PHASE, _LONGEST = map(int, (Field.PROGRESS, Field.STEP, Field.PHASE, Field.LONGEST))
_TRAINING = int(Phase.TRAINING)


class State(IntEnum):
    """How far a rank is with being watched."""

    WATCHED = 0
    #: Its training is over, or has failed.
    LEFT = 1
    #: It has written down where it stands, and ends.
    ENDS = 2
    #: A rank is gone, and it goes on without this job's communicators.
    GIVEN_UP = 3
    #: It has failed by itself, and ends the job.
    FAILED = 4


@dataclass(frozen=True)
class Member:
    """A rank of the node, as it is named in messages."""

    process: Process
    host: str

    def __str__(self) -> str:
        return f"rank {self.process.rank} (process {self.process.pid} on {self.host})"


class Pulse:
    """The lines of all ranks of a node, and this rank's own.

    Parameters
    ----------
    comm, node
        All ranks, and those of this node.  *Collective* over the node.  None: this process alone.
    """

    def __init__(self, comm: MPI.Comm | None = None, node: MPI.Comm | None = None) -> None:
        fields = len(Field)
        self.members: list[Member] = []
        self.index, self.host = 0, socket.gethostname()
        if comm is None or node is None or comm.size == 1:
            self.lines = np.zeros((1, fields), np.int64)
            self._exit_code = np.zeros(1, np.int64)
        else:
            pid = os.getpid()
            me = Member(Process(comm.rank, pid, start_time(pid)), self.host)
            self.members, self.index = node.allgather(me), node.rank
            shared = allocate(node, {"lines": ((node.size, fields), np.int64), "exit_code": ((1,), np.int64)})
            self.lines, self._exit_code = shared["lines"], shared["exit_code"]
        self.own = self.lines[self.index]
        self.own[Field.ALIVE] = self.own[Field.PROGRESS] = monotonic_ns()
        #: The same numbers, which single ones are read from and written to in a third of NumPy's time.
        self._numbers = memoryview(self.own)

    def enter(self, phase: Phase) -> None:
        """Say that this rank begins something else."""
        self.own[Field.PHASE] = phase
        self.own[Field.PROGRESS] = monotonic_ns()

    def advance(self) -> None:
        """Say that this rank makes progress."""
        self.own[Field.PROGRESS] = monotonic_ns()

    def made(self, steps: int) -> None:
        """Say that this rank has made so many steps in all."""
        now, own = monotonic_ns(), self._numbers
        if own[_PHASE] == _TRAINING and own[_STEP]:
            own[_LONGEST] = max(own[_LONGEST], now - own[_PROGRESS])
        own[_PHASE], own[_STEP], own[_PROGRESS] = _TRAINING, steps, now

    @property
    def place(self) -> str:
        """What this rank is at, in words."""
        return f"{Phase(self.own[Field.PHASE]).words}, after step {self.own[Field.STEP]}"

    def leave(self, state: State) -> None:
        """Say that this rank is not to be watched any more."""
        self.own[Field.STATE] = state

    def given_up(self) -> bool:
        """Return whether a rank of the node has given the job up."""
        return self.has(State.GIVEN_UP)

    def has(self, state: State) -> bool:
        """Return whether a rank of the node is in a state."""
        return bool((self.lines[:, Field.STATE] == state).any())

    @property
    def waiting(self) -> np.ndarray:
        """Where waits of this package say that this rank is in one of them, int64 ``(1,)``."""
        return self.own[Field.SAYS_WAITS : Field.SAYS_WAITS + 1]

    @property
    def exit_code(self) -> int:
        """What the ranks of the node are to end with; 0: they go on."""
        return int(self._exit_code[0])

    def end(self, exit_code: int) -> None:
        """Let all ranks of the node end."""
        self._exit_code[0] = exit_code
