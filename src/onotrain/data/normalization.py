"""Normalisation of features: ``(x - mean) / std``, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.errors import ConfigError, DataError

KINDS = ("none", "standard", "minmax")
PIXEL_MAX = 255.0
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class Normalization:
    """``(x - mean) / std`` with x in the units of the data; uint8 pixels are divided by 255 first.

    Parameters
    ----------
    mean, std
        float64 of length 1 (for all columns) or d; `std` is positive.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def none(cls) -> Normalization:
        """Return the identity (of uint8 pixels: the division by 255)."""
        return cls(np.zeros(1), np.ones(1))

    @classmethod
    def given(
        cls, mean: float | Sequence[float] | np.ndarray, std: float | Sequence[float] | np.ndarray
    ) -> Normalization:
        """Return a normalisation with known numbers, one or one per column.

        Raises
        ------
        ConfigError
            Not finite, `std` not positive, or lengths that differ.
        """
        means, stds = np.atleast_1d(np.array(mean, np.float64)), np.atleast_1d(np.array(std, np.float64))
        if means.ndim != 1 or stds.ndim != 1 or means.size == 0 or stds.size == 0:
            raise ConfigError(
                f"data.normalize: mean of shape {means.shape} and std of {stds.shape}, expected numbers or lists"
            )
        if means.size != stds.size and 1 not in (means.size, stds.size):
            raise ConfigError(f"data.normalize: {means.size} means but {stds.size} standard deviations")
        if not np.isfinite(means).all():
            raise ConfigError(f"data.normalize.mean: got {means[~np.isfinite(means)][0]}, expected finite numbers")
        if not (np.isfinite(stds) & (stds > 0)).all():
            raise ConfigError(
                f"data.normalize.std: got {stds[~(np.isfinite(stds) & (stds > 0))][0]}, expected positive numbers"
            )
        return cls(means, stds)

    @classmethod
    def fit(cls, kind: str, features: np.ndarray, index: np.ndarray | None = None) -> Normalization:
        """Return the normalisation of some samples' features.

        Parameters
        ----------
        kind
            ``none``; ``standard``: mean 0 and (population) standard deviation 1; ``minmax``: 0 to 1.
        features
            uint8 or float32 ``(n, d)``.
        index
            int64 numbers of the samples to take, or None for all.

        Raises
        ------
        DataError
            No samples.
        """
        return cls.fit_blocks(kind, _blocks(features, index))

    @classmethod
    def fit_blocks(cls, kind: str, blocks: Iterable[np.ndarray]) -> Normalization:
        """Return the normalisation of samples that come block by block, each uint8 or floating ``(rows, d)``.

        The result depends on the blocks' borders only in the last bits.

        Raises
        ------
        DataError
            No samples.
        ConfigError
            Unknown kind.
        """
        if kind not in KINDS:
            raise ConfigError(f"data.normalize: got {kind!r}, expected one of {', '.join(KINDS)}")
        if kind == "none":
            return cls.none()
        moments = Moments()
        for block in blocks:
            moments.add(block)
        if moments.count == 0:
            raise DataError(f"no samples to compute the {kind} normalisation from")
        spread = moments.maximum - moments.minimum
        mean, std = (moments.mean, moments.std) if kind == "standard" else (moments.minimum, spread)
        # Judged by the extremes, which are exact: rounding leaves a constant column a tiny standard deviation.
        std = np.where((spread > 0) & (std > 0), std, 1.0 * moments.unit)
        return cls(mean / moments.unit, std / moments.unit)

    def for_storage(
        self, dtype: np.dtype | type | str, columns: int, compute_dtype: np.dtype | type | str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (shift, scale) with ``(stored - shift) * scale`` the normalised feature.

        Parameters
        ----------
        dtype
            Of the stored features: uint8 or floating.
        columns
            d, the number of features.
        compute_dtype
            float32 or float64, of the result.

        Returns
        -------
        tuple of ndarray
            `compute_dtype` ``(d,)`` each.

        Raises
        ------
        ConfigError
            The normalisation is one for another number of columns.
        """
        for what, values in (("mean", self.mean), ("std", self.std)):
            if values.size not in (1, columns):
                raise ConfigError(
                    f"data.normalize.{what}: {values.size} values, expected 1 or {columns} (one per feature)"
                )
        unit = PIXEL_MAX if np.dtype(dtype) == np.uint8 else 1.0
        shift = np.broadcast_to(self.mean * unit, columns)
        scale = np.broadcast_to(1.0 / (self.std * unit), columns)
        return np.array(shift, compute_dtype), np.array(scale, compute_dtype)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data, exactly."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Normalization:
        """Return the normalisation that `to_dict` wrote.

        Raises
        ------
        KeyError, ValueError, TypeError
            `data` is something else.
        """
        try:
            return cls.given(data["mean"], data["std"])
        except ConfigError as error:
            raise ValueError(error.message) from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Normalization):
            return NotImplemented
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.std, other.std)

    __hash__ = None  # type: ignore[assignment]


class Moments:
    """Count, mean, population standard deviation and extremes of columns, in float64, block by block.

    Blocks are merged by the formula of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances" (1979), which does not cancel.
    """

    def __init__(self) -> None:
        self.count = 0
        #: What one unit of the features is stored as: 255 for pixels.
        self.unit = 1.0
        self.mean = self._squares = np.zeros(0)
        self.minimum = self.maximum = np.zeros(0)

    def add(self, block: np.ndarray) -> None:
        """Take in the rows of a block ``(rows, d)``."""
        if len(block) == 0:
            return
        values = block.astype(np.float64)
        self.unit = PIXEL_MAX if block.dtype == np.uint8 else 1.0
        count, mean = len(values), values.mean(axis=0)
        minimum, maximum = values.min(axis=0), values.max(axis=0)
        values -= mean
        squares = np.einsum("ij,ij->j", values, values)
        if self.count == 0:
            self.count, self.mean, self._squares = count, mean, squares
            self.minimum, self.maximum = minimum, maximum
            return
        total, delta = self.count + count, mean - self.mean
        self._squares = self._squares + squares + delta * delta * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.minimum, self.maximum = np.minimum(self.minimum, minimum), np.maximum(self.maximum, maximum)
        self.count = total

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation of each column, in stored units."""
        return np.sqrt(self._squares / max(self.count, 1))


def _blocks(features: np.ndarray, index: np.ndarray | None) -> Iterator[np.ndarray]:
    """Cut samples in blocks of little memory."""
    rows = max(1, _BLOCK_BYTES // (8 * max(features.shape[1], 1)))
    for begin in range(0, len(features) if index is None else len(index), rows):
        yield features[begin : begin + rows] if index is None else features[index[begin : begin + rows]]
