"""The base of a whole configuration, which knows where it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import PrivateAttr

from onotrain.config.base import Problem, Section
from onotrain.config.places import Places
from onotrain.errors import ConfigError


class Root(Section):
    """A whole configuration, whose keys are sections."""

    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def places(self) -> Places:
        """Where it is written, as far as that is still of use."""
        return self._places

    def placed(self, places: Places) -> Self:
        """Return the same configuration, written in these places."""
        copy = self.model_copy()
        copy._places = places
        return copy

    def error(self, problem: Problem, hint: str | None = None) -> ConfigError:
        """Return the error for something wrong that shows only with the data: with its place, as those of loading."""
        return ConfigError("\n".join(self._places.lines([problem])), hint=hint)

    @classmethod
    def cross_problems(cls, sections: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what is wrong between those sections that are valid themselves; checks of missing ones are left out."""
        yield from ()

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong between sections."""
        yield from self.cross_problems({name: getattr(self, name) for name in type(self).model_fields})

    def resolved(self) -> Any:
        """Return the configuration with values that follow from others written out."""
        return self
