"""`onotrain watch` as it is started: in a terminal beside a run that goes on, in a pipe, and as a server."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import launch

CONFIG = """\
data: {train: digits, validation: 0.2}
model: {layers: [{dense: {units: 16, activation: relu}}, {dense: 10}]}
loss: cross_entropy
training: {epochs: 1000000, batch_size: 64}
strategy: {name: strategy_switch, at_epoch: 2, server: {staleness: unbounded}}
checkpoint: {every_epochs: 1000000}
simulate: {delay_ms: 10}
"""
#: What moves and colours characters in a terminal.
ESCAPES = re.compile(r"\x1b(\[[0-9;:?<>=]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|P[^\x1b]*\x1b\\|[()][A-Z0-9]|[=>78])")
LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)


@contextmanager
def training(begun: str, *arguments: str, ranks: int = 0) -> Iterator[launch.Launch]:
    """Train meanwhile, from that on that a text is in the records of epochs."""
    words = ("train", "c.yaml", "--output", "run", "--quiet", *arguments)
    with launch.start(launch.onotrain_command(*words, ranks=ranks)) as running:
        until(lambda: begun in text_of("run/metrics.jsonl"), running)
        yield running


def text_of(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def until(true: Callable[[], bool], running: launch.Launch) -> None:
    end = time.monotonic() + LIMIT_S
    while not true():
        assert running.poll() is None and time.monotonic() < end
        time.sleep(0.05)


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, columns: int, *command: str) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns)
        env = launch.environment({"TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": "", "LINES": ""})
        env = {name: value for name, value in env.items() if value or name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def resize(self, columns: int) -> None:
        """Take what is shown from now on at another width."""
        self.shown = ""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def shows(self, *texts: str) -> None:
        """Wait until all of these texts are shown."""
        end = time.monotonic() + LIMIT_S
        while not all(text in ESCAPES.sub("", self.shown) for text in texts):
            assert time.monotonic() < end, f"{texts} are not in {ESCAPES.sub('', self.shown)[-4000:]}"
            self._take()

    def _take(self) -> None:
        if select.select([self._master], [], [], 0.1)[0]:
            with suppress(OSError):  # it has ended
                self.shown += os.read(self._master, 1 << 16).decode(errors="replace")

    def end(self) -> int:
        """Take what is still shown, and return the exit code."""
        end = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            assert time.monotonic() < end
            self._take()
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@contextmanager
def watching(columns: int) -> Iterator[Terminal]:
    terminal = Terminal(columns, *launch.onotrain_command("watch", "run"))
    try:
        yield terminal
    finally:
        terminal.close()


def test_a_run_that_goes_on_in_a_terminal_of_three_widths() -> None:
    """Its dashboard has it save and stop; then it shows that it has stopped."""
    with training('"phase": "server"', ranks=4) as running, watching(40) as terminal:
        for columns in (40, 80, 200):
            terminal.resize(columns)
            terminal.shows("> running", "4 ranks", "server: rank 0", "3 worker", "staleness", "accuracy")
        terminal.shows("switched to server after epoch 2")
        terminal.press("s")
        terminal.shows("save: saved")
        terminal.press("x")
        terminal.shows("Let the run save and stop?")
        terminal.press("y")
        terminal.shows("= stopped", "(exit code 75)")
        assert running.wait(LIMIT_S) == 75
        terminal.press("q")
        assert terminal.end() == 0
    events = [json.loads(line) for line in text_of("run/events.jsonl").splitlines()]
    assert [event["request"] for event in events if event["event"] == "asked"] == ["save", "stop"]


def test_a_run_that_is_killed_and_a_page_of_it() -> None:
    with training("epoch", "--set", "strategy=allreduce") as running:
        assert "> running" in launch.onotrain("watch", "run").stdout
        port = free_port()
        server = subprocess.Popen(
            launch.onotrain_command("watch", "run", "--web", f":{port}"), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=launch.environment({}), text=True,
        )  # fmt: skip
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            states = states_of(url)
            assert next(states) == "running"
            taken = launch.onotrain("watch", "run", "--web", f":{port}")
            assert taken.returncode == 2 and f"cannot listen at 127.0.0.1:{port}" in taken.stderr
            os.kill(json.loads(text_of("run/run.lock"))["pid"], signal.SIGKILL)
            running.wait(LIMIT_S)
            assert any(state == "died" for state in states)
            server.send_signal(signal.SIGINT)
            rest = server.stdout.read()
            assert server.wait(LIMIT_S) == 0 and "Traceback" not in rest
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
    shown = launch.onotrain("watch", "run", "--once", env={"COLUMNS": "80"})
    assert shown.returncode == 0 and "! died" in shown.stdout and max(map(len, shown.stdout.splitlines())) <= 80
    asked = launch.onotrain("watch", "run", "--ask", "save")
    assert asked.returncode == 2 and "nobody would hear it" in asked.stderr


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def states_of(url: str) -> Iterator[str]:
    """Yield the state of each view that a browser is sent."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=LIMIT_S)
    connection.request("GET", f"/events?{parts.query}")
    stream = connection.getresponse()
    try:
        while line := stream.readline().decode():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))["state"]
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["nothing", "."])
def test_what_is_no_run(name: str) -> None:
    done = launch.onotrain("watch", name)
    assert done.returncode == 2 and "run directory: expected one with config.yaml" in done.stderr


@pytest.mark.parametrize("arguments", [["--web", "8080"], ["--web", ":0"], ["--once", "--ask", "stop"], ["--ask", "x"]])
def test_wrong_options(arguments: list[str]) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/config.yaml").write_text(CONFIG)
    done = launch.onotrain("watch", "run", *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
