"""Finding the section of the schema that a location in pydantic's error stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, get_args

from onotrain.config.base import Section


class Scope(NamedTuple):
    """A section of the schema, and how messages name it.

    Attributes
    ----------
    keys
        Keys that it knows.
    owner
        `` of optimizer 'sgd'`` where the keys depend on a name, else empty.
    """

    keys: tuple[str, ...]
    owner: str = ""

    @classmethod
    def at(cls, location: Sequence[str | int], root: type[Section]) -> Scope:
        """Follow a location of pydantic (keys, indices and marks of union members) down from `root`."""
        candidates: list[type[Section]] = [root]
        owner, key = "", ""
        for part in location:
            if isinstance(part, int):
                continue
            if is_mark(part):
                chosen = [section for section in candidates if part[1:-1] in section.tags()]
                if chosen:
                    candidates, owner = chosen, f" of {key.removesuffix('s')} '{part[1:-1]}'"
            elif len(candidates) == 1 and part in candidates[0].model_fields:
                if part not in candidates[0].tags():  # below a layer's kind its owner stays
                    owner = ""
                candidates, key = list(sections_within(candidates[0].model_fields[part].annotation)), part
        return cls(tuple(dict.fromkeys(key for section in candidates for key in section.model_fields)), owner)


def is_mark(part: str | int) -> bool:
    """Tell whether a part of a location is the mark that `tag_of` makes."""
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def sections_within(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that an annotation names, in their order."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield from annotation.variants()
    for argument in get_args(annotation):
        yield from sections_within(argument)


def keys_within(annotation: Any) -> set[str]:
    """Return all keys of the sections that an annotation names."""
    return {key for section in sections_within(annotation) for key in section.model_fields}
