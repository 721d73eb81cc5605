"""All places of the configuration's schema, whatever sections choices lead to, for tests that leave none out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from onotrain.config.base import Section
from onotrain.config.choices import OneKey, OneOf
from onotrain.config.options import LayerOptions

_Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """A section, or a choice of sections, and the names above it that lead there."""

    path: _Path
    #: Names by their paths.
    chosen: tuple[tuple[_Path, str], ...]
    sections: dict[str, type[Section]]
    choice: OneOf | None

    @property
    def dotted(self) -> str:
        return ".".join(map(str, self.path))

    @property
    def id(self) -> str:
        return "-".join([self.dotted, *(name for _, name in self.chosen)])

    @property
    def short_forms(self) -> list[tuple[Any, dict[str, Any]]]:
        """Short forms, and the full forms that they stand for."""
        if self.choice is None:
            keys = [section.short_key for section in self.sections.values() if issubclass(section, LayerOptions)]
            return [(3, {key: 3}) for key in keys if key]
        if isinstance(self.choice, OneKey):
            return []
        numbers = [(0.5, {"name": self.choice.number[0], self.choice.number[1]: 0.5})] if self.choice.number else []
        return [(name, {"name": name}) for name in self.sections] + numbers

    def data(self, value: Any) -> dict[str, Any]:
        """Return a configuration, of no use otherwise, with `value` at the place."""
        data: dict[str, Any] = {}
        for path, item in (*self.chosen, (self.path, value)):
            node: Any = data
            for part, following in zip(path, (*path[1:], None), strict=True):
                if isinstance(part, int):
                    node.extend({} for _ in range(part + 1 - len(node)))
                if following is None:
                    node[part] = item
                elif isinstance(node, dict):
                    node.setdefault(part, [] if isinstance(following, int) else {})
                node = node[part]
        return data


def places(root: type[Section], above: Place | None = None) -> Iterator[Place]:
    """Yield all places below a section."""
    above = above or Place((), (), {}, None)
    for key, field in root.model_fields.items():
        yield from _below(field.rebuild_annotation(), replace(above, path=(*above.path, key)))


def _below(annotation: Any, place: Place) -> Iterator[Place]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield replace(place, sections={"": annotation}, choice=None)
        yield from places(annotation, place)
    elif get_origin(annotation) is Annotated:
        union, *metadata = get_args(annotation)
        choice = next((item for item in metadata if isinstance(item, OneOf)), None)
        if choice is None:
            yield from _below(union, place)
            return
        sections = choice.members(union)
        yield replace(place, sections=sections, choice=choice)
        if any(part in sections for part in place.path):
            return  # layers that a layer is made of
        for name, section in sections.items():
            named = () if isinstance(choice, OneKey) else (((*place.path, "name"), name),)
            yield from places(section, replace(place, chosen=(*place.chosen, *named)))
    elif get_origin(annotation) is dict:
        yield from _below(get_args(annotation)[1], replace(place, path=(*place.path, "any")))
    elif get_origin(annotation) is tuple:
        yield from _below(get_args(annotation)[0], replace(place, path=(*place.path, 0)))
    else:
        for member in get_args(annotation):
            if member is not NoneType and not isinstance(member, str):
                yield from _below(member, place)
