"""Standard output: whether a person sees it at once, how wide it is, and what happens when nobody reads it."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from onotrain.parallel import launcher
from onotrain.parallel.failure_detector import launcher_or_parent
from onotrain.text import escaped

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console

_DEFAULT_COLUMNS = 80
#: Width of what is no terminal: a file or a pipe takes tables whole.
_UNLIMITED = 10_000


class _Output(io.FileIO):
    """A descriptor that takes everything: what cannot be written is dropped.

    Neither a terminal that is gone nor a pipe that nobody reads nor a full disk ends a run that other ranks wait for.
    """

    #: What it was that could not be written.
    error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of the data, or drop all."""
        while self.error is None:
            try:
                written: int | None = super().write(data)
            except OSError as error:
                self.error = error
                break
            if written is not None:
                return written
            _wait_until_writable(self.fileno())  # another process that has the same file does not want to wait
        return memoryview(data).nbytes


class _Shown(io.TextIOWrapper):
    """Text of which nothing moves or colours what is shown: names and values may be a stranger's."""

    def write(self, text: str, /) -> int:
        """Write it; what would, escaped."""
        super().write(escaped(text))
        return len(text)


class _Drawn:
    """The same file for who draws on a terminal, and escapes what it shows itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text as it is."""
        stream = self._stream
        return io.TextIOWrapper.write(stream, text) if isinstance(stream, _Shown) else stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _wait_until_writable(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


def open_output(descriptor: int, like: TextIO | None = None, *, closefd: bool = False) -> TextIO:
    """Return a text file that raises nothing when it is written to, with the encoding of another."""
    raw = _Output(descriptor, "w", closefd=closefd)
    return _Shown(
        io.BufferedWriter(raw),
        encoding="utf-8" if like is None else like.encoding,
        errors="backslashreplace",
        line_buffering=descriptor == 2 or raw.isatty(),
        write_through=getattr(like, "write_through", False),
    )


def protect_output() -> None:
    """Let nothing that is printed end this process, and let no file be where output belongs."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # It was closed.  A file that is opened later would get its number, and then what libraries print.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = open_output(1, sys.stdout), open_output(2, sys.stderr)


def lost_output() -> OSError | None:
    """Return why something printed was dropped, if it was; a reader that has left wanted no more."""
    sys.stdout.flush()
    error: OSError | None = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "error", None)
    return None if isinstance(error, BrokenPipeError) else error


def terminal_columns(*, stderr: bool = False) -> int | None:
    """Return the width of the terminal that standard output, or error, is shown on [characters]; None if there is none.

    COLUMNS in the environment comes first, as in other programs.
    """
    stream = sys.stderr if stderr else sys.stdout
    if os.environ.get("TERM", "dumb") == "dumb" or not stream.isatty():
        return None
    if not launcher.present():
        return _columns(stream.fileno())
    with suppress(OSError), _launcher_terminal(2 if stderr else 1) as terminal:
        return _columns(terminal.fileno())
    return None


def text_columns(*, stderr: bool = False) -> int | None:
    """Return the width that text is laid out for: of the terminal, or COLUMNS; None: there is no limit."""
    return terminal_columns(stderr=stderr) or _wanted_columns()


def _wanted_columns() -> int | None:
    wanted = os.environ.get("COLUMNS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else None


def terminal_stream() -> TextIO:
    """Return the file to draw on where `terminal_columns` has found a terminal: it takes incomplete lines at once.

    Under mpirun that is the terminal itself, because mpirun passes on whole lines only.
    """
    if launcher.present():
        with suppress(OSError):
            terminal = _launcher_terminal()
            # With `stty tostop` a process in the background would be stopped for writing.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            return terminal
    return sys.stdout


def _launcher_terminal(descriptor: int = 1) -> TextIO:
    """Open the terminal that a descriptor of the launcher, of output or of errors, goes to.

    mpirun gives its ranks a pseudo-terminal even if its own output goes to a file; what counts is where that goes.  A
    program in between, such as `timeout`, has the pseudo-terminal, too.

    Raises
    ------
    OSError
        It goes elsewhere, or the launcher is on another host.
    """
    output = f"/proc/{launcher_or_parent().pid}/fd/{descriptor}"
    if not os.readlink(output).startswith(("/dev/pts/", "/dev/tty")):
        raise OSError(f"{output} is not a terminal")
    return open_output(os.open(output, os.O_WRONLY | os.O_NOCTTY), closefd=True)


def _columns(descriptor: int) -> int:
    if wanted := _wanted_columns():
        return wanted
    with suppress(OSError):
        return os.get_terminal_size(descriptor).columns or _DEFAULT_COLUMNS
    return _DEFAULT_COLUMNS


def discard_output() -> None:
    """Send what is still written to standard output nowhere."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def console(columns: int | None = None, *, stderr: bool = False, stream: TextIO | None = None) -> Console:
    """Return a rich console for standard output, for standard error, or for `stream`.

    Parameters
    ----------
    columns
        Width of the terminal as `terminal_columns` returns it; None if there is none.
    stderr
        Write to standard error.
    stream
        Write to this file.
    """
    from rich.console import Console
    from rich.segment import Segment

    class QuietConsole(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            """Escape what a stranger's text may hold."""
            for segment in super().render(renderable, options):
                shown = segment.control or segment.text.isprintable()
                yield segment if shown else Segment(escaped(segment.text), segment.style)

        def show_cursor(self, show: bool = True) -> bool:
            """Leave the cursor alone: a job that is killed while a bar is drawn could not bring it back."""
            return False

    stream = stream or (sys.stderr if stderr else sys.stdout)
    if columns is None:
        width = text_columns(stderr=stderr) or _UNLIMITED
        return QuietConsole(file=stream, force_terminal=False, no_color=True, width=width, highlight=False)
    return QuietConsole(file=cast(TextIO, _Drawn(stream)), force_terminal=True, width=columns, highlight=False)
