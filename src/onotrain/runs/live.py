"""What a run says of itself while it goes on, and is asked, by files of its directory.

`progress.json` says where it stands, `events.jsonl` what has happened, and ``stop.request`` and ``save.request`` ask
for something.  A file system that hosts share carries them from a login node to the node of rank 0 and back.

What cannot be written of the first two, as on a full disk, is left out: it ends no run.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from onotrain.errors import ResourceError
from onotrain.files import open_regular, write_atomically
from onotrain.runs.json_lines import JsonLines
from onotrain.runs.json_objects import fitted, line_of, parsed
from onotrain.runs.records import Count, Number, Seconds

PROGRESS_NAME = "progress.json"
EVENT_LOG_NAME = "events.jsonl"
_MOST_BYTES = 1 << 22


class Request(StrEnum):
    """What a run may be asked by a file."""

    #: Save, and go on.
    SAVE = "save"
    #: Save, and end.
    STOP = "stop"

    @property
    def file(self) -> str:
        """Name of the file that asks for it."""
        return f"{self.value}.request"


LIVE_NAMES = (PROGRESS_NAME, EVENT_LOG_NAME, *(request.file for request in Request))


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _NodeRanks(_Part):
    rank: list[Count]
    step: list[Count]
    phase: list[str]
    idle_seconds: list[Seconds]
    waits_seconds: list[Seconds]


class _Progress(_Part):
    time: str
    host: str
    phase: str
    epoch: Count | None = None
    epochs: Count | None = None
    step: Count | None = None
    first_step: Count | None = None
    total_steps: Count | None = None
    position: Count | None = None
    samples: Count | None = None
    train_loss: Number | None = None
    train_seconds: Seconds | None = None
    wall_seconds: Seconds | None = None
    seconds_left: Seconds | None = None
    ranks: _NodeRanks | None = None


class _Event(_Part):
    time: str
    event: str
    step: Count | None = None
    epoch: Count | None = None
    exit_code: Count | None = None
    message: str | None = None


_PROGRESS: TypeAdapter[Any] = TypeAdapter(_Progress)
_EVENT: TypeAdapter[Any] = TypeAdapter(_Event)


def now() -> str:
    """Return the time (UTC, ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_progress(run: Path, progress: Mapping[str, Any]) -> None:
    """Replace ``progress.json``, not durably: after a crash of the host nobody asks for it."""
    with suppress(ResourceError):
        write_atomically(run / PROGRESS_NAME, line_of({"time": now(), **progress}), durable=False)


def read_progress(run: Path) -> dict[str, Any] | None:
    """Read ``progress.json``; None: there is none that can be used."""
    found = _read(run / PROGRESS_NAME)
    try:
        if found is not None:
            fitted(_PROGRESS, found)
        return found
    except ValueError:
        return None


def add_event(run: Path, event: str, **facts: Any) -> None:
    """Write down that something has happened."""
    with suppress(ResourceError):
        JsonLines(run / EVENT_LOG_NAME).append({"time": now(), "event": event, **facts}, durable=False)


def check_event(row: dict[str, Any]) -> None:
    """Refuse a row of the event log of which a part is not what it must be.  Raises ValueError."""
    fitted(_EVENT, row)


def ask(run: Path, request: Request) -> None:
    """Ask a run for something.

    Raises
    ------
    ResourceError
        The request cannot be written.
    """
    text = json.dumps({"time": now(), "host": socket.gethostname()})
    write_atomically(run / request.file, text.encode(), durable=False)


def asked(run: Path, request: Request) -> bool:
    """Return whether a request lies there that nobody has heard."""
    return (run / request.file).is_file()


def withdraw(run: Path, request: Request) -> None:
    """Take a request back, if it is still there."""
    with suppress(OSError):
        (run / request.file).unlink(missing_ok=True)


def hear(run: Path) -> dict[Request, str]:
    """Take the requests that lie there; return the host that each comes from (rank 0)."""
    heard = dict[Request, str]()
    with suppress(OSError):
        names = set(os.listdir(run))  # a look at one name may be answered by what a network file system remembers
        for request in Request:
            if request.file in names:
                host = (_read(run / request.file) or {}).get("host")
                (run / request.file).unlink()
                heard[request] = host if isinstance(host, str) else "somewhere"
    return heard


def forget_requests(run: Path) -> None:
    """Drop requests to whoever had the run before."""
    for request in Request:
        withdraw(run, request)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with open_regular(path, within=path.parent) as file:
            return parsed(file.read(_MOST_BYTES))
    except OSError:
        return None
