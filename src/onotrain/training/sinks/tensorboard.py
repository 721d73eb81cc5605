"""Event files for TensorBoard: what `metrics.jsonl` and `steps.jsonl` get, over optimiser steps."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

from tensorboardX import summary as summaries
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from onotrain.files import append_whole, check_within, disk_errors
from onotrain.runs.run_directory import RunDirectory
from onotrain.runs.run_files import EVENTS_NAME, EVENTS_PREFIX
from onotrain.training.observers import RunStart
from onotrain.training.sinks.base import Sink, epoch_curves, interval_curves

#: What readers know the format by.
_VERSION = "brain.Event:2"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class TensorBoard(Sink):
    """Writes an event file; a run that goes on begins another one, which takes the steps back that it makes again.

    Parameters
    ----------
    config_yaml
        The resolved configuration.
    """

    def __init__(self, config_yaml: str) -> None:
        self._config_yaml = config_yaml
        self._file: EventFile | None = None

    def started(self, start: RunStart) -> None:
        """Begin a file."""
        step, run = start.first_step, Path(start.output)
        # The last step of an epoch is made, but the epoch is not over: its record will come, maybe again, at that step.
        again = step == (start.first_epoch + 1) * start.steps_per_epoch
        self._file = EventFile(run, step if again or step == 0 else step + 1)
        self._file.add(summaries.text("method", start.method), step)
        self._file.add(summaries.text("config", f"```yaml\n{self._config_yaml}```"), step)
        if again:
            for record in RunDirectory.open(run).step_records()[-1:]:
                if record["step"] == step:
                    self.interval_ended(record)

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Draw a point of each curve."""
        self._draw(epoch_curves(record), record["steps"])
        staleness = record.get("staleness", {})
        if any(staleness.get("histogram", ())):
            self._opened.add(_histogram("staleness/histogram", staleness["histogram"]), record["steps"])

    def interval_ended(self, record: Mapping[str, Any]) -> None:
        """Draw a point of the curves within epochs."""
        self._draw(interval_curves(record), record["step"])

    def close(self, error: BaseException | None = None) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    @property
    def _opened(self) -> EventFile:
        assert self._file is not None, "the run has not started"
        return self._file

    def _draw(self, curves: Mapping[str, float], step: int) -> None:
        # Not by `summaries.scalar`: it replaces the brackets of f1[rose], and what is in them.
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in curves.items()]
        self._opened.add(Summary(value=values), step)


class EventFile:
    """A new event file of a run, read by TensorBoard after those that are there.

    Every event is in the file at once, so what a rank has drawn that is killed is not lost.  tensorboardX's own writers
    have a thread, in which a full disk would be nobody's error.

    Parameters
    ----------
    run
        Run directory.
    first
        Step from which on earlier files do not count.

    Raises
    ------
    ResourceError
        It cannot be written; likewise from `add`, which leaves the file as it was.
    """

    def __init__(self, run: Path, first: int) -> None:
        folder = run / EVENTS_NAME
        with disk_errors("make it", folder):
            folder.mkdir(exist_ok=True)
            check_within(folder, run)
            self._path = folder / _next_name(folder)
            self._descriptor = os.open(self._path, _NEW_FILE, 0o666)
        self._write(Event(wall_time=time(), file_version=_VERSION))
        self._write(Event(wall_time=time(), step=first, session_log=SessionLog(status=SessionLog.START)))

    def add(self, summary: Summary, step: int) -> None:
        """Write what is to be drawn at a step."""
        self._write(Event(wall_time=time(), step=step, summary=summary))

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            os.close(self._descriptor)

    def _write(self, event: Event) -> None:
        with disk_errors("write it", self._path):
            append_whole(self._descriptor, _framed(event.SerializeToString()))


def _framed(data: bytes) -> bytes:
    """Return a record of the TFRecord format: length, its checksum, data, their checksum."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _checksum(length), data, _checksum(data)))


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))


def _next_name(folder: Path) -> str:
    """Return a name behind all that are there: TensorBoard reads files by name, which has the time in seconds."""
    stamps = [file.name.removeprefix(EVENTS_PREFIX).split(".")[0] for file in folder.glob(f"{EVENTS_PREFIX}*")]
    latest = max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0)
    return f"{EVENTS_PREFIX}{max(int(time()), latest + 1):010d}.{socket.gethostname()}"


def _histogram(tag: str, counts: Sequence[int]) -> Summary:
    """Return a histogram of whole numbers from 0 on, each in the middle of its bucket."""
    moments = [sum(count * value**power for value, count in enumerate(counts)) for power in range(3)]
    limits = [value + 0.5 for value in range(len(counts))]
    return summaries.histogram_raw(tag, -0.5, limits[-1], *moments, limits, list(counts))
