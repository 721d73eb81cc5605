"""Files, mappings and overrides -> a configuration, or one error that names everything that is wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from onotrain.config.base import Problem
from onotrain.config.messages import MAX_PROBLEMS, problems_of
from onotrain.config.overrides import apply_overrides
from onotrain.config.places import Places
from onotrain.config.root import Root
from onotrain.config.wording import any_of, show
from onotrain.config.yaml_reader import MAX_BYTES, MAX_DEPTH, YamlError, read_yaml
from onotrain.errors import ConfigError
from onotrain.files import open_regular
from onotrain.text import printable

_R = TypeVar("_R", bound=Root)

_HINT_FILE = "give the path of a YAML file; `onotrain init DATA` writes one"


def from_file(root: type[_R], path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> _R:
    """Return the configuration of class `root` in a file; see `onotrain.config.load_config`."""
    name = os.fspath(path)
    text = _read(name)
    try:
        document = read_yaml(text)
    except YamlError as error:
        where = f"{name}:{error.position.line}:{error.position.column}" if error.position else name
        raise ConfigError(printable(f"{where}: {error.text}")) from None
    if document.data is None:
        needed = [key for key, field in root.model_fields.items() if field.is_required()]
        raise ConfigError(f"{name}: empty; expected the sections {any_of(needed, 'and')}", hint=_HINT_FILE)
    if not isinstance(document.data, dict):
        position = document.values[()]
        raise ConfigError(
            f"{name}:{position.line}:{position.column}: must be a mapping of sections (got {show(document.data)})",
            hint="start with a section, such as 'data: {train: digits}'",
        )
    applied, wrong = apply_overrides(document.data, overrides, root)
    return _validated(root, document.data, Places(name, document.keys, document.values, applied), wrong)


def from_mapping(root: type[_R], mapping: Mapping[str, Any], places: Places) -> _R:
    """Return the configuration of class `root` of nested dicts and lists; see `Config.from_mapping`."""
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"a configuration must be a mapping of sections (got {show(mapping)})")
    return _validated(root, _plain(mapping, 0), places)


def _read(name: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            kind = "a directory" if FilePath(name).is_dir() else "not a regular file"
            raise ConfigError(f"{name}: is {kind}; expected a YAML file", hint=_HINT_FILE)
        with open_regular(name) as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file", hint=_HINT_FILE) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{name!r}: cannot be read: {reason}", hint=_HINT_FILE) from None


def _plain(value: Any, depth: int) -> Any:
    """Turn what Python users hand in into what YAML gives: dict, list, str, int, float, bool, None."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"the configuration is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, (str, int)) or isinstance(key, bool):  # whole numbers are words, as in YAML
                raise ConfigError(f"a key must be text (got {key!r})")
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)  # numbers of NumPy too


def _validated(root: type[_R], data: dict[str, Any], places: Places, wrong: Sequence[str] = ()) -> _R:
    """Return the configuration, or raise everything that is wrong, `wrong` included."""
    found: list[Problem] = []
    left_out = 0
    try:
        config = root.model_validate(data)
    except ValidationError as error:
        left_out = error.error_count() - MAX_PROBLEMS
        wrong_sections = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        found = problems_of(error, root, data) + _cross_problems(root, data, wrong_sections)
    lines = [*map(printable, places.lines(found)), *wrong]
    if left_out > 0:
        lines.append(f"and {left_out} more problems")
    if lines:
        raise ConfigError("\n".join(lines))
    resolved: _R = config.resolved()
    # Only layers find something wrong later, when they learn the shape of what they read.
    return resolved.placed(places.within("model"))


def _cross_problems(root: type[Root], data: dict[str, Any], wrong: set[str | int]) -> list[Problem]:
    """Check what is between those sections that are right, which pydantic does only if all are."""
    sections = {}
    for name, field in root.model_fields.items():
        if name not in wrong and (name in data or not field.is_required()):
            adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
            sections[name] = adapter.validate_python(data.get(name, field.default))
    return list(root.cross_problems(sections))
