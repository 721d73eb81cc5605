"""The picture of an evaluation: predictions over targets, or curves over the threshold and the confusion matrix."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from onotrain.data.ranges import most_are_wide
from onotrain.evaluation.curves import Curve, Pairs
from onotrain.inference.evaluation_result import Evaluation, OutputScore
from onotrain.reporting.pictures import COLORS, GREY, PANEL, picture, plain, shortened
from onotrain.text import cut, figure, with_unit

#: Outputs that are drawn, and in one row.
_MOST_OUTPUTS, _ACROSS = 12, 3
#: Samples from which on they are counted in hexagons.
_MANY = 5_000
#: Classes with a curve in colour, with numbers in the confusion matrix, with names beside it, and with a matrix at all.
_CURVES, _NUMBERS, _NAMED, _MATRIX = 7, 12, 40, 500


def draw(evaluation: Evaluation, path: Path) -> None:
    """Draw an evaluation that was made with ``drawable=True``.

    Raises
    ------
    ValueError
        It was made without.
    UsageError, ResourceError, PlatformError
        See `onotrain.reporting.pictures.picture`.
    """
    found = evaluation.drawable
    if isinstance(found, Pairs):
        _parity(evaluation, found, path)
    elif found is not None:
        _classes(evaluation, found, path)
    else:
        raise ValueError("an evaluation without what pictures are made of")


def _parity(evaluation: Evaluation, pairs: Pairs, path: Path) -> None:
    """Draw predictions over targets, a panel for each output."""
    shown = evaluation.outputs[:_MOST_OUTPUTS]
    across = min(_ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    title = f"{evaluation.source}: {evaluation.samples:,} samples"
    width, height = (PANEL * across, 2.35 * down + 0.4) if across > 1 else (1.5 * PANEL, 1.4 * PANEL)
    if len(pairs.targets) < pairs.samples:
        title += f", {len(pairs.targets):,} of them drawn"
    if len(shown) < len(evaluation.outputs):
        title += f"; {len(shown):,} of {len(evaluation.outputs):,} outputs"
    with picture(path, title, width, height, "compressed") as canvas:
        panels = canvas.subplots(down, across, squeeze=False).ravel()
        cells = [
            _output(axes, output, pairs.targets[:, number], pairs.predictions[:, number])
            for number, (axes, output) in enumerate(zip(panels, shown, strict=False))
        ]
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        _count(canvas, panels[: len(shown)], [each for each in cells if each is not None])


def _output(axes: Any, output: OutputScore, targets: np.ndarray, predictions: np.ndarray) -> Any:
    """Draw one output; return the hexagons that count its samples, None where each is a point."""
    moved, cells = draw_parity(axes, targets, predictions)
    _write_scores(axes, output, moved)
    return cells


def draw_parity(axes: Any, targets: np.ndarray, predictions: np.ndarray) -> tuple[int, Any]:
    """Draw predictions over targets, those that are finite.

    Returns
    -------
    tuple
        How many predictions lie below the axis, and the hexagons that count samples; None where each is a point.
    """
    known = np.isfinite(targets) & np.isfinite(predictions)
    targets, predictions = targets[known], predictions[known]
    wide = most_are_wide(targets)
    moved = 0
    if wide:  # rounding may have taken the smallest targets below 0
        smallest = float(np.quantile(targets, 0.01)) / 10
        moved = int(np.count_nonzero(predictions < smallest))
        targets, predictions = np.maximum(targets, smallest), np.maximum(predictions, smallest)
    low, high = _limits(np.concatenate([targets, predictions]), wide=wide)
    scale = "log" if wide else "linear"
    axes.set_xscale(scale)
    axes.set_yscale(scale)
    cells = None
    if len(targets) > _MANY:
        extent = (math.log10(low), math.log10(high)) * 2 if wide else (low, high) * 2
        grid: dict[str, Any] = {"gridsize": 45, "mincnt": 1, "xscale": scale, "yscale": scale, "extent": extent}
        cells = axes.hexbin(targets, predictions, cmap="viridis", linewidths=0.1, **grid)
    else:
        size = 9 if len(targets) < 500 else 4
        axes.scatter(targets, predictions, s=size, color=COLORS[0], alpha=0.5, linewidths=0, rasterized=True)
    axes.plot([low, high], [low, high], color="black", linewidth=0.8, linestyle="--", zorder=3)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_box_aspect(1)
    if not wide:
        axes.locator_params(nbins=4)
    return moved, cells


def _write_scores(axes: Any, output: OutputScore, moved: int) -> None:
    """Write name, unit, R2 and error of an output."""
    axes.set_title(plain(cut(output.name, 30)), loc="left")
    axes.set_xlabel(plain(with_unit("true", output.unit)))
    axes.set_ylabel(plain(with_unit("predicted", output.unit)))
    r2 = "undefined" if math.isnan(output.r2) else figure(output.r2)
    text = f"R2 {r2}\nrmse {figure(output.rmse)} {'' if output.unit == '1' else output.unit}".rstrip()
    text += f"\n{moved:,} below the axis" if moved else ""
    axes.text(0.03, 0.97, plain(text), transform=axes.transAxes, va="top", fontsize=6.5, zorder=4)


def _count(canvas: Any, panels: Any, cells: list[Any]) -> None:
    """Give all hexagons the same colours, and the picture one scale for them."""
    from matplotlib.colors import LogNorm

    if not cells:
        return
    norm = LogNorm(1, max(10, *(float(each.get_array().max()) for each in cells)))
    for each in cells:
        each.set_norm(norm)
    bar = canvas.colorbar(cells[0], ax=list(panels), shrink=0.6, aspect=25, pad=0.02)
    bar.set_label("samples")


def _limits(values: np.ndarray, *, wide: bool) -> tuple[float, float]:
    """Return the ends of both axes, with a margin."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 2.0)
    if wide:
        margin = (high / low) ** 0.04
        return low / margin, high * margin
    margin = 0.04 * (high - low) or abs(high) * 0.04 or 1.0
    return low - margin, high + margin


