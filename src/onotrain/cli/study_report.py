"""The report on a study, be its trainings real or simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onotrain.config.study import Study
    from onotrain.reporting.comparison import Trained
    from onotrain.reporting.report import Section


def write_study_report(
    wanted: Study, trained: Sequence[Trained], failed: Sequence[Mapping[str, Any]], output: Path, title: str,
    behind: Sequence[Section] = (), predicted: Mapping[tuple[str, int], float] | None = None,
) -> str:  # fmt: skip
    """Write the report, with its tables for LaTeX, and return what to say of it.

    Parameters
    ----------
    wanted
        The study.
    trained
        Its trainings that have ended well, at least one.
    failed
        Outcomes of the others.
    output
        Directory of the report.
    title
        Of the page.
    behind
        Sections at the end of the page.
    predicted
        Training samples per second by label and number of ranks, as simulated.
    """
    from onotrain.files import write_atomically
    from onotrain.reporting.comparison import compared
    from onotrain.reporting.groups import grouped
    from onotrain.reporting.report import NUMBERS_NAME, PLOTS_NAME, write_report
    from onotrain.reporting.tables import latex_of

    several = len({each.count for each in trained}) > 1
    labels = [f"{each.label}, {each.count} {wanted.counted}" if several else each.label for each in trained]
    target = None if wanted.target is None else (wanted.target.metric, wanted.target.value)
    sections = compared(trained, wanted.counted, target, failed, predicted)
    groups = grouped([each.run for each in trained], labels)
    page = write_report(groups, output, behind, before=sections, title=title)
    for section in sections:
        if section.rows:
            name = "".join(each if each.isalnum() else "-" for each in section.title.lower())
            text = latex_of(section.rows, section.title if not section.text else section.text)
            write_atomically(output / NUMBERS_NAME / f"{name}.tex", text.encode())
    return f"{page}\nfor print: {output / PLOTS_NAME}; numbers and tables for LaTeX: {output / NUMBERS_NAME}"
