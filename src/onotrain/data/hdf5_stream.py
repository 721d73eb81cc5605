"""HDF5 files of arrays that stay on the disk and are read in blocks, one file after another.

libhdf5 is imported when such files are opened: all ranks import this module, and few runs stream.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import accumulate
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from onotrain.data import streams
from onotrain.data.column_order import column_order
from onotrain.data.dataset import Dataset, DataSpec, first_no_code, no_code, not_finite
from onotrain.data.paths import reason
from onotrain.data.readers import detect_format
from onotrain.data.several import concatenate_datasets
from onotrain.data.sources import files_of
from onotrain.data.streams import OpenFiles, check_rows, joined_blocks, spans
from onotrain.errors import DataError

if TYPE_CHECKING:
    from onotrain.data.hdf5 import Arrays


class Hdf5Stream:
    """Reads rows of HDF5 files (`onotrain.data.streams.Stream`); a context manager, or `close` it.

    Parameters
    ----------
    spec
        Of HDF5 files.
    finite
        Refuse NaN and infinite features; False hands them out, to be looked at or copied.

    Attributes
    ----------
    dtype
        Of the features in memory: uint8 (pixels), float32 or float64.
    edges
        Blocks are whole chunks; files that are smaller than a block share one.
    feature_shape, feature_names, target_names, class_names
        As of the data set in memory.

    Raises
    ------
    DataError
        As `onotrain.data.load_dataset`.
    """

    def __init__(self, spec: DataSpec, *, finite: bool = True) -> None:
        self._specs, self._finite = files_of(spec), finite
        for each in self._specs:
            if detect_format(each) != "hdf5":
                raise not_streamed(each)
        self._files = OpenFiles(partial(_opened, self._specs), [each.path for each in self._specs])
        try:
            found = [self._header(number) for number in range(len(self._specs))]
            whole = concatenate_datasets([header for header, _ in found])
        except BaseException:
            self._files.close()
            raise
        #: Features that must be codes of categories: see `onotrain.data.dataset.first_no_code`.
        self.codes: Mapping[int, int] = {}
        self.source, self.dtype, self.feature_shape = whole.source, whole.features.dtype, whole.feature_shape
        self.feature_names, self.target_names = whole.feature_names, whole.target_names
        self.class_names = whole.class_names
        self._orders = [column_order(self.feature_names, header.feature_names) for header, _ in found]
        self._ends = list(accumulate(len(header) for header, _ in found))
        self.rows, self.features = self._ends[-1], int(np.prod(self.feature_shape))
        wanted = max(1, streams.BLOCK_BYTES // (self.features * self.dtype.itemsize))
        self.edges = joined_blocks(_strokes([(len(header), chunk) for header, chunk in found], wanted), wanted)
        self.block_rows = int(np.diff(self.edges).max())

    def _header(self, number: int) -> tuple[Dataset, int]:
        """Return what a file says of its samples, without features and targets, and the rows of a chunk."""
        arrays = self._files[number]
        without = Dataset(
            np.empty((arrays.shape[0], 0), arrays.dtype), None, arrays.feature_shape, self._specs[number].path,
            arrays.feature_names, arrays.target_names, arrays.class_names, target_units=arrays.target_units,
        )  # fmt: skip
        return without, arrays.chunk_rows

    def order_features(self, names: Sequence[str] | None) -> None:
        """Give columns, where they have these names, in their order from now on."""
        order = column_order(names, self.feature_names)
        if order is not None:
            self._orders = [order if own is None else [own[column] for column in order] for own in self._orders]
            self.feature_names = tuple(names or ())

    @property
    def nbytes(self) -> int:
        """Size that the features would have in memory [bytes]."""
        return self.rows * self.features * self.dtype.itemsize

    def read(self, begin: int, end: int, out_features: np.ndarray) -> None:
        """Read the rows ``[begin, end)``.

        Parameters
        ----------
        begin, end
            Rows of all files.
        out_features
            `dtype` ``(end - begin, features)``, written.

        Raises
        ------
        DataError
            A file is damaged there, or another one than before, or a value is not finite though it should be.
        """
        check_rows(self, begin, end, out_features)
        for number, first, last in spans(self._ends, begin, end):
            out, out_features = out_features[: last - first], out_features[last - first :]
            self._read_file(number, first, last, out)

    def _read_file(self, number: int, begin: int, end: int, out: np.ndarray) -> None:
        source, arrays, order = self._specs[number].path, self._files[number], self._orders[number]
        rows = self._ends[number] - (self._ends[number - 1] if number else 0)
        if arrays.shape != (rows, self.features):
            raise DataError(
                f"{source}: features have the shape {arrays.shape}, but had {(rows, self.features)} when the run began",
                hint="files must stay as they are while they are streamed",
            )
        try:
            if order is None:
                arrays.read_rows(begin, end, out)
            else:
                as_stored = np.empty(out.shape, arrays.dtype)
                arrays.read_rows(begin, end, as_stored)
                out[:] = as_stored[:, order]
        except (OSError, RuntimeError) as error:
            self._files.check(number)
            raise DataError(
                f"{source}: rows {begin} to {end} cannot be read: {reason(error)}", hint="copy or create the file again"
            ) from error
        self._files.check(number)
        if self._finite:
            self._check_finite(source, begin, out)
            self._check_codes(source, begin, out)

    def _check_finite(self, source: str, begin: int, features: np.ndarray) -> None:
        if self.dtype.kind != "f" or np.isfinite(features).all():
            return
        wrong = np.argwhere(~np.isfinite(features))
        row, column = wrong[0]
        raise not_finite(self._place(source, begin + row, column), features[row, column], len(wrong))

    def _check_codes(self, source: str, begin: int, features: np.ndarray) -> None:
        wrong = first_no_code(features, self.codes)
        if wrong is not None:
            row, column = wrong
            raise no_code(self._place(source, begin + row, column), features[row, column], self.codes[column])

    def _place(self, source: str, row: int, column: int) -> str:
        name = column if self.feature_names is None else self.feature_names[column]
        return f"{source}: row {row}, column {name}"

    def targets_only(self) -> Dataset:
        """Return a data set of all targets, with features of no columns: what `TargetCodec` needs.

        Targets take little memory beside the features, so they are not streamed.
        """
        return concatenate_datasets([self._targets_of(number) for number in range(len(self._specs))])

    def _targets_of(self, number: int) -> Dataset:
        (header, _), source, arrays = self._header(number), self._specs[number].path, self._files[number]
        try:
            weights = None if arrays.weights is None else arrays.weights[()]
            return replace(header, targets=arrays.read_targets(source), weights=weights)
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{source}: targets cannot be read: {reason(error)}") from error

    def again(self) -> Self:
        """Return the same with open files of its own."""
        other = copy(self)
        other._files = self._files.again()
        return other

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def not_streamed(spec: DataSpec) -> DataError:
    """Return the error for data that are to be streamed, and cannot be."""
    return DataError(
        f"{spec.path}: only arrays in HDF5 files and Parquet files are streamed",
        hint="convert it first: `onotrain data convert`",
    )


@contextlib.contextmanager
def _opened(specs: Sequence[DataSpec], number: int) -> Iterator[Arrays]:
    """Open one of several files."""
    from onotrain.data.hdf5 import find_arrays, open_file

    with open_file(specs[number].path) as file:
        yield find_arrays(file, specs[number])


def _strokes(files: Sequence[tuple[int, int]], wanted: int) -> Iterator[int]:
    """Yield rows of whole chunks, at least `wanted` where a file has as many, of files of (rows, rows of a chunk)."""
    for rows, chunk in files:
        step = -(-wanted // chunk) * chunk
        yield from (min(step, rows - begin) for begin in range(0, rows, step))
