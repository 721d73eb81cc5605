"""The hosts that a launcher was given, and which of them still start something."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

#: Options of Open MPI and Hydra that name hosts, and those that name a file of them.
_LISTS = ("--host", "-host", "-H", "--hosts", "-hosts")
_FILES = ("--hostfile", "-hostfile", "--machinefile", "-machinefile", "-f")
#: Those of them that are Hydra's.
_HYDRA = ("--hosts", "-hosts")
#: A host that starts nothing within this time is taken for gone [s].
_PROBE_S = 20.0
#: How long a launcher has to end what it has started [s].
_END_S = 5.0
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
        By host; None: the launcher decides.
    """

    launcher: tuple[str, ...]
    option: str
    slots: Mapping[str, int | None]

    @classmethod
    def of(cls, launcher: Sequence[str]) -> Hosts | None:
        """Return the hosts that a launcher's command line names; None if it names none, or one, or cannot be read."""
        words, rest, slots, option = iter(launcher), list[str](), dict[str, int | None](), "--host"
        for word in words:
            name, equals, value = word.partition("=")
            if name not in (*_LISTS, *_FILES):
                rest.append(word)
                continue
            value = value if equals else next(words, "")
            option = name if name in _LISTS else option
            try:
                named = [_of_list(each) for each in value.split(",")] if name in _LISTS else _of_file(Path(value))
            except OSError:
                return None  # the launcher says what is wrong with it
            for host, count in named:
                before = slots.get(host, 0)
                slots[host] = None if count is None or before is None else before + count
        return cls(tuple(rest), option, slots) if len(slots) > 1 else None

    @property
    def command(self) -> list[str]:
        """The launcher with these hosts."""
        every = "" if self.option in _HYDRA else ":*"
        named = (f"{host}{every}" if count is None else f"{host}:{count}" for host, count in self.slots.items())
        return [*self.launcher, self.option, ",".join(named)]

    @property
    def places(self) -> int | None:
        """For how many ranks they are; None: the launcher decides."""
        counts = [count for count in self.slots.values() if count is not None]
        return sum(counts) if len(counts) == len(self.slots) else None

    def alive(self) -> Hosts:
        """Return those that start something; all of them if none does, for then it is not the hosts."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(self._starts, self.slots))
        if not any(found):
            return self
        lives = {host: self.slots[host] for host, starts in zip(self.slots, found, strict=True) if starts}
        return replace(self, slots=lives)

    def _starts(self, host: str) -> bool:
        alone = replace(self, slots={host: self.slots[host]})
        null = subprocess.DEVNULL
        program = subprocess.Popen([*alone.command, "-n", "1", "true"], stdin=null, stdout=null, stderr=null)
        try:
            return program.wait(_PROBE_S) == 0
        except subprocess.TimeoutExpired:
            program.terminate()  # it ends what it has started
            try:
                program.wait(_END_S)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
            return False


def _of_file(path: Path) -> list[tuple[str, int | None]]:
    """Return the hosts of a file: lines of Open MPI (``host slots=4``) or of Hydra (``host:4``)."""
    found = list[tuple[str, int | None]]()
    for line in path.read_text().splitlines():
        name, *options = line.partition("#")[0].split() or [""]
        slots = next((option.partition("=")[2] for option in options if option.startswith("slots=")), "")
        host, _, count = name.partition(":")
        if host:
            found.append((host, _number(slots or count)))
    return found


def _of_list(text: str) -> tuple[str, int | None]:
    """Return a host of a list: one slot each time that it is named, if nothing else is said."""
    host, colon, count = text.strip().partition(":")
    return host, _number(count) if colon else 1


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d+", text) else None
