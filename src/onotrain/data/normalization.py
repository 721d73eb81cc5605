"""Normalisation of features: ``(x - mean) / std``, column by column."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.data.moments import Moments
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
            uint8, float32 or float64 ``(n, d)``.
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
        moments, unit = None, 1.0
        for block in blocks:
            moments = Moments(block.shape[1]) if moments is None else moments
            moments.add(block)
            unit = PIXEL_MAX if block.dtype == np.uint8 else 1.0
        if moments is None or not moments.count.any():
            raise DataError(f"no samples to compute the {kind} normalisation from")
        spread = moments.maximum - moments.minimum
        mean, std = (moments.mean, moments.std) if kind == "standard" else (moments.minimum, spread)
        # Judged by the extremes, which are exact: rounding leaves a constant column a tiny standard deviation.
        varies = (spread > 0) & (std > 0)
        return cls(mean / unit, np.where(varies, std / unit, 1.0))

    def leaving(self, columns: Collection[int], features: int, dtype: np.dtype | type | str) -> Normalization:
        """Return the same but for some of the columns, whose values stay what they are in storage of this dtype."""
        if not columns:
            return self
        mean, std = (np.array(np.broadcast_to(each, features)) for each in (self.mean, self.std))
        mean[list(columns)], std[list(columns)] = 0.0, 1.0 / (PIXEL_MAX if np.dtype(dtype) == np.uint8 else 1.0)
        return Normalization(mean, std)

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
            ``(d,)`` each: float64 if the stored features are, so that nothing is rounded before it is shifted, else
            `compute_dtype`.

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
        affine = np.float64 if np.dtype(dtype) == np.float64 else compute_dtype
        return np.array(shift, affine), np.array(scale, affine)

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


def _blocks(features: np.ndarray, index: np.ndarray | None) -> Iterator[np.ndarray]:
    """Cut samples in blocks of little memory."""
    rows = max(1, _BLOCK_BYTES // (8 * max(features.shape[1], 1)))
    for begin in range(0, len(features) if index is None else len(index), rows):
        yield features[begin : begin + rows] if index is None else features[index[begin : begin + rows]]
