"""Training on samples in memory: the same for any number of ranks, and for rows that the ranks share out."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onotrain
from builders import relu
from onotrain.errors import ConfigError, DataError, NumericsError, OnotrainError, UsageError
from onotrain.parallel.world import World
from onotrain.training import Fitted

RANKS = (1, 3)

SETTINGS: dict[str, Any] = {
    "model": {"layers": [relu(8), {"dense": 3}]},
    "loss": "cross_entropy",
    "training": {"epochs": 3, "batch_size": 24},
}


def samples(count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Return features and three classes."""
    x = np.random.default_rng(7).normal(size=(count, 5))
    return x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)


def columns(count: int = 120) -> dict[str, Any]:
    """Return a table with numbers, text of several lengths, gaps, dates and a class."""
    x, y = samples(count)
    words = np.array(["a", "bbb", "cc", "dddd"])[np.arange(count) * 4 // count]  # each rank knows others
    days = np.datetime64("2024-01-01") + np.arange(count).astype("m8[D]")
    mixed = np.array([None if n % 7 == 0 else f"w{n % 3}" for n in range(count)], dtype=object)
    return {"p": x[:, 0], "q": words, "when": days, "mixed": mixed, "kind": np.array(["lo", "mid", "high"])[y]}


def share(world: World, count: int) -> slice:
    """Return the rows of this rank: as many as its number and one more, of what is left the last has all."""
    cuts = [min(count, 20 * rank) for rank in range(world.size)] + [count]
    return slice(cuts[world.rank], cuts[world.rank + 1])


def same_everywhere(world: World, fitted: Fitted, x: Any) -> np.ndarray:
    """Return predictions, which all ranks make alike.  *Collective*."""
    found = fitted.predict(x)
    assert len(set(world.comm.allgather(found.tobytes()))) == 1
    return found


def alone(world: World, *arguments: Any, **options: Any) -> Fitted:
    """Return what each rank gets by itself.  *Collective*."""
    own = world.comm.Split(world.rank)
    try:
        return onotrain.fit(*arguments, comm=own, **options)
    finally:
        own.Free()


def refused(world: World, kind: type[OnotrainError], match: str, *arguments: Any, **options: Any) -> None:
    """Expect the same error on all ranks."""
    with pytest.raises(kind, match=match) as caught:
        onotrain.fit(*arguments, comm=world.comm, **options)
    assert caught.value.agreed or world.size == 1
    assert len(set(world.comm.allgather(caught.value.message))) == 1


def test_arrays_that_all_ranks_have(world: World) -> None:
    x, y = samples()
    fitted = onotrain.fit(x, y, SETTINGS, comm=world.comm, data={"normalize": "standard"})
    one = alone(world, x, y, SETTINGS, data={"normalize": "standard"})
    assert fitted.predictor.metadata.to_dict() == one.predictor.metadata.to_dict()
    np.testing.assert_allclose(same_everywhere(world, fitted, x), one.predict(x), atol=1e-5)
    assert fitted.output is None and fitted.summary["finished"]


@pytest.mark.parametrize("kind", ["arrays", "images", "table"])
def test_own_rows_are_the_rows_of_one_array(world: World, kind: str) -> None:
    x: Any
    x, y = samples()
    settings: dict[str, Any] = SETTINGS
    mine = share(world, len(y))
    own: tuple[Any, Any] = x[mine], y[mine]
    if kind == "images":
        x = (np.abs(x[:, :4]) * 60).astype(np.uint8).reshape(-1, 2, 2)
        own = x[mine], y[mine]
    elif kind == "table":
        x, y = columns(), "kind"  # type: ignore[assignment]
        own = {name: values[mine] for name, values in x.items()}, y
    fitted = onotrain.fit(*own, settings, comm=world.comm, rows="own", validation=0.2)
    same = onotrain.fit(x, y, settings, comm=world.comm, validation=0.2)
    one = alone(world, x, y, settings, validation=0.2)
    assert fitted.summary["parameters_sha256"] == same.summary["parameters_sha256"]
    for other in (same, one):
        assert fitted.predictor.metadata.to_dict() == other.predictor.metadata.to_dict()
        np.testing.assert_allclose(same_everywhere(world, fitted, x), other.predict(x), atol=1e-5)


@pytest.mark.parametrize("kind", ["arrays", "table"])
def test_ranks_without_rows_of_their_own(world: World, kind: str) -> None:
    """Rank 0 has all: as where one rank reads what it trains on."""
    x, y = samples()
    all_of_it = slice(0, len(y) if world.rank == 0 else 0)
    given: Any = x[all_of_it] if kind == "arrays" else {"p": x[all_of_it, 0], "q": x[all_of_it, 1]}
    fitted = onotrain.fit(given, y[all_of_it], SETTINGS, comm=world.comm, rows="own", validation=0.2)
    same = onotrain.fit(
        x if kind == "arrays" else {"p": x[:, 0], "q": x[:, 1]}, y, SETTINGS, comm=world.comm, validation=0.2
    )
    assert fitted.summary["parameters_sha256"] == same.summary["parameters_sha256"]


def test_own_rows_of_other_types_become_the_type_of_all(world: World) -> None:
    x, y = samples()
    mine = share(world, len(y))
    number = np.arange(len(y)) % 3
    table = {"p": x[:, 0], "code": number if world.rank == 0 else np.array(["0", "1", "x"])[number]}
    fitted = onotrain.fit(
        {name: values[mine] for name, values in table.items()}, y[mine].astype("f4" if world.rank else "i8"), SETTINGS,
        comm=world.comm, rows="own",
    )  # fmt: skip
    assert fitted.predictor.metadata.preparation is not None
    assert fitted.predictor.metadata.preparation.inputs == ("p", "code")


def test_what_init_would_choose(world: World) -> None:
    x, y = samples()
    fitted = onotrain.fit(x, y, comm=world.comm, training={"epochs": 8}, optimizer={"learning_rate": 0.01})
    made = fitted.predictor.metadata.config
    assert made.loss.name == "cross_entropy" and made.model.outputs == 3 and made.data.normalize == "standard"
    assert (made.training.epochs, made.optimizer.learning_rate) == (8, 0.01)
    assert made.optimizer.weight_decay == float(f"{1 / len(y):.0e}")
    assert fitted.summary["validation_accuracy"] > 0.7
    target = 1e6 * x[:, 0] + 3e6
    fitted = onotrain.fit({"a": x[:, 0], "b": x[:, 1]}, target, comm=world.comm, training={"epochs": 30})
    assert fitted.predictor.metadata.config.loss.name == "mse"
    assert fitted.predictor.metadata.target_names == ("target",)
    assert fitted.summary["validation_r2"] > 0.9


def test_samples_to_validate_on(world: World) -> None:
    x, y = samples()
    fitted = onotrain.fit(x[:90], y[:90], SETTINGS, comm=world.comm, validation=(x[90:], y[90:]))
    hits = fitted.predict(x[90:]).argmax(axis=1) == y[90:]
    assert fitted.summary["validation_accuracy"] == pytest.approx(hits.mean())
    table = columns()
    parts = [{name: values[rows] for name, values in table.items()} for rows in (slice(90), slice(90, None))]
    fitted = onotrain.fit(parts[0], "kind", SETTINGS, comm=world.comm, validation=(parts[1], "kind"))
    hits = np.array(fitted.predictor.predict_names(parts[1])) == parts[1]["kind"]
    assert fitted.summary["validation_accuracy"] == pytest.approx(hits.mean())


def test_nothing_is_left_behind_unless_asked_for(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.chdir(place)
    x, y = samples()
    onotrain.fit(x, y, SETTINGS, comm=world.comm)
    refused(world, NumericsError, "diverged", x, y, SETTINGS, optimizer={"name": "sgd", "learning_rate": 1e30})
    world.barrier()
    assert os.listdir(place) == []
    world.barrier()
    kept = onotrain.fit(x, y, SETTINGS, comm=world.comm, output=place / "run")
    assert kept.output == place / "run"
    assert onotrain.load(place / "run").predict(x).tobytes() == kept.predict(x).tobytes()
    refused(world, UsageError, "holds a finished run already", x, y, SETTINGS, output=place / "run")
    changed = onotrain.fit(
        x, y, SETTINGS, comm=world.comm, output=place / "run", overwrite=True, training={"epochs": 1}
    )
    assert changed.summary["epochs"] == 1


def test_a_warm_start_of_samples_in_memory(world: World, place: Path) -> None:
    x, y = samples()
    old = onotrain.fit(x, y, SETTINGS, comm=world.comm, output=place / "old")
    new = onotrain.fit(x, y, SETTINGS, comm=world.comm, model={"from": str(place / "old"), "freeze": "all_but_head"})
    assert new.summary["origin"]["parameters_sha256"] == old.summary["parameters_sha256"]


def test_what_does_not_fit_is_said_on_all_ranks(world: World) -> None:
    x, y = samples()
    refused(world, DataError, "100 targets for 120 samples", x, y[:100], SETTINGS)
    refused(world, DataError, "no column 'z' to predict", columns(), "z", SETTINGS)
    refused(world, DataError, "needs? .*an array too|must be an array too", x, None, SETTINGS)
    refused(world, UsageError, "rows is 'mine'", x, y, SETTINGS, rows="mine")
    refused(world, UsageError, "expected \\(x, y\\)", x, y, SETTINGS, validation=(x,))
    refused(world, ConfigError, "training.epoch: unknown key", x, y, SETTINGS, training={"epoch": 3})
    refused(world, DataError, "the feature is nan", np.where(x > 1, np.nan, x), y, SETTINGS)


@pytest.mark.mpi(min_size=2)
def test_ranks_that_disagree(world: World) -> None:
    x, y = samples()
    refused(world, UsageError, "rank 1 has other samples than rank 0", x + (world.rank == 1), y, SETTINGS)
    wide = x if world.rank != 1 else x[:, :4]
    refused(world, DataError, "rank 1 have other columns", wide, y, SETTINGS, rows="own")
    short = y if world.rank != 1 else y[:3]
    refused(world, DataError, "3 targets for 120 samples", x, short, SETTINGS, rows="own")


@pytest.mark.parametrize("kind", ["array", "table", "column"])
@pytest.mark.parametrize("rows", ["same", "own"])
def test_weights_of_samples(world: World, kind: str, rows: str) -> None:
    """They go with the rows of each rank, and count as copies of samples would."""
    x, y = samples()
    counts = np.random.default_rng(1).integers(0, 4, len(x))
    settings = SETTINGS | {"training": {"epochs": 2, "batch_size": 1000, "dtype": "float64"}}
    copies = alone(world, np.repeat(x, counts, axis=0), np.repeat(y, counts), settings)
    own = share(world, len(x)) if rows == "own" else slice(None)
    table = {f"f{k}": column for k, column in enumerate(x[own].T)}
    weights: Any = 0.5 * counts[own]
    given = {"array": (x[own], weights), "table": (table, weights), "column": ({**table, "w": weights}, "w")}[kind]
    fitted = onotrain.fit(given[0], y[own], settings, weights=given[1], comm=world.comm, rows=rows)
    np.testing.assert_allclose(fitted.predictor.parameters, copies.predictor.parameters, rtol=1e-9, atol=1e-12)


def test_weights_that_are_refused(world: World) -> None:
    x, y = samples()
    bad = np.ones(len(y))
    for value in (-1.0, np.nan, np.inf):
        bad[5] = value
        refused(world, DataError, "row 5: the sample's weight is", x, y, SETTINGS, weights=bad)
    refused(world, DataError, "all weights of samples are 0", x, y, SETTINGS, weights=np.zeros(len(y)))
    refused(world, DataError, "3 weights for 120 samples", x, y, SETTINGS, weights=[1, 2, 3])
    named = SETTINGS | {"data": {"weights": "w"}}
    refused(world, UsageError, "data.weights names 'w', but an array", x, y, named)
    assert onotrain.fit(x, y, named, weights=np.ones(len(y)), comm=world.comm).summary["finished"]


def test_arguments_of_another_kind(world: World) -> None:
    x, y = samples()
    watching: Any = onotrain.Observer()
    refused(world, UsageError, "observers is a Observer, expected a list", x, y, SETTINGS, observers=watching)
    refused(world, UsageError, "Observer is a class, not an observer", x, y, SETTINGS, observers=[onotrain.Observer])  # type: ignore[list-item]
    table: Any = {"p": x[:, 0]}
    for other in ("a fifth", table, [x, y]):
        refused(world, UsageError, "validation is a", x, y, SETTINGS, validation=other)
    refused(world, UsageError, "config is a int", x, y, 5)
