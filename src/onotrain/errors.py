"""What can go wrong, and the exit code each kind ends the process with.

A message says what is wrong, what was got and what was expected; the hint says what to do next.  Errors that a user can
cause are raised as one of these classes and printed as one message by one rank; anything else is a bug and keeps its
traceback (exit code 1).
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130

#: What the exit codes mean, in a few words.
EXIT_CODES = {
    EXIT_OK: "done",
    EXIT_INTERNAL: "internal error",
    2: "usage or configuration",
    3: "data",
    4: "checkpoint",
    5: "numerics",
    6: "disk or memory",
    7: "environment",
    75: "stopped on request and saved",
    124: "a rank makes no progress",
    EXIT_INTERRUPTED: "interrupted",
}


class OnotrainError(Exception):
    """Base of every error that is meant to be read by a user.

    Parameters
    ----------
    message
        What is wrong; may hold several lines.
    hint
        What the user can do about it.
    """

    exit_code = EXIT_INTERNAL
    #: Whether every rank of the job raises this error at the same point; if not, the job must be aborted.
    agreed = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  hint: {self.hint}"


class UsageError(OnotrainError):
    """A wrong command line or call, or a run directory that cannot be used so."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration that is not valid; the message lists every problem."""


class DataError(OnotrainError):
    """A data file that is missing, unreadable, or does not fit the model."""

    exit_code = 3


class CheckpointError(OnotrainError):
    """A checkpoint that is damaged, foreign, or of another network."""

    exit_code = 4


class NumericsError(OnotrainError):
    """Training diverged: a loss or gradient is not finite."""

    exit_code = 5


class ResourceError(OnotrainError):
    """Disk or memory ran out."""

    exit_code = 6


class PlatformError(OnotrainError):
    """The environment lacks something, or ranks disagree about it."""

    exit_code = 7


class LostRankError(PlatformError):
    """A rank has ended before the others."""


class ObserverError(OnotrainError):
    """An observer of a training raised an exception, which is the cause of this one on rank 0."""


class HangError(OnotrainError):
    """A rank makes no progress: it is stopped or stuck."""

    exit_code = 124


class StoppedOnRequest(OnotrainError):
    """Training was asked to stop and has saved its state; run again with ``--resume``."""

    exit_code = 75


def on_all_ranks(error: OnotrainError) -> OnotrainError:
    """Mark an error that every rank raises at the same point, so that the job may end without an abort."""
    error.agreed = True
    return error
