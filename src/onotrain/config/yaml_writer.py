"""Plain data -> YAML that people can read and `yaml_reader` reads back unchanged."""

from __future__ import annotations

from typing import Any

import yaml

from onotrain.config.yaml_reader import resolve_plain


class _Block(dict[str, Any]):
    """A mapping that is written with one key per line."""


class _Dumper(yaml.SafeDumper):
    """PyYAML follows YAML 1.1: words that are numbers to YAML 1.2 (such as ``1e-3``) need quotes here."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if resolve_plain(text) == text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(
    _Block, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=False)
)


def write_yaml(data: dict[str, Any]) -> str:
    """Return `data` as YAML: sections in blocks, what is within them in one line where it fits."""
    blocks = _Block({key: _Block(value) if isinstance(value, dict) else value for key, value in data.items()})
    return yaml.dump(blocks, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
