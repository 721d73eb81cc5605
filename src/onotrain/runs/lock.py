"""The lock of a run directory: one directory, one job."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from onotrain.errors import UsageError
from onotrain.files import NO_LOCKS, disk_errors, open_regular, write_all
from onotrain.runs.json_objects import parsed

LOCK_NAME = "run.lock"


class RunLock:
    """Holds ``run.lock`` of a directory from construction until :meth:`release`.

    The kernel's lock on the file (``flock``; also across hosts on NFS, and on Lustre mounted so) decides. It
    ends with its process, however that ends. What the file says (host, process and its start time, job) is for the
    message, and for file systems that have no locks. The file is never removed: a lock on a removed file locks nothing.

    Parameters
    ----------
    directory
        Of the run.
    owner_died
        Whether it is known that who held the lock has died, as survivors in the same job know.

    Raises
    ------
    UsageError
        Another process holds it; the message names it.
    ResourceError
        The file cannot be written.
    """

    def __init__(self, directory: Path, *, owner_died: bool = False) -> None:
        self.path = directory / LOCK_NAME
        with disk_errors("lock the run", self.path):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            self._descriptor: int | None = os.open(self.path, flags, 0o666)
        try:
            with disk_errors("lock the run", self.path):
                state = self._lock()
            owner = _read(self.path)
            if state == "taken" or (state == "unknown" and owner and not owner_died and not _is_gone(owner)):
                raise UsageError(
                    f"{directory}: in use by {_describe(owner)}",
                    hint="wait until it ends, or use another --output"
                    + (f"; if it has ended, remove {self.path}" if state == "unknown" else ""),
                )
            #: Who held the lock and ended without giving it back (killed, node lost); None after an orderly end.
            self.recovered_from: str | None = _describe(owner) if owner else None
            with disk_errors("lock the run", self.path):
                os.ftruncate(self._descriptor, 0)
                write_all(self._descriptor, json.dumps(_myself()).encode())
        except BaseException:
            self._close()
            raise

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor is not None:
            with disk_errors("unlock the run", self.path):
                os.ftruncate(self._descriptor, 0)
            self._close()

    def _lock(self) -> Literal["ours", "taken", "unknown"]:
        """Try to lock the file; "unknown" where the file system has no locks."""
        try:
            fcntl.flock(self._descriptor or 0, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "taken"
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return "unknown"
        return "ours"

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass(frozen=True)
class Owner:
    """Who holds the lock of a run, or has ended without giving it back."""

    words: str
    host: str
    #: Whether its process has ended; None where this cannot be seen from here, such as from another host.
    gone: bool | None


def owner_of(directory: Path) -> Owner | None:
    """Return who holds the lock of a run, without taking it; None: nobody, as after an orderly end."""
    owner = _read(directory / LOCK_NAME)
    if not owner:
        return None
    here = owner.get("host") == socket.gethostname()
    return Owner(_describe(owner), str(owner.get("host")), _is_gone(owner) if here else None)


def _myself() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_start": _process_start(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _read(path: Path) -> dict[str, Any]:
    """Read what the lock file says; empty if nothing, or nothing that can be understood."""
    try:
        with open_regular(path) as file:
            return parsed(file.read(4096)) or {}
    except OSError:
        return {}


def _describe(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    job = f", Slurm job {owner['job']}" if owner.get("job") else ""
    return f"process {owner.get('pid')} on host {owner.get('host')}{job}, since {owner.get('since')}"


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether the owner has certainly ended: another process has its number, or Slurm has requeued its job to us."""
    job = os.environ.get("SLURM_JOB_ID")
    if owner.get("host") != socket.gethostname():
        return job is not None and owner.get("job") == job
    return _process_start(owner.get("pid")) != owner.get("process_start")


def _process_start(pid: Any) -> str | None:
    """Start time of a process in clock ticks since boot, with the boot's id; None if there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The name of the program, in brackets, may hold spaces and brackets itself; field 22 counts from behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return f"{boot}/{fields[19]}"
