"""Arrays and metadata to the bytes of a checkpoint file, again and again, in memory that is kept.

The bytes around the values are the same in all files with arrays of the same names, shapes and types.  So libhdf5 lays
out the first file, and each one costs a copy of the values and a digest.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import numpy as np

from onotrain.errors import ResourceError
from onotrain.runs.checkpoint_format import (
    DEPTH,
    DTYPES,
    FILETYPE,
    METADATA,
    USER_BLOCK_BYTES,
    VERSION,
    Checkpoint,
    Pause,
    no_pause,
    to_text,
    user_block,
)

#: Name, shape and dtype of an array.
_Field = tuple[str, tuple[int, ...], str]

#: The text is filled up with zeros, which HDF5 takes off again, to a multiple of this, so that a digit more does not
#: change the layout [bytes].
_TEXT_STEP = 4096


class Encoder:
    """Builds files in one block of memory, of which it gives out views.

    `take` copies arrays, `finish` adds metadata and digests; two threads may do the one and the other, in turn.
    """

    def __init__(self) -> None:
        from onotrain.hdf5_layout import lay_out  # libhdf5, which only a process that saves needs

        self._lay_out_file = lay_out
        self._fields: tuple[_Field, ...] | None = None
        self._text_bytes = _TEXT_STEP

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy the arrays' values; they may change when this returns.

        Raises
        ------
        ValueError, TypeError
            A name or type that a checkpoint cannot hold (a bug of the caller).
        ResourceError
            Not enough memory.
        """
        stored = {name: _storable(name, arrays[name]) for name in sorted(arrays)}
        fields = tuple((name, array.shape, array.dtype.str) for name, array in stored.items())
        if fields != self._fields:
            self._lay_out(fields, self._text_bytes)
        for name, array in stored.items():
            self._bytes[name][:] = _bytes_of(array)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that were taken: views, maybe not aligned, valid until `take` is called again."""
        return {
            name: self._bytes[name].view(dtype).reshape(shape) if self._bytes[name].size else np.empty(shape, dtype)
            for name, shape, dtype in self._fields or ()
        }

    def finish(self, checkpoint: Checkpoint, pause: Pause = no_pause) -> memoryview:
        """Return the whole file of the arrays that were taken; it is valid until `take` is called again.

        Of `checkpoint` only the metadata are read.  `pause` is called now and then.

        Raises
        ------
        TypeError
            Metadata that JSON cannot hold (a bug of the caller).
        ResourceError
            Not enough memory.
        """
        late = {} if checkpoint.late is None else checkpoint.late(self.arrays, pause)
        text = to_text({**checkpoint.metadata, **late})
        reserved = -(-len(text) // _TEXT_STEP) * _TEXT_STEP
        if reserved != self._text_bytes:
            before = self._bytes
            self._lay_out(self._fields or (), reserved)
            for name, values in before.items():
                self._bytes[name][:] = values
        begin = self._layout.offsets[METADATA]
        self._file[begin : begin + reserved] = text.ljust(reserved, b"\0")
        file = memoryview(self._file)
        file[:USER_BLOCK_BYTES] = user_block(file[USER_BLOCK_BYTES:], pause)
        return file

    def _lay_out(self, fields: tuple[_Field, ...], text_bytes: int) -> None:
        """Get memory for a file with such arrays, and write all of it but the values."""
        sizes = {name: np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64)) for name, shape, dtype in fields}
        attributes = {"filetype": np.bytes_(FILETYPE), "version": np.array(VERSION, "<i4")}
        with _out_of_memory(sum(sizes.values())):
            text = (METADATA, (), f"S{text_bytes}")
            layout = self._lay_out_file([text, *fields], attributes, USER_BLOCK_BYTES)
            file = mmap.mmap(-1, layout.size)  # at the border of a page, as writing past the page cache wants it
            with suppress(AttributeError, OSError):
                file.madvise(mmap.MADV_HUGEPAGE)
        for begin, data in layout.around:
            file[begin : begin + len(data)] = data
        self._bytes = {
            name: np.frombuffer(file, np.uint8, size, layout.offsets.get(name, 0)) for name, size in sizes.items()
        }
        self._layout, self._file, self._fields, self._text_bytes = layout, file, fields, text_bytes


def encode(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint's whole file; equal content gives equal bytes.  Errors as of `Encoder`."""
    encoder = Encoder()
    encoder.take(checkpoint.arrays)
    return bytes(encoder.finish(checkpoint))


@contextmanager
def _out_of_memory(size: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        raise ResourceError(
            f"no memory to build a checkpoint of {size} bytes: {error}",
            hint="as much as parameters and optimiser state together is needed once more",
        ) from error


def _bytes_of(array: np.ndarray) -> np.ndarray:
    """Return the bytes of a C-contiguous array: values that are not aligned are copied one by one otherwise."""
    return array.reshape(-1).view(np.uint8)


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    parts = name.split("/")
    if not all(parts) or "." in parts or ".." in parts or "\0" in name or parts[0] == METADATA or len(parts) > DEPTH:
        raise ValueError(f"a checkpoint cannot hold an array of the name {name!r}")
    array = np.asarray(array)
    if array.dtype.newbyteorder("=") not in DTYPES:
        raise TypeError(f"a checkpoint cannot hold {name!r} of dtype {array.dtype}, expected floats or integers")
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")
