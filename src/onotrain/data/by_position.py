"""Text tables without a header, for a network that knows its columns by name: places say which column is which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from onotrain.config.number_format import NumberFormat
from onotrain.data.dataset import DataSpec
from onotrain.data.reading import ReadFiles
from onotrain.data.sources import files_of, format_of, read_table
from onotrain.data.tables.dialect import Dialect
from onotrain.data.tables.encoders import Encoder, NumericEncoder
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.table import Column, Table, coded, shown
from onotrain.errors import DataError


@dataclass(frozen=True)
class ByPosition:
    """How to read a text table without a header.

    Parameters
    ----------
    spec
        Of the file.
    names
        What its columns are called, by the names that they have without a header.
    """

    spec: DataSpec
    names: Mapping[str, str]

    @property
    def note(self) -> str:
        """What a person must know of it."""
        return (
            f"{self.spec.path} has no header: its columns are taken for {shown(list(self.names.values()))}, in the "
            "order of the training file"
        )

    def read(
        self, wanted: Collection[str], texts: Collection[str], formats: Mapping[str, str], reader: ReadFiles
    ) -> Table:
        """Return the table with the names that the network knows; see `onotrain.data.sources.read_table`."""
        own = {name: place for place, name in self.names.items()}
        table = read_table(
            self.spec, wanted=[own[name] for name in wanted if name in own],
            texts=[own[name] for name in texts if name in own],
            formats={own[name]: form for name, form in formats.items() if name in own}, reader=reader,
        )  # fmt: skip
        columns = tuple(replace(column, name=self.names[column.name]) for column in table)
        return replace(table, columns=columns)


def by_position(
    spec: DataSpec, preparation: Preparation, wanted: Collection[str], targets: Collection[str]
) -> ByPosition | None:
    """Return how to read a text table of which the first line holds no names.

    Parameters
    ----------
    spec
        Of the file; its section ``csv`` is that of the training, which may say that there is a header.
    preparation
        Of the training data.
    wanted
        Columns with targets that the file must have.
    targets
        Columns with targets that it may have.

    Returns
    -------
    ByPosition or None
        None if the first line holds the name of a column, or no values of the columns, or if the number of fields does
        not say which columns they are.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    kind = format_of(spec)
    if kind not in ("csv", "tsv"):
        return None
    from onotrain.data.tables.dialect_guess import first_record, look_at

    of_header = {} if spec.csv.header is False else {"skip": 0}  # no titles stand above what is not there
    csv = spec.csv.model_copy(update={"header": False, "units_row": False, **of_header})
    dialect = look_at(files_of(spec)[0].path, kind, csv)
    first = first_record(dialect)
    known = {*preparation.columns, *preparation.inputs, *targets, *wanted}
    if not known.isdisjoint(dialect.names) or not known.isdisjoint(field.strip() for field in first):
        return None
    fitting = [
        names for names in _choices(preparation, {*wanted, *targets})
        if len(names) == len(dialect.names) == len(first) and {*preparation.inputs, *wanted} <= set(names)
        and _are_values(dict(zip(names, first, strict=True)), preparation, dialect)
    ]  # fmt: skip
    if len(fitting) != 1:
        return None
    return ByPosition(replace(spec, csv=csv), dict(zip(dialect.names, fitting[0], strict=True)))


def _choices(preparation: Preparation, targets: Collection[str]) -> set[tuple[str, ...]]:
    """Return which columns a file may have: those that are learned from, with ids, targets and all others or not."""
    every = preparation.columns or preparation.inputs
    inputs, ids, targets = set(preparation.inputs), set(preparation.ids), set(targets)
    kept = (inputs, inputs | ids, set(every) - targets)
    return {tuple(name for name in every if name in names) for each in kept for names in (each, each | targets)}


def _are_values(record: Mapping[str, str], preparation: Preparation, dialect: Dialect) -> bool:
    """Return whether the fields of a record are what their columns' kinds say, and not all of them new categories."""
    columns = [_column(name, record[name], encoder, dialect) for name, encoder in preparation.encoders]
    table = Table(tuple(columns), dialect.path)
    try:
        preparation.transform(table, np.float64, lenient=True)
    except DataError:
        return False
    return len(preparation.unseen(table)) < len(columns)


def _column(name: str, text: str, encoder: Encoder, dialect: Dialect) -> Column:
    """Return one field as a column of text."""
    codes, categories = coded(["" if dialect.is_missing(text) else text.strip()])
    written = encoder.written if isinstance(encoder, NumericEncoder) else None
    form = None if written is None else NumberFormat.of_example(written)
    number = dialect.number(text) if form is None else form.number(text, bare=True)
    numbers = np.array([np.nan if number is None else number])[: len(categories)]
    return Column(name, codes, categories, numbers=numbers)
