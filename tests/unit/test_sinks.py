"""What shows a run elsewhere, without a run: addresses, names of event files, a full disk, the dashboard."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from builders import config
from onotrain import files
from onotrain.config.recording import Address
from onotrain.errors import ResourceError
from onotrain.runs.run_files import EVENTS_PREFIX
from onotrain.training.observers import Observer, Observers, RunStart
from onotrain.training.sinks import open_sinks
from onotrain.training.sinks.prometheus import Prometheus
from onotrain.training.sinks.tensorboard import EventFile, TensorBoard

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "onotrain.json").read_text(encoding="utf-8"))

#: A record of an epoch with all that sinks read, and some that they do not.
RECORD: dict[str, Any] = {
    "epoch": 1, "steps": 4, "train_seconds": 2.0, "samples_per_second": 5.0, "learning_rate": 0.1, "train_loss": 1.5,
    "validation_f1[a b]": 0.25, "validation_f1[a_b]": 0.5, "validation_roc_auc": None, "best": True,
    "ranks_seconds": {"compute": [1.0, 2.0], "wait": [0.5, 0.0]}, "ranks_bytes": {"raw": [8, 8], "sent": [4, 2]},
    "noise_scale": 640.0, "staleness": {"gradients": 3, "mean": 2 / 3, "max": 1, "histogram": [1, 2]},
}  # fmt: skip


def start(output: Path) -> RunStart:
    return RunStart(
        str(output), epochs=2, samples=10, validation_samples=0, batch_size=3, steps_per_epoch=4, ranks=2, nodes=1,
        strategy="flat", method="flat", parameters=1, network="1-1", first_epoch=0, first_step=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        (":9400", "127.0.0.1", 9400, "127.0.0.1:9400"),
        ("0.0.0.0:1", "0.0.0.0", 1, "0.0.0.0:1"),
        ("node-7.cluster:65535", "node-7.cluster", 65535, "node-7.cluster:65535"),
        ("[::1]:80", "::1", 80, "[::1]:80"),
    ],
)
def test_addresses(text: str, host: str, port: int, shown: str) -> None:
    found = config(metrics={"prometheus": text}).metrics.prometheus_address
    assert found == Address(host, port) and str(found) == shown


@pytest.mark.parametrize("text", ["", ":", "9400", ":0", ":65536", "a b:1", "::1:80", "[a]:1", "http://a:1", ":9400\n"])
def test_what_is_no_address(text: str) -> None:
    assert Address.of(text) is None


# TensorBoard ----------------------------------------------------------------------------------------------------------


def test_a_file_comes_behind_those_that_are_there_whatever_the_clock_says(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    folder.mkdir()
    (folder / f"{EVENTS_PREFIX}4000000000.other-host").touch()
    (folder / f"{EVENTS_PREFIX}strange").touch()
    for _ in range(2):
        EventFile(tmp_path, 0).close()
    numbers = [path.name.split(".")[3] for path in sorted(folder.iterdir())]
    assert numbers == ["4000000000", "4000000001", "4000000002", "strange"]


def test_a_link_to_another_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResourceError, match="symbolic link"):
        EventFile(tmp_path / "run", 0)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_names_of_metrics_are_tags_as_they_are(tmp_path: Path) -> None:
    sink = TensorBoard("a: 1\n")
    sink.started(start(tmp_path))
    sink.epoch_ended(RECORD)
    sink.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    values = {tag: [event.value for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert values.pop("staleness/mean") == pytest.approx([2 / 3])
    assert values.pop("epoch/learning_rate") == pytest.approx([0.1])
    assert values == {
        "epoch/train_loss": [1.5], "epoch/validation_f1[a b]": [0.25], "epoch/validation_f1[a_b]": [0.5],
        "epoch/samples_per_second": [5.0], "epoch/noise_scale": [640.0], "seconds/compute": [1.5],
        "seconds/wait": [0.25], "bytes/raw": [16.0], "bytes/sent": [6.0], "staleness/max": [1.0],
    }  # fmt: skip


def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = TensorBoard("a: 1\n")
    watching = Observers([sink])
    watching.started(start(tmp_path))

    def full(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    (file,) = (tmp_path / "tensorboard").iterdir()
    before = file.read_bytes()
    monkeypatch.setattr(files, "write_all", full)
    watching.epoch_ended(RECORD)
    with pytest.raises(ResourceError, match="No space left"):
        watching.check()
    sink.close()
    assert file.read_bytes() == before


# Prometheus -----------------------------------------------------------------------------------------------------------


@contextmanager
def listening() -> Iterator[int]:
    """Give a port that somebody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Prometheus]:
    with listening() as port:
        pass
    sink = Prometheus(Address("127.0.0.1", port))
    assert list(sink.collect()) == []
    sink.started(start(tmp_path))
    sink.epoch_ended(RECORD)
    yield sink
    sink.close()


def test_the_dashboard_shows_what_is_served(served: Prometheus) -> None:
    names = {sample.name for family in served.collect() for sample in family.samples}
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    queries += [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if variable["name"] == "run"]
    shown = {name for query in queries for name in re.findall(r"\bonotrain_\w+", query)}
    assert shown == names
    assert DASHBOARD["uid"] and DASHBOARD["schemaVersion"] >= 36
    sources = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert sources == {"${datasource}"} and DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_page_names_what_is_served(served: Prometheus) -> None:
    page = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")
    rows = "\n".join(re.findall(r"^\| (`onotrain_[^|]+)\|", page, re.MULTILINE))
    names = {sample.name for family in served.collect() for sample in family.samples}
    assert set(re.findall(r"onotrain_\w+", rows)) == names


def test_a_client_that_says_nothing_does_not_hold_the_run_up() -> None:
    with listening() as port:
        pass
    sink = Prometheus(Address("127.0.0.1", port))
    with socket.create_connection(("127.0.0.1", port)):
        began = monotonic()
        sink.close()
        assert monotonic() - began < 10


def test_survivors_go_on_without_what_cannot_be_opened_any_more() -> None:
    noted: list[str] = []

    class Notes(Observer):
        def noted(self, message: str) -> None:
            noted.append(message)

    with listening() as port, ExitStack() as stack:
        watching = Observers([Notes()])
        open_sinks(config(metrics={"prometheus": f":{port}"}), watching, stack, goes_on=True)
        assert len(noted) == 1 and noted[0].endswith("Address already in use; the run goes on without it")
        watching.ended({})
        watching.check()
