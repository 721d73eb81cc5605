"""With which configurations a run may go on."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest

import builders
from onotrain.errors import UsageError
from onotrain.training.run_writer import check_same_run

CONFIG = builders.config()
KEYS = [
    (section, key)
    for section, value in CONFIG.to_mapping().items()
    for key in (value if isinstance(value, dict) else [None])
]


def refusal(section: str, key: str | None) -> UsageError | None:
    """Return what is said to another value of one key of the run's configuration."""
    mapping = copy.deepcopy(CONFIG.to_mapping())
    inner, name = (mapping, section) if key is None else (mapping[section], key)
    inner[name] = "another"
    saved: Any = SimpleNamespace(to_mapping=lambda: mapping)
    try:
        check_same_run(CONFIG, saved)
    except UsageError as error:
        return error
    return None


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda part: part or "")
def test_what_may_change_is_what_the_hint_says(section: str, key: str | None) -> None:
    hint = refusal("loss", None)
    assert hint is not None and hint.hint is not None
    listed = hint.hint.rpartition("; ")[2].removesuffix(" may change").replace(" and ", ", ").split(", ")
    refused = refusal(section, key)
    assert (refused is None) == (section in listed or f"{section}.{key}" in listed)
    if refused is not None:
        assert refused.message.endswith(f" in {section}" if key is None else f" in {section}.{key}")
