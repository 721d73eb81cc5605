"""The hosts that a launcher was given, and which of them still start something."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

#: Options of Open MPI and Hydra that name hosts, and those that name a file of them.
_LISTS = ("--host", "-host", "-H", "--hosts", "-hosts")
_FILES = ("--hostfile", "-hostfile", "--machinefile", "-machinefile", "-f")
#: A host that starts nothing within this time is taken for gone [s].
_PROBE_S = 20.0
_AT_ONCE = 16


@dataclass(frozen=True)
class Hosts:
    """Hosts with the ranks that each may have, and the rest of the launcher's command line.

    Attributes
    ----------
    launcher
        Without what names the hosts.
    option
        Which names the hosts in a list.
    slots
        By host.
    """

    launcher: tuple[str, ...]
    option: str
    slots: dict[str, int]

    @classmethod
    def of(cls, launcher: Sequence[str]) -> Hosts | None:
        """Return the hosts that a launcher's command line names; None if it names none, or one."""
        words, rest, slots, option = iter(launcher), list[str](), dict[str, int](), "--host"
        for word in words:
            name, equals, value = word.partition("=")
            if name not in (*_LISTS, *_FILES):
                rest.append(word)
                continue
            value = value if equals else next(words, "")
            option = name if name in _LISTS else option
            named = value.split(",") if name in _LISTS else _lines(Path(value))
            for host, count in map(_slots, filter(None, named)):
                slots[host] = slots.get(host, 0) + count
        return cls(tuple(rest), option, slots) if len(slots) > 1 else None

    @property
    def command(self) -> list[str]:
        """The launcher with these hosts."""
        return [*self.launcher, self.option, ",".join(f"{host}:{count}" for host, count in self.slots.items())]

    def alive(self) -> Hosts:
        """Return those that start something."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(self._starts, self.slots))
        return replace(
            self, slots={host: self.slots[host] for host, lives in zip(self.slots, found, strict=True) if lives}
        )

    def _starts(self, host: str) -> bool:
        command = [*self.launcher, self.option, f"{host}:1", "-n", "1", "true"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_S, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def _lines(path: Path) -> list[str]:
    """Return the hosts of a file, as ``host:slots``."""
    found = []
    for line in path.read_text().splitlines():
        host, *options = line.partition("#")[0].split() or [""]
        slots = next((option.partition("=")[2] for option in options if option.startswith("slots=")), "")
        found.append(f"{host}:{slots}" if slots else host)
    return found


def _slots(text: str) -> tuple[str, int]:
    host, _, count = text.strip().partition(":")
    return host, int(count) if re.fullmatch(r"\d+", count) else 1
