"""``--set key.path=value``: changes to a configuration from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from onotrain.config.base import Section
from onotrain.config.schema_lookup import Scope, full_form
from onotrain.config.wording import show
from onotrain.config.yaml_reader import Path, YamlError, read_yaml

_MAX_DEPTH = 16
_MAX_SHOWN = 200


class Override(NamedTuple):
    """One change.

    Attributes
    ----------
    path
        Keys and indices down to the value.
    value
        Plain data.
    text
        As it was given.
    """

    path: Path
    value: Any
    text: str

    @property
    def shown(self) -> str:
        """The text, cut for messages."""
        return _shown(self.text)


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def apply_overrides(
    data: dict[str, Any], texts: Sequence[str], root: type[Section]
) -> tuple[list[Override], list[str]]:
    """Change `data` in place, one override after the other.

    Parameters
    ----------
    data
        The configuration as read.
    texts
        ``key.path=value`` with the value in YAML; a number in the path is the index of a list.
    root
        Section that the data are of, which says what short forms stand for.

    Returns
    -------
    overrides : list of Override
        What was changed.
    wrong : list of str
        A line for every override that cannot be read or applied.
    """
    overrides: list[Override] = []
    wrong: list[str] = []
    for text in texts:
        try:
            override = _parse(text, data, root)
            _apply(data, override, root)
            overrides.append(override)
        except _NotPossible as error:
            wrong.append(f"--set {_shown(text)}: {error}")
    return overrides, wrong


class _NotPossible(Exception):
    """An override that cannot be read or applied."""


def _parse(text: str, data: dict[str, Any], root: type[Section]) -> Override:
    """Split an override; a number in its path is an index where the data have a list.

    Lists on the way that are short for mappings are written out.
    """
    name, equals, value = text.partition("=")
    if not equals or not all(name.split(".")):
        raise _NotPossible("expected key.path=value, such as optimizer.learning_rate=1e-3")
    try:
        plain = read_yaml(value).data
    except YamlError as error:
        raise _NotPossible(f"value: {error.text}") from None
    path: list[str | int] = []
    for depth, part in enumerate(name.strip().split("."), start=1):
        if depth > _MAX_DEPTH:
            raise _NotPossible(f"path is more than {_MAX_DEPTH} keys deep")
        node = _node(data, path, part, root)
        path.append(_index(part, node) if isinstance(node, list) else part)
    return Override(tuple(path), plain, text)


def _node(data: Any, path: list[str | int], part: str, root: type[Section]) -> Any:
    """Return what stands at `path`, where `part` is looked for.

    A list that is short for a mapping is written out, and `path` gets the key of the list if `part` is an index of it.
    """
    node = _at(data, path)
    if not isinstance(node, list) and not part.isdigit():
        return node
    key = next(iter(full_form(Scope.at(path, root, data).annotation, [])), None)
    if key is not None and isinstance(node, list):
        _at(data, path[:-1])[path[-1]] = node = {key: node}
    if isinstance(node, dict) and isinstance(node.get(key), list) and part.isdigit():
        path.append(str(key))
        return node[key]
    return node


def _at(data: Any, path: Sequence[str | int]) -> Any:
    """Return what stands at a path; None if nothing does."""
    for part in path:
        data = data[int(part)] if isinstance(data, list) else data.get(part) if isinstance(data, dict) else None
    return data


def _index(part: str, items: list[Any]) -> int:
    if not (part.isascii() and part.isdigit()) or len(part) > 9 or int(part) >= len(items):
        range_ = f" (expected 0 to {len(items) - 1})" if items else ""
        raise _NotPossible(f"{part!r} is no index of a list of {len(items)}{range_}")
    return int(part)


def _apply(data: dict[str, Any], override: Override, root: type[Section]) -> None:
    """Set the value, with sections made and short forms written out on the way."""
    node: Any = data
    for depth, part in enumerate(override.path[:-1], start=1):
        child = node.get(part) if isinstance(node, dict) else node[part]
        if not isinstance(child, (dict, list)):
            path = override.path[:depth]
            child = node[part] = {} if child is None else _opened(child, path, Scope.at(path, root, data))
        node = child
    node[override.path[-1]] = override.value


def _opened(value: Any, path: Path, scope: Scope) -> dict[str, Any]:
    """Return the mapping that `value` at `path` is short for."""
    full = full_form(scope.annotation, value)
    if not isinstance(full, dict):
        raise _NotPossible(f"{'.'.join(map(str, path))} is {show(value)}, which has no keys")
    return full
