"""A view of a run as lines of text for any width: what a terminal shows, and what a pipe gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from onotrain.text import cut, duration, figure, printable, width_of, wrapped
from onotrain.watching.plot import Span, plot
from onotrain.watching.view import Event, RankTime, View

Line = list[Span]
#: Least width of two columns side by side, and of a second column of panels beside the curves [characters].
_TWO_PLOTS, _TWO_COLUMNS = 76, 120
_GAP = 3
#: Rows of a plot, and of one that has panels beside it.
_PLOT_ROWS, _HIGH_PLOT_ROWS = 8, 13
_MOST_CURVES, _MOST_EVENTS = 4, 12
#: State -> its style, and a sign that says the same without colour.
_STATES = {
    "running": ("good", ">"), "silent": ("warn", "?"), "died": ("bad", "!"), "failed": ("bad", "!"),
    "stopped": ("warn", "="), "finished": ("good", "+"), "ended": ("warn", "="), "idle": ("warn", "="),
}  # fmt: skip
#: Kinds of a rank's time, and what draws them, with and without characters beyond ASCII.
_KINDS = {"compute": "\N{FULL BLOCK}#", "communication": "\N{MEDIUM SHADE}=", "wait": "\N{MIDDLE DOT}."}


def draw(view: View, columns: int, *, ascii_only: bool = False) -> list[Line]:
    """Return all of a view in lines of at most `columns` characters, from 20 on."""
    head = [*_state(view, columns), *_progress(view, columns, ascii_only=ascii_only)]
    if columns < _TWO_COLUMNS:
        parts = [_curves(view, columns, _PLOT_ROWS, ascii_only), *_panels(view, columns, ascii_only)]
        return [*head, *(line for part in parts if part for line in ([], *part))]
    left = (columns - _GAP) * 3 // 5
    curves = _curves(view, left, _HIGH_PLOT_ROWS, ascii_only)
    panels = [line for part in _panels(view, columns - _GAP - left, ascii_only) if part for line in ([], *part)]
    return [*head, *beside([[], *curves], panels, left)]


def _panels(view: View, columns: int, ascii_only: bool) -> list[list[Line]]:
    return [
        list(_ranks(view, columns, ascii_only)),
        list(_staleness(view, columns, ascii_only)),
        list(_events(view, columns)),
        list(_facts(view, columns)),
    ]


def plain(lines: Sequence[Line]) -> str:
    """Return lines without styles."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def beside(left: Sequence[Line], right: Sequence[Line], width: int) -> list[Line]:
    """Return two columns of lines as one, of which the left one has `width` characters."""
    lines = []
    for row in range(max(len(left), len(right))):
        first = left[row] if row < len(left) else []
        used = sum(width_of(text) for text, _ in first)
        lines.append([*first, (" " * (width + _GAP - used), ""), *(right[row] if row < len(right) else [])])
    return lines


def _state(view: View, columns: int) -> Iterator[Line]:
    """Yield who it is, and how it is."""
    style, sign = _STATES[view.state]
    name = cut(printable(view.name), max(10, columns - len(view.state) - 5))
    yield [(name, "bold"), ("  ", ""), (f"{sign} {view.state}", style)]
    yield from _text(view.words, columns, style)
    for note in (*view.notes, *(view.ranks.now if view.ranks else ())):
        yield from _text(f"! {note}", columns, "warn")
    for request, said in view.requests.items():
        yield from _text(f"{request}: {said}", columns, "bold")


def _progress(view: View, columns: int, *, ascii_only: bool) -> Iterator[Line]:
    """Yield how far it is."""
    if view.fraction is not None:
        percent = f" {100 * view.fraction:3.0f} %"
        cells = max(4, min(60, columns - len(percent)))
        full = int(view.fraction * cells)
        signs = "#-" if ascii_only else "\N{FULL BLOCK}\N{LIGHT SHADE}"
        yield [(signs[0] * full, "good"), (signs[1] * (cells - full), "dim"), (percent, "")]
    said = []
    if view.epoch is not None:
        said.append(f"epoch {view.epoch:,}" + (f" of {view.epochs:,}" if view.epochs else ""))
    if view.step is not None:
        said.append(f"step {view.step:,}" + (f" of {view.steps:,}" if view.steps else ""))
    if view.seconds is not None:
        said.append(f"{duration(view.seconds)} so far" if view.hears else duration(view.seconds))
    if view.seconds_left is not None:
        said.append(f"{duration(view.seconds_left)} left")
    if view.samples_per_second is not None:
        said.append(f"{view.samples_per_second:,.0f} samples/s")
    if view.learning_rate is not None:
        said.append(f"learning rate {figure(view.learning_rate, short=True)}")
    if view.saved is not None:
        said.append(f"saved at step {view.saved:,}")
    yield from _text(", ".join(said), columns)


