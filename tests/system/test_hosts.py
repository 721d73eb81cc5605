"""Training on two hosts, which are network namespaces of this machine: no shared memory, and a wire between them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import every_strategy
import launch
from builders import mapping, relu

pytestmark = pytest.mark.long

RANKS_PER_HOST = 2
SCRIPT = Path(__file__).parents[2] / "scripts" / "hosts.sh"


def ip(*words: str) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


class Hosts:
    """Two hosts, their names, and how to run something on both."""

    def __init__(self, suffix: str = "n") -> None:
        self.prefix = f"onot{os.getpid() % 10_000}{suffix}"
        self.names = [f"{self.prefix}{number}" for number in (1, 2)]
        self.ports = [f"{self.prefix}v{number}" for number in (1, 2)]

    def script(self, *words: object) -> launch.Completed:
        """Run the script that makes hosts, for these."""
        return launch.run([SCRIPT, *words], timeout=100, env={"ONOTRAIN_HOSTS": self.prefix})

    def up(self, *limits: str) -> None:
        """Make them; a test is skipped where they are denied."""
        done = self.script("up", 2, *limits)
        if re.search("not permitted|denied", done.stderr):
            pytest.skip(f"network namespaces are denied, even to root: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        """Remove what there is of them."""
        assert self.script("down").returncode == 0

    def sent(self) -> int:
        """Return the bytes that the first host has sent so far."""
        counter = "/sys/class/net/eth0/statistics/tx_bytes"
        command = ["ip", "netns", "exec", self.names[0], "cat", counter]
        return int(subprocess.run(command, check=True, capture_output=True, timeout=20).stdout)

    def run(self, *command: object, arguments: Sequence[str] = ()) -> launch.Completed:
        """Run a command on all ranks; `arguments` are further ones of mpirun."""
        mpirun = [launch.launcher(), *self.arguments(), "-n", 2 * RANKS_PER_HOST, *arguments]
        return launch.run(self.on_first(*mpirun, *command), timeout=100)

    def arguments(self) -> list[str]:
        """Return those of mpirun that name the hosts and the way between them."""
        return [
            "--host", ",".join(f"{name}:{RANKS_PER_HOST}" for name in self.names),
            "--prtemca", "plm_ssh_agent", f"{SCRIPT} agent", "--prtemca", "prte_if_include", "eth0",
            "--mca", "btl", "tcp,self,sm", "--mca", "btl_tcp_if_include", "eth0", "--bind-to", "none",
            "-x", "PATH", "-x", "OPENBLAS_NUM_THREADS",
        ]  # fmt: skip

    def on_first(self, *command: object) -> list[object]:
        """Return what runs a command on the first host."""
        first = self.names[0]
        inside = ["unshare", "--uts", "bash", "-c", 'hostname "$0"; exec "$@"', first, *command]
        return ["ip", "netns", "exec", first, *inside]

    @contextmanager
    def second_is_lost(self) -> Iterator[None]:
        """Kill all that runs on the second host, and cut its wire."""
        found = subprocess.run(["ip", "netns", "pids", self.names[1]], capture_output=True, text=True, check=True)
        ip("link", "set", self.ports[1], "down")
        for pid in found.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            yield
        finally:
            ip("link", "set", self.ports[1], "up")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """Have two hosts."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("network namespaces want root, iproute2 and unshare")
    made = Hosts()
    made.up()
    try:
        yield made
    finally:
        made.down()


def there_is(prefix: str) -> list[str]:
    """Return the lines of ``ip`` that name a host or a link of these hosts."""
    said = "".join(
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20).stdout
        for words in (("netns", "list"), ("-o", "link", "show"))
    )
    return [line for line in said.splitlines() if prefix in line]


def test_hosts_come_and_go(hosts: Hosts) -> None:
    """Others beside the first: made anew by `up`, and gone after `down`, with all that runs on them."""
    others = Hosts("x")
    try:
        for limits in ((), ("100mbit",)):
            others.up(*limits)
            assert len(there_is(others.prefix)) == 2 + 3  # namespaces; a bridge and its ports
        rules = subprocess.run(["tc", "-n", others.names[1], "qdisc"], check=True, capture_output=True, text=True)
        assert "tbf" in rules.stdout and "100Mbit" in rules.stdout
        done = others.script("run", 2, ",".join(others.names), "hostname")
        assert sorted(done.stdout.split()) == others.names, done.stderr
        with launch.start(["ip", "netns", "exec", others.names[0], "sleep", "100"]) as running:
            while not subprocess.run(["ip", "netns", "pids", others.names[0]], capture_output=True).stdout:
                time.sleep(0.01)
            others.down()
            assert running.wait(timeout=10) == -signal.SIGKILL
        assert there_is(others.prefix) == [] and there_is(hosts.prefix)
        others.down()
        assert others.script("up", 2, "fast").returncode == 1 and there_is(others.prefix) == []
    finally:
        others.down()


