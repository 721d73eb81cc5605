"""Names that several packages give a meaning to."""

from __future__ import annotations

import pytest

from onotrain.known_names import place_of


@pytest.mark.parametrize(
    ("name", "names", "place"),
    [
        ("b", ("a", "b"), 1),
        ("1", ("y[0]", "y[1]"), 1),
        ("1", ("1", "0"), 0),  # a name before a number
        ("2", ("y[0]", "y[1]"), None),
        ("-1", ("a", "b"), None),
        ("²", ("a", "b", "c"), None),
        ("c", ("a", "b"), None),
    ],
)
def test_outputs_are_meant_by_name_or_else_by_number(name: str, names: tuple[str, ...], place: int | None) -> None:
    assert place_of(name, names) == place
