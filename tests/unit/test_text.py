"""Numbers, names and lines as people read them."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from onotrain.cli.evaluate_tables import Matrix
from onotrain.cli.tables import table
from onotrain.text import (
    cut,
    cut_apart,
    cut_between_words,
    cut_in_the_middle,
    figure,
    printable,
    quoted,
    with_unit,
    wrapped,
)


@pytest.mark.parametrize(
    ("value", "text", "short"),
    [
        (0.0, "0.0000", "0"),
        (0.123456, "0.12346", "0.12346"),
        (1.0, "1.0000", "1"),
        (1.5e-7, "1.5000e-07", "1.5e-07"),
        (1e6, "1.0000e+06", "1e+06"),
        (25372.2833, "25372", "25372"),
        (-123456.7, "-1.2346e+05", "-1.2346e+05"),
        (float("nan"), "nan", "nan"),
        (float("inf"), "inf", "inf"),
    ],
)
def test_a_figure_has_five_significant_digits(value: float, text: str, short: str) -> None:
    assert figure(value) == text and figure(value, short=True) == short


@pytest.mark.parametrize("text", ["384\u202f436", "a\xa0b", "1\u20092", "\u3000"])
def test_blanks_of_any_width_are_shown_as_they_are(text: str) -> None:
    assert printable(text) == text and quoted(text) == f"'{text}'"


@pytest.mark.parametrize(
    "text", ["", "a", "it's", 'a "b"', 'it\'s "b"', "C:\\u202f", "a\nb\t", "\x1b[1m", "\u200b", "ü"]
)
def test_what_moves_or_colours_is_escaped_as_python_does(text: str) -> None:
    assert quoted(text) == repr(text)


def test_names_are_cut_and_stay_apart() -> None:
    assert cut("temperature", 8) == "tempe..." and cut("short", 8) == "short"
    assert cut_in_the_middle("temperature_12", 9) == "tem..._12"
    assert cut_between_words("-1.5 to 2.5, sd 1.25, mean 0.5", 26) == "-1.5 to 2.5, sd 1.25, ..."
    assert cut_between_words("-1.2345 to 2.3456", 15) == "-1.2345 to ..." and cut_between_words("0.5", 3) == "0.5"
    assert cut_apart(["temperature_1", "temperature_2"], 8) == ["tem..._1", "tem..._2"]
    assert cut_apart(["temperature", "pressure_of"], 8) == ["tempe...", "press..."]
    assert [with_unit("p", unit) for unit in ("Pa", "", "1", None)] == ["p [Pa]", "p", "p", "p"]


def test_a_text_is_wrapped_between_words() -> None:
    text = "the strategy allreduce, kernels x86_64_v4 and a/very/long/path/that/is/no/word/to/be/broken"
    lines = wrapped(text, 30, 4, first="a   ").splitlines()
    assert lines[0].startswith("a   the strategy") and all(line.startswith("    ") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == "a   " + text
    assert all(len(line) <= 30 for line in lines if "path" not in line)
    assert wrapped(text, None) == text


def printed(renderable: object, width: int) -> list[str]:
    """Return the lines of something that is printed at a width."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]


NAMES = [f"a_rather_long_name_of_column_{number}" for number in range(3)]
NUMBERS = ["1.2345e-07", "123,456", "0.12345"]


@pytest.mark.parametrize("width", [100, 60, 40, 26])
def test_a_table_is_whole_at_any_width(width: int) -> None:
    rows = [[name, *NUMBERS, "some words that say more"] for name in NAMES]
    made = table("a title", ["name", "mae", "rmse", "r2", "values"], rows, text=["values"], least=["mae"])
    lines = printed(made, width)
    assert max(map(len, lines)) <= width
    shown = [line for line in lines if line.startswith("a_")]
    assert len(shown) == 3 and len(set(shown)) == 3
    left_out = "".join(re.findall(r"\(too narrow for: (.*?)\)", " ".join(lines)))
    for heading, number in zip(["mae", "rmse", "r2"], NUMBERS, strict=True):
        assert all((number in line) == (heading not in left_out) for line in shown)
    assert ("mae" in left_out) == (width <= 60) and ("r2" in left_out) == (width <= 26)


@pytest.mark.parametrize("width", [200, 80, 60])
def test_a_confusion_matrix_is_whole_at_any_width(width: int) -> None:
    classes = [f"class with a long name {number}" for number in range(12)]
    counts = [[1000 * row + column for column in range(12)] for row in range(12)]
    lines = printed(Matrix(classes, counts), width)
    assert max(map(len, lines)) <= width
    found = {int(number.replace(",", "")) for line in lines for number in re.findall(r"(?<=  )[\d,]+(?=  |$)", line)}
    assert found >= {value for row in counts for value in row}
    assert "too narrow" not in "".join(lines)
    assert len([line for line in lines if line.startswith("true \\ predicted")]) == {200: 1, 80: 2, 60: 3}[width]
