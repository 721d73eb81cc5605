"""Processes: programs that are run to their end, on chosen cores, and what the system knows of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

#: No program of the comparison takes longer, unless it hangs [s].
LIMIT_S = 900.0


class Failed(RuntimeError):
    """A program did not end well; its own words on why."""


def reason(said: str) -> str:
    """Return the line of a program's error output that says most: a message of onotrain, an exception, or the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for pattern in (r"onotrain: (?!internal error)(.+)", r"([\w.]+(?:Error|Exception)\b.*)", "(.+)"):
        if found := [match[1] for line in lines if (match := re.match(pattern, line))]:
            return found[-1]
    return "it said nothing"


def run_program(command: Sequence[object], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a program to its end; return what it printed.

    Raises
    ------
    Failed
        It ended with an error, took too long, or is not there.
    """
    try:
        process = subprocess.Popen(
            [*map(str, command)], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise Failed(str(error)) from None
    try:
        printed, said = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise Failed(f"took longer than {LIMIT_S:.0f} s") from None
    finally:
        if process.poll() is None:
            for pid in reversed(descendants(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise Failed(reason(said))
    return printed


def without_limits() -> dict[str, str]:
    """Return the environment without what holds BLAS to another build than that of the processor, and a script to
    modules of other folders than its own."""
    limits = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONSAFEPATH")
    return {name: value for name, value in os.environ.items() if name not in limits}


def first_cores(count: int) -> list[int]:
    """Return so many processors that this process may use, one of each core.

    Raises
    ------
    Failed
        There are not so many.
    """
    found: dict[str, int] = {}
    for processor in sorted(os.sched_getaffinity(0)):
        siblings = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
        found.setdefault(siblings.read_text() if siblings.exists() else str(processor), processor)
    if len(found) < count:
        raise Failed(f"{count} cores are needed, and this process may use {len(found)}")
    return list(found.values())[:count]


@contextmanager
def pinned(count: int) -> Iterator[None]:
    """Have what is started within the block run on the first cores that this process may use."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, first_cores(count))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def descendants(pid: int) -> list[int]:
    """Return the process itself and all that it has started, directly or not."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        # The name of the program, which may hold anything, ends with the last bracket; state and parent follow.
        fields = read(int(entry.name), "stat").rpartition(b")")[2].split()
        if fields:
            parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


def pss_kib(pid: int) -> int:
    """Return the memory of a process [KiB]; pages that several processes map count for each by its share."""
    for line in read(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1])
    return 0


def read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""
