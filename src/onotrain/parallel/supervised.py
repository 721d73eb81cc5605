"""What ranks tell the supervisor that launched the job (`onotrain launch`), if there is one on their host.

By datagrams to a socket without a file, whose name is in the environment: nothing is left behind, and nobody waits.
"""

from __future__ import annotations

import contextlib
import os
import socket

VARIABLE = "ONOTRAIN_SUPERVISOR"
#: All ranks take signals from now on.
LISTENING = "listening"
#: Followed by the rank, the number of ranks, and the process number.
RANK = "rank "
#: The first step of this launch is made.
TRAINING = "training"
#: Another rank is gone: the end of this one is for that.
LOST_RANK = "lost rank"
#: Followed by the exit code of the first rank, or of one that ends the job.
EXIT = "exit "
#: Followed by the message.
ERROR = "error "
MOST_BYTES = 8192


def tell(what: str) -> None:
    """Send this; nothing happens without a supervisor, or if it cannot be reached."""
    name = os.environ.get(VARIABLE, "")
    if name:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(what.encode()[:MOST_BYTES], f"\0{name}".encode())
