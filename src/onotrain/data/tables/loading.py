"""Which reader reads which table."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from onotrain.data.dataset import DataSpec
from onotrain.data.tables.columns import as_text
from onotrain.data.tables.table import Table
from onotrain.errors import DataError


def read_table(
    spec: DataSpec, kind: str, *, wanted: Collection[str] | None = None, texts: Collection[str] = ()
) -> Table:
    """Read a table.

    Parameters
    ----------
    spec
        Which file, and what is known of it.
    kind
        One of `onotrain.known_names.TABLES`.
    wanted
        Columns to read; None for all.
    texts
        Columns to be read as text, whatever they look like.

    Raises
    ------
    DataError, ResourceError
        See the readers.
    """
    if isinstance(spec.held, Table):
        return spec.held
    if kind not in ("csv", "tsv"):
        table = _read_binary(spec.path, kind, wanted)
        return replace(table, columns=tuple(as_text(c) if c.name in texts else c for c in table))
    from onotrain.data.tables.text import read_text

    return read_text(spec.path, kind, spec.csv, wanted=wanted, texts=texts)


def _read_binary(path: str, kind: str, wanted: Collection[str] | None) -> Table:
    if kind in ("parquet", "arrow"):
        from onotrain.data.tables.arrow import read_arrow

        return read_arrow(path, wanted)
    from onotrain.data.tables.hdf5 import hdf5_table

    table = hdf5_table(path, wanted, anyway=True)
    if table is None:
        raise DataError(f"{path}: holds no columns of the same length")
    return table
