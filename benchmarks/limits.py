"""Cases that are compared with what the machine can do."""

from __future__ import annotations

from dataclasses import replace

from case import CORES, EPOCH, Case, Pair
from peers.training import Training
from programs import values_per_rank
from rows import Outcome, Reading, Row
from samples import MNIST

MLP = Training(MNIST)


def _gemm(pair: Pair) -> dict[str, Reading]:
    found = pair.ours.bench("kernels", "--rows", "32,256", "--seconds", 0.5, ranks=CORES)
    networks = {kernel["rows"]: kernel for kernel in found["kernels"] if kernel["kernel"] == "network"}
    return {
        f"gemm-{rows}": Reading(
            Outcome(kernel["seconds"]["median"] * 1e3),
            {"bare products": Outcome(kernel["gemm_seconds"]["median"] * 1e3)},
        )
        for rows, kernel in networks.items()
    }


def _update(pair: Pair) -> dict[str, Reading]:
    # Where activations are shared, the update multiplies gradients too, and cannot be timed on its own.
    found = pair.ours.bench("step", "--rows", 32, "--set", "strategy.share=gradients", ranks=CORES)
    one, two = (Outcome(step["update_seconds"]["median"] * 1e3) for step in found["steps"])
    return {"update": Reading(two), "update-falls": Reading(two, {"1 rank": one})}


def _scaling(pair: Pair) -> dict[str, Reading]:
    one = pair.train(replace(MLP, batch_size=256, epochs=3), 1)
    two = pair.train(replace(MLP, batch_size=512, epochs=3), CORES)
    # The same samples in an epoch: its time is the inverse of the throughput.
    return {"scaling": Reading(two, {"1 rank": one})}


def _memory(pair: Pair) -> dict[str, Reading]:
    """The ranks compute 32 rows each; what the third one adds to the first."""
    trainings = {ranks: Training("mnist", batch_size=32 * ranks, epochs=1000) for ranks in (1, 3)}
    one, three = (pair.ours.memory_mib(training, ranks) for ranks, training in trainings.items())
    own = values_per_rank(trainings[1], 1) * 4 / 2**20
    return {"memory": Reading.of((three - one) / 2 - own)}


def _version(pair: Pair) -> dict[str, Reading]:
    pair.ours.run("--version")  # so that its files are in the system's cache
    return {"version": Reading.of(min(pair.ours.run("--version") for _ in range(3)))}


def _fixed(pair: Pair) -> dict[str, Reading]:
    records, seconds = pair.ours.train_mnist(
        {"training.batch_size": 512, "training.epochs": 2, "data.validation": None}, CORES
    )
    return {"fixed": Reading.of(seconds - sum(record["train_seconds"] for record in records))}


def _saving(pair: Pair) -> dict[str, Reading]:
    saving = pair.ours.bench("io", "--samples", 1000, "--every", 200, ranks=CORES)["saving"]
    return {
        "saving": Reading.of(saving["pause_steps"]["median"]),
        "saving-cost": Reading.of(saving["cost_steps"]["median"]),
    }


CASES = (
    Case(
        (
            Row("gemm-256", "speed of forward + backward by that of bare products, 256 rows", 0.90, "", side_unit="ms"),
            Row("gemm-32", "speed of forward + backward by that of bare products, 32 rows", 0.75, "", side_unit="ms"),
        ),
        _gemm,
    ),
    Case(
        (
            Row("update", "reduce, Adam, publish and both barriers, 567,434 parameters", 0.35, "ms", "at most"),
            Row("update-falls", "the update with its barriers, 2 ranks against 1", 1.0, side_unit="ms"),
        ),
        _update,
    ),
    Case((Row("scaling", "throughput of 2 ranks against 1, 256 rows a rank", 1.85, side_unit=EPOCH),), _scaling),
    Case((Row("memory", "memory of an added rank, without its gradients and activations", 80.0, "MiB", "at most"),),
         _memory),
    Case((Row("version", "onotrain --version", 0.2, "s", "at most"),), _version),
    Case((Row("fixed", "a run on 2 ranks without its training", 1.5, "s", "at most"),), _fixed),
    Case(
        (
            Row("saving", "stall of the ranks by a checkpoint", 2.0, "steps", "at most"),
            Row("saving-cost", "all that a checkpoint costs", None, "steps"),
        ),
        _saving,
    ),
)  # fmt: skip
