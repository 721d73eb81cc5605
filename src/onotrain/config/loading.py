"""Files, mappings and overrides -> `Config`, or one error that names everything that is wrong."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path as FilePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from onotrain.config.messages import MAX_PROBLEMS, Finding, findings_of, show
from onotrain.config.overrides import Override, apply_overrides
from onotrain.config.schema import Config, cross_problems, with_resolved_metrics
from onotrain.config.yaml_reader import MAX_BYTES, MAX_DEPTH, Document, Path, Position, YamlError, read_yaml
from onotrain.errors import ConfigError

_HINT_FILE = "give the path of a YAML file; `onotrain init DATA` writes one"


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file.

    Parameters
    ----------
    path
        YAML: at most 1 MiB, UTF-8, without anchors, aliases, tags and duplicate keys.
    overrides
        Changes ``key.path=value``; the value is YAML, a number in the path the index of a list.

    Raises
    ------
    ConfigError
        With one line, ``file:line:column: key.path: what is wrong (got ...); did you mean ...``, for everything that is
        wrong, in the order of the file.
    """
    name = os.fspath(path)
    text = _read(name)
    try:
        document = read_yaml(text)
    except YamlError as error:
        where = f"{name}:{error.position.line}:{error.position.column}" if error.position else name
        raise ConfigError(f"{where}: {error.text}") from None
    if document.data is None:
        raise ConfigError(f"{name}: empty; expected the sections data, model, loss and training", hint=_HINT_FILE)
    if not isinstance(document.data, dict):
        position = document.values[()]
        raise ConfigError(
            f"{name}:{position.line}:{position.column}: must be a mapping of sections (got {show(document.data)})",
            hint="start with a section, such as 'data: {train: digits}'",
        )
    applied, wrong = apply_overrides(document.data, overrides)
    return _validated(document.data, _Places(name, document, applied), wrong)


def config_from_mapping(mapping: Mapping[str, Any]) -> Config:
    """Return the configuration of nested dicts and lists; see `Config.from_mapping`."""
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"a configuration must be a mapping of sections (got {show(mapping)})")
    return _validated(_plain(mapping, 0), _Places(None, Document(), []))


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


def _validated(data: dict[str, Any], places: _Places, wrong: Sequence[str] = ()) -> Config:
    """Return the configuration, or raise everything that is wrong, `wrong` included."""
    found: list[Finding] = []
    left_out = 0
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        left_out = error.error_count() - MAX_PROBLEMS
        wrong_sections = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        found = findings_of(error, Config) + _cross_findings(data, wrong_sections)
    lines = [*places.lines(found), *wrong]
    if left_out > 0:
        lines.append(f"and {left_out} more problems")
    if lines:
        raise ConfigError("\n".join(lines))
    return with_resolved_metrics(config)


def _cross_findings(data: dict[str, Any], wrong: set[str | int]) -> list[Finding]:
    """Check what is between those sections that are right, which pydantic does only if all are."""
    sections = {}
    for name, field in Config.model_fields.items():
        if name not in wrong and (name in data or not field.is_required()):
            adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
            sections[name] = adapter.validate_python(data.get(name, field.default))
    return [Finding(*problem) for problem in cross_problems(sections)]


class _Places:
    """Where the parts of a configuration are written: in a file, on the command line, or nowhere."""

    def __init__(self, name: str | None, document: Document, overrides: Sequence[Override]) -> None:
        self._name = name
        self._document = document
        self._overrides = overrides

    def lines(self, found: Iterable[Finding]) -> list[str]:
        """Return one line for each finding, in the order of the file, overrides last."""
        placed = [(self._place(finding), finding) for finding in found]
        placed.sort(key=lambda pair: pair[0][0])
        return list(dict.fromkeys(f"{prefix}{finding.text}" for (_, prefix), finding in placed))

    def _place(self, finding: Finding) -> tuple[tuple[int, int, int], str]:
        """Return what to sort by, and what to write in front."""
        key = _key_path(finding.path)
        override = self._override_of(finding)
        if override is not None:
            number, change = override
            prefix = f"--set {change.shown}: "
            return (1, number, 0), prefix if finding.path == change.path else f"{prefix}{key}: "
        if self._name is None:
            return (0, 0, 0), f"{key}: "
        position = self._position(finding)
        return (0, position.line, position.column), f"{self._name}:{position.line}:{position.column}: {key}: "

    def _override_of(self, finding: Finding) -> tuple[int, Override] | None:
        """Return the last override that wrote what the finding is about, or that is why a key is missing."""
        path = finding.path
        known = self._known(path)
        made = path[: len(known) + 1] if known != path else None  # a key that is not in the file
        for number, override in reversed(list(enumerate(self._overrides))):
            wrote = path[: len(override.path)] == override.path
            chose = override.path == (*path[:-1], "name") and known != path
            opened = made is not None and override.path[: len(made)] == made
            if wrote or chose or opened:
                return number, override
        return None

    def _known(self, path: Path) -> Path:
        """Return the longest part of the path that is in the file."""
        length = next(
            length for length in range(len(path), -1, -1) if not length or path[:length] in self._document.values
        )
        return path[:length]

    def _position(self, finding: Finding) -> Position:
        known = self._known(finding.path)
        is_whole = known == finding.path
        if (finding.is_key or not is_whole) and known in self._document.keys:
            return self._document.keys[known]
        return self._document.values.get(known, Position(1, 1))


_WORD = re.compile(r"[\w-]{1,60}")


def _key_path(path: Path) -> str:
    """Return the path as ``--set`` takes it; odd keys quoted and cut."""
    return ".".join(str(part) if _WORD.fullmatch(str(part)) else repr(str(part)[:60]) for part in path)
