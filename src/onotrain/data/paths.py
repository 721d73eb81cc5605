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
from typing import IO

from onotrain.errors import DataError

#: Deflate cannot compress better than this, so a gzip file bounds what may come out of it.
MAX_DEFLATE_RATIO = 1032
GZIP_MAGIC = b"\x1f\x8b"
#: A block of 900 kB, of runs of 255, may come out of 40 bytes.
_MAX_BZIP2_RATIO = 1 << 21
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
        file = stack.enter_context(open(existing_file(path), "rb"))
        stream: IO[bytes] = file
        most = os.fstat(file.fileno()).st_size
        bzip2 = bool(_BZIP2_MAGIC.match(file.peek(10)[:10]))
        if bzip2:
            stream = stack.enter_context(io.BufferedReader(bz2.BZ2File(file)))
            most *= _MAX_BZIP2_RATIO
        elif file.peek(2)[:2] == GZIP_MAGIC:
            stream = stack.enter_context(io.BufferedReader(gzip.GzipFile(fileobj=file)))
            most *= MAX_DEFLATE_RATIO
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
