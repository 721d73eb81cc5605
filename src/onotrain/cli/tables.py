"""Tables that are whole at any width: names are cut and columns left out, and no number is ever broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onotrain.text import cut, cut_apart, cut_between_words, printable, width_of, wrapped

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

#: Characters between two columns.
_GAP = 2
#: What a column of text is cut to before others are left out, and at last [characters].
_SHORT, _SHORTEST = 16, 6
#: By how much longer than the names of the first column other texts are left.
_PREFERRED = 16


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[str] = (),
    footer: Sequence[str] = (), least: Sequence[str] = (), strong: Sequence[tuple[int, int]] = (),
    optional: Sequence[str] = (),
) -> FittedTable:  # fmt: skip
    """Return a table.

    Parameters
    ----------
    title
        Above it; empty: none.
    columns, rows
        Headings and cells.
    text
        Columns that are text beside the first one; the others are numbers, but for bars under an empty heading.
    footer
        A last row under a line.
    least
        Columns that are left out where there is no place for them, the least important first.  The rest follows from
        the last column on; the first one stays.
    strong
        Cells (row, column) that are printed bold.
    optional
        Columns that are only there where any of their cells is not empty.
    """
    columns, rows = [printable(name) for name in columns], [[printable(cell) for cell in row] for row in rows]
    kept = [k for k, name in enumerate(columns) if name not in optional or any(row[k] for row in rows)]
    if len(kept) < len(columns):
        columns, rows = [columns[k] for k in kept], [[row[k] for k in kept] for row in rows]
    return FittedTable(title, tuple(columns), rows, {columns[0], *text}, footer, tuple(least), frozenset(strong))


@dataclass
class FittedTable:
    """A table that fits itself to the width it is printed at; see `table`."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    text: set[str]
    footer: Sequence[str] = ()
    least: tuple[str, ...] = ()
    strong: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        """Yield the table, and a line that names what was left out."""
        from rich.text import Text

        kept, widths = self._fitted(options.max_width)
        if self.title:
            yield Text(wrapped(self.title, options.max_width), style="bold", no_wrap=True)
        yield self._made(kept, widths)
        missing = [name for number, name in enumerate(self.columns) if number not in kept and name]
        if missing:
            said = wrapped(f"(too narrow for: {', '.join(missing)})", options.max_width, 1)
            yield Text(said, style="dim", no_wrap=True)

    def _fitted(self, width: int) -> tuple[list[int], list[int]]:
        """Return the columns that are shown, and the width of each."""
        natural = [max(width_of(name), self._widest(k)) for k, name in enumerate(self.columns)]
        order = [self.columns.index(name) for name in self.least if name in self.columns]
        order += [number for number in reversed(range(1, len(self.columns))) if number not in order]
        kept = list(range(len(self.columns)))
        while True:
            for smallest in (_SHORT, _SHORTEST) if not order else (_SHORT,):
                widths = self._narrowed(natural, kept, width, smallest)
                if _total(widths, kept) <= width:
                    return kept, widths
            if not order:
                return kept, widths
            kept.remove(order.pop(0))

    def _narrowed(self, natural: Sequence[int], kept: Sequence[int], width: int, smallest: int) -> list[int]:
        """Return widths with the longest names cut, as far as they have to be, and no number.

        Texts are cut down to `smallest`, headings of numbers down to `_SHORT`.
        """
        widths, least = list(natural), {}
        for k in kept:
            heading = min(len(self.columns[k]), smallest if self.columns[k] in self.text else _SHORT)
            least[k] = max(heading, min(smallest, widths[k]) if self.columns[k] in self.text else self._widest(k))
        while _total(widths, kept) > width and least:
            longest = max(least, key=lambda k: widths[k] - (_PREFERRED if k else 0))
            if widths[longest] <= least[longest]:
                del least[longest]
            else:
                widths[longest] -= 1
        return widths

    def _widest(self, number: int) -> int:
        """Return the characters of the longest cell of a column."""
        footer = [width_of(self.footer[number])] if self.footer else []
        return max([*(width_of(row[number]) for row in self.rows), *footer], default=0)

    def _made(self, kept: Sequence[int], widths: Sequence[int]) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        made = Table(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True,
            show_footer=bool(self.footer),
        )  # fmt: skip
        cells = []
        for number in kept:
            name, is_text = self.columns[number], self.columns[number] in self.text
            column = [row[number] for row in self.rows]
            shown = column
            if is_text:
                names = number == 0 or not any(" " in cell for cell in column)
                width = widths[number]
                shown = cut_apart(column, width) if names else [cut_between_words(cell, width) for cell in column]
            cells.append(
                [Text(cell, style="bold" if (row, number) in self.strong else "") for row, cell in enumerate(shown)]
            )
            foot = self.footer[number] if self.footer else ""
            made.add_column(
                Text(cut(name, widths[number])),
                Text(foot),
                justify="left" if is_text or not name else "right",
                no_wrap=True,
            )
        for row in zip(*cells, strict=True):
            made.add_row(*row)
        return made


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[k] for k in kept) + _GAP * (len(kept) - 1)
