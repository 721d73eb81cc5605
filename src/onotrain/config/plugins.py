"""Classes of other packages, found by entry points: strategies, losses and metrics of a user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from onotrain.errors import UsageError


class PluginError(UsageError):
    """A class of another package that cannot be used; the message names the package and the entry point."""


class Plugins:
    """The entry points of one group, read when one is first asked for and loaded when it is used.

    Parameters
    ----------
    group
        Such as ``onotrain.strategies``.
    complaint
        Called with the name of an entry point and the class that it stands for; returns what is wrong with the class,
        if anything.
    """

    def __init__(self, group: str, complaint: Callable[[str, Any], str | None]) -> None:
        self.group = group
        self._complaint = complaint
        self._loaded: dict[str, Any] = {}

    @cached_property
    def _points(self) -> dict[str, list[EntryPoint]]:
        points: dict[str, list[EntryPoint]] = {}
        for point in sorted(entry_points(group=self.group), key=lambda point: (point.name, _package(point))):
            points.setdefault(point.name, []).append(point)
        return points

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entry points, sorted."""
        return tuple(self._points)

    def load(self, name: str) -> Any:
        """Return the class that the entry point `name` stands for.

        Raises
        ------
        PluginError
            Two packages have one of this name, it cannot be imported, or it is not such a class.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Any:
        first, *more = self._points[name]
        where = f"entry point {name!r} of {_package(first)} (group {self.group})"
        if more:
            raise PluginError(f"{where} is also one of {', '.join(map(_package, more))}; uninstall all but one")
        try:
            found = first.load()
        except Exception as error:  # whatever a foreign module may raise
            raise PluginError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
        complaint = self._complaint(name, found)
        if complaint is not None:
            raise PluginError(f"{where} {complaint}")
        return found


def _package(point: EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
