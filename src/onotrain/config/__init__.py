"""What a user may write, and what becomes of it: YAML -> `Config`."""

from __future__ import annotations

from onotrain.config.base import Section
from onotrain.config.loading import load_config
from onotrain.config.metrics import mode_of, top_k
from onotrain.config.schema import Config

__all__ = ["Config", "Section", "load_config", "mode_of", "top_k"]
