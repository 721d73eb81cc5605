"""Where the parts of a configuration are written, for messages about them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from onotrain.config.base import Problem
from onotrain.config.overrides import Override
from onotrain.config.yaml_reader import Path, Position

_WORD = re.compile(r"[\w-]{1,60}")


@dataclass(frozen=True)
class Places:
    """Where the parts of a configuration are written: in a file, on the command line, or nowhere.

    All of them are equal: configurations are whose values are, wherever they come from.

    Parameters
    ----------
    name
        Of the file; None if there is none.
    keys, values
        Positions in it by path; both empty if they are not known.
    overrides
        Changes from the command line.
    """

    name: str | None = field(default=None, compare=False)
    keys: Mapping[Path, Position] = field(default_factory=dict, compare=False)
    values: Mapping[Path, Position] = field(default_factory=dict, compare=False)
    overrides: Sequence[Override] = field(default=(), compare=False)

    def within(self, section: str) -> Places:
        """Return the places of one section."""
        keys, values = (
            {path: position for path, position in positions.items() if path[:1] == (section,)}
            for positions in (self.keys, self.values)
        )
        return Places(self.name, keys, values, [each for each in self.overrides if each.path[0] == section])

    def lines(self, found: Iterable[Problem]) -> list[str]:
        """Return one line for each problem, in the order of the file, overrides last."""
        written = [problem._replace(path=self._as_written(problem.path)) for problem in found]
        placed = sorted(((self._place(problem), problem) for problem in written), key=lambda pair: pair[0][0])
        return list(dict.fromkeys(f"{prefix}{problem.text}" for (_, prefix), problem in placed))

    def _as_written(self, path: Path) -> Path:
        """Return the path without keys that a list is short for: ``residual: [...]`` means ``{layers: [...]}``."""
        for length in range(len(path) - 1):
            before, (key, item) = path[:length], path[length : length + 2]
            is_short = isinstance(key, str) and isinstance(item, int) and (*before, key) not in self.values
            if is_short and (*before, item) in self.values:
                return self._as_written((*before, *path[length + 1 :]))
        return path

    def _place(self, problem: Problem) -> tuple[tuple[int, int, int], str]:
        """Return what to sort by, and what to write in front."""
        key = _key_path(problem.path)
        override = self._override_of(problem)
        if override is not None:
            number, change = override
            prefix = f"--set {change.shown}: "
            return (1, number, 0), prefix if problem.path == self._as_written(change.path) else f"{prefix}{key}: "
        if self.name is None or not self.values:
            return (0, 0, 0), f"{key}: " if self.name is None else f"{self.name}: {key}: "
        position = self._position(problem)
        return (0, position.line, position.column), f"{self.name}:{position.line}:{position.column}: {key}: "

    def _override_of(self, problem: Problem) -> tuple[int, Override] | None:
        """Return the last override that wrote what the problem is about, or that is why a key is missing."""
        path = problem.path
        known = self._known(path)
        made = path[: len(known) + 1] if known != path else None  # a key that is not in the file
        for number, override in reversed(list(enumerate(self.overrides))):
            changed = self._as_written(override.path)
            wrote = path[: len(changed)] == changed
            chose = changed == (*path[:-1], "name") and known != path
            opened = made is not None and changed[: len(made)] == made
            if wrote or chose or opened:
                return number, override
        return None

    def _known(self, path: Path) -> Path:
        """Return the longest part of the path that is in the file."""
        length = next(length for length in range(len(path), -1, -1) if not length or path[:length] in self.values)
        return path[:length]

    def _position(self, problem: Problem) -> Position:
        known = self._known(problem.path)
        is_whole = known == problem.path
        if (problem.is_key or not is_whole) and known in self.keys:
            return self.keys[known]
        return self.values.get(known, Position(1, 1))


def _key_path(path: Path) -> str:
    """Return the path as ``--set`` takes it; odd keys quoted and cut."""
    return ".".join(str(part) if _WORD.fullmatch(str(part)) else repr(str(part)[:60]) for part in path)
