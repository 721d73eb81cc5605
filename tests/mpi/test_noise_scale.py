"""The gradient noise scale: against its definition in NumPy, and where it is known; and that it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import at_start, in_every_way, mapping, records, relu, write_digits
from onotrain.data.batches import Batch
from onotrain.parallel.world import World
from onotrain.strategies.balance import LocalSlices
from onotrain.training import train
from onotrain.training.components import Components
from onotrain.training.noise_scale import Noise, NoiseScale
from onotrain.training.observers import Observer, StepEnd

pytestmark = pytest.mark.mpi

BATCH = 50


def config(*layers: Any, noise: Any = 1, **sections: Any) -> dict[str, Any]:
    training = {"epochs": 1, "batch_size": BATCH, "dtype": "float64", **sections.pop("training", {})}
    return mapping(*(layers or (10,)), metrics={"noise_scale": noise}, training=training, **sections)


def fetched(components: Components, samples: int, position: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features and classes of a batch."""
    x, classes = np.empty((samples, components.model.inputs)), np.empty(samples, np.int32)
    components.feed.begin_epoch(0)
    calls = components.feed.record(samples, Batch(0, samples), x, classes)
    components.model.kernels.program(calls).run(0, position)
    return x, classes


def of_samples(components: Components, samples: int, position: int) -> np.ndarray:
    """Return the gradient of each sample of a batch, ``(samples, parameters)``, of a softmax regression."""
    x, classes = fetched(components, samples, position)
    tensors = components.model.layout.views(components.strategy.replica.parameters)
    weight, bias = (next(view for name, view in tensors.items() if name.endswith(each)) for each in ("weight", "bias"))
    logits = x @ weight.T + bias
    dz = np.exp(logits - logits.max(axis=1, keepdims=True))
    dz /= dz.sum(axis=1, keepdims=True)
    dz[np.arange(samples), classes] -= 1.0
    return np.hstack([(dz[:, :, None] * x[:, None, :]).reshape(samples, -1), dz])


def test_estimates_have_no_bias_whatever_the_sizes_of_the_parts() -> None:
    variance, square, sizes = 3.0, 0.25, np.array([5, 9, 2, 1])
    batch = sizes.sum()
    of_parts = sum(size / batch * (square + variance / size) for size in sizes)
    found = Noise.of(int(batch), len(sizes), of_parts, square + variance / batch)
    assert found == pytest.approx((variance, square))


def estimates(gradients: np.ndarray, bounds: list[tuple[int, int]]) -> tuple[float, float]:
    """Return what the definition says of a batch cut at these bounds, as equations of expected squares."""
    parts = [gradients[begin:end].mean(axis=0) for begin, end in bounds if begin < end]
    sizes = np.array([end - begin for begin, end in bounds if begin < end])
    batch = len(gradients)
    weighted = sum(size / batch * part @ part for size, part in zip(sizes, parts, strict=True))
    whole = gradients.mean(axis=0)
    # E weighted = square + variance sum(size / batch / size), E |whole|^2 = square + variance / batch
    equations = np.array([[len(sizes) / batch, 1.0], [1.0 / batch, 1.0]])
    variance, square = np.linalg.solve(equations, [weighted, whole @ whole])
    return float(variance), float(square)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("accumulation", [1, 5])
