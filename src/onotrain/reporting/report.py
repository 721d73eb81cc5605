"""A report on runs: a page of HTML that needs nothing else, its pictures for print, and all numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from onotrain import __version__
from onotrain.errors import PlatformError
from onotrain.files import disk_errors, write_atomically
from onotrain.reporting.course import course
from onotrain.reporting.groups import Group
from onotrain.reporting.plots import Plot
from onotrain.reporting.tables import files, overview
from onotrain.text import count

PAGE_NAME = "report.html"
PLOTS_NAME, NUMBERS_NAME = "plots", "numbers"


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, something to be said, and pictures."""

    title: str
    plots: Sequence[Plot] = ()
    text: str = ""
    #: Of a table above the pictures, all with the same columns.
    rows: Sequence[Mapping[str, str]] = ()


def check() -> None:
    """Refuse to begin a report that cannot be made.

    Raises
    ------
    PlatformError
        matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PlatformError(f"{error.name} is not installed", hint="pip install 'onotrain[plots]'") from error


def write_report(
    groups: Sequence[Group], output: Path, sections: Sequence[Section] = (), *,
    before: Sequence[Section] = (), title: str = "", drawn: Callable[[int, int], None] = lambda done, plots: None,
) -> Path:  # fmt: skip
    """Write a report; return the path of its page.

    Parameters
    ----------
    groups
        At least one, as of `onotrain.reporting.groups.grouped`.
    output
        Directory, made if need be; files of an earlier report in it are replaced.
    sections, before
        Of the page, behind the course of the runs and before it.
    title
        Of the page; default: the names of the runs.
    drawn
        Learns how many pictures are drawn, and of how many.

    Raises
    ------
    ResourceError
        It cannot be written.
    PlatformError
        See `check`.
    """
    check()
    runs = [run for group in groups for run in group.runs]
    every = [*before, Section("The course of the runs", list(course(groups))), *sections]
    plots = [plot for section in every for plot in section.plots]
    for folder in (PLOTS_NAME, NUMBERS_NAME):
        with disk_errors("make the directory of the report", output / folder):
            (output / folder).mkdir(parents=True, exist_ok=True)
    shown: dict[str, str] = {}
    for done, plot in enumerate(plots):
        drawn(done, len(plots))
        shown[plot.name] = plot.for_page()
        for kind, content in plot.files().items():
            write_atomically(output / PLOTS_NAME / f"{plot.name}.{kind}", content)
    drawn(len(plots), len(plots))
    numbers = files(groups)
    for name, text in numbers.items():
        write_atomically(output / NUMBERS_NAME / name, text.encode())
    page = _page(
        title=title or _title([run.name for run in runs]),
        groups=groups, overview=overview(groups), notes=list(_notes(groups)), sections=every, shown=shown,
        numbers=list(numbers), version=__version__,
    )  # fmt: skip
    write_atomically(output / PAGE_NAME, page.encode())
    return output / PAGE_NAME


def _page(**facts: Any) -> str:
    """Return the page, with what it shows escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(text).render(facts, count=count, plots_name=PLOTS_NAME, numbers_name=NUMBERS_NAME)


def _title(names: list[str]) -> str:
    """Return names as in a sentence, of more than three only the first."""
    shown, more = names[:3], len(names) - 3
    last = f"{more} more" if more > 0 else shown.pop() if len(shown) > 1 else ""
    return f"{', '.join(shown)} and {last}" if last else ", ".join(shown)


def _notes(groups: Sequence[Group]) -> Iterator[str]:
    """Yield what a reader must know before comparing anything."""
    for group in groups:
        for run in group.runs:
            if not run.finished:
                yield f"{run.name} is not finished: {len(run.records)} of {run.config.training.epochs} epochs."
            lost = (run.summary or {}).get("lost_ranks")
            if lost:
                yield f"{run.name} has lost ranks {', '.join(map(str, lost))}, and went on without them."
            for warning in (run.summary or run.records[-1]).get("warnings", ()):
                yield f"{run.name}: {warning}"
        simulated = group.runs[0].method.partition("SIMULATED: ")[2]
        if simulated:
            yield f"{group.label}: slow ranks or the network were simulated ({simulated})."
    if len({(run.summary or {}).get("data_digest", "") for group in groups for run in group.runs} - {""}) > 1:
        yield "The runs were trained on different data."
