"""Signs of life between nodes: a datagram a second from the first rank of each node to that of the first, and back.

MPI is not asked, because a thread sends them while the main one waits in MPI.  A node counts as silent only if it has
been heard before: where datagrams do not get through, nobody is accused.  They also say when a rank has made progress
last, so that a node knows that others for which it waits are at work.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import socket
import struct
from dataclasses import dataclass
from time import monotonic_ns
from typing import TYPE_CHECKING

from onotrain.parallel.agreement import broadcast

if TYPE_CHECKING:
    from onotrain.parallel.world import World

_TOKEN_BYTES = 16
#: Number of a node, and how long ago a rank has made progress that it knows of [ns].
_SIGN = struct.Struct("<IQ")
#: In the place of the number of a node: a node ends the job.
_ENDS = 0xFFFFFFFF
#: Asks the kernel for the address of an interface (linux/sockios.h).
_SIOCGIFADDR = 0x8915


@dataclass(frozen=True)
class _Hub:
    """Where the first rank of the first node listens, and what its datagrams begin with."""

    addresses: tuple[str, ...]
    port: int
    token: bytes


class Neighbours:
    """The other nodes, as far as this one hears of them; a rank that is not its node's first hears nothing.

    Parameters
    ----------
    world
        *Collective*.
    """

    def __init__(self, world: World) -> None:
        self._node = world.node_index
        hosts = world.comm.allgather((world.node_index, socket.gethostname()))
        #: By node.
        self._names = [_name(node, hosts) for node in range(world.nodes)]
        self._socket: socket.socket | None = None
        if world.node.rank == 0:
            with contextlib.suppress(OSError):  # such as a host without IPv4
                self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
                self._socket.bind(("", 0))
        self._hub = broadcast(world.comm, self._listen)
        #: When each node was heard last [ns].
        self._heard: dict[int, int] = {}
        #: Where the first node answers from, once it has.
        self._answers: str | None = None
        #: Where each node has sent from last, as the first node knows it.
        self._senders: dict[int, tuple[str, int]] = {}
        #: When a rank of any node has made progress, as far as it is known here [ns].
        self.progress = 0
        #: Whether another node ends the job.
        self.over = False
        self._greet(world)

    def _greet(self, world: World) -> None:
        """Hear all nodes once.  *Collective*."""
        for node_speaks in (True, False, True):
            if bool(self._node) == node_speaks:
                self.beat()
            world.barrier()

    def _listen(self) -> _Hub:
        if self._socket is None:
            return _Hub((), 0, b"")
        return _Hub(own_addresses(), self._socket.getsockname()[1], secrets.token_bytes(_TOKEN_BYTES))

    def beat(self, progress: int = 0) -> None:
        """Give a sign of life, and take those that have come.

        Parameters
        ----------
        progress
            When a rank of this node has made progress last [ns].
        """
        if self._socket is None:
            return
        self.progress = max(self.progress, progress)
        if self._node:
            for address in (self._answers,) if self._answers is not None else self._hub.addresses:
                self._send((address, self._hub.port))
        with contextlib.suppress(OSError):  # there are no more
            while True:
                data, sender = self._socket.recvfrom(64)
                if data[:_TOKEN_BYTES] != self._hub.token or len(data) != _TOKEN_BYTES + _SIGN.size:
                    continue
                node, age = _SIGN.unpack_from(data, _TOKEN_BYTES)
                if node == _ENDS:
                    if not (self.over or self._node):
                        self.end()
                    self.over = True
                    continue
                now = monotonic_ns()
                self._heard[node], self._senders[node] = now, sender
                self.progress = max(self.progress, now - age)
                if self._node:
                    self._answers = sender[0]
                else:
                    self._send(sender)

    def end(self) -> None:
        """Say to all nodes that the job ends."""
        if self._node:
            self._send((self._answers or next(iter(self._hub.addresses), ""), self._hub.port), _ENDS)
        else:
            for sender in self._senders.values():
                self._send(sender, _ENDS)

    def _send(self, where: tuple[str, int], number: int | None = None) -> None:
        if self._socket is not None:
            sign = _SIGN.pack(self._node if number is None else number, monotonic_ns() - self.progress)
            with contextlib.suppress(OSError):  # such as no way there
                self._socket.sendto(self._hub.token + sign, where)

    def silent(self, now: int, limit: int) -> list[str]:
        """Return what is to be said of nodes that have been heard, but not for so long [ns]."""
        return [
            f"{self._names[node]} has given no sign of life for {(now - heard) / 1e9:.0f} s"
            for node, heard in sorted(self._heard.items())
            if now - heard > limit
        ]

    def close(self) -> None:
        """Hear nothing any more."""
        if self._socket is not None:
            self._socket.close()


def _name(node: int, hosts: list[tuple[int, str]]) -> str:
    ranks = [rank for rank, (index, _) in enumerate(hosts) if index == node]
    named = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
    return f"{hosts[ranks[0]][1]} ({named})"


def own_addresses() -> tuple[str, ...]:
    """Return the IPv4 addresses of this host's interfaces, those that only it can reach last."""
    found = set[str]()
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without one
                request = struct.pack("256s", name.encode()[:15])
                found.add(socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24]))
    return tuple(sorted(found, key=lambda address: (address.startswith("127."), address)))
