"""A file of JSON objects, one a line, that one process appends to while others may read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onotrain.errors import DataError
from onotrain.files import StrangeFileError, append_whole, disk_errors, open_regular, write_atomically
from onotrain.runs.json_objects import line_of, parsed


def read_within(path: Path) -> bytes | None:
    """Return what a file of a run holds; None if there is none.

    Raises
    ------
    DataError
        It is no regular file in its directory.
    """
    with disk_errors("read it", path):
        try:
            with open_regular(path, within=path.parent) as file:
                return file.read()
        except FileNotFoundError:
            return None
        except StrangeFileError as error:
            raise DataError(f"{path}: {error.strerror}", hint="restore the file, or delete it") from error


class JsonLines:
    """Such a file, which need not exist.

    Parameters
    ----------
    path
        Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any], *, durable: bool) -> None:
        """Add a row; `durable`: when this returns it is on the disk.

        Raises
        ------
        ResourceError
            Disk full and the like; the file is as it was before.
        """
        with disk_errors("append to it", self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
            try:
                append_whole(descriptor, line_of(row), durable=durable)
            finally:
                os.close(descriptor)

    def rows(self) -> list[dict[str, Any]]:
        """Read the rows; a last line that is not finished (its writer was killed, or is writing) is left out.

        Raises
        ------
        DataError
            A line is not a JSON object.
        """
        rows = []
        for number, line in enumerate(self._finished(), 1):
            row = parsed(line)
            if row is None:
                raise DataError(
                    f"{self.path}:{number}: not a JSON object: {line[:60]!r}",
                    hint="delete that line, or restore the file",
                )
            rows.append(row)
        return rows

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drop the rows that are not wanted. Raises ResourceError."""
        rows = [row for row in self.rows() if wanted(row)]
        if self.path.exists():
            write_atomically(self.path, b"".join(map(line_of, rows)))

    def drop_torn_line(self) -> None:
        """Drop a last line that is not finished, or the next row would be appended to it. Raises ResourceError."""
        lines = self._finished()
        if self.path.exists() and self.path.stat().st_size != sum(len(line) + 1 for line in lines):
            write_atomically(self.path, b"".join(line + b"\n" for line in lines))

    def _finished(self) -> list[bytes]:
        return (read_within(self.path) or b"").split(b"\n")[:-1]