def _classes(evaluation: Evaluation, curves: list[Curve], path: Path) -> None:
    """Draw ROC, precision over recall, and the confusion matrix where there is one."""
    counts = evaluation.counts if len(evaluation.class_names) <= _MATRIX else None
    title = f"{evaluation.source}: {evaluation.samples:,} samples"
    height = 3.15 + 0.14 * min(_CURVES, len(curves))
    with picture(path, title, 2.6 * 2 + (0.0 if counts is None else 3.3), height, "compressed") as canvas:
        panels = canvas.subplots(1, 2 if counts is None else 3)
        _all_curves(panels[0], panels[1], [curve for curve in curves if len(curve.precision)])
        if counts is not None:
            draw_matrix(canvas, panels[2], counts.dense(), shortened(evaluation.class_names, 14))


def _all_curves(roc: Any, recall: Any, curves: list[Curve]) -> None:
    """Draw the curves of the classes that are told apart worst in colour, and the others in grey."""
    worst = sorted(curves, key=lambda curve: curve.average_precision)[:_CURVES]
    for curve in curves:
        if not any(curve is each for each in worst):
            roc.plot(curve.false_positive_rate, curve.true_positive_rate, color=GREY, lw=0.5)
            recall.plot(curve.true_positive_rate, curve.precision, color=GREY, lw=0.5)
    coloured = [curve for curve in curves if any(curve is each for each in worst)]
    names = shortened([curve.name for curve in coloured], 24)
    for name, curve, color in zip(names, coloured, COLORS, strict=False):
        roc.plot(
            curve.false_positive_rate, curve.true_positive_rate, color=color, label=f"{name}: {figure(curve.roc_auc)}"
        )
        label = f"{name}: {figure(curve.average_precision)}"
        recall.plot(curve.true_positive_rate, curve.precision, color=color, label=label)
    roc.plot([0, 1], [0, 1], color="black", lw=0.8, ls="--")
    roc.set_xlabel("false positive rate")
    roc.set_ylabel("true positive rate")
    recall.set_xlabel("recall")
    recall.set_ylabel("precision")
    several = f" (worst {len(worst):,} of {len(curves):,})" if len(worst) < len(curves) else ""
    for axes, title in ((roc, "ROC AUC"), (recall, "average precision")):
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_box_aspect(1)
        if coloured:
            place = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.24), "borderaxespad": 0.0}
            axes.legend(title=f"{title}{several}", alignment="left", handlelength=1.2, **place)


def draw_matrix(canvas: Any, axes: Any, counts: np.ndarray, names: list[str]) -> None:
    """Draw the confusion matrix: numbers of samples, coloured by their share of the true class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    canvas.colorbar(image, ax=axes, shrink=0.6, aspect=15).set_label("share of the true class")
    classes = len(names)
    if classes <= _NUMBERS:
        size = 7 if classes <= 6 else 5
        for row, column in np.ndindex(counts.shape):
            color = "white" if shares[row, column] > 0.6 else "black"
            number = f"{counts[row, column]:,}"
            axes.text(column, row, number, ha="center", va="center", color=color, fontsize=size)
    if classes <= _NAMED:
        size = 7 if classes <= 15 else 5
        axes.set_xticks(
            range(classes), names, rotation=0 if classes * max(map(len, names)) <= 24 else 90, fontsize=size
        )
        axes.set_yticks(range(classes), names, fontsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
