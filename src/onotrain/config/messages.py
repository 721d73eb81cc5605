"""What pydantic finds wrong with a configuration, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from onotrain.config.base import Problem, Section
from onotrain.config.schema_lookup import Scope, sections_within
from onotrain.config.wording import any_of, did_you_mean, got, nearest

#: More than anybody reads at once.
MAX_PROBLEMS = 100

_TYPES = {
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "none_required": "must be null",
}
_LIMITS = {
    "greater_than": ("must be greater than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be less than {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
}

#: Names that other tools use, too far from ours to be found by likeness.
_ALIASES = {
    "lr": "learning_rate",
    "l2": "weight_decay",
    "wd": "weight_decay",
    "size": "units",
    "p": "rate",
    "lr_scheduler": "schedule",
}


def problems_of(error: ValidationError, root: type[Section], data: Any) -> list[Problem]:
    """Return what pydantic found wrong with `data`: at most `MAX_PROBLEMS` of it, with paths from `root`."""
    found: list[Problem] = []
    for item in error.errors(include_url=False)[:MAX_PROBLEMS]:
        found.extend(_translate(item, root, data))
    return found


def _translate(item: Mapping[str, Any], root: type[Section], data: Any) -> Iterable[Problem]:
    kind, path, value, context = item["type"], item["loc"], item["input"], item.get("ctx", {})
    if kind == "problems":
        return [Problem((*path, *problem.path), *problem[1:]) for problem in context["problems"]]
    if kind == "extra_forbidden":
        return [Problem(path, _unknown_key(str(path[-1]), Scope.at(path[:-1], root, data), root), is_key=True)]
    if kind == "missing" and isinstance(path[-1], int):
        return [Problem(path[:-1], f"has too few entries {got(value)}")]
    if kind == "missing":
        return [Problem(path, f"required key{Scope.at(path[:-1], root, data).owner} is missing", is_key=True)]
    return [Problem(path, _plain_text(kind, value, context))]


def _plain_text(kind: str, value: Any, context: Mapping[str, Any]) -> str:
    if kind in _TYPES:
        return f"{_TYPES[kind]} {got(value)}"
    if kind in _LIMITS:
        text, key = _LIMITS[kind]
        limit = context[key] if isinstance(context[key], int) else format(context[key], "g")
        return f"{text.format(limit)} {got(value)}"
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        if isinstance(value, str):
            return f"unknown name {got(value)}; {did_you_mean(value, names)}"
        return f"must be {any_of(names)} {got(value)}"
    if kind == "too_long":
        return f"has too many entries {got(value)[:-1]}, at most {context['max_length']})"
    if kind == "string_too_short":
        return "must not be empty"
    return f"is not valid {got(value)}"


def _unknown_key(key: str, scope: Scope, root: type[Section]) -> str:
    text = f"unknown key{scope.owner}"
    if not scope.keys:
        return f"{text}; it has no keys"
    near = _ALIASES.get(key.lower()) or nearest(key, scope.keys)
    if near in scope.keys:
        return f"{text}; did you mean {near!r}?"
    homes = [name for name, field in root.model_fields.items() if key in _keys_within(field.annotation)]
    if homes and not scope.owner:  # a key of another choice is no help where the choice is what is wrong
        return f"{text}; did you mean '{homes[0]}.{key}'?"
    return f"{text}; known {'keys are' if len(scope.keys) > 1 else 'key is'} {any_of(scope.keys, 'and')}"


def _keys_within(annotation: Any) -> set[str]:
    return {key for section in sections_within(annotation) for key in section.model_fields}
