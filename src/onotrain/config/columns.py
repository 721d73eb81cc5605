"""Sections of ``data.columns``: what a column of a table is, and how it becomes numbers for a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, Strict

from onotrain.config.base import Count, CountOrZero, Problem, Section, Share, Text, Texts
from onotrain.config.choices import ByType, OneOf
from onotrain.config.number_format import NumberFormat

Scaling = Literal["none", "standard", "minmax", "robust", "log", "quantile"]
DatePart = Literal["year", "month", "weekday", "day", "hour", "minute", "trend"]


class Categories(NamedTuple):
    """Of a feature that is a code: the column of the table, and how many codes there are, which count from 0."""

    column: str
    codes: int


class Constant(Section):
    """A given number for missing values."""

    constant: float = Field(description="Number that stands for a missing value, in the units of the column.")


class ColumnOptions(Section):
    """Base of all kinds of columns."""

    name: str


class NumericColumn(ColumnOptions):
    """A quantity."""

    name: Literal["numeric"] = Field(description="A quantity.")
    scale: Annotated[Scaling | None, ByType("a scaling or null")] = Field(
        None,
        description="Scaling: `standard` (mean 0, standard deviation 1), `minmax` (0 to 1), `robust` (median 0, "
        "interquartile range 1), `log` (log(1 + x) of values that are not negative, then standard), `quantile` (to a "
        "normal distribution), or `none`; null: that of `data.normalize`.",
    )
    missing: Annotated[
        Literal["error", "mean", "median"] | Constant, ByType("error, mean, median or {constant: ...}")
    ] = Field(
        "error", description="What stands for a missing value: nothing (`error`), `mean` or `median` of the training "
        "data, or `{constant: ...}`.",
    )  # fmt: skip
    indicator: bool = Field(False, description="Add a column that is 1 where the value was missing, else 0.")
    clip: Annotated[tuple[float, ...], Strict(False)] | None = Field(
        None, description="Least and largest value, in the units of the column; what lies outside is moved there."
    )
    format: Text | None = Field(
        None,
        description="How 1234.5 is written, such as `$1,234.5` or `1.234,5 mm`: marks between thousands may be left "
        "out, and what stands around the number is its unit; null: it is guessed.",
    )

    def problems(self) -> Iterator[Problem]:
        """Yield limits that are none, and an indicator of what cannot be."""
        if self.clip is not None and (len(self.clip) != 2 or self.clip[0] >= self.clip[1]):
            yield Problem(("clip",), f"must be two numbers that go up (got {list(self.clip)})")
        if self.format is not None and NumberFormat.of_example(self.format) is None:
            yield Problem(
                ("format",),
                f"must show how 1234.5 is written, such as '$1,234.5' or '1.234,5 m' (got {self.format!r})",
            )
        if self.indicator and self.missing == "error":
            yield Problem(
                ("indicator",), "needs a value for what is missing: set missing to mean, median or a constant"
            )


class CategoricalColumn(ColumnOptions):
    """One of several values."""

    name: Literal["categorical"] = Field(
        description="One of several values, each a column of 0 and 1, or a code for layer `embedding`; missing ones "
        "are a value of their own."
    )
    encode: Literal["auto", "one_hot", "code"] = Field(
        "auto",
        description="What a network gets: a column of 0 and 1 for each value (`one_hot`), or the number of the "
        "value (`code`), of which layer `embedding` makes a vector; `auto`: `code` if the network has that "
        "layer.",
    )
    values: Texts | None = Field(
        None, description="Values that have a column of their own; null: the most frequent of the training data."
    )
    most: Count = Field(50, description="At most so many values; rarer ones, and new ones, share the column `other`.")
    rare: Share = Field(0.0, description="Share of the samples below which a value counts as rare.")

    def is_code(self, embedded: bool) -> bool:
        """Return whether it becomes a code, of a network that has embeddings (`embedded`) or not."""
        return self.encode == "code" or (self.encode == "auto" and embedded)


class BooleanColumn(ColumnOptions):
    """Yes or no."""

    name: Literal["boolean"] = Field(description="Two values, 0 and 1; missing ones are 0.5.")


class DateColumn(ColumnOptions):
    """A point in time."""

    name: Literal["date"] = Field(
        description="A date or time, as parts of it; months, weekdays, hours and minutes go round (sine and cosine)."
    )
    parts: Annotated[tuple[DatePart, ...], Strict(False)] | None = Field(
        None,
        description="Parts; null: `trend` (days, standardised) and those that vary in the training data.",
    )
    format: Text | None = Field(
        None,
        description="How it is written, such as `%d.%m.%Y`; null: ISO 8601 and the usual national forms are tried.",
    )


class IdColumn(ColumnOptions):
    """A name of the sample."""

    name: Literal["id"] = Field(description="Names the sample: not learned, and carried over to the predictions.")


class IgnoredColumn(ColumnOptions):
    """Nothing to learn from."""

    name: Literal["ignore"] = Field(description="Is not read.")


ColumnKind = Annotated[
    NumericColumn | CategoricalColumn | BooleanColumn | DateColumn | IdColumn | IgnoredColumn, OneOf("column kind")
]


class TextTable(Section):
    """How text tables (CSV, TSV) are written."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="Character between two fields; a space stands for any run of blanks."
    )
    decimal: Literal[".", ","] | None = Field(None, description="Decimal mark.")
    thousands: Annotated[str, Field(max_length=1)] | None = Field(
        None, description="Mark between thousands, which is left out; empty: none."
    )
    comment: Annotated[str, Field(max_length=1)] | None = Field(
        None, description="Character that a line with a comment begins with; empty: none."
    )
    header: bool | None = Field(None, description="Whether the first line holds the names of the columns.")
    skip: CountOrZero | None = Field(
        None, description="Lines at the beginning that are left out, such as titles above the header."
    )
    units_row: bool | None = Field(
        None,
        description="Whether the line beneath the header holds the units of the columns; one with numbers does not.",
    )
    quote: Annotated[str, Field(max_length=1)] = Field('"', description="Character around text; empty: none.")
    encoding: Text | None = Field(
        None, description="Character set, such as `latin-1`; null: UTF-8, or as the file says."
    )
    missing: Texts | None = Field(
        None,
        description="What stands for a missing value besides an empty field, in any case; null: NA, N/A, #N/A, NaN, "
        "NaT, null, None, ?, -, -- and a single point, for all of which `default` stands in a list.",
    )
