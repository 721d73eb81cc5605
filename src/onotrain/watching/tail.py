"""Files of JSON objects that grow, of which each look reads only what has come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from onotrain.files import open_regular
from onotrain.runs.json_objects import parsed

#: A longer line is none that a run writes.
_LONGEST_LINE_BYTES = 1 << 24
#: By so many bytes before the place where it stopped a reader knows its file again.
_MARK_BYTES = 256


class Tail:
    """A file of which rows are taken as they come; it may be missing, be cut off, or become another one.

    Modification times are not asked, as network file systems are late with them.

    Parameters
    ----------
    path
        Of the file.
    take
        Takes a row; raises ValueError of one that is not what it must be, which is then counted.
    clear
        Called when all rows that were taken count no more: after `--overwrite`, or when a run that is resumed has
        dropped some.
    """

    def __init__(self, path: Path, take: Callable[[dict[str, Any]], None], clear: Callable[[], None]) -> None:
        self._path, self._take, self._clear = path, take, clear
        self._offset, self._mark, self._skips = 0, b"", False
        #: Lines that could not be used, and why the file cannot be read, if that is so.
        self.damaged = 0
        self.problem = ""

    def look(self) -> bool:
        """Take the rows that have come; return whether there were any, or all before count no more."""
        self.problem = ""
        before = self._offset, self._mark
        try:
            with open_regular(self._path, within=self._path.parent) as file:
                file.seek(self._offset - len(self._mark))
                if file.read(len(self._mark)) != self._mark:
                    self._begin_anew()
                    file.seek(0)
                while self._read(file.read(_LONGEST_LINE_BYTES)):
                    file.seek(self._offset)
        except FileNotFoundError:
            if self._offset:
                self._begin_anew()
        except OSError as error:
            self.problem = f"{self._path.name}: {error.strerror or error}"
        return (self._offset, self._mark) != before

    def _begin_anew(self) -> None:
        self._offset, self._mark, self._skips, self.damaged = 0, b"", False, 0
        self._clear()

    def _read(self, data: bytes) -> bool:
        """Take the whole lines of some bytes; return whether there were any."""
        end = data.rfind(b"\n") + 1
        if not end and len(data) >= _LONGEST_LINE_BYTES:  # pass it over; its end is no row either
            end, self._skips = len(data), True
            self.damaged += 1
        elif end:
            lines = data[: end - 1].split(b"\n")
            for line in lines[1:] if self._skips else lines:
                self._row(line)
            self._skips = False
        self._mark = (self._mark + data[:end])[-_MARK_BYTES:]
        self._offset += end
        return bool(end)

    def _row(self, line: bytes) -> None:
        row = parsed(line)
        try:
            if row is None:
                raise ValueError("not a JSON object")
            self._take(row)
        except ValueError:
            self.damaged += 1


class Thinned:
    """Points of a curve, of which every second one is dropped whenever they have become too many.

    Parameters
    ----------
    most
        Points that are kept at least, once there were as many.
    """

    def __init__(self, most: int = 512) -> None:
        self._most, self._every, self._count = most, 1, 0
        self._points: list[tuple[float, float]] = []
        self._last: tuple[float, float] | None = None

    def add(self, x: float, y: float) -> None:
        """Add a point behind all others."""
        self._last = x, y
        if self._count % self._every == 0:
            self._points.append(self._last)
            if len(self._points) >= 2 * self._most:
                del self._points[1::2]
                self._every *= 2
        self._count += 1

    @property
    def points(self) -> list[tuple[float, float]]:
        """What is kept, and the last point."""
        if self._last is None or self._points[-1] == self._last:
            return list(self._points)
        return [*self._points, self._last]
