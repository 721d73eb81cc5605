"""Files that are either the old one or the new one, whatever happens while they are written."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onotrain.errors import ResourceError

_SUFFIX = ".tmp"
#: Files from this size on are written past the page cache [bytes].
_LARGE_BYTES = 1 << 20
#: What memory, place and length of such a write are multiples of [bytes].
_BLOCK_BYTES = 4096
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


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace or create the file `path`: a reader, and a restart after a crash, sees the old content or all of the new.

    Parameters
    ----------
    path
        The file. The temporary one stands beside it, because a rename across file systems is a copy.
    data
        Its whole content.

    Raises
    ------
    ResourceError
        Disk full, quota, file size limit, I/O error, no permission. The old file is intact, the temporary one is gone.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{_SUFFIX}")
    with disk_errors(f"write {len(data)} bytes", path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                write_all(descriptor, _write_past_cache(descriptor, memoryview(data)))
                os.fsync(descriptor)  # before the rename, or the name may survive a power cut without its content
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        sync_directory(path.parent)


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
    """Whether `name` is that of a temporary file of :func:`write_atomically`."""
    return name.startswith(".") and name.endswith(_SUFFIX)


def _writer_lives(name: str) -> bool:
    owner, _, process = name.removesuffix(_SUFFIX).rpartition(".")
    if not owner.endswith("." + socket.gethostname()) or not process.isdecimal() or int(process) == os.getpid():
        return False
    return os.path.exists(f"/proc/{process}")
