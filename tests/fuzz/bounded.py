"""Command lines of onotrain in processes that may take little memory and time: what is in a fuzzed file stays there.

One process imports what commands need, and forks for each command line; the forks have limits.  This file is a helper
of the tests beside it, and the program of that process.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

#: Address space that a command may take, and the pages that it may touch, beyond those of the process that forks.
SPACE_BYTES, MEMORY_BYTES = 3 << 29, 300 << 20
#: Time of the processor, and of a clock [s].
CPU_S, CLOCK_S = 15, 20
#: Exit codes for files of strangers; 7 and above are never the file's fault.
CODES = {0, 2, 3, 4, 5, 6}
#: What a terminal would obey.  C1 characters are two bytes in UTF-8.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")
_IMPORTED = (
    *(
        f"onotrain.cli.{name}"
        for name in ("init", "validate", "train", "inspect", "evaluate", "predict", "export", "report", "watch")
    ),
    *("onotrain.cli.data", "onotrain.cli.data_info", "onotrain.cli.display", "onotrain.cli.epochs"),
    *("onotrain.cli.tables", "onotrain.training", "onotrain.inference", "onotrain.inference.evaluation"),
    *("onotrain.data.tables.text", "onotrain.data.hdf5", "onotrain.hdf5_layout", "onotrain.data.tables.arrow"),
    *("pyarrow.csv", "pyarrow.parquet", "rich.table"),
)


@dataclass(frozen=True)
class Ended:
    """How a command line has ended; a signal is a negative code."""

    code: int
    out: str
    err: str
    seconds: float
    #: What it took beyond what it was forked with [bytes].
    memory: int


class Bounded:
    """Runs command lines; a context manager."""

    def __enter__(self) -> Bounded:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.__exit__(None, None, None)  # closes the pipes: the process ends, and is waited for

    def run(self, *arguments: object, cwd: Path) -> Ended:
        """Run one command line in a directory."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([[str(word) for word in arguments], str(cwd)]) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def check(ended: Ended, codes: set[int] = CODES, *, name: str = "") -> Ended:
    """Refuse an end that no file of a stranger may cause; return it otherwise."""
    shown = f"{name}: {ended.code} after {ended.seconds:.1f} s, {ended.memory >> 20} MiB\n{ended.out}\n{ended.err}"
    assert "Traceback" not in ended.err + ended.out, shown
    assert ended.code in codes, shown
    # Notes and warnings are lines of that form, too; a refusal is one line, and its hint.
    messages = [line for line in ended.err.splitlines() if line.startswith("onotrain: ")]
    assert bool(ended.code) <= bool(messages), shown
    assert not (found := CONTROL.search(ended.out + ended.err)), f"{found} in {shown!r}"
    assert ended.memory < MEMORY_BYTES and ended.seconds < CLOCK_S, shown
    return ended


# The process that forks -----------------------------------------------------------------------------------------------


def _main() -> None:
    for module in _IMPORTED:
        import_module(module)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        answers.write(json.dumps(_ended(*json.loads(line))) + "\n")
        answers.flush()


def _ended(arguments: list[str], cwd: str) -> dict[str, Any]:
    """Run one command line in a fork."""
    out, err = (os.memfd_create(name) for name in ("out", "err"))
    began = time.monotonic()
    if (pid := os.fork()) == 0:
        _run(arguments, cwd, out, err)
    before = _status(os.getpid(), "VmRSS")
    status, usage = _wait(pid, began + CLOCK_S)
    seconds = time.monotonic() - began
    texts = [_text(descriptor) for descriptor in (out, err)]
    memory = max(0, usage.ru_maxrss * 1024 - before)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "out": texts[0], "err": texts[1], "seconds": seconds, "memory": memory}


def _run(arguments: Sequence[str], cwd: str, out: int, err: int) -> None:
    """Be the fork; does not return."""
    code = 99
    try:
        os.setsid()
        os.chdir(cwd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        space = _status(os.getpid(), "VmSize") + SPACE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from onotrain.cli.program import run
        from onotrain.cli.terminal import protect_output

        protect_output()
        code = run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)


def _wait(pid: int, deadline: float) -> tuple[int, Any]:
    """Wait for the fork, which is killed when its time is over."""
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return os.wait4(pid, 0)[1:]
        time.sleep(0.002)


def _text(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read(1 << 20).decode(errors="surrogateescape")


def _status(pid: int, field: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) * 1024


if __name__ == "__main__":
    _main()
