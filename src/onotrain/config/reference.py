"""The schema for people (tables in Markdown) and for editors (JSON schema), both from the models themselves."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from onotrain.config.base import MAX_COUNT, Section
from onotrain.config.choices import OneOf
from onotrain.config.layers import LAYER_KINDS, LayerSpec
from onotrain.config.schema import Config

_PLAIN_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
_SIGNS = ((Gt, "gt", ">"), (Ge, "ge", "≥"), (Lt, "lt", "<"), (Le, "le", "≤"))


#: Line of the documentation behind which everything is generated.
TABLES_MARK = "<!-- Generated from here on by `python -m onotrain.config docs`. -->"


#: Longest line of text outside of tables.
_WIDTH = 100


class _Row(NamedTuple):
    key: str
    type: str
    default: str
    meaning: str


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a configuration, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "onotrain configuration"}


def reference_tables() -> str:
    """Return Markdown with a table per section, and where members of a choice have sections within, one per member."""
    parts = []
    for name, field in Config.model_fields.items():
        default = "" if field.is_required() else f" Default: {_default(field)}."
        parts.append(f"### `{name}`\n\n{fill(f'{field.description}{default}', _WIDTH)}")
        classes = _members(field.annotation)
        if len(classes) == 1:
            parts.append(_table(_rows_of(classes[0], "")))
        elif any(_members(inner.annotation) for cls in classes for inner in cls.model_fields.values()):
            for cls in classes:
                text = fill(str(cls.model_fields["name"].description), _WIDTH)
                parts.append(f"#### `{name}: {' | '.join(cls.tags())}`\n\n{text}")
                rows = list(_rows_of(cls, "", leave_out=("name",), elsewhere=classes))
                parts.append(_table(rows) if rows else "It has no keys besides `name`.")
        else:
            parts.append(_table(_choice_rows(classes, "")))
    return "\n\n".join(parts) + "\n"


def _table(rows: Iterable[_Row]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *lines])


def _rows_of(
    section: type[Section], prefix: str, leave_out: Iterable[str] = (), elsewhere: Iterable[type[Section]] = ()
) -> Iterator[_Row]:
    """Yield a row for each key, and below it those of the sections within; of such as are `elsewhere` what is other."""
    for key, field in section.model_fields.items():
        if key in leave_out:
            continue
        row = _Row(f"`{prefix}{key}`", _type(field), _default(field), str(field.description))
        inner = _members(field.annotation)
        if LayerSpec in _classes(field.annotation):
            yield row
            within = "[]" in prefix  # a layer that is made of layers
            for kind, options in () if within else LAYER_KINDS.items():
                short = f"short: `{kind}: <{options.short_key}>`" if options.short_key else f"short: `{kind}` alone"
                yield _Row(f"`{prefix}{key}[].{kind}`", "mapping", "", f"{_first_line(options)} ({short})")
                yield from _rows_of(options, f"{prefix}{key}[].{kind}.")
        elif len(inner) == 1:
            same = next((cls for cls in elsewhere if issubclass(inner[0], cls)), None)
            known = {} if same is None else {name: _default(other) for name, other in same.model_fields.items()}
            like = "" if same is None else f"  Its keys are those of `{same.tags()[0]}`."
            yield row._replace(meaning=row.meaning + like)
            alike = [name for name, other in inner[0].model_fields.items() if known.get(name) == _default(other)]
            yield from _rows_of(inner[0], f"{prefix}{key}.", leave_out=alike)
        else:
            yield row
            if inner and not field.is_required() and field.default is not None:
                yield from _choice_rows(inner, f"{prefix}{key}.")


def _choice_rows(classes: list[type[Section]], prefix: str) -> Iterator[_Row]:
    """Yield the names, then every key of any of them once, with those that have it."""
    names = "<br>".join(
        f"{', '.join(f'`{tag}`' for tag in cls.tags())}: {cls.model_fields['name'].description}" for cls in classes
    )
    yield _Row(f"`{prefix}name`", "name", "", names)
    rows: dict[_Row, dict[str, list[str]]] = {}
    for cls in classes:
        for row in _rows_of(cls, prefix, leave_out=("name",)):
            rows.setdefault(row._replace(default=""), {}).setdefault(row.default, []).extend(cls.tags())
    count = sum(len(cls.tags()) for cls in classes)
    for row, defaults in sorted(rows.items(), key=lambda item: sum(map(len, item[1].values())) < count):
        owners = [tag for tags in defaults.values() for tag in tags]
        only = "" if len(owners) == count else f"({', '.join(owners)}) "
        each = "; ".join(f"{default} ({', '.join(tags)})" for default, tags in defaults.items())
        yield row._replace(default=next(iter(defaults)) if len(defaults) == 1 else each, meaning=only + row.meaning)


def _first_line(section: type[Section]) -> str:
    return (section.__doc__ or "").split("\n")[0].rstrip(".")


def _classes(annotation: Any) -> list[type[Section]]:
    """Return the sections that an annotation names, layers not taken apart."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [cls for argument in get_args(annotation) for cls in _classes(argument)]


def _members(annotation: Any) -> list[type[Section]]:
    return [cls for cls in _classes(annotation) if cls is not LayerSpec]


def _default(field: FieldInfo) -> str:
    if field.is_required() or field.default is PydanticUndefined:
        return "required"
    return f"`{_yaml(field.default)}`"


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _type(field: FieldInfo) -> str:
    if any(isinstance(item, OneOf) for item in field.metadata):
        return "name or mapping"
    return _text(field.annotation, _limits(field.metadata))


def _text(annotation: Any, limits: str = "") -> str:
    """Return a type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if any(isinstance(item, OneOf) for item in arguments[1:]):
            return "layer" if arguments[0] is LayerSpec else "name or mapping"
        metadata = [inner for item in arguments[1:] for inner in getattr(item, "metadata", [item])]
        return _text(arguments[0], _limits(metadata))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_text(argument) for argument in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {_plural(_text(arguments[0]))}"
        return f"list of {len(arguments)} {_plural(_text(arguments[0]))}"
    if annotation in _PLAIN_TYPES:
        return _PLAIN_TYPES[annotation] + limits
    return "mapping"


def _plural(text: str) -> str:
    head, _, limits = text.partition(" ") if not text.startswith("whole") else ("whole number", "", text[13:])
    return text if head == "text" else f"{head}s {limits}".rstrip()


def _limits(metadata: Iterable[Any]) -> str:
    found = []
    for item in metadata:
        for cls, name, sign in _SIGNS:
            if isinstance(item, cls) and getattr(item, name) < MAX_COUNT:
                found.append(f"{sign} {getattr(item, name):g}")
    return f" {', '.join(found)}" if found else ""


def in_step(page: str) -> str:
    """Return a page of the documentation with its tables, which stand behind `TABLES_MARK`, made anew."""
    written, mark, _ = page.partition(TABLES_MARK)
    return f"{written}{mark}\n\n{reference_tables()}"


def schema_text() -> str:
    """Return the JSON schema as it is kept in the documentation."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def write_reference(docs: Path) -> None:
    """Bring ``configuration.md`` and ``config.schema.json`` in the folder `docs` in step with the models."""
    page = docs / "configuration.md"
    page.write_text(in_step(page.read_text(encoding="utf-8")), encoding="utf-8")
    (docs / "config.schema.json").write_text(schema_text(), encoding="utf-8")
