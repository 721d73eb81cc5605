"""The figures of a run that is over, from its progress and the records of its epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onotrain.data.reading import FilesRead
from onotrain.text import figure
from onotrain.training.run_position import Progress

#: How the keys of a record begin that a summary has too.
_OF_EPOCH = ("train_", "validation_", "learning_rate", "warnings")
#: What is of the last epoch, whichever is the best.
_OF_LAST = ("workers", "servers")
#: Shorter runs say little about a machine [s].
_MEASURED_S = 2.0
#: Of the time of the run, what one rank may need at most, to be said to be faster.
_CLEARLY_LESS = 0.9


def summary_of(
    progress: Progress, records: Sequence[Mapping[str, Any]], samples: int, *, restored: bool
) -> dict[str, Any]:
    """Return losses and metrics of the last epoch, and the times of all.

    Parameters
    ----------
    progress
        Where the run stands.
    records
        The lines of ``metrics.jsonl``.
    samples
        Of an epoch.
    restored
        Whether the parameters are those of the best epoch, whose losses and metrics are then returned.
    """
    shown = [r for r in records if not restored or progress.best is None or r["epoch"] == progress.best["epoch"]]
    last = dict(shown[-1]) if shown else {}
    trained = progress.epoch * samples + progress.position
    seconds = _total(records, "ranks_seconds")
    slower = slower_than_one_rank(seconds)
    if slower is not None:
        last["warnings"] = [*last.get("warnings", ()), slower]
    return {
        **{key: last[key] for key in last if key.startswith(_OF_EPOCH)},
        "epochs": progress.epoch,
        "steps": progress.steps,
        "finished": progress.finished,
        "stopped_early": progress.stopped_early,
        **({} if progress.stopped_by is None else {"stopped_by": progress.stopped_by}),
        **({"lost_ranks": progress.lost_ranks} if progress.lost_ranks else {}),
        "best": progress.best,
        "train_seconds": progress.train_seconds,
        "samples_per_second": trained / progress.train_seconds if progress.train_seconds else None,
        "ranks_seconds": seconds,
        "ranks_bytes": _total(records, "ranks_bytes"),
        "evaluation_seconds": sum(record.get("evaluation_seconds", 0.0) for record in records),
        **{name: records[-1][name] for name in _OF_LAST if records and name in records[-1]},
    }


def files_summary(read: FilesRead) -> dict[str, Any]:
    """Return what it took to read several files; nothing of one file."""
    if read.files < 2:
        return {}
    return {
        "files_read": {
            "files": read.files,
            "bytes": read.nbytes,
            "seconds": read.seconds,
            "ranks_files": list(read.ranks_files),
            "ranks_bytes": list(read.ranks_bytes),
        }
    }


def slower_than_one_rank(ranks_seconds: Mapping[str, Sequence[float]] | None) -> str | None:
    """Return a warning if a single rank would have been faster.

    All computing of all ranks, one after the other, is the most that a single rank needs: it computes the same samples,
    and larger batches of them, and waits for nobody.

    Parameters
    ----------
    ranks_seconds
        ``compute``, ``wait`` and ``communication`` of each rank [s]; None if they are unknown.
    """
    if ranks_seconds is None or len(ranks_seconds["compute"]) == 1:
        return None
    ranks = len(ranks_seconds["compute"])
    run = max(map(sum, zip(*(ranks_seconds[kind] for kind in ("compute", "wait", "communication")), strict=True)))
    alone = sum(ranks_seconds["compute"])
    if run < _MEASURED_S or alone > _CLEARLY_LESS * run:
        return None
    return (
        f"{ranks} RANKS ARE SLOWER THAN ONE: they took {figure(run)} s, of which each computed {figure(alone / ranks)} "
        f"s and waited for the rest; a single rank would need at most {figure(alone)} s.  What to do: "
        "start fewer ranks, not more than there are free cores, or give each more work between two messages: a larger "
        "training.batch_size, or strategy: local_sgd"
    )


def _total(records: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float]] | None:
    """Return each rank's seconds or bytes over the epochs that were run with as many ranks as the last one."""
    if not records or key not in records[-1]:
        return None
    last = records[-1][key]
    alike = [r[key] for r in records if r["ranks"] == records[-1]["ranks"] and key in r]
    none = [0] * records[-1]["ranks"]  # of a kind that an earlier version did not measure
    return {kind: [sum(column) for column in zip(*(r.get(kind, none) for r in alike), strict=True)] for kind in last}
