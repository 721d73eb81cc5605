"""What shows a run elsewhere: event files for TensorBoard, and OpenMetrics for Prometheus."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from builders import mapping, refused, relu
from onotrain.errors import PlatformError, UsageError
from onotrain.parallel.world import World
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train
from onotrain.training.observers import Observer

pytestmark = pytest.mark.mpi(min_size=2)

#: 1,438 samples of the digits train: 45 steps an epoch, the last one of fewer samples.
SAMPLES, STEPS = 1438, 45
EVERYTHING = {"every_steps": 5, "tensorboard": True}


def config(metrics: Mapping[str, Any], strategy: Any = "allreduce", **sections: Any) -> dict[str, Any]:
    training = {"epochs": 2, "batch_size": 32, **sections.pop("training", {})}
    data = {"train": "digits", "validation": 0.2}
    return mapping(relu(8), 10, data=data, strategy=strategy, metrics=metrics, training=training, **sections)


def drawn(run: Path) -> EventAccumulator:
    """Return what TensorBoard reads, all points of it."""
    found = EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "histograms": 0, "tensors": 0})
    found.Reload()
    return found


def curve(found: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in found.Scalars(tag)]


def expected(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return points as event files have them, in float32."""
    return [(step, float(np.float32(value))) for step, value in points]


def check_curves(run: Path) -> None:
    """Compare the curves of epochs and intervals with the records: all points of them, once."""
    found, directory = drawn(run), RunDirectory.open(run)
    epochs, intervals = directory.records(), directory.step_records()
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate"):
        assert curve(found, f"epoch/{name}") == expected([(row["steps"], row[name]) for row in epochs])
    for name in ("train_loss", "train_accuracy", "learning_rate"):
        assert curve(found, f"interval/{name}") == expected([(row["step"], row[name]) for row in intervals])


# TensorBoard ----------------------------------------------------------------------------------------------------------


def test_tensorboard_reads_what_the_records_say(world: World, place: Path) -> None:
    server = {"name": "parameter_server", "staleness": "unbounded"}
    train(config(EVERYTHING, server), world.comm, output=place / "run")
    if world.rank == 0:
        check_curves(place / "run")
        found, records = drawn(place / "run"), RunDirectory.open(place / "run").records()
        ends = [row["steps"] for row in records]
        for kind in ("compute", "wait", "communication"):
            means = [float(np.mean(row["ranks_seconds"][kind])) for row in records]
            assert curve(found, f"seconds/{kind}") == expected(list(zip(ends, means, strict=True)))
        sent = [sum(row["ranks_bytes"]["sent"]) for row in records]
        assert curve(found, "bytes/sent") == expected(list(zip(ends, sent, strict=True)))
        speeds = [row["samples_per_second"] for row in records]
        assert curve(found, "epoch/samples_per_second") == expected(list(zip(ends, speeds, strict=True)))
        check_staleness(found, records)
        texts = {name: found.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0] for name in CONTENT}
        assert all(CONTENT[name] in texts[name].decode() for name in CONTENT)
        walls = [event.wall_time for event in found.Scalars("interval/train_loss")]
        assert walls == sorted(walls) and walls[-1] - walls[0] < records[-1]["wall_seconds"]
    world.barrier()


CONTENT = {"method": "parameter_server", "config": "staleness: unbounded"}


def check_staleness(found: EventAccumulator, records: list[dict[str, Any]]) -> None:
    for name in ("mean", "max"):
        assert curve(found, f"staleness/{name}") == expected(
            [(row["steps"], row["staleness"][name]) for row in records]
        )
    for event, row in zip(found.Histograms("staleness/histogram"), records, strict=True):
        counts, value = row["staleness"]["histogram"], event.histogram_value
        assert value.bucket == counts and value.num == row["staleness"]["gradients"]
        assert value.sum / value.num == pytest.approx(row["staleness"]["mean"])
        assert value.bucket_limit == [index + 0.5 for index in range(len(counts))]


