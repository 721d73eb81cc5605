"""A streamed file that does not stay as it is: refused, where a library would read zeros or other samples."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from onotrain.data import DataSpec
from onotrain.data.hdf5_stream import Hdf5Stream
from onotrain.errors import DataError


def cut(path: Path) -> None:
    """Cut the second half off, as a full disk or a copy under way would have it."""
    os.truncate(path, path.stat().st_size // 2)


def write_again(path: Path) -> None:
    """Change one number in place."""
    with path.open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"7")
    os.utime(path, ns=(1, 1))


def replace(path: Path) -> None:
    """Put another file of the same size in its place."""
    other = path.with_suffix(".new")
    shutil.copy(path, other)
    os.utime(other, ns=(1, 1))
    other.rename(path)


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (cut, "has changed from [0-9,]+ to [0-9,]+ bytes since"),
        (write_again, "has been written to since"),
        (replace, "has been written to since"),
        (Path.unlink, "has gone since"),
    ],
)
@pytest.mark.parametrize("chunks", [None, (100, 4)])
def test_a_file_that_changes_is_refused(
    tmp_path: Path, change: Callable[[Path], None], how: str, chunks: tuple[int, int] | None
) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.ones((1000, 4), np.float32), chunks=chunks)
        file["y"] = np.arange(1000) % 3
    out = np.empty((100, 4), np.float32)
    stream = Hdf5Stream(DataSpec(str(path)))
    stream.read(0, 100, out)
    other = stream.again()
    change(path)
    for each in (stream, other):
        with pytest.raises(DataError, match=f"x.h5: the file {how} it was opened"):
            each.read(900, 1000, out)
        each.close()
