"""What tells a run from others of the same network and data, in words: strategy, codec, and what is simulated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onotrain.config.base import Section
from onotrain.config.schema import Config
from onotrain.config.simulate import Simulate


def method_of(config: Config) -> str:
    """Return it with all options that are not the default ones.

    As ``parameter_server (servers 2, staleness unbounded), codec int8; SIMULATED: delay_ms 2.0``.
    """
    words = _named(config.strategy)
    codec = config.communication.codec
    words += f", codec {_named(codec)}" if codec.name != "none" else ""
    if config.training.load_balance != "none":
        words += f", load balance {config.training.load_balance}"
    simulated = "" if config.simulate is None else _listed(config.simulate, Simulate.model_validate({}))
    return words + (f"; SIMULATED: {simulated}" if simulated else "")


def _named(section: Any) -> str:
    """Return the name of a section that has one, and its options."""
    needed = {key: getattr(section, key) for key, field in type(section).model_fields.items() if field.is_required()}
    options = _listed(section, type(section).model_validate(needed))
    return f"{section.name} ({options})" if options else str(section.name)


def _listed(section: Section, usual: Section) -> str:
    return ", ".join(_differing(section, usual))


def _differing(section: Section, usual: Section, prefix: str = "") -> Iterator[str]:
    """Yield options with other values than the usual ones."""
    for key, field in type(section).model_fields.items():
        value, before = getattr(section, key), getattr(usual, key, None)
        if key == "name" or (value == before and not field.is_required()):
            continue
        if isinstance(value, Section) and hasattr(value, "name") and value.name != getattr(before, "name", None):
            yield f"{prefix}{key} {_named(value)}"
        elif isinstance(value, Section) and isinstance(before, type(value)):
            yield from _differing(value, before, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key} {_shown(value)}"


def _shown(value: Any) -> str:
    """Return a value without the signs of a program."""
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} {_shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
