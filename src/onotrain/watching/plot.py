"""A curve in characters: training as a line of dots, validation as circles, so that no colour is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onotrain.text import figure
from onotrain.watching.view import Curve, Points

#: A character of a line, of which parts have styles.
Span = tuple[str, str]
#: Dots of a character of braille, by column and row; U+2800 has none.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BRAILLE = 0x2800
#: An axis is logarithmic where the largest value is so many times the smallest.
_LOGARITHMIC = 100.0


def plot(
    curve: Curve, switches: Sequence[tuple[int, str]], columns: int, rows: int, *, ascii_only: bool = False
) -> list[list[Span]]:
    """Return a curve as lines of at most `columns` characters: a title, `rows` of it, and the ends of the axis.

    Switches of strategies are vertical lines.  `ascii_only`: dots are stars.
    """
    values = [y for points in (curve.train, curve.validation) for _, y in points]
    places = [x for points in (curve.train, curve.validation) for x, _ in points]
    title = [
        (f"{curve.title}  ", "bold"),
        *_legend(curve, columns - len(curve.title) - 2, "*" if ascii_only else "\N{BULLET}"),
    ]
    if not values:
        return [title]
    low, high, first, last = min(values), max(values), min(places), max(places)
    logarithmic = low > 0 and high > _LOGARITHMIC * low
    labels = {0: figure(high), rows - 1: figure(low)}
    indent = max(map(len, labels.values())) + 1
    width = columns - indent
    canvas = _Canvas(width, rows, (first, last), (low, high), logarithmic=logarithmic)
    for step, _ in switches:
        canvas.mark(step, "|")
    canvas.line(curve.train, "*" if ascii_only else "")
    canvas.circles(curve.validation)
    lines = [[(f"{labels.get(row, ''):>{indent - 1}} ", "dim"), *canvas.row(row)] for row in range(rows)]
    left, right = f"{first:,.0f}", f"step {last:,.0f}" + (", log" if logarithmic else "")
    axis = left + right.rjust(max(1, width - len(left))) if len(left) + len(right) < width else right
    return [title, *lines, [(" " * indent + axis, "dim")]]


def _legend(curve: Curve, columns: int, dot: str) -> list[Span]:
    """Return the newest values, with the sign and, where there is place for it, the name of each line."""
    signs = {"train": dot, "validation": "o"}
    texts: dict[str, str] = {}
    for named in (True, False):
        texts = {
            name: f"{signs[name]} {f'{name} ' if named else ''}{figure(value)}  " for name, value in curve.last.items()
        }
        if sum(map(len, texts.values())) <= columns + 2:
            break
    return [(text, name) for name, text in texts.items()]


class _Canvas:
    """Characters of a picture, each with its style.

    Parameters
    ----------
    width, height
        Characters.
    x, y
        The ends of the axes.
    """

    def __init__(
        self, width: int, height: int, x: tuple[float, float], y: tuple[float, float], *, logarithmic: bool
    ) -> None:
        self._width, self._height, self._x = width, height, x
        self._logarithmic = logarithmic
        self._y = self._scaled(y[0]), self._scaled(y[1])
        self._dots = np.zeros((height, width), np.int64)
        self._over: dict[tuple[int, int], Span] = {}
        self._sign = ""

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._logarithmic else value

    def _place(self, value: float, ends: tuple[float, float], cells: int) -> int:
        begin, end = ends
        share = (value - begin) / (end - begin) if end > begin else 0.5
        return min(cells - 1, max(0, round(share * (cells - 1))))

    def line(self, points: Points, sign: str) -> None:
        """Draw a line through points, of dots of a quarter of a row; a `sign` stands for characters with dots."""
        self._sign = sign
        if not points:
            return
        xs, ys = np.array(sorted(points)).T
        columns = 2 * self._width
        begin, end = (self._place(x, self._x, columns) for x in (xs[0], xs[-1]))
        at = np.linspace(xs[0], xs[-1], end - begin + 1)
        heights = [self._place(self._scaled(y), self._y, 4 * self._height) for y in np.interp(at, xs, ys)]
        before = heights[0]
        for column, height in enumerate(heights, begin):
            for each in range(min(before, height), max(before, height) + 1):
                row, part = divmod(4 * self._height - 1 - each, 4)
                self._dots[row, column // 2] |= _DOTS[column % 2][part]
            before = height

    def circles(self, points: Points) -> None:
        """Draw a circle for each point."""
        for x, y in points:
            row = self._height - 1 - self._place(self._scaled(y), self._y, self._height)
            self._over[row, self._place(x, self._x, self._width)] = "o", "validation"

    def mark(self, x: float, sign: str) -> None:
        """Draw a vertical line."""
        if self._x[0] <= x <= self._x[1]:
            for row in range(self._height):
                self._over[row, self._place(x, self._x, self._width)] = sign, "dim"

    def row(self, row: int) -> list[Span]:
        """Return a row of the picture."""
        spans: list[Span] = []
        for column in range(self._width):
            dots = int(self._dots[row, column])
            drawn = (self._sign or chr(_BRAILLE + dots), "train") if dots else (" ", "")
            text, style = self._over.get((row, column), drawn)
            if spans and spans[-1][1] == style:
                spans[-1] = spans[-1][0] + text, style
            else:
                spans.append((text, style))
        return spans
