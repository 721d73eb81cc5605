"""What a user may write, and what becomes of it: YAML -> `Config`."""

from __future__ import annotations

from typing import Any

from onotrain.config.base import Problem, Section
from onotrain.config.csv_options import text_table_of
from onotrain.config.metrics import mode_of, top_k
from onotrain.config.options import LayerOptions, LossOptions, StrategyOptions
from onotrain.config.places import Places
from onotrain.config.schema import Config, load_config

__all__ = [
    "Config", "LayerOptions", "LossOptions", "Places", "Problem", "Section", "StrategyOptions", "json_schema",
    "load_config", "mode_of", "reference_tables", "text_table_of", "top_k",
]  # fmt: skip


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a configuration, for editors."""
    from onotrain.config import reference

    return reference.json_schema()


def reference_tables() -> str:
    """Return Markdown with one table per section: key, type, default, meaning."""
    from onotrain.config import reference

    return reference.reference_tables()