def test_it_is_what_its_definition_says(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch, accumulation: int, uneven: bool
) -> None:
    """Of a whole batch, of the short one at the end of an epoch, and of one with fewer samples than parts."""
    if uneven:
        local = LocalSlices.local
        edges = [0, *np.cumsum([1 + rank for rank in range(world.size)]).tolist()]

        def cut(self: LocalSlices, batch: Batch) -> Batch:
            even = local(self, batch)
            begin, end = (edge * len(batch) // edges[-1] for edge in edges[world.rank : world.rank + 2])
            return Batch(batch.begin + begin, batch.begin + end) if len(batch) <= BATCH // 2 else even

        monkeypatch.setattr(LocalSlices, "local", cut)
    seen = []

    def see(components: Components) -> None:
        measure = components.noise
        assert measure is not None
        parts = max(accumulation, -(-4 // world.size))
        for samples, position in ((BATCH, 0), (BATCH // 2, 150), (3, 1300)):
            mine = components.strategy.batches.local(Batch(0, samples))
            cuts = [(part.begin, part.end) for part in mine.micro_batches(parts)]
            bounds = [each for rank in world.comm.allgather(cuts) for each in rank]
            expected = estimates(of_samples(components, samples, position), bounds)
            assert measure(Batch(position, position + samples), 0) == pytest.approx(expected, rel=1e-9)
            seen.append(samples)
        assert measure(Batch(0, 1), 0) is None
        components.strategy.telemetry.clock.take(0.0)  # of no epoch

    at_start(monkeypatch, see)
    train(config(training={"gradient_accumulation": accumulation}), world.comm, output=place / "run")
    assert len(seen) == 3


class Norms(Observer):
    """Keeps the norm of each step's gradient."""

    def __init__(self) -> None:
        self.squares: list[float] = []

    def stepped(self, step: StepEnd) -> None:
        self.squares.append(step.gradient_norm**2)


@in_every_way
def test_it_measures_the_gradient_that_the_step_takes_and_changes_nothing(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any]
) -> None:
    """Whatever ranks share, with dropout, and with fewer measurements than steps."""
    write_digits(world, place / "digits.h5", 580)
    noises: list[tuple[int, Noise]] = []
    norms, measure = Norms(), NoiseScale.__call__

    def kept(self: NoiseScale, batch: Batch, step: int) -> Noise | None:
        noise = measure(self, batch, step)
        assert noise is not None
        noises.append((len(batch), noise))
        return noise

    monkeypatch.setattr(NoiseScale, "__call__", kept)
    digests = []
    for number, every in enumerate((None, 1, 7)):
        data = {"train": str(place / "digits.h5"), **sections.get("data", {})}
        made = config(relu(16), {"dropout": 0.3}, 10, noise=every, **{**sections, "data": data})
        result = train(made, world.comm, output=place / str(number), observers=[norms] if every == 1 else [])
        digests.append(result.summary["parameters_sha256"])
    assert len(set(digests)) == 1
    whole = [noise.square + noise.variance / samples for samples, noise in noises[: len(norms.squares)]]
    if world.rank == 0:
        assert whole == pytest.approx(norms.squares, rel=1e-9)
        (row,) = records(place / "1")
        assert row["noise_batches"] == len(norms.squares) == 12
        assert row["noise_scale"] == pytest.approx(row["noise_variance"] / row["noise_square"])
        (row,) = records(place / "2")
        assert row["noise_batches"] == 2
        assert "noise_scale" not in records(place / "0")[0]


def test_it_is_that_of_a_linear_model_with_a_known_covariance(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normal features and targets that are noise: moments of the gradient of a sample follow from the parameters.

    With r = w x + b - y, a sample's gradient is c r (x, 1) for some c; E r x = w and E r = b.
    """
    features, deviation = 6, 0.7
    if world.rank == 0:
        rng = np.random.default_rng(1)
        x = rng.normal(size=(20_000, features))
        np.savez(place / "data.npz", x=x, y=rng.normal(scale=deviation, size=(20_000, 1)))
    world.barrier()
    found = []

    def see(components: Components) -> None:
        layout = components.model.layout
        square = float((components.strategy.replica.parameters[: layout.size] ** 2).sum())  # the bias is 0
        inner = square * (features + 2) + deviation**2 * features + square + deviation**2
        found.append((inner - square, square))

    at_start(monkeypatch, see)
    made = config(
        1,
        data={"train": str(place / "data.npz"), "normalize": "none"},
        loss="mse",
        optimizer={"name": "sgd", "learning_rate": 1e-12},
    )
    train(made, world.comm, output=place / "run")
    if world.rank == 0:
        (row,), (variance, square) = records(place / "run"), found[0]
        assert row["noise_scale"] == pytest.approx(variance / square, rel=0.1)
    world.barrier()


def test_a_resumed_run_goes_on_with_its_sums(world: World, place: Path) -> None:
    for name, most in (("whole", None), ("cut", 10)):
        made = config(relu(8), 10, noise=4, training={"max_steps": most})
        train(made, world.comm, output=place / name)
    train(config(relu(8), 10, noise=4), world.comm, output=place / "cut", resume=True)
    if world.rank == 0:
        (whole,), (cut,) = records(place / "whole"), records(place / "cut")
        names = ("noise_scale", "noise_variance", "noise_square", "noise_batches")
        assert [cut[name] for name in names] == [whole[name] for name in names] and whole["noise_batches"] == 9
    world.barrier()
