"""Which reader reads which table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from onotrain.data.dataset import DataSpec
from onotrain.data.tables.columns import as_text
from onotrain.data.tables.number_formats import with_formats
from onotrain.data.tables.table import Table, by_name, text_columns
from onotrain.errors import DataError


def read_table(
    spec: DataSpec, kind: str, *, wanted: Collection[str] | None = None, texts: Collection[str] = (),
    formats: Mapping[str, str] | None = None,
) -> Table:  # fmt: skip
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
        Columns to be read as text, whatever they look like; or a mapping of names and patterns to whether they are.
    formats
        How numbers are written, by column, where it is known; else it is guessed.

    Raises
    ------
    DataError, ResourceError
        See the readers.
    """
    formats = formats or {}
    asked = text_columns(texts, texts) | set(formats)
    table = _read(spec, kind, wanted, asked)
    as_texts = text_columns(table.names, texts)
    known = {name: form for name in table.names if (form := by_name(name, formats)) is not None}
    if any(not table[name].is_text for name in {*as_texts, *known} - asked):  # of a pattern
        table = _read(spec, kind, wanted, {*as_texts, *known})
    return with_formats(table, as_texts, known)


def _read(spec: DataSpec, kind: str, wanted: Collection[str] | None, texts: Collection[str]) -> Table:
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
