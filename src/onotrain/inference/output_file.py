"""A file that appears under its name when it is complete, and not before.

The data are written with plain file calls at known places, never through a memory map: a full disk is then an error
message, and not a bus error.  The file has no name while it is written, where the file system allows that
(``O_TMPFILE``), so that nothing is left of it however the process ends.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from onotrain.files import disk_errors, sync_directory

#: What file systems answer that know no files without a name.
_NO_ANONYMOUS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
#: What file systems answer that cannot reserve space; writing then finds out whether there is enough.
_NO_RESERVATION = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class OutputFile:
    """A file being written; a context manager that throws it away unless it was committed.

    Parameters
    ----------
    path
        Gets the file, in place of what is there.

    Raises
    ------
    ResourceError
        By every method: disk full, quota, I/O error, no permission.  What was at `path` before is intact.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
        self._named = False
        with disk_errors("make the file", path):
            self._fd = self._open()

    def _open(self) -> int:
        with suppress(AttributeError):  # O_TMPFILE is Linux's
            try:
                return os.open(self.path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in _NO_ANONYMOUS:
                    raise
        descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._named = True
        return descriptor

    def reserve(self, nbytes: int) -> None:
        """Make the file so many bytes long, and sure that the disk has room for them."""
        with disk_errors(f"reserve {nbytes} bytes", self.path):
            if nbytes > os.fstat(self._fd).st_size:
                try:
                    os.posix_fallocate(self._fd, 0, nbytes)
                except OSError as error:
                    if error.errno not in _NO_RESERVATION:
                        raise
                    os.ftruncate(self._fd, nbytes)

    def write_at(self, offset: int, data: Any) -> None:
        """Write all of a buffer (bytes or a contiguous array) at a place."""
        rest = memoryview(data).cast("B")
        with disk_errors(f"write {len(rest)} bytes", self.path):
            while rest:
                written = os.pwrite(self._fd, rest, offset)
                if written == 0:
                    raise OSError(errno.EIO, "wrote nothing")
                offset, rest = offset + written, rest[written:]

    def commit(self) -> None:
        """Make the file durable and give it its name."""
        with disk_errors("finish the file", self.path):
            os.fsync(self._fd)  # before the name, which may otherwise survive a power cut without the content
            if not self._named:
                self._give_name()
            os.replace(self._temporary, self.path)
            self._named = False
            sync_directory(self.path.parent)

    def _give_name(self) -> None:
        """Link the nameless file; the link cannot replace a file, so the name is a temporary one."""
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # With a directory descriptor, because os.link follows symbolic links only then.
            os.link(f"/proc/self/fd/{self._fd}", self._temporary.name, dst_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)
        self._named = True

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.close(self._fd)
        if self._named:
            with suppress(OSError):
                os.unlink(self._temporary)
