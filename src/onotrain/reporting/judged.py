"""Pictures of what a network makes of samples that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onotrain.errors import OnotrainError
from onotrain.reporting.evaluation import draw_matrix, draw_parity
from onotrain.reporting.held_out import HeldOut, held_out
from onotrain.reporting.history import History
from onotrain.reporting.pictures import COLORS, GREY, plain, shortened
from onotrain.reporting.plots import COLUMN, Plot
from onotrain.reporting.report import Section
from onotrain.text import cut, figure, with_unit

#: Samples that are shown as the worst, and in a row of pictures.
_WORST, _ACROSS = 12, 4
#: Outputs of a regression with pictures of their own; bins of a reliability curve; classes of a confusion matrix.
_MOST_OUTPUTS, _BINS, _MOST_CLASSES = 6, 10, 60


def best_of(runs: Sequence[History]) -> History:
    """Return the run with the lowest validation loss at its end; the first one without validation data."""

    def loss(run: History) -> float:
        found = run.at_end("validation_loss")
        return math.inf if math.isnan(found) else found

    return min(runs, key=loss)


def judged(run: History) -> Section:
    """Return the section on a run's network; what it says if the samples cannot be had."""
    try:
        found = held_out(run.path)
    except OnotrainError as error:
        return Section("What the network has learned", text=f"Not shown: {error.message}")
    title = f"What the network of {run.name} makes of {found.part} samples"
    return Section(title, list(_plots(found)), text="The most wrong of all:", rows=worst(found))


def _plots(found: HeldOut) -> Iterator[Plot]:
    """Yield the pictures."""
    if found.predictor.output.regression:
        yield from _regression(found)
        return
    if found.predictor.output.task != "multilabel" and len(found.names) <= _MOST_CLASSES:
        yield _confusion(found)
    yield _reliability(found)
    if _image_shape(found) is not None:
        yield _worst_images(found)


def worst(found: HeldOut) -> list[Mapping[str, str]]:
    """Return the samples that the network is most wrong about, as rows of a table."""
    return [
        {"sample": f"{found.part} {found.numbers[row]}", **_said(found, row)}
        for row in np.argsort(-_errors(found))[:_WORST]
    ]


def _said(found: HeldOut, row: int) -> dict[str, str]:
    """Return what is true of a sample, and what the network says of it."""
    names, output = found.names, found.predictor.output
    if output.regression:
        values = found.predictions[row].reshape(len(names), -1)[:, _point(found)]
        pairs = zip(names, found.targets[row], values, strict=True)
        return {
            name: f"{figure(predicted)} (true {figure(true)})" for name, true, predicted in list(pairs)[:_MOST_OUTPUTS]
        }
    chosen = output.decide(found.predictions[row : row + 1])[0]
    if output.task == "multilabel":
        yes = [name for name, is_true in zip(names, found.targets[row] > 0.5, strict=True) if is_true]
        said = [name for name, is_true in zip(names, chosen, strict=True) if is_true]
        return {"true": ", ".join(yes) or "none", "predicted": ", ".join(said) or "none"}
    probability = _probabilities(found)[row]
    return {
        "true": names[_classes(found)[row]],
        "predicted": names[int(chosen)],
        "probability of the true class": figure(float(probability[_classes(found)[row]])),
    }


def _point(found: HeldOut) -> int:
    """Return which of the values that are predicted of a target is the point prediction."""
    return found.predictor.metadata.codec.per_target.point


def _classes(found: HeldOut) -> np.ndarray:
    """Return the true classes, int64 ``(n,)``."""
    return np.rint(found.targets.reshape(len(found.targets))).astype(np.int64)


def _probabilities(found: HeldOut) -> np.ndarray:
    """Return the probability of each class, also of both of two, float64 ``(n, classes)``."""
    given = np.asarray(found.predictions, np.float64)
    return np.hstack([1.0 - given, given]) if found.predictor.output.task == "binary" else given


def _errors(found: HeldOut) -> np.ndarray:
    """Return how wrong the network is about each sample, float64 ``(n,)``: its loss, or deviations from the targets."""
    if found.predictor.output.regression:
        deviations = found.predictions.reshape(*found.targets.shape, -1)[..., _point(found)] - found.targets
        scale = np.nanstd(found.targets, axis=0)
        return np.nan_to_num(np.nanmax(np.abs(deviations) / np.where(scale > 0, scale, 1.0), axis=1))
    smallest = np.finfo(np.float64).tiny
    if found.predictor.output.task == "multilabel":
        right = np.where(found.targets > 0.5, found.predictions, 1.0 - found.predictions)
        return -np.log(np.maximum(right.astype(np.float64), smallest)).sum(axis=1)
    right = np.take_along_axis(_probabilities(found), _classes(found)[:, None], axis=1)[:, 0]
    return -np.log(np.maximum(right, smallest))


def _of(found: HeldOut) -> str:
    """Return which samples a picture is of."""
    shown = "" if len(found.numbers) == found.samples else f"{len(found.numbers):,} of "
    return f"{shown}{found.samples:,} {found.part} samples"


def _confusion(found: HeldOut) -> Plot:
    """Return the confusion matrix."""
    classes = len(found.names)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (_classes(found), found.predictor.output.decide(found.predictions)), 1)
    right = counts.trace() / max(1, counts.sum())

    def draw(canvas: Any) -> None:
        draw_matrix(canvas, canvas.add_subplot(), counts, shortened(found.names, 14))

    caption = f"True and predicted classes of {_of(found)}, {right:.2%} of them on the diagonal."
    return Plot("confusion", "Confusion matrix", caption, draw, 0.85 * COLUMN)


