"""An HDF5 file that stays on the disk and is read in blocks.

libhdf5 is imported when such a file is opened: all ranks import this module, and few runs stream.
"""

from __future__ import annotations

import contextlib
import math
from types import TracebackType

import numpy as np

from onotrain.data.dataset import Dataset, DataSpec, not_finite
from onotrain.data.paths import reason
from onotrain.data.readers import detect_format, is_table
from onotrain.data.sources import files_of
from onotrain.errors import DataError
from onotrain.memory import available_bytes

#: Fewest bytes in memory of the samples of a block, so that a disk or network file system reads in long strokes.
BLOCK_BYTES = 1 << 22


class Hdf5Stream:
    """Reads rows of an HDF5 file; a context manager, or `close` it.

    Parameters
    ----------
    spec
        Of an HDF5 file.
    finite
        Refuse NaN and infinite features; False hands them out, to be looked at or copied.

    Attributes
    ----------
    rows, features
        Number of samples, and of features of a sample.
    dtype
        Of the features in memory: uint8 (pixels) or float32.
    block_rows
        Samples of a block, a multiple of the file's chunks.

    Raises
    ------
    DataError
        As `onotrain.data.load_dataset`.
    """

    def __init__(self, spec: DataSpec, *, finite: bool = True) -> None:
        from onotrain.data.hdf5 import find_arrays, open_file

        spec = _only(spec)
        if detect_format(spec) != "hdf5":
            raise DataError(
                f"{spec.path}: only HDF5 files are streamed", hint="convert it first: `onotrain data convert`"
            )
        self.source, self._finite = spec.path, finite
        with contextlib.ExitStack() as stack:
            self._arrays = find_arrays(stack.enter_context(open_file(spec.path)), spec)
            self._close = stack.pop_all()
        self.rows, self.features = self._arrays.shape
        self.dtype = self._arrays.dtype
        self.feature_shape = self._arrays.feature_shape
        self.feature_names = self._arrays.feature_names
        self.target_names = self._arrays.target_names
        self.class_names = self._arrays.class_names
        chunk = self._arrays.chunk_rows
        wanted = max(1, BLOCK_BYTES // (self.features * self.dtype.itemsize))
        self.block_rows = min(-(-wanted // chunk) * chunk, self.rows)

    @property
    def nbytes(self) -> int:
        """Size that the features would have in memory [bytes]."""
        return math.prod(self._arrays.shape) * self.dtype.itemsize

    def read(self, begin: int, end: int, out_features: np.ndarray) -> None:
        """Read the rows ``[begin, end)``.

        Parameters
        ----------
        begin, end
            Rows of the file.
        out_features
            `dtype` ``(end - begin, features)``, written.

        Raises
        ------
        DataError
            The file is damaged there, or a value is not finite though it should be.
        """
        if not 0 <= begin <= end <= self.rows or out_features.shape != (end - begin, self.features):
            raise ValueError(f"rows {begin} to {end} of {self.rows} into {out_features.shape}")
        try:
            self._arrays.read_rows(begin, end, out_features)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{self.source}: rows {begin} to {end} cannot be read: {reason(error)}",
                hint="copy or create the file again",
            ) from error
        if self._finite:
            self._check_finite(begin, out_features)

    def _check_finite(self, begin: int, features: np.ndarray) -> None:
        if self.dtype.kind != "f" or np.isfinite(features).all():
            return
        wrong = np.argwhere(~np.isfinite(features))
        row, column = wrong[0]
        name = column if self.feature_names is None else self.feature_names[column]
        place = f"{self.source}: row {begin + row}, column {name}"
        raise not_finite(place, features[row, column], len(wrong))

    def targets_only(self) -> Dataset:
        """Return a data set of all targets, with features of no columns: what `TargetCodec` needs.

        Targets take little memory beside the features, so they are not streamed.
        """
        try:
            targets = self._arrays.read_targets(self.source)
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{self.source}: targets cannot be read: {reason(error)}") from error
        return Dataset(
            features=np.empty((self.rows, 0), self.dtype),
            targets=targets,
            feature_shape=self.feature_shape,
            source=self.source,
            feature_names=self.feature_names,
            target_names=self.target_names,
            class_names=self.class_names,
            weights=None if self._arrays.weights is None else self._arrays.weights[()],
            target_units=self._arrays.target_units,
        )

    def close(self) -> None:
        """Close the file."""
        self._close.close()

    def __enter__(self) -> Hdf5Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _only(spec: DataSpec) -> DataSpec:
    """Return the file that a pattern or a directory stands for, if it is one."""
    files = files_of(spec)
    return files[0] if len(files) == 1 else spec


def open_stream(spec: DataSpec, wanted: bool | str, memory: int | None = None) -> Hdf5Stream | None:
    """Return a file that is to be read in blocks, opened; None if it is to be read whole.

    Parameters
    ----------
    spec
        Any file or built-in data set.
    wanted
        True, False, or ``auto``: an HDF5 file that would take more than half of the memory that is left.
    memory
        What is left [bytes]; default: of this machine, now.

    Raises
    ------
    DataError
        Streaming is asked for, and the file is not HDF5.
    """
    several, spec = len(files_of(spec)) > 1, _only(spec)
    if wanted is False or (wanted == "auto" and (several or detect_format(spec) != "hdf5" or is_table(spec))):
        return None
    if several:
        raise DataError(f"{spec.path}: several files cannot be streamed yet", hint="join them: `onotrain data convert`")
    stream = Hdf5Stream(spec)
    if wanted is True or stream.nbytes > (available_bytes() if memory is None else memory) // 2:
        return stream
    stream.close()
    return None
