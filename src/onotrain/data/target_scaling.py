"""Targets of a regression as a network learns them, and back in the units of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.errors import DataError


@dataclass(frozen=True, eq=False)
class TargetScaling:
    """``(f(y) - shift) / scale`` for each output by itself, f the identity or the logarithm.

    Parameters
    ----------
    shift, scale
        float64 ``(outputs,)``; `scale` is positive.
    log
        Whether f is the logarithm.
    """

    shift: np.ndarray
    scale: np.ndarray
    log: bool = False

    @classmethod
    def fit(cls, setting: Any, targets: np.ndarray, rows: np.ndarray | None) -> TargetScaling | None:
        """Return the scaling that ``data.normalize_targets`` asks for; None if it is none.

        Parameters
        ----------
        setting
            ``none``, ``standard``, ``minmax``, ``log``, or a section with mean and std.
        targets
            float64 ``(n, outputs)``; what is NaN was not measured, and each output has one value at least.
        rows
            int64 numbers of the training samples, or None for all.

        Raises
        ------
        DataError
            Values whose logarithm does not exist, or another number of means than outputs.
        """
        outputs = targets.shape[1]
        if not isinstance(setting, str):
            return cls(_each(setting.mean, outputs, "mean"), _each(setting.std, outputs, "std"))
        if setting == "none":
            return None
        known = targets if rows is None else targets[rows]
        log = setting == "log"
        y = np.log(known) if log else known
        lowest, highest = np.nanmin(y, axis=0), np.nanmax(y, axis=0)
        if setting == "minmax":
            shift, spread = lowest, highest - lowest
        else:
            shift = np.nanmean(y, axis=0)
            spread = np.sqrt(np.nanmean(np.square(y - shift), axis=0))
        varies = (highest > lowest) & (spread > 0)
        return cls(shift, np.where(varies, spread, 1.0), log)

    def apply(self, targets: np.ndarray) -> np.ndarray:
        """Return targets ``(n, outputs)`` as the network learns them, float64."""
        y = np.asarray(targets, np.float64)
        return ((np.log(y) if self.log else y) - self.shift) / self.scale

    def undo(self, values: np.ndarray) -> np.ndarray:
        """Return what the network gives ``(n, outputs)`` in the units of the data, float64."""
        y = np.asarray(values, np.float64) * self.scale + self.shift
        with np.errstate(over="ignore"):
            return np.exp(y) if self.log else y

    def of_outputs(self, shifts: Sequence[bool]) -> TargetScaling:
        """Return the scaling of several outputs for each target, side by side.

        Parameters
        ----------
        shifts
            Whether each of them moves with a target that is shifted; what does not is only scaled, as a deviation is.
        """
        return TargetScaling(np.outer(self.shift, shifts).reshape(-1), self.scale.repeat(len(shifts)), self.log)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data, exactly."""
        return {"shift": self.shift.tolist(), "scale": self.scale.tolist(), "log": self.log}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TargetScaling:
        """Return the scaling that `to_dict` wrote.

        Raises
        ------
        KeyError, ValueError, TypeError
            `data` is something else.
        """
        shift, scale = np.array(data["shift"], np.float64), np.array(data["scale"], np.float64)
        if shift.ndim != 1 or shift.shape != scale.shape or not (scale > 0).all() or not np.isfinite(shift).all():
            raise ValueError(f"shift {shift.shape} and scale {scale.shape} of a target scaling")
        return cls(shift, scale, bool(data["log"]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TargetScaling):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]


def _each(values: Sequence[float], outputs: int, what: str) -> np.ndarray:
    if len(values) not in (1, outputs):
        raise DataError(
            f"data.normalize_targets.{what}: {len(values)} values, expected 1 or {outputs} (one per output)"
        )
    return np.broadcast_to(np.array(values, np.float64), outputs).copy()
