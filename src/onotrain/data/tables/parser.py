"""Blocks of a text table to columns of Arrow, by the parser of pyarrow."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from onotrain.data.tables.blocks import Block, without_blank_records
from onotrain.data.tables.dialect import Dialect


class Parser:
    """Parses blocks of records; several threads may do so at once.

    Parameters
    ----------
    dialect
        How the file is written.
    names
        Columns to parse.
    text
        Those of them that are text; the others are float64.
    """

    def __init__(self, dialect: Dialect, names: Sequence[str], text: Collection[str]) -> None:
        self._dialect, self._names = dialect, names
        self._numbers = [name for name in names if name not in text]
        as_text = dialect.thousands is not None  # numbers with marks between thousands are text to the parser
        kinds = pa.float64(), pa.dictionary(pa.int32(), pa.string())
        self._types = {name: kinds[as_text or name in text] for name in names}
        self._by_number = [str(c) for c in range(len(dialect.names))]
        # Looking for every word that stands for a missing value takes a tenth of the time; most files have none.
        self._convert = self._options({""} if all(map(self._no_number, dialect.missing)) else dialect.missing)

    def columns(self, block: Block) -> pa.Table | set[str]:
        """Return the columns of a block without blank records, or the names of those that turn out to hold text.

        Raises
        ------
        pyarrow.ArrowInvalid
            A record has another number of fields, or a byte is no text.
        """
        dialect = self._dialect
        part: pa.Table | None = None
        with contextlib.suppress(pa.ArrowInvalid):  # blank records may be the reason, or a word for a missing value
            part = self._parse(block)
            if len(dialect.names) < 2 or dialect.blanks:
                return part
            if self._numbers and not self._lacks_all_numbers(part):
                return part
        kept = without_blank_records(dialect, block)
        if part is not None and len(kept) == len(block):
            return part
        if not kept.strip():
            return pa.schema([(name, self._types[name]) for name in self._names]).empty_table()
        try:
            return self._parse(kept)
        except pa.ArrowInvalid as error:
            if not self._numbers or "conversion error" not in str(error):
                raise
        self._convert = self._options(dialect.missing)  # later blocks have such words, too
        try:
            return self._parse(kept)
        except pa.ArrowInvalid:
            return self._texts(kept)

    def _parse(self, block: Block) -> pa.Table:
        """Return the columns of a block.  Raises pyarrow.ArrowInvalid: one is no number, or a record is ragged."""
        dialect = self._dialect
        quoted = bool(dialect.quote) and isinstance(block, bytes) and dialect.quote.encode() in block
        table = pacsv.read_csv(
            pa.py_buffer(block),
            pacsv.ReadOptions(column_names=self._by_number, block_size=len(block) + 1, use_threads=False),
            pacsv.ParseOptions(
                delimiter="\t" if dialect.blanks else dialect.delimiter, quote_char=quoted and dialect.quote,
                double_quote=True, newlines_in_values=quoted,
            ),
            self._convert,
        )  # fmt: skip
        return table.rename_columns(list(self._names))

    def _lacks_all_numbers(self, part: pa.Table) -> bool:
        """Return whether there is a record without a single number, as a blank one is."""
        lacking = None
        for name in self._numbers:
            null = part.column(name).is_null()
            lacking = null if lacking is None else pc.and_(lacking, null)
            if not pc.any(lacking).as_py():
                return False
        return True

    def _options(self, missing: Collection[str]) -> pacsv.ConvertOptions:
        """Return how fields become values, some words standing for missing ones."""
        of_name = dict(zip(self._dialect.names, self._by_number, strict=True))
        return pacsv.ConvertOptions(
            column_types={of_name[name]: self._types[name] for name in self._names},
            include_columns=[of_name[name] for name in self._names], decimal_point=self._dialect.decimal,
            null_values=sorted({form for word in missing for form in (word, word.upper(), word.title())}),
            strings_can_be_null=True, quoted_strings_can_be_null=True,
        )  # fmt: skip

    def _no_number(self, word: str) -> bool:
        """Return whether a word is never parsed as a number, other than NaN, which stands for a missing one too."""
        number = self._dialect.number(word)
        return number is None or math.isnan(number)

    def _texts(self, block: Block) -> set[str]:
        """Return the columns of numbers that hold something else."""
        dialect = self._dialect
        table = Parser(dialect, self._numbers, self._numbers)._parse(block)
        found = set()
        for name in self._numbers:
            for chunk in table.column(name).chunks:
                known = (value.strip() for value in chunk.dictionary.to_pylist())
                if any(not dialect.is_missing(value) and dialect.number(value) is None for value in known):
                    found.add(name)
                    break
        return found or set(self._numbers)
