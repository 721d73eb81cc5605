"""YAML text -> plain data, and where in the text every key and value stands.

The text is hostile until proven otherwise, so that only what a configuration needs is read: one document of
mappings, whose keys are words or whole numbers (read as words), sequences and scalars.  There are no anchors, aliases,
tags or duplicate keys, and scalars follow the core schema of YAML 1.2: ``1e-3`` is a number and ``no`` is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
#: Enough for a mean and a standard deviation of every feature; keeps hostile text from taking long.
MAX_VALUES = 100_000
_MAX_MESSAGE = 200

Path = tuple[str | int, ...]


class Position(NamedTuple):
    """Line and column, both counted from 1."""

    line: int
    column: int


class YamlError(Exception):
    """Text that is not YAML, or not the part of it that is read."""

    def __init__(self, text: str, position: Position | None = None) -> None:
        super().__init__(text)
        self.text = text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."
        self.position = position


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None), and the positions of its parts by their path."""

    data: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)


_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE = {"true", "True", "TRUE"}
_FALSE = {"false", "False", "FALSE"}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_NAN = {".nan", ".NaN", ".NAN"}


def resolve_plain(text: str) -> Any:
    """Return what an unquoted scalar means in the core schema of YAML 1.2."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if len(text) <= 400:  # longer digit strings are neither useful numbers nor cheap to convert
        for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
            if pattern.fullmatch(text):
                return int(text, base)
        if _FLOAT.fullmatch(text):
            return float(text)
    if _INFINITE.fullmatch(text) or text in _NAN:
        return float(text.replace(".", ""))
    return text


def read_yaml(source: bytes | str) -> Document:
    """Read one YAML document.

    Parameters
    ----------
    source
        At most 1 MiB of UTF-8.

    Raises
    ------
    YamlError
        If it is too large or nested too deep, not UTF-8, not YAML, or uses what is not allowed.
    """
    data = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
    if len(data) > MAX_BYTES:
        raise YamlError(f"too large (got more than {MAX_BYTES} bytes)")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        position = Position(before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        raise YamlError(f"not UTF-8 (got byte 0x{data[error.start]:02x})", position) from None
    builder = _Builder()
    for event in _events(text):
        builder.add(event)
    return builder.document


def _events(text: str) -> Iterator[yaml.Event]:
    """Yield the events of PyYAML, and its errors as ours."""
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        position = Position(before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
        raise YamlError(f"character that YAML does not allow (got U+{_code(error.character):04X})", position) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = f"{error.problem} {error.context or ''}".rstrip()
        if r"character '\t'" in said:
            said = "a tab (YAML is indented with spaces)"
        raise YamlError(f"not YAML: {said}", _position(mark) if mark else None) from None
    except (ValueError, OverflowError) as error:  # PyYAML converts escapes such as "\Uffffffff" unchecked
        raise YamlError(f"not YAML: {error}") from None


def _code(character: str | int) -> int:
    return ord(character) if isinstance(character, str) else character


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


@dataclass
class _Open:
    """A mapping or sequence that is being read."""

    data: dict[str, Any] | list[Any]
    path: Path
    key: str | None = None


class _Builder:
    """Builds the document, event by event, without recursion."""

    def __init__(self) -> None:
        self.document = Document()
        self._open: list[_Open] = []
        self._documents = 0

    def add(self, event: yaml.Event) -> None:
        """Take in the next event."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise YamlError("more than one document; only one is allowed", _position(event.start_mark))
        elif isinstance(event, yaml.NodeEvent):
            self._refuse(event)
            self._node(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._open.pop()

    @staticmethod
    def _refuse(event: yaml.NodeEvent) -> None:
        position = _position(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            raise YamlError(f"aliases are not allowed (got *{event.anchor})", position)
        if event.anchor is not None:
            raise YamlError(f"anchors are not allowed (got &{event.anchor})", position)
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise YamlError(f"tags are not allowed (got {tag})", position)

    def _node(self, event: yaml.NodeEvent) -> None:
        position = _position(event.start_mark)
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.data, dict) and parent.key is None:
            self._key(parent, event, position)
            return
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = resolve_plain(event.value) if event.style is None else event.value
        else:
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = self._place(parent, value)
        if len(self.document.values) >= MAX_VALUES:
            raise YamlError(f"more than {MAX_VALUES} values", position)
        self.document.values[path] = position
        if not isinstance(event, yaml.ScalarEvent):
            if len(self._open) >= MAX_DEPTH:
                raise YamlError(f"nested more than {MAX_DEPTH} deep", position)
            self._open.append(_Open(value, path))

    def _place(self, parent: _Open | None, value: Any) -> Path:
        if parent is None:
            self.document.data = value
            return ()
        if isinstance(parent.data, list):
            parent.data.append(value)
            return (*parent.path, len(parent.data) - 1)
        key = str(parent.key)
        parent.data[key] = value
        parent.key = None
        return (*parent.path, key)

    def _key(self, parent: _Open, event: yaml.NodeEvent, position: Position) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise YamlError("a key must be a word (got a mapping or a list)", position)
        key = resolve_plain(event.value) if event.style is None else event.value
        if isinstance(key, int) and not isinstance(key, bool):
            key = str(key)  # of a rank
        if not isinstance(key, str):
            raise YamlError(f"a key must be a word (got {event.value or 'nothing'})", position)
        if key in parent.data:
            first = self.document.keys[(*parent.path, key)]
            raise YamlError(f"duplicate key {key!r}; the first one is in line {first.line}", position)
        parent.key = key
        self.document.keys[(*parent.path, key)] = position
