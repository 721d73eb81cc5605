"""The cases: each measures one pair at a time, for one row of the table or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from programs import Ours, Peer, Training
from rows import Reading, Row

WIDE = (784, 4096, 4096, 4096, 10)
TIMES = "times"


@dataclass(frozen=True)
class Case:
    """What is measured together; `measure` returns a reading for each of the rows."""

    rows: tuple[Row, ...]
    measure: Callable[[Ours, Peer], Mapping[str, Reading]]


def _training(
    name: str, what: str, target: float, training: Training, *, world: int, batch: int, threads: int = 1
) -> Case:
    """Return a case that trains on both sides with the same global batch."""

    def measure(ours: Ours, peer: Peer) -> dict[str, Reading]:
        mine = ours.epoch_seconds(training)
        return {name: Reading.times_faster(mine, peer.epoch_seconds(training, world, batch, threads))}

    return Case((Row(name, what, target, TIMES, side_unit="s an epoch"),), measure)


def _accuracy(ours: Ours, peer: Peer) -> dict[str, Reading]:
    records, _ = ours.train(Training(ranks=2, batch_size=64, epochs=5))
    return {"accuracy": Reading(records[-1]["validation_accuracy"])}


def _gemm(ours: Ours, peer: Peer) -> dict[str, Reading]:
    found = ours.bench("kernels", "--rows", "32,256", "--seconds", 0.5, ranks=2)
    networks = {k["rows"]: k for k in found["kernels"] if k["kernel"] == "network"}
    return {
        f"gemm-{rows}": Reading(k["of_gemm"]["median"], k["seconds"]["median"] * 1e3, k["gemm_seconds"]["median"] * 1e3)
        for rows, k in networks.items()
    }


def _update(ours: Ours, peer: Peer) -> dict[str, Reading]:
    # Where activations are shared, the update multiplies gradients too, and cannot be timed on its own.
    found = ours.bench("step", "--rows", 32, "--set", "strategy.share=gradients", ranks=2)
    one, two = (step["update_seconds"]["median"] * 1e3 for step in found["steps"])
    return {"update": Reading(two), "update-falls": Reading.times_faster(two, one)}


def _scaling(ours: Ours, peer: Peer) -> dict[str, Reading]:
    one = ours.epoch_seconds(Training(ranks=1, batch_size=256))
    two = ours.epoch_seconds(Training(ranks=2, batch_size=512))
    # The same samples in an epoch: its time is the inverse of the throughput.
    return {"scaling": Reading.times_faster(two, one)}


def _predict(ours: Ours, peer: Peer) -> dict[str, Reading]:
    samples = 60_000
    found = ours.bench("predict", "--samples", samples, ranks=2)
    mine, gemm = found["seconds"]["median"], found["gemm_seconds"]["median"]
    return {
        "predict": Reading.times_faster(mine, peer.predict_seconds(samples, threads=2)),
        "predict-gemm": Reading(found["of_gemm"]["median"], mine, gemm),
    }


def _memory(ours: Ours, peer: Peer) -> dict[str, Reading]:
    """The ranks compute 32 rows each; what the third one adds to the first."""
    trainings = [Training(ranks, 32 * ranks, epochs=1000) for ranks in (1, 2, 3)]
    total = [ours.memory_mib(training) for training in trainings]
    own = trainings[0].values_per_rank() * 4 / 2**20
    return {"memory": Reading((total[2] - total[0]) / 2 - own)}


def _version(ours: Ours, peer: Peer) -> dict[str, Reading]:
    ours.run("--version")  # so that its files are in the system's cache
    return {"version": Reading(min(ours.run("--version") for _ in range(3)))}


def _fixed(ours: Ours, peer: Peer) -> dict[str, Reading]:
    records, seconds = ours.train(Training(ranks=2, batch_size=512, epochs=2, validation="null"))
    trained = sum(record["train_seconds"] for record in records)
    return {"fixed": Reading(seconds - trained)}


def _saving(ours: Ours, peer: Peer) -> dict[str, Reading]:
    saving = ours.bench("io", "--samples", 1000, "--every", 200, ranks=2)["saving"]
    return {"saving": Reading(saving["pause_steps"]["median"]), "saving-cost": Reading(saving["cost_steps"]["median"])}


_MLP, _LARGE = Training(ranks=2, batch_size=64), Training(ranks=2, batch_size=512)
CASES = (
    _training("batch-64-ddp", "global batch 64, against DDP 2 x 32", 6.0, _MLP, world=2, batch=32),
    _training(
        "batch-64-process", "global batch 64, against one process with 2 threads", 2.5, _MLP,
        world=1, batch=64, threads=2,
    ),
    _training("batch-512-ddp", "global batch 512, against DDP 2 x 256", 2.2, _LARGE, world=2, batch=256),
    _training(
        "batch-512-process", "global batch 512, against one process with 2 threads", 2.2, _LARGE,
        world=1, batch=512, threads=2,
    ),
    _training(
        "one-rank", "1 rank, batch 64, against one process with 1 thread", 1.7, Training(ranks=1, batch_size=64),
        world=1, batch=64,
    ),
    _training(
        "wide-ddp", "784-4096-4096-4096-10, batch 256, against DDP 2 x 128", 1.5,
        Training(2, 256, widths=WIDE, validation="null", samples=10_240), world=2, batch=128,
    ),
    Case(
        (
            Row("gemm-256", "speed of forward + backward by that of bare products, 256 rows", 0.90, "", side_unit="ms"),
            Row("gemm-32", "speed of forward + backward by that of bare products, 32 rows", 0.75, "", side_unit="ms"),
        ),
        _gemm,
    ),
    Case(
        (
            Row("update", "reduce, Adam, publish and both barriers, 567,434 parameters", 0.35, "ms", at_most=True),
            Row("update-falls", "the update with its barriers, 2 ranks against 1", 1.0, TIMES, side_unit="ms"),
        ),
        _update,
    ),
    Case((Row("scaling", "throughput of 2 ranks against 1, 256 rows a rank", 1.85, TIMES, side_unit="s an epoch"),),
         _scaling),
    Case(
        (
            Row("predict", "predict 60,000 images, against one process with 2 threads", 1.2, TIMES, side_unit="s"),
            Row("predict-gemm", "speed of prediction by that of its bare products", 0.85, "", side_unit="s"),
        ),
        _predict,
    ),
    Case((Row("memory", "memory of an added rank, without its gradients and activations", 80.0, "MiB", at_most=True),),
         _memory),
    Case((Row("version", "onotrain --version", 0.2, "s", at_most=True),), _version),
    Case((Row("fixed", "a run on 2 ranks without its training", 1.5, "s", at_most=True),), _fixed),
    Case(
        (
            Row("saving", "stall of the ranks by a checkpoint", 2.0, "steps", at_most=True),
            Row("saving-cost", "all that a checkpoint costs", None, "steps"),
        ),
        _saving,
    ),
    Case((Row("accuracy", "test accuracy after 5 epochs", 0.98, ""),), _accuracy),
)  # fmt: skip


def names() -> list[str]:
    """Return the names of all rows."""
    return [row.name for case in CASES for row in case.rows]