def _curves(view: View, columns: int, rows: int, ascii_only: bool) -> list[Line]:
    """Return the curves, two side by side where there is enough width."""
    shown = [curve for curve in view.curves if curve.train or curve.validation][:_MOST_CURVES]
    two = columns >= _TWO_PLOTS and len(shown) > 1
    width = (columns - _GAP) // 2 if two else min(columns, 100)
    plots = [plot(curve, view.switches, width, rows, ascii_only=ascii_only) for curve in shown]
    plots = [[_fitting(line, width) for line in lines] for lines in plots]
    if two:
        pairs = zip(plots[::2], [*plots[1::2], []][: len(plots[::2])], strict=True)
        plots = [beside(left, right, width) for left, right in pairs]
    return [line for lines in plots for line in ([], *lines)][1:]


def _ranks(view: View, columns: int, ascii_only: bool) -> Iterator[Line]:
    """Yield who does what, and where the time of the ranks goes."""
    ranks = view.ranks
    if ranks is None:
        return
    nodes = f" on {ranks.nodes} nodes" if ranks.nodes > 1 else ""
    yield [(f"{ranks.count:,} rank{'s' * (ranks.count > 1)}{nodes}", "bold")]
    yield from _text(ranks.roles, columns)
    if ranks.mean is None:
        return
    if ranks.slowest:
        yield from _text(ranks.slowest, columns)
    kinds = "  ".join(f"{_sign(kind, ascii_only)} {kind}" for kind in _KINDS)
    yield from _text(f"time in epoch {ranks.epoch}:  {kinds}", columns, "dim")
    longest = max(row.compute + row.communication + row.wait for row in (ranks.mean, *ranks.rows))
    for row in (ranks.mean, *ranks.rows) if ranks.count > 1 else ranks.rows:
        yield _bar(row, longest, columns, ascii_only)
    if len(ranks.rows) < ranks.count:
        yield from _text(f"the {len(ranks.rows)} that computed the longest, of {ranks.count:,}", columns, "dim")


def _bar(row: RankTime, longest: float, columns: int, ascii_only: bool) -> Line:
    """Return the time of a rank as a bar, with its shares of computing."""
    total = row.compute + row.communication + row.wait
    name = "mean" if row.rank < 0 else f"{row.rank} {row.role}"
    share = f" {100 * row.compute / total if total else 0:3.0f} % of {duration(total)}"
    cells = max(4, min(60, columns - 14 - len(share)))
    ends, sums = [0], 0.0
    for kind in _KINDS:
        sums += getattr(row, kind)
        ends.append(round(sums / longest * cells) if longest else 0)
    parts = [
        (_sign(kind, ascii_only) * (end - begin), kind)
        for kind, begin, end in zip(_KINDS, ends, ends[1:], strict=False)
    ]
    return _fitting([(f"{name:<13} ", ""), *parts, (" " * (cells - ends[-1]) + share, "")], columns)


def _sign(kind: str, ascii_only: bool) -> str:
    return _KINDS[kind][int(ascii_only)]


def _staleness(view: View, columns: int, ascii_only: bool) -> Iterator[Line]:
    """Yield how stale the gradients were."""
    found = view.staleness
    if found is None:
        return
    numbers = [f"{name} {figure(value, short=True)}" for name in ("mean", "max")
               if (value := getattr(found, name)) is not None]  # fmt: skip
    yield [("staleness ", "bold"), (f"[updates]  {', '.join(numbers)}", "")]
    total, most = sum(found.histogram), max(found.histogram, default=0)
    if not total:
        return
    cells = max(4, min(40, columns - 16))
    for value, pushes in list(enumerate(found.histogram))[:12]:
        bar = _sign("compute", ascii_only) * round(pushes / most * cells)
        yield [(f"{value:>4} ", ""), (bar, "train"), (f" {100 * pushes / total:.0f} %", "dim")]
    if len(found.histogram) > 12:
        yield [(f"  >= 12: {100 * sum(found.histogram[12:]) / total:.0f} %", "dim")]


def _events(view: View, columns: int) -> Iterator[Line]:
    """Yield what has happened, the newest first."""
    if view.events:
        yield [("events", "bold")]
    for event in list(reversed(view.events))[:_MOST_EVENTS]:
        lines = list(_text(f"{_time(event)} {event.words}", columns, "warn" if event.bad else "", indent=9))
        yield from lines[:4]


def _time(event: Event) -> str:
    return "        " if event.at is None else datetime.fromtimestamp(event.at).strftime("%H:%M:%S")


def _facts(view: View, columns: int) -> Iterator[Line]:
    """Yield what does not change."""
    for name, value in (*view.facts, ("directory", view.path)):
        yield from _text(f"{name:<10} {value}", columns, "dim", indent=11)


def _text(text: str, columns: int, style: str = "", indent: int = 2) -> Iterator[Line]:
    """Yield a text in lines; a word that is longer than a line is cut."""
    for line in wrapped(printable(text), columns, indent).split("\n") if text else ():
        yield [(cut(line, columns), style)]


def _fitting(line: Line, columns: int) -> Line:
    """Return a line of which the end is left out if it is too long."""
    fitting, left = [], columns
    for text, style in line:
        shown = text if width_of(text) <= left else cut(text, left)
        fitting.append((shown, style))
        left -= width_of(shown)
    return fitting
