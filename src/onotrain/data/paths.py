"""Checks that every reader makes before it opens a file."""

from __future__ import annotations

import bz2
import difflib
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from onotrain.errors import DataError
from onotrain.files import open_regular

#: What may come out of a compressed file: so many times its size, and always so many bytes.
MOST_UNPACKED, UNPACKED_BYTES = 100, 1 << 25
GZIP_MAGIC = b"\x1f\x8b"
_BZIP2_MAGIC = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", re.DOTALL)


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that is there, is a plain file, is readable and not empty.

    Raises
    ------
    DataError
        Anything else; the hint names files of a similar name.
    """
    file = Path(path).expanduser()
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such file", hint=_similar(file)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path}: is a directory, expected a file", hint="name one of the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: is not a regular file (a device, pipe or socket)")
    if not os.access(file, os.R_OK):
        raise DataError(f"{path}: permission denied", hint="make the file readable for this user")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    return file


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file for reading, compressed with gzip, bzip2 or not; yield the stream, and the most bytes it can give.

    Raises
    ------
    DataError
        See `existing_file`; or, while the stream is read, the compressed file is damaged.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_open(path))
        stream: IO[bytes] = file
        most = os.fstat(file.fileno()).st_size
        bzip2 = bool(_BZIP2_MAGIC.match(file.peek(10)[:10]))
        if bzip2:
            stream, most = _Unpacked.of(bz2.BZ2File(file), most, str(path))
        elif file.peek(2)[:2] == GZIP_MAGIC:
            stream, most = _Unpacked.of(gzip.GzipFile(fileobj=file), most, str(path))
        try:
            yield stream, most
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DataError(
                f"{path}: the {'bzip2' if bzip2 else 'gzip'} file is damaged or truncated: {error}",
                hint="copy the file again",
            ) from error
        except OSError as error:
            if not bzip2:
                raise
            raise DataError(f"{path}: the bzip2 file is damaged: {error}", hint="copy the file again") from error


def _open(path: str | os.PathLike[str]) -> Any:
    """Open a file that is there, with a buffer."""
    try:
        return open_regular(existing_file(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def most_unpacked(packed: int) -> int:
    """Return how many bytes may come out of so many compressed ones."""
    return max(UNPACKED_BYTES, packed * MOST_UNPACKED)


def check_unpacked(nbytes: int, packed: int, source: str) -> None:
    """Refuse data of which the compressed bytes are so few that they were made to fill the memory.

    Raises
    ------
    DataError
        They are.
    """
    if nbytes > most_unpacked(packed):
        raise DataError(
            f"{source}: more than {most_unpacked(packed)} bytes come out of the {packed} that it is compressed to",
            hint="if that is meant, write it without compression",
        )


class _Unpacked(io.RawIOBase):
    """What comes out of a compressed file, up to a limit."""

    def __init__(self, file: Any, packed: int, source: str) -> None:
        self._file, self._packed, self._source, self._got = file, packed, source, 0

    @classmethod
    def of(cls, file: Any, packed: int, source: str) -> tuple[IO[bytes], int]:
        """Return a stream, and the most bytes that it can give."""
        return io.BufferedReader(cls(file, packed, source)), most_unpacked(packed)

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, free: Any) -> int:
        """Fill `free`; see `check_unpacked`."""
        data = self._file.read(len(free))
        self._got += len(data)
        check_unpacked(self._got, self._packed, self._source)
        free[: len(data)] = data
        return len(data)


def _similar(file: Path) -> str:
    """Return a hint that names a file like the one that is missing."""
    try:
        names = sorted(os.listdir(file.parent))
    except OSError:
        return f"the directory {file.parent} is not there either"
    near = difflib.get_close_matches(file.name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {file.parent / near[0]}?"
    return f"relative paths start at {Path.cwd()}" if not file.is_absolute() else "check the path"


def reason(error: Exception) -> str:
    """Return the first line of what a library says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
