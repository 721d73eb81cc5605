"""What ``onotrain evaluate`` shows of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onotrain.cli.tables import table
from onotrain.text import cut_apart, figure

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

    from onotrain.inference.evaluation import Evaluation

#: A larger confusion matrix is in the JSON only.
_LARGEST_MATRIX = 20
#: More classes are in the JSON only.
_MOST_CLASSES = 100
#: Characters of the names above a confusion matrix that is cut into several, and of those beside it.
_HEADING, _NAME = 8, 16


def show(evaluation: Evaluation) -> None:
    """Print metrics, and the tables that are not too large."""
    from onotrain.cli.terminal import console, terminal_columns
    from onotrain.text import count

    screen = console(terminal_columns())
    screen.print(f"{evaluation.source}: {count(evaluation.samples, 'sample')}", markup=False, soft_wrap=True)
    width = max(10, *map(len, evaluation.metrics))
    unit = f" {evaluation.unit}" if evaluation.unit else ""
    for name, value in evaluation.metrics.items():
        text = f"  {name:<{width}} {figure(value)}{unit if _has_unit(name) else ''}"
        screen.print(text, markup=False, soft_wrap=True)
    if evaluation.threshold is not None:
        shown = evaluation.threshold if isinstance(evaluation.threshold, tuple) else (evaluation.threshold,)
        for number, value in enumerate(shown):  # whole: they may be given to `predict`
            screen.print(f"  {'' if number else 'threshold':<{width}} {value:.17g}", markup=False)
    for each in _tables(evaluation):
        screen.print()
        screen.print(each, markup=False)


def _has_unit(metric: str) -> bool:
    return metric.removeprefix("weighted_").partition("[")[0] in ("mae", "rmse")


def _tables(evaluation: Evaluation) -> Iterator[Any]:
    """Yield what follows the metrics."""
    from onotrain.text import count

    if 1 < len(evaluation.outputs) <= _MOST_CLASSES:
        yield _outputs(evaluation)
    if evaluation.counts is None:
        return
    names = evaluation.class_names
    if len(names) <= _MOST_CLASSES:
        yield _scores(evaluation)
    if len(names) <= _LARGEST_MATRIX:
        yield Matrix(names, evaluation.counts.dense().tolist())
    else:
        yield f"the confusion matrix of {count(len(names), 'class', 'classes')}: use --json"


def _known(value: float) -> str:
    return "-" if math.isnan(value) else figure(value)


def _scores(evaluation: Evaluation) -> Any:
    """Return the table of precision, recall and F1."""
    rows = [
        [score.name, _known(score.precision), _known(score.recall), _known(score.f1), f"{score.support:,}"]
        for score in evaluation.scores
    ]
    return table("", ["class", "precision", "recall", "F1", "samples"], rows)


def _outputs(evaluation: Evaluation) -> Any:
    """Return the table of errors and R2 of each output, with units where they are known.

    Where targets are missing it has the number of those that are measured.
    """
    missing = any(output.samples != evaluation.samples for output in evaluation.outputs)
    measured = [[f"{output.samples:,}"] if missing else [] for output in evaluation.outputs]
    rows = [
        [output.name, output.unit, _known(output.mae), _known(output.rmse), _known(output.r2), *counts]
        for output, counts in zip(evaluation.outputs, measured, strict=True)
    ]
    columns = ["output", "unit", "mae", "rmse", "r2", *(["samples"] if missing else [])]
    return table("", columns, rows, text=["unit"], least=["mae"], optional=["unit"])


@dataclass
class Matrix:
    """A confusion matrix; one that is too wide is shown in parts, some predicted classes each."""

    names: Sequence[str]
    rows: Sequence[Sequence[int]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        """Yield the table or the tables."""
        cells = [[f"{value:,}" for value in row] for row in self.rows]
        beside = "true \\ predicted"
        limit = options.max_width
        first = max(len(beside), min(_NAME, max(map(len, self.names))))
        numbers = [max(len(row[k]) for row in cells) for k in range(len(self.names))]
        whole = max(len(beside), *map(len, self.names)) + sum(
            2 + max(number, len(name)) for number, name in zip(numbers, self.names, strict=True)
        )
        headings = list(self.names) if whole <= limit else cut_apart(self.names, max(_HEADING, *numbers))
        widths = [2 + max(number, len(name)) for number, name in zip(numbers, headings, strict=True)]
        for begin, end in _parts(widths, limit - first):
            if begin:
                yield ""
            diagonal = [(number, 1 + number - begin) for number in range(begin, end)]
            rows = [[name, *row[begin:end]] for name, row in zip(self.names, cells, strict=True)]
            yield table("", [beside, *headings[begin:end]], rows, strong=diagonal)


def _parts(widths: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of columns that are together at most `limit` wide, or one column each."""
    begin = used = 0
    for number, width in enumerate(widths):
        if number > begin and used + width > limit:
            yield begin, number
            begin, used = number, 0
        used += width
    yield begin, len(widths)
