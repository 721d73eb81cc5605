"""What is wrong with a configuration, in words and with the place where it is written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from onotrain.config.base import Section
from onotrain.config.scope import Scope, is_mark, keys_within
from onotrain.config.yaml_reader import Path

#: More than anybody reads at once.
MAX_PROBLEMS = 100
_GOT_LENGTH = 60

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

#: Names that other tools use, too far from ours to be found by their letters.
_ALIASES = {
    "lr": "learning_rate",
    "l2": "weight_decay",
    "wd": "weight_decay",
    "size": "units",
    "p": "rate",
    "lr_scheduler": "schedule",
}


class Finding(NamedTuple):
    """One problem, and the path of keys and indices of the place that it is about."""

    path: Path
    text: str
    is_key: bool = False


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return the nearest of the known names, or the list of them if none is near."""
    names = list(known)
    near = nearest(name, names)
    return f"expected {any_of(names)}" if near is None else f"did you mean {near!r}?"


def nearest(name: Any, known: Sequence[str]) -> str | None:
    """Return the known name that `name` is most likely a slip of, if any is near."""
    near = difflib.get_close_matches(str(name)[:_GOT_LENGTH].lower(), known, n=1, cutoff=0.6)
    return near[0] if near else None


def any_of(names: Sequence[str], conjunction: str = "or") -> str:
    """Return names as a sentence lists them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {conjunction} {names[-1]}"


def show(value: Any) -> str:
    """Return a value as it would be written in YAML, cut short if it is long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= _GOT_LENGTH else f"{text[:_GOT_LENGTH]}..."


def findings_of(error: ValidationError, root: type[Section]) -> list[Finding]:
    """Return what pydantic found wrong, in words: at most `MAX_PROBLEMS` of it."""
    found: list[Finding] = []
    for item in error.errors(include_url=False)[:MAX_PROBLEMS]:
        found.extend(_translate(item, root))
    return found


def _translate(item: Mapping[str, Any], root: type[Section]) -> Iterable[Finding]:
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    location = item["loc"]
    # Marks of union members are no keys; but an unknown key may look like one.
    about_key = kind in ("extra_forbidden", "missing")
    marks = [is_mark(part) and not (about_key and index == len(location) - 1) for index, part in enumerate(location)]
    path = tuple(part for part, mark in zip(location, marks, strict=True) if not mark)
    if kind == "problems":
        return [Finding((*path, *problem.path), problem.text) for problem in context["problems"]]
    if kind == "extra_forbidden":
        return [Finding(path, _unknown_key(str(path[-1]), Scope.at(location[:-1], root), root), is_key=True)]
    if kind == "missing" and isinstance(path[-1], int):
        return [Finding(path[:-1], f"has too few entries ({_got(value)})")]
    if kind == "missing":
        return [Finding(path, f"required key{Scope.at(location[:-1], root).owner} is missing", is_key=True)]
    if kind.startswith(("choice_", "layer_")):
        return [_choice(kind, path, value, context)]
    return [Finding(path, _plain_text(kind, value, context))]


def _got(value: Any) -> str:
    return f"got {show(value)}"


def _plain_text(kind: str, value: Any, context: Mapping[str, Any]) -> str:
    got = f"({_got(value)})"
    if kind in _TYPES:
        return f"{_TYPES[kind]} {got}"
    if kind in _LIMITS:
        text, key = _LIMITS[kind]
        return f"{text.format(context[key] if isinstance(context[key], int) else format(context[key], 'g'))} {got}"
    if kind == "wrong_type":
        near = nearest(value, context.get("names", ())) if isinstance(value, str) else None
        if near is not None:
            return f"unknown name {got}; did you mean {near!r}?"
        return f"expected {context['expected']} {got}"
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        return (
            f"unknown name {got}; {did_you_mean(value, names)}"
            if isinstance(value, str)
            else f"must be {any_of(names)} {got}"
        )
    if kind == "too_long":
        return f"has too many entries ({_got(value)}, at most {context['max_length']})"
    if kind == "null_character":
        return f"must not have a null character {got}"
    if kind in ("empty_list", "string_too_short"):
        return "must not be empty"
    return f"is not valid {got}"


def _choice(kind: str, path: Path, value: Any, context: Mapping[str, Any]) -> Finding:
    noun, choices = context["noun"], context["choices"]
    if kind == "choice_missing":
        return Finding((*path, "name"), f"required key is missing; expected {any_of(choices)}", is_key=True)
    if kind == "choice_unknown":
        where = (*path, "name") if isinstance(value, Mapping) else path
        return Finding(where, f"unknown {noun} ({_got(context['name'])}); {did_you_mean(context['name'], choices)}")
    if kind == "layer_unknown":
        return Finding(
            (*path, context["name"]), f"unknown kind of layer; {did_you_mean(context['name'], choices)}", is_key=True
        )
    if kind == "layer_type":
        got = (
            f"{len(value)} keys: {', '.join(map(str, value))}" if isinstance(value, Mapping) and value else show(value)
        )
        return Finding(path, f"must be a mapping of one kind of layer to its options, such as 'dense: 10' (got {got})")
    return Finding(
        path, f"must be the name of one {noun} or a mapping with a name ({_got(value)}); expected {any_of(choices)}"
    )


def _unknown_key(key: str, scope: Scope, root: type[Section]) -> str:
    text = f"unknown key{scope.owner}"
    near = _ALIASES.get(key.lower()) or nearest(key, scope.keys)
    if near in scope.keys:
        return f"{text}; did you mean {near!r}?"
    homes = [name for name, field in root.model_fields.items() if key in keys_within(field.annotation)]
    if homes and not scope.owner:  # a key of another choice is no help where the choice is what is wrong
        return f"{text}; did you mean '{homes[0]}.{key}'?"
    return f"{text}; known {'keys are' if len(scope.keys) > 1 else 'key is'} {any_of(scope.keys, 'and')}"
