"""How numbers are written as text, with signs of currencies, units and marks between thousands: an example says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

#: What stands for a blank, a minus sign and an apostrophe, as programs and typesetters write them.
PLAIN = str.maketrans({"\xa0": " ", "\u2009": " ", "\u202f": " ", "\u2212": "-", "\u2013": "-", "\u2019": "'"})
_EXAMPLE = re.compile(r"(?P<prefix>\D*?)\s*1(?P<thousands>[., ']?)234(?:(?P<decimal>[.,])5)?(?P<suffix>(?:\D.*)?)")


@dataclass(frozen=True)
class NumberFormat:
    """What stands around and within each number of a column.

    Parameters
    ----------
    prefix, suffix
        A sign of a currency, a unit, or empty.
    decimal
        Decimal mark.
    thousands
        Mark between thousands, which need not be there; empty: none.
    """

    prefix: str = ""
    suffix: str = ""
    decimal: str = "."
    thousands: str = ""

    @classmethod
    def of_example(cls, text: str) -> NumberFormat | None:
        """Return the format in which 1234.5 (or 1234) is written so; None if `text` is something else."""
        found = _EXAMPLE.fullmatch(text.translate(PLAIN).strip())
        if found is None:
            return None
        thousands = found["thousands"]
        decimal = found["decimal"] or ("," if thousands == "." else ".")
        return None if decimal == thousands else cls(found["prefix"], found["suffix"].strip(), decimal, thousands)

    @property
    def example(self) -> str:
        """How 1234.5 is written."""
        before = f"{self.prefix} " if self.prefix[-1:].isalpha() else self.prefix
        after = f" {self.suffix}" if self.suffix[:1].isalpha() else self.suffix
        return f"{before}1{self.thousands}234{self.decimal}5{after}"

    @property
    def unit(self) -> str | None:
        """What stands around the numbers."""
        return self.prefix or self.suffix or None

    @cached_property
    def _body(self) -> re.Pattern[str]:
        mark, decimal = re.escape(self.thousands), re.escape(self.decimal)
        grouped = rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+|[1-9]\d?(?:{mark}\d\d)+{mark}\d{{3}}|" if mark else ""
        return re.compile(rf"(?:(?:{grouped}\d+)(?:{decimal}\d*)?|{decimal}\d+)(?:[eEdD][+-]?\d+)?")

    def number(self, text: str, *, bare: bool = False) -> float | None:
        """Return the number that `text` stands for, one in brackets or with a minus behind it too; None: it is none.

        If `bare`, what stands around the number may be left out.
        """
        text = text.translate(PLAIN).strip()
        sign = ""
        if text[:1] == "(" and text[-1:] == ")":
            sign, text = "-", text[1:-1].strip()
        for around in (self.prefix, ""):  # the sign may stand before a currency and behind it
            if not sign and text[:1] in ("+", "-"):
                sign, text = text[0], text[1:].lstrip()
            if not bare and not text.startswith(around):
                return None
            text = text.removeprefix(around).lstrip()
        if not bare and not text.endswith(self.suffix):
            return None
        text = text.removesuffix(self.suffix).rstrip()
        if not sign and text[-1:] == "-":
            sign, text = "-", text[:-1].rstrip()
        if not text.isascii() or not self._body.fullmatch(text):
            return None
        if self.thousands:
            text = text.replace(self.thousands, "")
        return float(sign + text.replace(self.decimal, ".").lower().replace("d", "e"))
