"""Runs that are shown in MLflow, read back by its own client; and what is left for a server that does not answer."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from builders import mapping, relu
from onotrain.config import Config
from onotrain.errors import UsageError
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train
from onotrain.training.observers import Observer, Stop
from onotrain.training.sinks import mlflow, sender
from onotrain.training.sinks.sender import Sender

#: 1,438 samples of the digits train: 45 steps an epoch.
STEPS = 45


class Notes(Observer):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def noted(self, message: str) -> None:
        self.messages.append(message)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a store that needs no server: a directory."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "store").as_uri()


def config(options: Any, *, checkpoint: Any = None, **training: Any) -> dict[str, Any]:
    return mapping(
        relu(8), 10,
        data={"train": "digits", "validation": 0.2},
        metrics={"every_steps": 5, "mlflow": options},
        training={"epochs": 2, "batch_size": 32, "metrics": ["accuracy", "f1"], **training},
        checkpoint=checkpoint or {},
    )  # fmt: skip


def kept(store: str, run: Path) -> tuple[MlflowClient, Run]:
    client = MlflowClient(store)
    return client, client.get_run(json.loads((run / "mlflow.json").read_text())["run_id"])


def curve(client: MlflowClient, run: Run, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]


def check_curves(client: MlflowClient, run: Run, output: Path) -> None:
    """Compare all points with the records: each of them is there once."""
    directory = RunDirectory.open(output)
    for name in ("train_loss", "validation_accuracy", "validation_f1", "learning_rate"):
        assert curve(client, run, f"epoch/{name}") == [(row["steps"], row[name]) for row in directory.records()]
    for name in ("train_loss", "train_accuracy", "learning_rate"):
        assert curve(client, run, f"interval/{name}") == [(row["step"], row[name]) for row in directory.step_records()]


def test_mlflow_reads_what_the_run_says(store: str, tmp_path: Path) -> None:
    made = config({"uri": store, "experiment": "digits", "artifacts": True})
    summary = train(made, output=tmp_path / "run").summary
    client, run = kept(store, tmp_path / "run")
    check_curves(client, run, tmp_path / "run")
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert client.get_experiment(run.info.experiment_id).name == "digits"
    wanted = {"training.batch_size": "32", "model.layers.1.dense.units": "10", "method": "allreduce"}
    assert wanted.items() <= run.data.params.items()
    assert run.data.tags["parameters_sha256"] == summary["parameters_sha256"]
    assert run.data.tags["data_digest"] == summary["data_digest"] and run.data.tags["host"] == socket.gethostname()
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"config.yaml", "summary.json"}


def test_a_resumed_run_goes_on_with_its_run_and_has_no_step_twice(store: str, tmp_path: Path) -> None:
    """Also where steps are made again that MLflow has; a parameter that was changed keeps its first value there."""
    run = tmp_path / "run"
    often = {"every_steps": 20, "keep": 9}
    train(config(store, checkpoint=often, max_steps=70), output=run)
    client, first = kept(store, run)
    assert first.info.status == "KILLED" and curve(client, first, "interval/train_loss")[-1][0] == 70
    for file in (run / "checkpoints").glob("step-*.h5"):
        if int(file.stem.removeprefix("step-")) > 20:
            file.unlink()
    train(config(store, checkpoint=often, epochs=3), output=run, resume=True)
    client, second = kept(store, run)
    assert second.info.run_id == first.info.run_id and second.info.status == "FINISHED"
    check_curves(client, second, run)
    assert second.data.params["training.epochs"] == "2" and second.data.params["training.max_steps"] == "70"


class Breaks(Observer):
    """Ends a run after its first epoch."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self.error = error

    def epoch_ended(self, record: Any) -> None:
        raise self.error()


def test_runs_that_do_not_come_to_their_end_say_so(store: str, tmp_path: Path) -> None:
    train(config(store), output=tmp_path / "stopped", observers=[Breaks(Stop)])
    with pytest.raises(Exception, match="broken"):
        train(config(store), output=tmp_path / "failed", observers=[Breaks(lambda: RuntimeError("broken"))])
    for name, status in (("stopped", "KILLED"), ("failed", "FAILED")):
        client, run = kept(store, tmp_path / name)
        assert run.info.status == status and curve(client, run, "epoch/train_loss")[-1][0] == STEPS


def test_a_run_that_was_deleted_there_begins_another_one(store: str, tmp_path: Path) -> None:
    train(config(store, max_steps=50), output=tmp_path / "run")
    client, first = kept(store, tmp_path / "run")
    client.delete_run(first.info.run_id)
    train(config(store), output=tmp_path / "run", resume=True)
    _, second = kept(store, tmp_path / "run")
    assert second.info.run_id != first.info.run_id and second.info.status == "FINISHED"