def test_sinks_change_nothing(world: World, place: Path) -> None:
    served = {"tensorboard": True, "prometheus": f":{free_port(world)}"}
    digests = {
        train(config(metrics), world.comm, output=place / str(number)).summary["parameters_sha256"]
        for number, metrics in enumerate(({}, served))
    }
    assert len(digests) == 1
    assert world.rank > 0 or not (place / "0" / "tensorboard").exists()


@pytest.mark.parametrize(
    ("checkpoints", "first"),
    [({"every_steps": 20, "keep": 9}, 20), ({"every_steps": STEPS, "every_epochs": None, "keep": 9}, STEPS)],
    ids=["within an epoch", "after the last step of an epoch"],
)
def test_a_resumed_run_draws_no_step_twice(checkpoints: dict[str, Any], first: int, world: World, place: Path) -> None:
    """Also where the run was killed: steps are made again that are in its event file, which ends in a torn event."""
    run = place / "run"
    train(config(EVERYTHING, checkpoint=checkpoints, training={"max_steps": 70}), world.comm, output=run)
    if world.rank == 0:
        for file in (run / "checkpoints").glob("step-*.h5"):
            if int(file.stem.removeprefix("step-")) > first:
                file.unlink()
        (old,) = (run / "tensorboard").iterdir()
        with old.open("ab") as file:
            file.write(b"\x20\0\0\0\0\0\0\0torn")
        assert max(step for step, _ in curve(drawn(run), "interval/train_loss")) == 70
    world.barrier()
    train(config(EVERYTHING, checkpoint=checkpoints), world.comm, output=run, resume=True)
    if world.rank == 0:
        assert len(list((run / "tensorboard").iterdir())) == 2
        check_curves(run)
        assert [step for step, _ in curve(drawn(run), "interval/train_loss")] == list(range(5, 2 * STEPS + 1, 5))
        assert [step for step, _ in curve(drawn(run), "epoch/train_loss")] == [STEPS, 2 * STEPS]
    world.barrier()


def test_overwrite_takes_the_old_event_files_away_and_no_others(world: World, place: Path) -> None:
    train(config(EVERYTHING), world.comm, output=place / "run")
    if world.rank == 0:
        (place / "run" / "tensorboard" / "mine.txt").write_text("")
    world.barrier()
    train(config({}), world.comm, output=place / "run", overwrite=True)
    assert [file.name for file in (place / "run" / "tensorboard").iterdir()] == ["mine.txt"]


# Prometheus -----------------------------------------------------------------------------------------------------------


def free_port(world: World) -> int:
    """Return a port that nobody listens at.  *Collective*."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return world.comm.bcast(one.getsockname()[1], root=0)


def scraped(port: int, accept: str = "application/openmetrics-text; version=1.0.0") -> str:
    with urlopen(Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}), timeout=20) as answer:
        return str(answer.read().decode())


def samples(text: str, parse: Any = open_metrics) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in parse(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("run") == "run"
            yield sample.name, labels, sample.value


class Scrapes(Observer):
    """Looks at what is served at each end of an epoch or interval, before that is served."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.epochs: list[Mapping[str, Any]] = []
        self.intervals: list[Mapping[str, Any]] = []
        self.seen: list[tuple[int, int, str]] = []

    def look(self) -> None:
        self.seen.append((len(self.epochs), len(self.intervals), scraped(self.port)))

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        self.look()
        self.epochs.append(record)

    def interval_ended(self, record: Mapping[str, Any]) -> None:
        self.look()
        self.intervals.append(record)


