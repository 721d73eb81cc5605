"""A launched job: its launcher as a child of this process, the signals for its ranks, and what these tell."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from onotrain.errors import EXIT_OK
from onotrain.parallel import supervised

#: Signals that ask for an end: the ranks get USR1, which every launcher passes on.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Ranks that have not said by then that they take signals cannot be heard from here, and count as if they had [s].
HEARD_S = 60.0
#: Ctrl-C as many times ends the launcher without saving.
IMPATIENT = 3
#: Exit code of what a signal has ended, less its number, and of a job whose ranks were killed, as a shell has them.
EXIT_SIGNALLED = 128
EXIT_KILLED = EXIT_SIGNALLED + signal.SIGKILL
_LOOK_S = 0.1
_PR_SET_PDEATHSIG = 1


class Stop:
    """Whether this process was asked to stop, and how often by Ctrl-C."""

    def __init__(self) -> None:
        self.asked = False
        self.interrupts = 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.interrupts += number == signal.SIGINT

    def wait(self, seconds: float) -> bool:
        """Return whether this process is asked to stop, at once or within so many seconds."""
        end = time.monotonic() + seconds
        while not self.asked and time.monotonic() < end:
            time.sleep(_LOOK_S)
        return self.asked

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[Stop]:
        """Take the signals within the block."""
        stop = cls()
        # Whoever starts it with these ignored, as `nohup` and the `&` of a script do, wants it to go on.
        wanted = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, stop._handle) for number in wanted}
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Job:
    """One launch, from its begin to its end.

    Parameters
    ----------
    command
        Of the launcher, in a session of its own: what a terminal sends is for this process to pass on.
    log
        Takes what it prints; None: it is shown.
    """

    def __init__(self, command: Sequence[str], log: IO[bytes] | None = None) -> None:
        name = f"onotrain-{os.getpid()}-{secrets.token_hex(8)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name}".encode())
        self._socket.setblocking(False)
        self._began, self._listening, self._asked, self._ended = time.monotonic(), False, False, False
        #: What ranks said that they end with; None: nothing.
        self._code: int | None = None
        #: Whether one said that another one is gone.
        self._lost_rank = False
        #: What ranks said of why they ended, in the order in which it came.
        self.errors: list[str] = []
        #: Processes of the ranks on this host, by rank.
        self.processes: dict[int, int] = {}
        #: When the first step of this launch was made, by the monotonic clock [s]; None: not yet.
        self.trains_since: float | None = None
        environment = {**os.environ, supervised.VARIABLE: name}
        prctl = ctypes.CDLL(None).prctl
        self._child = subprocess.Popen(
            command,
            env=environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The kernel ends the launcher, and it the ranks, when this process is killed.
            preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
        )

    def wait(self, stop: Stop, meanwhile: Callable[[Job], None]) -> int:
        """Wait until the job has ended, pass on what `stop` was asked, and return the launcher's exit code.

        `meanwhile` is called every tenth of a second.
        """
        while (code := self._child.poll()) is None:
            with contextlib.suppress(InterruptedError):
                select.select([self._socket], [], [], _LOOK_S)
            self._hear()
            meanwhile(self)
            if stop.interrupts >= IMPATIENT and not self._ended:
                self._child.terminate()
                self._ended = True
            elif stop.asked and not self._asked:
                self._ask()
        self._hear()
        self._socket.close()
        if self._lost_rank:
            return EXIT_KILLED
        if code == EXIT_OK and self._code is not None:
            return self._code  # some launchers lose it
        if code == EXIT_OK and 0 in self.processes:
            return EXIT_KILLED  # of a job all of whose ranks were killed, one that survives ranks takes no notice
        return code if code >= 0 else 128 - code

    def end(self) -> None:
        """End the launcher, and by it the ranks, without saving."""
        self._child.terminate()

    def _ask(self) -> None:
        """Ask the ranks to save and stop; end the launcher while there is nothing to save."""
        heard = self._listening or time.monotonic() - self._began > HEARD_S
        self._child.send_signal(signal.SIGUSR1 if heard else signal.SIGTERM)
        self._asked = True

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                said = self._socket.recv(supervised.MOST_BYTES).decode(errors="replace")
                if said == supervised.LISTENING:
                    self._listening = True
                elif said == supervised.TRAINING:
                    self.trains_since = time.monotonic()
                elif said == supervised.LOST_RANK:
                    self._lost_rank = True
                elif said.startswith(supervised.RANK):
                    rank, size, process = map(int, said.removeprefix(supervised.RANK).split())
                    # Survivors of others are fewer, and are counted anew.
                    self.processes = {each: found for each, found in self.processes.items() if each < size}
                    self.processes[rank] = process
                elif said.startswith(supervised.EXIT):
                    self._code = self._code or int(said.removeprefix(supervised.EXIT))
                elif said.startswith(supervised.ERROR):
                    self.errors.append(said.removeprefix(supervised.ERROR))


def cause_of(errors: Sequence[str], code: int, said: str = "") -> str:
    """Return why a job has ended: the words of the rank that said so first, or what its launcher means by a code.

    If no rank did, and the code says nothing, what else was `said`.
    """
    if errors:
        return errors[0].partition("\n")[0]
    if code > EXIT_SIGNALLED:
        return f"a rank, or the launcher, was ended by signal {code - EXIT_SIGNALLED}"
    return said or "no rank has said why"
