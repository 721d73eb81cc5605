"""Which reader reads which table."""

from __future__ import annotations

from collections.abc import Collection

from onotrain.data.dataset import DataSpec
from onotrain.data.tables.table import Table


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
    from onotrain.data.tables.text import read_text

    return read_text(spec.path, kind, spec.csv, wanted=wanted, texts=texts)
