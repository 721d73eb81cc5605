"""What is written down of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from onotrain.training.components import Components
from onotrain.training.noise_scale import noise_record
from onotrain.training.run_position import Progress

#: A slow rank takes so many times as long as every other one,
_SLOW = 1.5
#: and so much of the epoch longer.
_MATTERS = 0.1


def epoch_record(components: Components, progress: Progress, learning_rate: float) -> dict[str, Any]:
    """Return the record of an epoch that has ended, the same on all ranks.  *Collective*.

    Losses and metrics, validation among them; the ranks' clocks; and what the strategy has to tell.

    Parameters
    ----------
    components
        Of the run.
    progress
        Of rank 0 on all ranks.
    learning_rate
        Of the epoch's last step.
    """
    samples = components.feed.samples
    record: dict[str, Any] = {
        "epoch": progress.epoch + 1,
        "steps": progress.steps,
        "train_seconds": progress.epoch_seconds,
        "samples_per_second": samples / progress.epoch_seconds,
        "learning_rate": learning_rate,
        "train_loss": progress.loss_sum / samples,
    }
    if components.model.loss.task != "regression":
        record["train_accuracy"] = progress.right / samples
    if components.noise is not None:
        record |= noise_record(progress.noise_variance, progress.noise_square, progress.noise_batches)
    if components.evaluator is not None:
        began = perf_counter()
        with components.profiler.span("validation"):
            values = components.evaluator(components.world.comm)
        record["evaluation_seconds"] = perf_counter() - began
        record |= {f"validation_{name}": value for name, value in values.items()}
        if components.evaluator.warnings:
            record["warnings"] = list(components.evaluator.warnings)
    telemetry, comm = components.strategy.telemetry, components.world.comm
    seconds, traffic = telemetry.clock.take(record["train_seconds"]), telemetry.traffic.take()
    workers = components.strategy.batches.workers
    record |= {"workers": workers, "servers": components.world.size - workers}
    for name, mine in (("ranks_seconds", seconds), ("ranks_bytes", traffic)):
        ranks = comm.allgather(mine)
        record[name] = {kind: [rank[kind] for rank in ranks] for kind in mine}
    slow = slow_rank(record["ranks_seconds"]["compute"], record["train_seconds"])
    report: dict[str, Any] = comm.bcast(telemetry.report() if comm.rank == 0 else None, root=0)
    return record | slow | report


def slow_rank(compute: Sequence[float], seconds: float) -> dict[str, Any]:
    """Return the rank that took longer to compute than every other one, if that made a difference.

    Parameters
    ----------
    compute
        Of each rank [s].
    seconds
        That the epoch took [s].
    """
    *_, second, most = sorted((0.0, 0.0, *compute))
    if len(compute) == 1 or most < _SLOW * second or most - second < _MATTERS * seconds or not second:
        return {}
    return {"slow_rank": {"rank": list(compute).index(most), "factor": most / second}}
