"""A picture that a report shows: drawn once for the page, and once for print."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from onotrain.reporting.pictures import STYLE

#: Width of a column of a paper, and the usual height of a picture in it [inches].
COLUMN, HEIGHT = 3.4, 2.4
#: Stands for the colour of the page's text, whichever that is.
_INK = "#010203"
#: Formats of files, beside what is in the page.
FILE_FORMATS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Plot:
    """A picture, not yet drawn.

    Attributes
    ----------
    name
        Of its files.
    title
        Above it.
    caption
        What one sees, in a sentence or two.
    draw
        Draws on the axes that it is given.
    height
        In inches; the width is that of a column.
    square
        Whether both axes are as long as each other.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Any], None]
    height: float = HEIGHT

    def for_page(self) -> str:
        """Return SVG for a page of HTML, whose text has the colour and the fonts of the page."""
        import matplotlib

        ink: Any = {f"{what}.color": _INK for what in ("text", "xtick", "ytick")}
        ink |= {"axes.labelcolor": _INK, "axes.edgecolor": _INK, "axes.facecolor": "none"}
        with matplotlib.rc_context({**STYLE, **ink, "svg.fonttype": "none", "svg.hashsalt": self.name}):
            text = _saved(self._drawn(), "svg", transparent=True).decode()
        text = text[text.index("<svg") :].replace(_INK, "currentColor").replace("#000000", "currentColor")
        # Ids are those of the whole page.
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", text)
        text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
        text = re.sub(r"font: (\d)", r"font-family: inherit; font: \1", text)
        return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)

    def files(self) -> dict[str, bytes]:
        """Return the picture for print, by the kinds of `FILE_FORMATS`."""
        import matplotlib

        with matplotlib.rc_context({**STYLE, "svg.hashsalt": self.name}):
            figure = self._drawn()
            return {kind: _saved(figure, kind) for kind in FILE_FORMATS}

    def _drawn(self) -> Any:
        """Return a figure whose parts have their places."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(COLUMN, self.height), layout="constrained")
        self.draw(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # that of each format would take as long again
        return figure


def _saved(figure: Any, kind: str, **options: Any) -> bytes:
    """Return a figure as a file of a kind, the same whenever it is drawn."""
    content = BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[kind]
    figure.savefig(content, format=kind, metadata=undated, **options)
    return content.getvalue()
