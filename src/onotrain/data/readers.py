"""Which reader reads what."""

from __future__ import annotations

from onotrain.data import builtin
from onotrain.data.dataset import Dataset, DataSpec, check_finite
from onotrain.data.paths import existing_file
from onotrain.data.signatures import format_of_content
from onotrain.data.tables.table import Table
from onotrain.errors import DataError
from onotrain.known_names import BUILT_IN, FORMATS, SUFFIXES, TABLES, format_of_file

__all__ = ["FORMATS", "check_finite", "detect_format", "format_note", "is_table", "load_dataset"]

#: Of a name and of the content: the name says more.
_ALIKE = ({"netcdf", "hdf5"}, {"tsv", "csv"})


def format_of_name(path: str) -> str | None:
    """Return the format that a name stands for: ``builtin`` or one of `FORMATS`; None if it does not tell."""
    return "builtin" if path in BUILT_IN else format_of_file(path)


def detect_format(spec: DataSpec) -> str:
    """Return the format of the data: ``builtin``, ``memory`` or one of `FORMATS`.

    A format that `spec` says is taken as it is; else a file's first bytes count for more than its suffix.

    Raises
    ------
    DataError
        Neither the format nor the file says which, or it is one that is not read.
    """
    if spec.held is not None:
        return "memory"
    if spec.format in FORMATS:
        return spec.format
    if spec.format != "auto":
        raise DataError(f"{spec.path}: unknown format {spec.format!r}, expected auto or one of {', '.join(FORMATS)}")
    of_name = format_of_name(spec.path)
    if of_name == "builtin":
        return of_name
    of_content = format_of_content(spec.path)
    kind = of_name if of_content is None or {of_name, of_content} in _ALIKE else of_content
    if kind is not None:
        return kind
    existing_file(spec.path)
    raise DataError(
        f"{spec.path}: cannot tell the format from the file's name or content; known suffixes are "
        f"{' '.join(SUFFIXES)}, built-in data sets {', '.join(BUILT_IN)}",
        hint="say it with data.format (of a command: --format)",
    )


def format_note(spec: DataSpec) -> str | None:
    """Return, in words, that a file is of another format than its suffix says; None if it is not.

    Raises
    ------
    DataError
        As `detect_format`.
    """
    of_name, kind = format_of_name(spec.path), detect_format(spec)
    if of_name is None or of_name == kind or spec.format != "auto":
        return None
    return f"read as {kind}: the content is not what the suffix says ({of_name})"


def is_table(spec: DataSpec) -> bool:
    """Return whether the data are columns, and not arrays of features and targets."""
    kind = detect_format(spec)
    if kind not in ("hdf5", "netcdf"):
        return kind in TABLES or isinstance(spec.held, Table)
    from onotrain.data.tables.hdf5 import holds_table  # h5py alone takes a tenth of a second

    return holds_table(spec)


def load_dataset(spec: DataSpec) -> Dataset:
    """Read a whole data set into memory.

    Values may still be NaN or infinite: see `check_finite`.

    Raises
    ------
    DataError
        Missing, damaged, of another format than its name says, or not samples and targets.
    ResourceError
        Larger than the memory that is left.
    """
    if isinstance(spec.held, Dataset):
        return spec.held
    kind = detect_format(spec)
    if kind == "builtin":
        return builtin.load(spec)
    if spec.part != "train":
        raise DataError(
            f"{spec.path}: a file has no {spec.part} part of its own (validation: {spec.part})",
            hint="give a fraction such as 0.1, or the path of another file",
        )
    # Readers are imported when needed, because h5py alone takes a tenth of a second.
    if kind in ("hdf5", "netcdf") and not is_table(spec):
        from onotrain.data.hdf5 import read_hdf5 as reader
    elif kind == "npz":
        from onotrain.data.npy import read_npz as reader
    elif kind == "npy":
        from onotrain.data.npy import read_npy as reader
    elif kind == "idx":
        from onotrain.data.idx import read_idx as reader
    else:
        from onotrain.data.tables.labelled import numeric_dataset
        from onotrain.data.tables.loading import read_table
        from onotrain.data.tables.roles import choose_roles

        table = read_table(spec, kind)
        return numeric_dataset(table, choose_roles(table, spec, {}), {})
    return reader(spec)
