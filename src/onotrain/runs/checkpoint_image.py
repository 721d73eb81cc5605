"""The HDF5 image in a checkpoint file, read without trust.

That the bytes are the ones that were written is checked before, by their digest. What is checked here is that whoever
wrote them wrote a checkpoint: a file made to harm could link to other files, name terabytes that it does not store, or
nest for ever.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from onotrain.errors import CheckpointError
from onotrain.runs.checkpoint_format import DEPTH, DTYPES, FILETYPE, METADATA, VERSION, foreign, other_version


def read_image(data: bytes, source: str) -> tuple[dict[str, np.ndarray], bytes]:
    """Read the image of a file that `onotrain.runs.checkpoint_encoder` made.

    Parameters
    ----------
    data
        The whole file with its user block.
    source
        Name of the file, for messages.

    Returns
    -------
    arrays : dict
        C-contiguous, writable, of native byte order; sorted by name.
    metadata : bytes
        The text of ``/metadata``.

    Raises
    ------
    CheckpointError
        It is of another version, or holds what a checkpoint may not hold.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            _check_root(file, source)
            datasets = _datasets(file, source)
            _check_sizes(datasets, len(data), source)
            metadata = datasets.pop(METADATA, None)
            if metadata is None or metadata.dtype.kind != "S":
                raise foreign(source, "no text in /metadata", "a JSON object")
            return {name: _read(datasets[name]) for name in sorted(datasets)}, bytes(metadata[()])
    except CheckpointError:
        raise
    except Exception as error:  # libhdf5 and h5py raise every kind of exception on an image that is not sound
        problem = f"an image that HDF5 cannot read ({type(error).__name__}: {error})"
        raise foreign(source, problem, "a sound one") from error


def _check_root(file: h5py.File, source: str) -> None:
    filetype, version = (_scalar_attribute(file, name, source) for name in ("filetype", "version"))
    if filetype != FILETYPE.encode():
        raise foreign(source, f"filetype {filetype!r}", FILETYPE)
    if version != VERSION:
        raise other_version(source, version)


def _scalar_attribute(file: h5py.File, name: str, source: str) -> Any:
    if name not in file.attrs:
        raise foreign(source, f"no attribute {name!r}", f"filetype={FILETYPE}, version={VERSION}")
    attribute = file.attrs.get_id(name)
    if attribute.shape != () or attribute.dtype.kind not in "Siu" or attribute.dtype.itemsize > 64:
        raise foreign(
            source, f"attribute {name!r} of dtype {attribute.dtype} and shape {attribute.shape}", "one short value"
        )
    value = file.attrs[name]
    return bytes(value) if isinstance(value, (bytes, np.bytes_)) else int(value)


def _datasets(file: h5py.File, source: str) -> dict[str, h5py.Dataset]:
    """All datasets by name; every link and every dataset is checked before anything behind it is touched."""
    found: dict[str, h5py.Dataset] = {}
    seen: set[Any] = set()
    pending: list[tuple[str, h5py.Group]] = [("", file)]
    while pending:
        prefix, group = pending.pop()
        for key in group:
            name = prefix + key
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise foreign(source, f"{name} is a {type(link).__name__}", "no links")
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or name.count("/") >= DEPTH:
                raise foreign(
                    source, f"{name[:80]} leads to an object that has another name, or is nested too deep", "a tree"
                )
            seen.add(address)
            if isinstance(item, h5py.Group):
                pending.append((name + "/", item))
            else:
                _check_dataset(item, name, source)
                found[name] = item
    return found


def _check_dataset(item: Any, name: str, source: str) -> None:
    if not isinstance(item, h5py.Dataset):
        raise foreign(source, f"{name} is a {type(item).__name__}", "groups and datasets")
    # The creation list first: it says where the data are kept, and asking it opens nothing.
    creation = item.id.get_create_plist()
    layout = creation.get_layout()
    if (
        creation.get_external_count()
        or layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
        or creation.get_nfilters()
    ):
        raise foreign(source, f"{name} has chunked, filtered, external or virtual storage", "plain contiguous storage")
    dtype = item.dtype
    text = name == METADATA and dtype.kind == "S" and item.shape == ()
    if not text and (dtype.newbyteorder("=") not in DTYPES or dtype.metadata):
        raise foreign(source, f"{name} of dtype {dtype}", "floats or integers")


def _check_sizes(datasets: Mapping[str, h5py.Dataset], limit: int, source: str) -> None:
    """Hold declared sizes against the file before anything is allocated; unwritten storage costs a file nothing."""
    declared = {name: math.prod(item.shape or (1,)) * item.dtype.itemsize for name, item in datasets.items()}
    for name, size in declared.items():
        stored = datasets[name].id.get_storage_size()
        if datasets[name].shape is None or size != stored:
            raise foreign(source, f"{name} declares {size} bytes and stores {stored}", "data that are all there")
    if sum(declared.values()) > limit:
        raise foreign(
            source, f"datasets of {sum(declared.values())} bytes in a file of {limit}", "each its own storage"
        )


def _read(dataset: h5py.Dataset) -> np.ndarray:
    array = np.empty(dataset.shape, dataset.dtype.newbyteorder("="))
    if array.size:
        dataset.read_direct(array)
    return array
