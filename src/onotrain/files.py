"""Files that are either the old one or the new one, whatever happens while they are written, and those of strangers.

The data are written with plain file calls, never through a memory map: a full disk is then an error message, and not a
bus error.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from onotrain.errors import ResourceError

_SUFFIX = ".tmp"
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
#: What a file system without locks answers.
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
#: Files from this size on are written past the page cache [bytes].
_LARGE_BYTES = 1 << 20
#: What memory, place and length of such a write are multiples of [bytes].
_BLOCK_BYTES = 4096
#: What file systems answer that know no files without a name.
_NO_ANONYMOUS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
#: What file systems answer that cannot reserve space; writing then finds out whether there is enough.
_NO_RESERVATION = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_HINTS = {
    errno.ENOSPC: "free some space, or use another --output; what was saved before is intact",
    errno.EDQUOT: "the disk quota is used up: free some space, or use another --output; what was saved is intact",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f); what was saved before is intact",
    errno.EIO: "the disk reports an error: look at the system log, and use another --output",
    errno.EROFS: "the file system is read-only: use another --output",
    errno.EACCES: "give yourself write permission, or use another --output",
    errno.EPERM: "give yourself write permission, or use another --output",
}


@contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the body into a ResourceError that says what was done to which file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0, "what was saved before is intact")
        raise ResourceError(f"{path}: could not {action}: {reason}", hint=hint) from error


class StrangeFileError(OSError):
    """A pipe, a device or a directory in the place of a file, or a link that leads elsewhere."""


def open_regular(path: str | os.PathLike[str], *, within: Path | None = None) -> IO[bytes]:
    """Open a file for reading, if it is one: a pipe would block, a device never end.

    Parameters
    ----------
    path
        Of the file.
    within
        Directory that symbolic links may not leave; None: they may lead anywhere.

    Raises
    ------
    StrangeFileError
        It is something else, or leads elsewhere.
    OSError
        It cannot be read.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # first: to open a device may have an effect
        raise StrangeFileError(errno.EINVAL, "not a regular file", os.fspath(path))
    check_within(path, within)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StrangeFileError(errno.EINVAL, "not a regular file", os.fspath(path))
    return open(descriptor, "rb")


def check_within(path: str | os.PathLike[str], within: Path | None) -> None:
    """Refuse a path that leads out of a directory by symbolic links.

    Raises
    ------
    StrangeFileError
        It does.
    """
    if within is not None and not Path(path).resolve().is_relative_to(within.resolve()):
        raise StrangeFileError(errno.ELOOP, "leads out of the directory by a symbolic link", os.fspath(path))


def append_whole(descriptor: int, data: bytes, *, durable: bool = False) -> None:
    """Append bytes to an open file; where that fails, such as on a full disk, the file is as it was before.

    `durable`: when this returns they are on the disk.

    Raises
    ------
    OSError
        It failed.
    """
    size = os.fstat(descriptor).st_size
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`; one call of ``os.write`` may write less (a signal, a full disk, 2 GiB on Linux)."""
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest)
        if written == 0:
            raise OSError(errno.EIO, "wrote nothing")
        rest = rest[written:]


def _write_past_cache(descriptor: int, data: memoryview) -> memoryview:
    """Write the whole blocks of large data without a copy to the page cache; return the rest, which may be everything.

    It takes a tenth of the processor's time, which is the other ranks' where no core is free.  File systems and memory
    that are not fit for it answer EINVAL or ENOTSUP; the rest is then written the ordinary way.
    """
    if len(data) < _LARGE_BYTES or not hasattr(os, "O_DIRECT"):
        return data
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        while len(data) >= _BLOCK_BYTES:
            written = os.write(descriptor, data[: len(data) // _BLOCK_BYTES * _BLOCK_BYTES])
            if written == 0:
                break
            data = data[written:]
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return data


def sync_directory(directory: Path) -> None:
    """Make names that were created or renamed in `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no fsync of a directory
            raise
    finally:
        os.close(descriptor)


