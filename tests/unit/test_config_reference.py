"""The documentation and the JSON schema are made from the models, and are in step with them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from onotrain.config import Config, json_schema, load_config, reference_tables
from onotrain.config.base import Section
from onotrain.config.reference import in_step, schema_text
from onotrain.config.schema_lookup import sections_within
from onotrain.errors import ConfigError

ROOT = Path(__file__).parents[2]
HINT = "run `python -m onotrain.config docs`"
SCHEMA = json_schema()


def test_documentation_is_in_step() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == in_step(page), HINT


def test_schema_file_is_in_step() -> None:
    assert (ROOT / "docs" / "config.schema.json").read_text(encoding="utf-8") == schema_text(), HINT


def all_sections(section: type[Section], known: dict[str, type[Section]] | None = None) -> dict[str, type[Section]]:
    known = {} if known is None else known
    if section.__name__ not in known:
        known[section.__name__] = section
        for field in section.model_fields.values():
            for inner in sections_within(field.annotation):
                all_sections(inner, known)
    return known


def test_every_key_is_described_and_in_a_table() -> None:
    tables = reference_tables()
    sections = all_sections(Config)
    assert len(sections) > 30
    for name, section in sections.items():
        for key, field in section.model_fields.items():
            assert field.description, f"{name}.{key}"
            assert re.search(rf"[`.\]]{key}`", tables), f"{name}.{key}"


def test_one_table_per_section() -> None:
    assert re.findall(r"^### `(\w+)`$", reference_tables(), re.MULTILINE) == list(Config.model_fields)
    for line in reference_tables().splitlines():
        assert not line.startswith("|") or len(re.findall(r"(?<!\\)\|", line)) == 5


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Check those keywords of JSON schema that ours uses."""
    if "$ref" in schema:
        return fits(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    if "anyOf" in schema and not any(fits(value, branch) for branch in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(value, branch) for branch in schema["oneOf"]) != 1:
        return False
    if "const" in schema and value != schema["const"] or "enum" in schema and value not in schema["enum"]:
        return False
    kinds = schema.get("type", [])
    if kinds and not any(is_kind(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return (
            all(fits(item, properties[key]) for key, item in value.items() if key in properties)
            and (schema.get("additionalProperties", True) or set(value) <= set(properties))
            and set(schema.get("required", [])) <= set(value)
        )
    if isinstance(value, list):
        return all(fits(item, schema.get("items", {})) for item in value) and len(value) >= schema.get("minItems", 0)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value) and not (
            value <= schema.get("exclusiveMinimum", value - 1) or value >= schema.get("exclusiveMaximum", value + 1)
        )
    return True


def is_kind(value: Any, kind: str) -> bool:
    if isinstance(value, bool) or kind == "boolean":
        return isinstance(value, bool) and kind == "boolean"
    kinds: dict[str, Any] = {
        "integer": int, "number": (int, float), "string": str, "array": list, "object": dict, "null": type(None)
    }  # fmt: skip
    return isinstance(value, kinds[kind])


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_schema_accepts_what_is_accepted(path: Path) -> None:
    from onotrain.config.yaml_reader import read_yaml

    assert fits(read_yaml(path.read_bytes()).data, SCHEMA)
    assert fits(load_config(path).to_mapping(), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"lss": "mse"},
        {"loss": "foo"},
        {"loss": {"name": "mse", "delta": 1}},
        {"loss": {}},
        {"optimizer": {"name": "sgd", "eps": 1}},
        {"model": {"layers": [{"dens": 3}]}},
        {"model": {"layers": [{"dense": 0}]}},
        {"model": {"layers": [{"dropout": 1}]}},
        {"training": {"epochs": "1", "batch_size": 1}},
        {"training": {"epochs": 1}},
        {"checkpoint": {"keep": 1}},
        {"data": {"train": "a", "validation": 1}},
        {"data": {"train": "a", "normalize": "x"}},
        {"data": {"train": "a", "stream": 1}},
    ],
)
def test_schema_refuses_what_is_refused(change: dict[str, Any]) -> None:
    data = yaml.safe_load((ROOT / "configs" / "digits.yaml").read_text())
    data["optimizer"] = "adam"
    assert fits(data, SCHEMA)
    assert not fits({**data, **change}, SCHEMA)
    with pytest.raises(ConfigError):
        Config.from_mapping({**data, **change})


def test_schema_is_plain_json() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
