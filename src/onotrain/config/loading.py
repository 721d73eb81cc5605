"""Files, mappings and overrides -> a configuration, or one error that names everything that is wrong."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from onotrain.config.base import Problem, Root
from onotrain.config.messages import MAX_PROBLEMS, problems_of
from onotrain.config.overrides import Override, apply_overrides
from onotrain.config.wording import any_of, show
from onotrain.config.yaml_reader import MAX_BYTES, MAX_DEPTH, Document, Path, Position, YamlError, read_yaml
from onotrain.errors import ConfigError

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
        raise ConfigError(f"{where}: {error.text}") from None
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
    return _validated(root, document.data, _Places(name, document, applied), wrong)


def from_mapping(root: type[_R], mapping: Mapping[str, Any]) -> _R:
    """Return the configuration of class `root` of nested dicts and lists; see `Config.from_mapping`."""
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"a configuration must be a mapping of sections (got {show(mapping)})")
    return _validated(root, _plain(mapping, 0), _Places(None, Document(), []))


def _read(name: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):  # opening a pipe could wait for ever
            kind = "a directory" if FilePath(name).is_dir() else "not a regular file"
            raise ConfigError(f"{name}: is {kind}; expected a YAML file", hint=_HINT_FILE)
        with open(name, "rb") as file:
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
            if not isinstance(key, str):
                raise ConfigError(f"a key must be text (got {key!r})")
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)  # numbers of NumPy too


def _validated(root: type[_R], data: dict[str, Any], places: _Places, wrong: Sequence[str] = ()) -> _R:
    """Return the configuration, or raise everything that is wrong, `wrong` included."""
    found: list[Problem] = []
    left_out = 0
    try:
        config = root.model_validate(data)
    except ValidationError as error:
        left_out = error.error_count() - MAX_PROBLEMS
        wrong_sections = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        found = problems_of(error, root, data) + _cross_problems(root, data, wrong_sections)
    lines = [*places.lines(found), *wrong]
    if left_out > 0:
        lines.append(f"and {left_out} more problems")
    if lines:
        raise ConfigError("\n".join(lines))
    resolved: _R = config.resolved()
    return resolved


def _cross_problems(root: type[Root], data: dict[str, Any], wrong: set[str | int]) -> list[Problem]:
    """Check what is between those sections that are right, which pydantic does only if all are."""
    sections = {}
    for name, field in root.model_fields.items():
        if name not in wrong and (name in data or not field.is_required()):
            adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
            sections[name] = adapter.validate_python(data.get(name, field.default))
    return list(root.cross_problems(sections))


class _Places:
    """Where the parts of a configuration are written: in a file, on the command line, or nowhere."""

    def __init__(self, name: str | None, document: Document, overrides: Sequence[Override]) -> None:
        self._name = name
        self._document = document
        self._overrides = overrides

    def lines(self, found: Iterable[Problem]) -> list[str]:
        """Return one line for each problem, in the order of the file, overrides last."""
        placed = [(self._place(problem), problem) for problem in found]
        placed.sort(key=lambda pair: pair[0][0])
        return list(dict.fromkeys(f"{prefix}{problem.text}" for (_, prefix), problem in placed))

    def _place(self, problem: Problem) -> tuple[tuple[int, int, int], str]:
        """Return what to sort by, and what to write in front."""
        problem = problem._replace(path=self._written(problem.path))
        key = _key_path(problem.path)
        override = self._override_of(problem)
        if override is not None:
            number, change = override
            prefix = f"--set {change.shown}: "
            whole = problem.path == self._written(change.path)
            return (1, number, 0), prefix if whole else f"{prefix}{key}: "
        if self._name is None:
            return (0, 0, 0), f"{key}: "
        position = self._position(problem)
        return (0, position.line, position.column), f"{self._name}:{position.line}:{position.column}: {key}: "

    def _override_of(self, problem: Problem) -> tuple[int, Override] | None:
        """Return the last override that wrote what the problem is about, or that is why a key is missing."""
        path = problem.path
        known = self._known(path)
        made = path[: len(known) + 1] if known != path else None  # a key that is not in the file
        for number, override in reversed(list(enumerate(self._overrides))):
            changed = self._written(override.path)
            wrote = path[: len(changed)] == changed
            chose = changed == (*path[:-1], "name") and known != path
            opened = made is not None and changed[: len(made)] == made
            if wrote or chose or opened:
                return number, override
        return None

    def _written(self, path: Path) -> Path:
        """Return a path without the keys that the file leaves out: a list may be short for a mapping with that list."""
        found: list[str | int] = []
        for part in path:
            is_short = isinstance(part, str) and (*found, 0) in self._document.values
            found += [] if is_short else [part]
        return tuple(found)

    def _known(self, path: Path) -> Path:
        """Return the longest part of the path that is in the file."""
        length = next(
            length for length in range(len(path), -1, -1) if not length or path[:length] in self._document.values
        )
        return path[:length]

    def _position(self, problem: Problem) -> Position:
        known = self._known(problem.path)
        is_whole = known == problem.path
        if (problem.is_key or not is_whole) and known in self._document.keys:
            return self._document.keys[known]
        return self._document.values.get(known, Position(1, 1))


_WORD = re.compile(r"[\w-]{1,60}")


def _key_path(path: Path) -> str:
    """Return the path as ``--set`` takes it; odd keys quoted and cut."""
    return ".".join(str(part) if _WORD.fullmatch(str(part)) else repr(str(part)[:60]) for part in path)
