"""Putting the files of a built-in data set in place, from a directory or from the network, checked by their SHA-256."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

from onotrain.data.builtin import data_dir as default_data_dir
from onotrain.data.paths import GZIP_MAGIC, existing_file, reason
from onotrain.errors import DataError, ResourceError
from onotrain.files import AtomicFile, disk_errors

#: SHA-256 and size [bytes] of the uncompressed files; gzip files differ from one packer to the next.
MNIST_FILES = {
    "train-images-idx3-ubyte": ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
    "train-labels-idx1-ubyte": ("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
    "t10k-images-idx3-ubyte": ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
    "t10k-labels-idx1-ubyte": ("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TIMEOUT_S = 30.0
_READ_BYTES = 1 << 20

#: Called with the name of the file at hand, bytes done, and bytes in all or None.
Progress = Callable[[str, int, int | None], None]


def fetch(
    name: str,
    source: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    mirrors: Sequence[str] = MNIST_MIRRORS,
) -> list[Path]:
    """Put a built-in data set's files in `data_dir`; files that are there and right stay.

    Parameters
    ----------
    name
        ``mnist``.
    source
        Directory that has the files, gzipped or not; None downloads them.
    data_dir
        Directory of data sets; None means `onotrain.data.builtin.data_dir`.
    progress
        Called with the name of the file at hand, bytes done, and bytes in all or None.
    mirrors
        URLs of directories to download from, tried in turn.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    DataError
        Unknown name, a file that is missing or has another sum, or no mirror that answers.
    ResourceError
        The files cannot be written.
    """
    if name != "mnist":
        more = "; digits comes with the package" if name == "digits" else ""
        raise DataError(f"no data set {name!r} to fetch, expected mnist{more}")
    target = (default_data_dir() if data_dir is None else Path(data_dir).expanduser()) / name
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"{target}: cannot be made: {error.strerror}", hint="set ONOTRAIN_DATA_DIR to a directory you can write"
        ) from error
    return [_fetch_file(file, source, target, progress, mirrors) for file in MNIST_FILES]


def _fetch_file(
    name: str,
    source: str | os.PathLike[str] | None,
    target: Path,
    progress: Progress | None,
    mirrors: Sequence[str],
) -> Path:
    """Put one file in place unless a right one is there."""
    for there in (target / name, target / f"{name}.gz"):
        if there.is_file() and _is_right(there, name):
            return there
    if source is not None:
        directory = Path(source).expanduser()
        if not directory.is_dir():
            raise DataError(f"{source}: is not a directory", hint="name the directory that has the files")
        found = next((p for p in (directory / f"{name}.gz", directory / name) if p.exists()), None)
        if found is None:
            raise DataError(
                f"{directory}: has no file {name}[.gz]", hint=f"the four files of MNIST are {', '.join(MNIST_FILES)}"
            )
        with open(existing_file(found), "rb") as stream:
            size = found.stat().st_size
            return _install(_chunks(stream, str(found), name, size, progress), str(found), name, target)
    return _download(name, target, progress, mirrors)


def _download(name: str, target: Path, progress: Progress | None, mirrors: Sequence[str]) -> Path:
    """Download a file from the first mirror that has it right."""
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}.gz"
        try:
            with _opened(url) as answer:
                length = answer.headers.get("Content-Length", "")
                size = int(length) if length.isdigit() else None
                return _install(_chunks(answer, url, name, size, progress), url, name, target)
        except DataError as error:
            failures.append(error.message)
    raise DataError(
        f"cannot download {name}:\n  " + "\n  ".join(failures),
        hint="get the four files of MNIST in another way and run `onotrain data fetch mnist --from DIR`",
    )


def _opened(url: str) -> Any:
    """Open a URL.

    Raises
    ------
    DataError
        No answer, or a refusal.
    """
    try:
        return urllib.request.urlopen(url, timeout=TIMEOUT_S)
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise DataError(f"{url}: {reason(error)}") from error


def _chunks(stream: IO[bytes], source: str, name: str, size: int | None, progress: Progress | None) -> Iterator[bytes]:
    """Yield the bytes of a stream, and tell how far it is.

    Raises
    ------
    DataError
        The stream breaks off.
    """
    done = 0
    while True:
        try:
            chunk = stream.read(_READ_BYTES)
        except (http.client.HTTPException, OSError) as error:
            raise DataError(f"{source}: broke off after {done} bytes: {reason(error)}") from error
        if not chunk:
            return
        done += len(chunk)
        if progress is not None:
            progress(name, done, size)
        yield chunk


class _Sum:
    """SHA-256 of the uncompressed bytes of a file that may be gzipped; stops where it is clearly too long."""

    def __init__(self, limit: int) -> None:
        self._digest, self._limit = hashlib.sha256(), limit
        self._unpack: Any = None
        self.length = 0

    def add(self, chunk: bytes, source: str) -> None:
        """Take in the next bytes of the file."""
        if self.length == 0 and chunk[:2] == GZIP_MAGIC:
            self._unpack = zlib.decompressobj(wbits=31)
        while chunk and self.length <= self._limit:
            if self._unpack is None:
                plain, chunk = chunk, b""
            else:
                try:
                    plain = self._unpack.decompress(chunk, _READ_BYTES)
                except zlib.error as error:
                    raise DataError(f"{source}: the gzip file is damaged: {error}") from error
                chunk = self._unpack.unconsumed_tail
            self._digest.update(plain)
            self.length += len(plain)

    def check(self, name: str, source: str) -> None:
        """Raise DataError if this is not the file `name`."""
        expected, size = MNIST_FILES[name]
        # The last bytes may be missing without any loss of data; the reader would refuse the file all the same.
        if self._unpack is not None and not self._unpack.eof and self.length <= self._limit:
            raise DataError(
                f"{source}: the gzip file ends early, after {self.length} bytes of data", hint="get it again"
            )
        if self._digest.hexdigest() != expected:
            raise DataError(
                f"{source}: SHA-256 of the uncompressed file is {self._digest.hexdigest()} ({self.length} bytes), "
                f"expected {expected} ({size} bytes)",
                hint="the file is damaged, or another one: get it again",
            )


def _is_right(file: Path, name: str) -> bool:
    """Return whether a file that is there has the right sum."""
    total = _Sum(MNIST_FILES[name][1])
    try:
        with open(existing_file(file), "rb") as stream:
            for chunk in _chunks(stream, str(file), name, None, None):
                total.add(chunk, str(file))
        total.check(name, str(file))
    except DataError:
        return False
    return True


def _install(chunks: Iterator[bytes], source: str, name: str, target: Path) -> Path:
    """Write what `chunks` yield beside its place, check the sum, and move it there.

    Raises
    ------
    DataError
        The sum is another.
    ResourceError
        The disk is full or cannot be written.
    """
    total = _Sum(MNIST_FILES[name][1])
    first = next(chunks, b"")
    other, final = target / name, target / f"{name}.gz"
    if first[:2] != GZIP_MAGIC:
        other, final = final, other
    with AtomicFile(final) as file:
        for chunk in chain([first], chunks):
            total.add(chunk, source)
            file.write(chunk)
        total.check(name, source)
        file.commit()
    with disk_errors("remove it", other):
        other.unlink(missing_ok=True)  # the reader would take a wrong file in the other form first
    return final