def test_prometheus_reads_the_newest_records_while_the_run_goes_on(world: World, place: Path) -> None:
    port = free_port(world)
    watch = Scrapes(port)
    server = {"name": "parameter_server", "staleness": "unbounded"}
    made = config({"every_steps": 7, "prometheus": f":{port}"}, server, training={"epochs": 3})
    train(made, world.comm, output=place / "run", observers=[watch])
    if world.rank == 0:
        assert watch.epochs == RunDirectory.open(place / "run").records()  # whole, as metrics.jsonl has them
        assert watch.intervals == RunDirectory.open(place / "run").step_records()
        for epochs, intervals, text in watch.seen:
            found = {(name, *sorted(labels.values())): value for name, labels, value in samples(text)}
            check_served(found, watch.epochs[:epochs], watch.intervals[:intervals])
        with pytest.raises(OSError, match="refused"):
            scraped(port)
    world.barrier()


def check_served(found: dict[Any, float], epochs: list[Any], intervals: list[Any]) -> None:
    steps = max([0, *(row["steps"] for row in epochs[-1:]), *(row["step"] for row in intervals[-1:])])
    assert found[("onotrain_steps_total",)] == steps
    assert found[("onotrain_samples_total",)] == steps // STEPS * SAMPLES + steps % STEPS * 32
    assert found[("onotrain_epoch",)] == len(epochs) and found[("onotrain_epochs",)] == 3
    for row in intervals[-1:]:
        assert found["onotrain_loss", "train"] == row["train_loss"]
        assert found["onotrain_metric", "train_accuracy"] == row["train_accuracy"]
    for row in epochs[-1:]:
        assert found["onotrain_loss", "validation"] == row["validation_loss"]
        assert found["onotrain_metric", "validation_accuracy"] == row["validation_accuracy"]
        assert found[("onotrain_samples_per_second",)] == row["samples_per_second"]
        for kind, seconds in row["ranks_seconds"].items():
            assert [found["onotrain_rank_seconds", str(rank), kind] for rank in range(len(seconds))] == seconds
        assert found["onotrain_staleness", "mean"] == row["staleness"]["mean"]
    for kind in ("raw", "sent") if epochs else ():
        assert found["onotrain_bytes_total", kind] == sum(sum(row["ranks_bytes"][kind]) for row in epochs)


def test_the_older_text_format_is_served_too(world: World, place: Path) -> None:
    port, texts = free_port(world), []

    class Look(Observer):
        def epoch_ended(self, record: Mapping[str, Any]) -> None:
            texts.append(scraped(port, "text/plain"))

    train(config({"prometheus": f"localhost:{port}"}), world.comm, output=place / "run", observers=[Look()])
    if world.rank == 0:
        values = {name: value for name, _, value in samples(texts[-1], plain_text)}
        assert values["onotrain_steps_total"] == STEPS and values["onotrain_epoch"] == 1
    world.barrier()


def test_a_port_that_is_taken_is_one_error_that_leaves_an_old_run_alone(world: World, place: Path) -> None:
    train(config({}), world.comm, output=place / "run")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = world.comm.bcast(taken.getsockname()[1], root=0)
        made = config({"prometheus": f":{port}"})
        match = rf"metrics.prometheus: cannot listen at 127.0.0.1:{port}: Address already in use"
        error = refused(world, UsageError, match, made, world.comm, output=place / "run", overwrite=True)
        refused(world, UsageError, match, made, world.comm, output=place / "new")
    assert error.exit_code == 2 and error.hint is not None and "another port" in error.hint
    assert (place / "run" / "summary.json").exists() and not (place / "new").exists()


@pytest.mark.parametrize(
    ("key", "value", "library"),
    [
        ("tensorboard", True, "tensorboardX"),
        ("prometheus", ":9400", "prometheus_client"),
        ("mlflow", "http://127.0.0.1:9", "mlflow"),
    ],
)
def test_a_library_that_is_missing_is_one_error(
    key: str, value: Any, library: str, world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, f"onotrain.training.sinks.{key}", raising=False)
    match = re.escape(f"metrics.{key}: the Python package {library} is not installed")
    error = refused(world, PlatformError, match, config({key: value}), world.comm, output=place / "run")
    assert error.exit_code == 7 and error.hint is not None and f"pip install 'onotrain[{key}]'" in error.hint
    assert not (place / "run").exists()
