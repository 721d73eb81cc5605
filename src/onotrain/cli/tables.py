"""Tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[str] = (), footer: bool = False
) -> Table:
    """Return a table whose first column and those named in `text` are text; the others are numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        show_edge=False, pad_edge=False, show_footer=footer,
    )  # fmt: skip
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 or column in text else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made