class AtomicFile:
    """A file that appears under its name when it is complete; a context manager that throws it away otherwise.

    Where the file system allows it (``O_TMPFILE``), it has no name while it is written, so that nothing is left of it
    however the process ends; else a temporary name in the same directory, because a rename across file systems copies.

    Parameters
    ----------
    path
        Gets the file, in place of what is there.
    anonymous
        False: it has a name from the beginning, `temporary`, for a library that wants one.

    Raises
    ------
    ResourceError
        By every method: disk full, quota, file size limit, I/O error, no permission.  What was at `path` is intact.
    """

    def __init__(self, path: Path, *, anonymous: bool = True) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{_SUFFIX}")
        self._named = False
        with disk_errors("make the file", path):
            self._descriptor = self._open(anonymous and hasattr(os, "O_TMPFILE"))

    def _open(self, anonymous: bool) -> int:
        if anonymous:
            try:
                return os.open(self.path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in _NO_ANONYMOUS:
                    raise
        descriptor = os.open(self.temporary, _NEW_FILE, 0o666)
        self._named = True
        return descriptor

    def reserve(self, nbytes: int) -> None:
        """Make the file `nbytes` long, and sure that the disk has room for them."""
        with disk_errors(f"reserve {nbytes} bytes", self.path):
            if nbytes > os.fstat(self._descriptor).st_size:
                try:
                    os.posix_fallocate(self._descriptor, 0, nbytes)
                except OSError as error:
                    if error.errno not in _NO_RESERVATION:
                        raise
                    os.ftruncate(self._descriptor, nbytes)

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data` behind what was written before."""
        with disk_errors(f"write {len(data)} bytes", self.path):
            write_all(self._descriptor, _write_past_cache(self._descriptor, memoryview(data)))

    def write_at(self, offset: int, data: Any) -> None:
        """Write all of a buffer (bytes or a contiguous array) at a place."""
        rest = memoryview(data).cast("B")
        with disk_errors(f"write {len(rest)} bytes", self.path):
            while rest:
                written = os.pwrite(self._descriptor, rest, offset)
                if written == 0:
                    raise OSError(errno.EIO, "wrote nothing")
                offset, rest = offset + written, rest[written:]

    def commit(self, *, durable: bool = True) -> None:
        """Make the file durable, unless that is not wanted, and give it its name."""
        with disk_errors("finish the file", self.path):
            if durable:  # before the name, which may otherwise survive a power cut without the content
                os.fsync(self._descriptor)
            if not self._named:
                self._give_name()
            os.replace(self.temporary, self.path)
            self._named = False
            if durable:
                sync_directory(self.path.parent)

    def _give_name(self) -> None:
        """Link the nameless file; the link cannot replace a file, so the name is a temporary one."""
        with suppress(FileNotFoundError):
            os.unlink(self.temporary)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # With a directory descriptor, because os.link follows symbolic links only then.
            source = f"/proc/self/fd/{self._descriptor}"
            os.link(source, self.temporary.name, dst_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)
        self._named = True

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.close(self._descriptor)
        if self._named:
            with suppress(OSError):
                os.unlink(self.temporary)


def write_atomically(path: Path, data: bytes | memoryview, *, durable: bool = True) -> None:
    """Replace or create a file: a reader, and a restart after a crash, sees the old content or all of the new.

    Not `durable`: after a crash of the host it may be neither.

    Raises
    ------
    ResourceError
        As of `AtomicFile`.
    """
    with AtomicFile(path) as file:
        file.write(data)
        file.commit(durable=durable)


def remove_stale(directory: Path) -> None:
    """Remove temporary files that killed writers left; only for the holder of the run's lock.

    The lock makes every other writer a dead one. Those of a live process of this host are left all the same: the lock
    cannot have let it in, so it is somebody's mistake, which should not be made worse.
    """
    with disk_errors("remove temporary files", directory):
        with os.scandir(directory) as entries:
            stale = [entry.path for entry in entries if is_temporary(entry.name) and not _writer_lives(entry.name)]
        for path in stale:
            with suppress(FileNotFoundError):
                os.unlink(path)


def is_temporary(name: str) -> bool:
    """Whether `name` is that of a temporary file of `AtomicFile`."""
    return name.startswith(".") and name.endswith(_SUFFIX)


def _writer_lives(name: str) -> bool:
    owner, _, process = name.removesuffix(_SUFFIX).rpartition(".")
    if not owner.endswith("." + socket.gethostname()) or not process.isdecimal() or int(process) == os.getpid():
        return False
    return os.path.exists(f"/proc/{process}")