def _reliability(found: HeldOut) -> Plot:
    """Return how often predictions of each probability are right."""
    if found.predictor.output.task == "multiclass":
        said = found.predictions.max(axis=1)
        true = found.predictions.argmax(axis=1) == _classes(found)
        what, share = "probability of the predicted class", "fraction of these that are right"
    else:
        said, true = found.predictions.ravel(), found.targets.ravel() > 0.5
        what, share = "probability of yes", "fraction of these that are yes"
    bins = np.minimum((said * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    known = counts > 0
    means, rates = (np.bincount(bins, each, _BINS)[known] / counts[known] for each in (said, true.astype(np.float64)))
    error = float((counts[known] * np.abs(means - rates)).sum() / counts.sum())

    def draw(canvas: Any) -> None:
        axes = canvas.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--", label="as often as said")
        axes.plot(means, rates, marker="o", ms=3, color=COLORS[0], label="this network")
        axes.bar((np.arange(_BINS) + 0.5) / _BINS, counts / counts.sum(), 0.9 / _BINS, color=COLORS[5], alpha=0.4,
                 label="share of the predictions")  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(what)
        axes.set_ylabel(share)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, handlelength=1.4)

    caption = (
        f"Whether probabilities are meant: {_of(found)} in {_BINS} bins. The expected calibration error, the mean "
        f"distance from the diagonal, is {figure(error)}."
    )
    return Plot("reliability", "Reliability", caption, draw, 0.9 * COLUMN)


def _image_shape(found: HeldOut) -> tuple[int, ...] | None:
    """Return the shape of the samples if they are images: rows, columns and maybe 3 colours, the first axis."""
    shape = tuple(extent for extent in found.predictor.metadata.feature_shape if extent > 1)
    image = len(shape) == 2 or (len(shape) == 3 and shape[0] == 3)  # noqa: PLR2004
    return shape if image and found.predictor.metadata.preparation is None else None


def _worst_images(found: HeldOut) -> Plot:
    """Return the samples that the network is most wrong about."""
    shape = _image_shape(found) or ()
    rows = np.argsort(-_errors(found))[:_WORST]
    down = math.ceil(len(rows) / _ACROSS)

    def draw(canvas: Any) -> None:
        panels = canvas.subplots(down, _ACROSS, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for axes, row in zip(panels, rows, strict=False):
            image = found.features[row].reshape(shape)
            image = np.moveaxis(image, 0, -1) if len(shape) == 3 else image  # noqa: PLR2004
            axes.imshow(image, cmap="gray", interpolation="nearest")
            said = _said(found, row)
            true, taken = cut(said["true"], 10), cut(said["predicted"], 10)
            axes.set_title(plain(true if true == taken else f"{true} as {taken}"), fontsize=6.5)

    caption = f"Of {_of(found)} those whose true class has the lowest probability: what each is, and is taken for."
    return Plot("worst", "Worst samples", caption, draw, 0.35 + 1.0 * down)


def _regression(found: HeldOut) -> Iterator[Plot]:
    """Yield predictions over targets, and deviations over predictions, of each output."""
    targets = found.targets
    values = found.predictions.reshape(*targets.shape, -1)[..., _point(found)]
    units: Sequence[str] = found.predictor.metadata.target_units or ("",) * len(found.names)
    for number, (name, unit) in enumerate(zip(found.names, units, strict=True)):
        if number == _MOST_OUTPUTS:
            return
        yield _parity(found, number, name, unit, targets[:, number], values[:, number])
        yield _residuals(found, number, name, unit, targets[:, number], values[:, number])


def _parity(found: HeldOut, number: int, name: str, unit: str, true: np.ndarray, said: np.ndarray) -> Plot:
    def draw(canvas: Any) -> None:
        axes = canvas.add_subplot()
        draw_parity(axes, true, said)
        axes.set_xlabel(plain(with_unit("true", unit)))
        axes.set_ylabel(plain(with_unit("predicted", unit)))

    known = np.isfinite(true) & np.isfinite(said)
    deviations = (said - true)[known]
    squares, variance = float((deviations**2).sum()), float(((true[known] - true[known].mean()) ** 2).sum())
    r2 = figure(1 - squares / variance) if variance else "undefined"
    rmse = figure(math.sqrt(squares / max(1, len(deviations))))
    caption = (
        f"Predicted against true values of {_of(found)}: R2 {r2}, rmse {with_unit(rmse, '')} {unit}".rstrip() + "."
    )
    return Plot(f"parity-{number + 1}", f"{cut(name, 40)}: predicted against true", caption, draw, 0.9 * COLUMN)


def _residuals(found: HeldOut, number: int, name: str, unit: str, true: np.ndarray, said: np.ndarray) -> Plot:
    def draw(canvas: Any) -> None:
        axes, side = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        known = np.isfinite(true) & np.isfinite(said)
        axes.scatter(said[known], (said - true)[known], s=3, color=COLORS[0], alpha=0.4, linewidths=0, rasterized=True)
        axes.axhline(0.0, color=GREY, lw=0.8, ls="--")
        side.hist((said - true)[known], bins=40, orientation="horizontal", color=COLORS[0], alpha=0.7)
        axes.set_xlabel(plain(with_unit("predicted", unit)))
        axes.set_ylabel(plain(with_unit("predicted - true", unit)))
        side.set_xlabel("samples")

    caption = f"Deviations of {_of(found)}: they should scatter around 0 alike everywhere."
    return Plot(f"residuals-{number + 1}", f"{cut(name, 40)}: residuals", caption, draw)