def trained(hosts: Hosts, folder: Path, name: str, epochs: int, strategy: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Train on the digits; return the bytes that left the first host, and the summary."""
    training = {"epochs": epochs, "batch_size": 300, "clip_norm": 1.0, "gradient_accumulation": 2}
    config = mapping(relu(256), 128, 10, training=training, strategy=strategy)
    (folder / f"{name}.yaml").write_text(json.dumps(config))  # which is YAML, too
    before = hosts.sent()
    program = [sys.executable, "-c", "from onotrain.cli import main; main()"]
    done = hosts.run(*program, "train", folder / f"{name}.yaml", "--output", folder / name, "--quiet")
    assert done.returncode == 0, done.stderr
    time.sleep(0.2)  # the last packets
    return hosts.sent() - before, json.loads((folder / name / "summary.json").read_text())


def test_a_host_sends_one_gradient_a_step_whatever_its_ranks(hosts: Hosts, tmp_path: Path) -> None:
    """And overlap changes neither that nor a bit of the network."""
    overlap, afterwards = {"bucket_mib": 0.05}, {"bucket_mib": 0}
    few_bytes, few = trained(hosts, tmp_path, "few", 1, afterwards)
    many_bytes, many = trained(hosts, tmp_path, "many", 21, afterwards)
    overlap_bytes, overlapped = trained(hosts, tmp_path, "overlap", 21, overlap)
    assert few["nodes"] == many["nodes"] == 2 and many["ranks"] == 2 * RANKS_PER_HOST
    assert overlapped["parameters_sha256"] == many["parameters_sha256"]
    assert max(overlapped["ranks_seconds"]["hidden"]) > 0.0 == max(many["ranks_seconds"]["hidden"])
    steps, gradient = many["steps"] - few["steps"], 4 * many["parameters"]
    for nbytes in (many_bytes, overlap_bytes):
        # Headers, acknowledgements, statistics, and what an epoch's end costs: more than nothing, less than a third.
        assert 1.0 <= (nbytes - few_bytes) / steps / gradient <= 1.3


def test_every_strategy_trains_on_two_hosts(hosts: Hosts, tmp_path: Path) -> None:
    """With and without a codec."""
    done = hosts.run(*every_strategy.command(tmp_path))
    assert done.returncode == 0, done.stderr
    summaries = every_strategy.check(done.stdout)
    assert len(summaries) == 24 and {each["nodes"] for each in summaries.values()} == {2}


@pytest.mark.parametrize(
    ("strategy", "victims"), [("allreduce", "3"), ("allreduce", "0,1"), ("flat", "0"), ("flat", "2")]
)
def test_ranks_of_two_hosts_outlive_others(hosts: Hosts, strategy: str, victims: str, tmp_path: Path) -> None:
    """Rank 0 among them, and all of a host."""
    script = Path(launch.__file__).with_name("faulty_run.py")
    sections = {"fault_tolerance": {"lost_rank": "shrink"}, "strategy": {"name": strategy}}
    sections["training"] = {"epochs": 40, "batch_size": 32}
    command = (sys.executable, script, tmp_path / "run", "kill", "step", victims, 60, json.dumps(sections))
    done = hosts.run(*command, arguments=["--with-ft", "ulfm"])
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    dead = [int(rank) for rank in victims.split(",")]
    assert summary["lost_ranks"] == dead and summary["ranks"] == 4 - len(dead) and summary["finished"]
    assert summary["nodes"] == (1 if len(dead) == RANKS_PER_HOST else 2)


@pytest.mark.parametrize(("kind", "victim"), [("stop", 3), ("deadlock", 2), ("stop", 0)])
def test_a_rank_that_stands_still_is_named_by_whoever_knows(
    hosts: Hosts, kind: str, victim: int, tmp_path: Path
) -> None:
    """Those of its own host know the most."""
    script = Path(launch.__file__).with_name("faulty_run.py")
    done = hosts.run(sys.executable, script, tmp_path / "run", kind, "step", victim, 3)
    said = [line for line in done.stderr.splitlines() if line.startswith("onotrain: ")]
    assert done.returncode == 124 and said, done.stderr
    assert f"rank {victim} (process " in said[0] and hosts.names[victim // RANKS_PER_HOST] in said[0], done.stderr
    if victim:  # else the first node hears nothing
        written = {file.name for file in (tmp_path / "run" / "stacks").iterdir()}
        assert written >= {f"rank-{rank}.txt" for rank in range(4) if rank != victim}


def test_launch_goes_on_without_a_host_that_is_lost(hosts: Hosts, tmp_path: Path) -> None:
    training, run = {"epochs": 400, "batch_size": 32}, tmp_path / "run"
    config = mapping(relu(64), 10, training=training, checkpoint={"every_steps": 400})
    (tmp_path / "long.yaml").write_text(json.dumps(config))
    words = ["launch", "-n", 4, "--min-ranks", 2, "--mpirun-args", shlex.join(hosts.arguments()), "--"]
    command = launch.onotrain_command(*words, "train", tmp_path / "long.yaml", "-q", "--output", run)
    with launch.start([str(word) for word in hosts.on_first(*command)]) as running:
        end = time.monotonic() + 40
        while not list(run.glob("checkpoints/step-*.h5")) and time.monotonic() < end:
            time.sleep(0.05)
        with hosts.second_is_lost():
            code = running.wait(timeout=100)
        said = running.stderr.read() if running.stderr else ""
    assert code == 0, said
    assert f"{hosts.names[1]} is gone; going on from step" in said
    summary = json.loads((run / "summary.json").read_text())
    assert summary["finished"] and summary["ranks"] == 2 and summary["nodes"] == 1
