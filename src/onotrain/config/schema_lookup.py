"""What the schema says about one place of a configuration: the sections that may stand there, and its short forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic_core import PydanticCustomError

from onotrain.config.base import Section
from onotrain.config.choices import Choice


class Scope(NamedTuple):
    """A place of a configuration.

    Attributes
    ----------
    annotation
        Type of what may stand there; None for a key that the schema does not know.
    sections
        Sections that it may be; one if the data say which.
    owner
        `` of optimizer 'sgd'`` where the keys depend on a name, else empty; for messages.
    """

    annotation: Any
    sections: tuple[type[Section], ...]
    owner: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys that the sections know."""
        return tuple(dict.fromkeys(key for section in self.sections for key in section.model_fields))

    @classmethod
    def at(cls, path: Sequence[str | int], root: type[Section], data: Any) -> Scope:
        """Follow a path of keys and indices down from `root`; `data`, valid or not, pick the members of unions."""
        scope = cls(root, (root,))
        for part in path:
            scope = scope._child(part, data)
            data = full_form(scope.annotation, _item(data, part))
        return scope

    def _child(self, part: str | int, data: Any) -> Scope:
        bare = _bare(self.annotation)[0]
        if isinstance(part, int):
            annotation = next(iter(get_args(bare)), None)
        elif get_origin(bare) is dict:
            annotation = get_args(bare)[1]
        else:
            fields = (section.model_fields.get(part) for section in self.sections)
            annotation = next((field.rebuild_annotation() for field in fields if field is not None), None)
        sections, owner = _sections_of(annotation, _item(data, part))
        is_tag = any(part in section.tags() for section in self.sections)
        return Scope(annotation, sections, self.owner if is_tag else owner)


def full_form(annotation: Any, value: Any) -> Any:
    """Return the full form of a short one; anything else as it is."""
    bare, choice = _bare(annotation)
    if choice is not None:
        return choice.full(value)
    return bare.full(value) if isinstance(bare, type) and issubclass(bare, Section) else value


def sections_within(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that an annotation names, in their order."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield from annotation.variants()
    for argument in get_args(annotation):
        yield from sections_within(argument)


def _item(data: Any, part: str | int) -> Any:
    if isinstance(part, int):
        return data[part] if isinstance(data, (list, tuple)) and part < len(data) else None
    return data.get(part) if isinstance(data, Mapping) else None


def _bare(annotation: Any) -> tuple[Any, Choice | None]:
    """Return a type without what annotates it and without null, and the choice that annotates it."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        choice = next((item for item in metadata if isinstance(item, Choice)), None)
        return (inner, choice) if choice is not None else _bare(inner)
    members = [member for member in get_args(annotation) if member is not NoneType]
    is_optional = NoneType in get_args(annotation) and len(members) == 1
    return _bare(members[0]) if is_optional else (annotation, None)


def _sections_of(annotation: Any, value: Any) -> tuple[tuple[type[Section], ...], str]:
    """Return the sections that `value` may be validated as, and whose keys these are."""
    bare, choice = _bare(annotation)
    if choice is not None:
        try:
            tag, member = choice.pick(bare, value)
        except PydanticCustomError:
            pass
        else:
            return tuple(sections_within(member)), f" of {choice.noun} '{tag}'" if tag else ""
    return tuple(sections_within(bare)), ""
