"""Which axis of the arrays of an HDF5 file counts the samples, and whether they have the same number."""

from __future__ import annotations

import h5py

from onotrain.errors import DataError

__all__ = ["check_lengths", "counts_samples_last", "name_of"]


def name_of(data: h5py.Dataset) -> str:
    """Return the name of a data set in its file."""
    return str(data.name.lstrip("/"))


def counts_samples_last(x: tuple[h5py.Dataset, ...], y: tuple[h5py.Dataset, ...]) -> bool:
    """Return whether the last axis counts samples: MATLAB stores arrays so; of others, if nothing else fits."""
    if any(data.ndim != 2 or data.shape[1] != x[0].shape[1] for data in x):
        return False
    if any(data.ndim not in (1, 2) or data.shape[-1] != x[0].shape[1] for data in y):
        return False
    if all("MATLAB_class" in data.attrs for data in (*x, *y)):
        return True
    return bool(y) and all(len(data) != len(x[0]) for data in y)


def check_lengths(
    x: tuple[h5py.Dataset, ...], y: tuple[h5py.Dataset, ...], rows: int, path: str, *, transposed: bool
) -> None:
    """Refuse arrays of different numbers of samples.

    Parameters
    ----------
    x, y
        With the features and the targets.
    rows
        Samples of the first.
    path
        Name for messages.
    transposed
        What `counts_samples_last` says.

    Raises
    ------
    DataError
        Names the first that differs.
    """
    if transposed:
        return
    for data in x:
        if len(data) != rows:
            raise DataError(f"{path}[{name_of(data)}]: {len(data)} samples, but {name_of(x[0])} has {rows}")
    for data in y:
        if data.ndim not in (1, 2) or len(data) != rows:
            hint = None
            if x[0].ndim == 2 and data.ndim and data.shape[-1] == x[0].shape[1]:
                hint = f"if the last axis of {name_of(x[0])} {x[0].shape} counts the samples, write it transposed"
            raise DataError(
                f"{path}[{name_of(data)}]: shape {data.shape}, expected ({rows},) or ({rows}, outputs)", hint=hint
            )
