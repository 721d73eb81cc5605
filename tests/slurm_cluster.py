"""A Slurm of its own on this machine: a controller and some nodes that are all this host, in a folder of the test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONFIG = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=5
NodeName=n[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 State=UNKNOWN
PartitionName=cpu Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


@contextmanager
def cluster(folder: Path, nodes: int = 2, port: int = 16817) -> Iterator[dict[str, str]]:
    """Run a cluster; yield the variables by which programs find it."""
    folder.mkdir(parents=True)
    (folder / "state").mkdir()
    path = folder / "slurm.conf"
    path.write_text(CONFIG.format(folder=folder, nodes=nodes, port=port, first=port + 1, last=port + nodes))
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    env = {**os.environ, "SLURM_CONF": str(path), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    commands = [
        ["munged", "--foreground", "--force", *files, f"--socket={folder}/munge.socket"],
        ["slurmctld", "-D"],
        *(["slurmd", "-D", "-N", f"n{number}"] for number in range(1, nodes + 1)),
    ]
    running = []
    try:
        for command in commands:
            for number in range(1, nodes + 1):
                (folder / f"spool-n{number}").mkdir(exist_ok=True)
            running.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(1)
        _wait_until_idle(env, nodes)
        yield {"SLURM_CONF": str(path)}
    finally:
        for process in reversed(running):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()


def _wait_until_idle(env: dict[str, str], nodes: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], env=env, capture_output=True, text=True, check=False)
        if found.stdout.split().count("idle") == nodes:
            return
        time.sleep(0.5)
    raise TimeoutError(f"Slurm has not come up: {found.stdout} {found.stderr}")
