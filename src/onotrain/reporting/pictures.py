"""What all pictures share: kinds of files, the look, fonts that journals take, and axes that show the whole range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from onotrain.errors import PlatformError, UsageError
from onotrain.files import write_atomically

FORMATS = (".png", ".svg", ".pdf")
#: Colours that people with any colour vision tell apart (Okabe and Ito, 2008), the most different ones first.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#9A9A9A"
#: Width of a page of two columns [inches], and of one panel.
WIDTH, PANEL = 7.2, 2.4
STYLE: Any = {
    "pdf.fonttype": 42,  # TrueType: journals refuse fonts of type 3
    "ps.fonttype": 42,
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "legend.fontsize": 7.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "savefig.dpi": 200.0,
}


def check(path: Path) -> None:
    """Refuse a picture that cannot be made.

    Raises
    ------
    UsageError
        Another kind of file, or no directory for it.
    PlatformError
        matplotlib is not installed.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"{path}: a picture is one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}", hint=f"make it: mkdir -p {path.parent}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PlatformError("matplotlib is not installed", hint="pip install 'onotrain[plots]'") from error


@contextmanager
def picture(path: Path, title: str, width: float, height: float, layout: Any = "constrained") -> Iterator[Any]:
    """Give a figure, and write it to `path` in the end, whole or not at all.

    Parameters
    ----------
    path
        See `check`; replaced if it exists.
    title
        Above all; its beginning is left out where it is too long.
    width, height
        In inches.
    layout
        Of matplotlib, one that clips nothing: ``constrained``, or ``compressed`` for panels of equal axes.

    Raises
    ------
    UsageError, PlatformError
        See `check`.
    ResourceError
        It cannot be written.
    """
    check(path)
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout=layout)
        most = int(13 * width)
        shown = title if len(title) <= most else f"...{title[3 - most :]}"
        figure.suptitle(plain(shown), x=0.01, ha="left", fontsize=9)
        yield figure
        content = BytesIO()
        figure.savefig(content, format=path.suffix[1:])
    write_atomically(path, content.getvalue())


def plain(name: str) -> str:
    """Return a name so that matplotlib shows it as it is: dollars begin no formula."""
    return name.replace("$", r"\$")


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Return names for labels."""
    from onotrain.text import cut_apart

    return [plain(name) for name in cut_apart(names, width)]