def test_overwrite_begins_another_run(store: str, tmp_path: Path) -> None:
    ids = set()
    for _ in range(2):
        train(config(store, epochs=1), output=tmp_path / "run", overwrite=True)
        ids.add(kept(store, tmp_path / "run")[1].info.run_id)
    assert len(ids) == 2


@pytest.fixture
def silent() -> Iterator[str]:
    """Give the address of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_does_not_answer_changes_nothing_but_a_warning(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "_LAST_S", 0.2)
    notes = Notes()
    summary = train(config(silent), output=tmp_path / "run", observers=[notes]).summary
    alone = train(config(None), output=tmp_path / "alone").summary
    assert summary["parameters_sha256"] == alone["parameters_sha256"] and summary["finished"]
    (note,) = notes.messages
    records = 2 + 2 * STEPS // 5
    assert note.startswith(f"metrics.mlflow: {silent}: {records} records could not be sent: no answer within 0.2 s")
    assert not (tmp_path / "run" / "mlflow.json").exists()


def test_a_server_that_is_not_there_is_noted_in_a_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
    notes = Notes()
    train(config(uri), output=tmp_path / "run", observers=[notes])
    assert notes.messages[-1] == (
        f"metrics.mlflow: {uri}: 20 records could not be sent: Connection refused; the files of the run have all of it"
    )


def test_no_uri_and_one_that_cannot_be_used_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UsageError, match=r"neither metrics\.mlflow\.uri nor MLFLOW_TRACKING_URI is given"):
        train(config(True), output=tmp_path / "run")
    with pytest.raises(UsageError, match=r"metrics\.mlflow: gopher://a: "):
        train(config("gopher://a"), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_environment_says_which_server_and_experiment(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    train(config(True, epochs=1), output=tmp_path / "run")
    client, run = kept(store, tmp_path / "run")
    assert client.get_experiment(run.info.experiment_id).name == "mine"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("epoch/validation_f1[rose]", "epoch/validation_f1.rose"),
        ("epoch/validation_f1[../a b+c]", "epoch/validation_f1..._a b_c"),
        ("data.columns.a=b", "data.columns.a_b"),
    ],
)
def test_names_are_such_as_mlflow_takes(name: str, expected: str, store: str) -> None:
    assert mlflow._name(name) == expected
    client = MlflowClient(store)
    run = client.create_run("0")
    client.log_metric(run.info.run_id, expected, math.nan)
    assert math.isnan(client.get_run(run.info.run_id).data.metrics[expected])


def test_parameters_are_the_leaves_of_the_configuration() -> None:
    found = mlflow._flat(Config.from_mapping(config(None)))
    assert found["model.layers.0.dense.units"] == "8" and found["model.layers.1.dense.units"] == "10"
    assert found["training.metrics"] == '["accuracy", "f1"]' and found["loss.name"] == "cross_entropy"
    assert not any(key.startswith("metrics") for key in found) and "null" not in found.values()


# The sender -----------------------------------------------------------------------------------------------------------


class Server:
    """Takes items, but not the first few times."""

    def __init__(self, failures: int) -> None:
        self.failures, self.items = failures, list[int]()
        self.tried = Event()

    def __call__(self, items: Sequence[int]) -> None:
        self.tried.set()
        if self.failures:
            self.failures -= 1
            raise ConnectionRefusedError(111, "Connection refused")
        self.items += items


def test_what_could_not_be_sent_is_sent_later_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_GATHER_S", 0.001)
    server, finished = Server(failures=3), list[bool]()
    box = Sender(server)
    assert server.tried.wait(20)
    for number in range(200):
        box.put(number)
    while server.failures:
        assert box.problem in (None, "Connection refused")
    assert box.close(lambda: finished.append(True), 20) == (0, None)
    assert server.items == list(range(200)) and finished == [True]


def test_what_nobody_takes_is_counted_and_the_oldest_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_MOST_WAITING", 5)
    box = Sender(Server(failures=1000))
    for number in range(8):
        box.put(number)
    assert box.close(lambda: None, 20) == (8, "Connection refused")


def test_a_call_that_hangs_holds_nobody_up() -> None:
    hang = Event()
    box = Sender[int](lambda items: hang.wait(60) and None)
    box.put(1)
    began = monotonic()
    assert box.close(lambda: None, 0.05) == (1, "no answer within 0.05 s")
    assert monotonic() - began < 20
    hang.set()
