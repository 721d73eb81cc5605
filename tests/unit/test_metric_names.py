"""Lists of metrics on the command line."""

from __future__ import annotations

import pytest

from onotrain.cli.samples import names_in
from onotrain.config.metrics import Name, mode_of, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy,f1", ["accuracy", "f1"]),
        (" f1[a, b] , recall[c],", ["f1[a, b]", "recall[c]"]),
        ("weighted_f1[x]", ["weighted_f1[x]"]),
    ],
)
def test_a_comma_in_brackets_is_part_of_a_name(text: str, expected: list[str]) -> None:
    assert names_in(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f1", Name("f1")),
        ("weighted_f1[a[0], b]", Name("f1", True, "a[0], b")),
        ("f1_weighted", Name("f1_weighted")),
        ("weighted_top_3", Name("top_k", True, None, 3)),
        ("weighted_roc_auc", Name("roc_auc", True)),
        ("top_k", None),
        ("top_0", None),
        ("mcc[a]", None),
        ("f1[]", None),
        ("f1_micro[a]", None),
        ("fl", None),
    ],
)
def test_names_are_taken_apart(text: str, expected: Name | None) -> None:
    assert parse(text) == expected


def test_directions() -> None:
    assert mode_of("validation_weighted_f1[a]") == mode_of("validation_r2[height]") == "max"
    assert mode_of("validation_weighted_brier") == mode_of("validation_rmse[height]") == "min"
