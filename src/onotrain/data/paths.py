"""Checks that every reader makes before it opens a file."""

from __future__ import annotations

import difflib
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from onotrain.data.dataset import DataSpec, listed
from onotrain.errors import DataError

#: Deflate cannot compress better than this, so a gzip file bounds what may come out of it.
MAX_DEFLATE_RATIO = 1032
GZIP_MAGIC = b"\x1f\x8b"


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
    """Open a file for reading, gzipped or not; yield the stream, and the most bytes that it can give.

    Raises
    ------
    DataError
        See `existing_file`; or, while the stream is read, the gzip file is damaged.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open(existing_file(path), "rb"))
        stream: IO[bytes] = file
        most = os.fstat(file.fileno()).st_size
        if file.peek(2)[:2] == GZIP_MAGIC:
            stream = stack.enter_context(io.BufferedReader(gzip.GzipFile(fileobj=file)))
            most *= MAX_DEFLATE_RATIO
        try:
            yield stream, most
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DataError(
                f"{path}: the gzip file is damaged or truncated: {error}", hint="copy the file again"
            ) from error


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


#: Names that features and targets have in HDF5 and NPZ files by default, in order of preference.
FEATURE_ARRAYS = ("x", "X", "features", "images", "data")
TARGET_ARRAYS = ("y", "labels", "label", "targets", "target")


def choose_arrays(names: Sequence[str], spec: DataSpec) -> tuple[str, str | None]:
    """Return the names of the arrays with the features and the targets (None: no targets) among those of a file.

    Raises
    ------
    DataError
        Not in the file, or it is not clear which one.
    """
    target = None if spec.without_targets else _choose(names, spec.targets, TARGET_ARRAYS, "targets", spec.path)
    feature = _choose(names, spec.features, FEATURE_ARRAYS, "features", spec.path)
    if feature is None:
        taken = {*(listed(spec.targets) or ()), *TARGET_ARRAYS}
        rest = [name for name in names if name not in taken and not name.endswith("_names")]
        if len(rest) != 1:
            raise DataError(
                f"{spec.path}: cannot tell which array holds the features; the file has {', '.join(names) or 'none'}, "
                f"expected one of {', '.join(FEATURE_ARRAYS)}",
                hint="name it with data.features (of a command: --features)",
            )
        feature = rest[0]
    if feature == target:
        raise DataError(f"{spec.path}: features and targets are the same array {feature!r}")
    return feature, target


def _choose(
    names: Sequence[str], wanted: str | Sequence[str] | None, defaults: Sequence[str], what: str, source: str
) -> str | None:
    """Return the name of the array that holds features or targets, or None if no default is there."""
    wanted = listed(wanted)
    if wanted is None:
        return next((name for name in defaults if name in names), None)
    if len(wanted) != 1:
        raise DataError(f"{source}: data.{what} names {len(wanted)} arrays, expected one")
    if wanted[0] not in names:
        near = difflib.get_close_matches(wanted[0], names, n=1)
        raise DataError(
            f"{source}: no array named {wanted[0]!r} (data.{what}); the file has {', '.join(names) or 'none'}",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    return wanted[0]
