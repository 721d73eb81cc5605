"""What the values of an HDF5 data set stand for: text, names of an enumeration, packed numbers with marks for missing.

Packed numbers follow the conventions of netCDF (``_FillValue``, ``missing_value``, ``valid_range``, ``scale_factor``,
``add_offset``, ``_Unsigned``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from onotrain.data.hdf5_safety import read_attribute
from onotrain.data.tables.columns import NumberColumn, TextColumn
from onotrain.data.tables.table import Column
from onotrain.errors import DataError

__all__ = ["Packing", "ValueColumn", "as_text", "is_netcdf", "is_readable", "packing_of", "texts_of_attribute"]

#: What netCDF writes where nothing was written; bytes have no such value.
_DEFAULT_FILLS = {
    "i2": -32767, "u2": 65535, "i4": -2147483647, "u4": 4294967295, "i8": -9223372036854775806,
    "u8": 18446744073709551614, "f4": 9.969209968386869e36, "f8": 9.969209968386869e36,
}  # fmt: skip


@dataclass(frozen=True)
class Packing:
    """How numbers are stored.

    Parameters
    ----------
    missing
        Stored values that stand for no value.
    lowest, highest
        Stored values outside of these are no values; None: there is no such bound.
    scale, offset
        The number is ``stored * scale + offset``.
    unsigned
        Whether stored integers mean those of the same bits without a sign.
    meaning
        ``bool``, or ``datetime64[UNIT]`` of integers that count units since 1970, of which pandas' file says so; else
        None.
    missing_text
        Text that stands for no value.
    """

    missing: tuple[float | int, ...] = ()
    lowest: float | int | None = None
    highest: float | int | None = None
    scale: float = 1.0
    offset: float = 0.0
    unsigned: bool = False
    meaning: str | None = None
    missing_text: str = ""

    @property
    def is_scaled(self) -> bool:
        """Whether numbers are not stored as they are."""
        return self.scale != 1.0 or self.offset != 0.0

    def unpacked(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the numbers, of float64 if they are scaled, and where there is none (None: nowhere)."""
        if self.meaning is not None and stored.dtype.kind in "biu":
            return self._meant(stored, self.meaning), None
        if self.unsigned and stored.dtype.kind == "i":
            stored = stored.view(f"{stored.dtype.byteorder}u{stored.dtype.itemsize}")
        bad: np.ndarray | None = None
        if self.missing or self.lowest is not None or self.highest is not None:
            bad = np.zeros(stored.shape, bool)
            for mark in self.missing:
                bad |= stored == _of_type(mark, stored.dtype)
            if self.lowest is not None:
                bad |= stored < self.lowest
            if self.highest is not None:
                bad |= stored > self.highest
        return (stored * np.float64(self.scale) + self.offset if self.is_scaled else stored), bad

    @staticmethod
    def _meant(stored: np.ndarray, meaning: str) -> np.ndarray:
        """Return truth values or times of integers."""
        if meaning == "bool":
            return stored.astype(bool)
        try:
            times = stored.astype(np.int64).view(meaning)
        except (TypeError, ValueError):  # a unit that is none
            return stored
        return times.astype("datetime64[us]")


def _of_type(mark: float | int, dtype: np.dtype) -> float | int:
    """Return a mark as an array of a type holds it: one that was written as a signed or wider number, too."""
    if dtype.kind == "u" and isinstance(mark, int) and mark < 0:
        return mark + (1 << 8 * dtype.itemsize)
    with np.errstate(over="ignore"):
        return float(np.asarray(mark, dtype)) if dtype.kind == "f" else mark


def packing_of(data: h5py.Dataset, where: str, *, netcdf: bool) -> Packing:
    """Return how the numbers of a data set are stored, as its attributes say.

    Parameters
    ----------
    where
        Name for messages.
    netcdf
        Whether a netCDF program wrote the file, which marks what was never written in its own way.

    Raises
    ------
    DataError
        An attribute that must hold numbers does not.
    """
    if data.dtype.kind not in "iuf":
        return Packing()

    def one(key: str) -> float | int | None:
        found = _numbers(data, key, where, 1)
        return found[0] if found else None

    missing = _numbers(data, "_FillValue", where) + _numbers(data, "missing_value", where)
    code = f"{data.dtype.kind}{data.dtype.itemsize}"
    if netcdf and "_FillValue" not in data.attrs and code in _DEFAULT_FILLS:
        missing.append(_DEFAULT_FILLS[code])
    lowest, highest = _numbers(data, "valid_range", where, 2) or (one("valid_min"), one("valid_max"))
    scale, offset = one("scale_factor"), one("add_offset")
    return Packing(
        missing=tuple(mark for mark in dict.fromkeys(missing) if mark == mark),  # NaN is missing anyway
        lowest=lowest,
        highest=highest,
        scale=1.0 if scale is None else float(scale),
        offset=0.0 if offset is None else float(offset),
        unsigned=(as_text(read_attribute(data, "_Unsigned", where)) or "").lower() == "true",
    )


def _numbers(data: h5py.Dataset, key: str, where: str, count: int | None = None) -> list[float | int]:
    """Return the numbers of an attribute, none if it is not there."""
    value = read_attribute(data, key, where)
    if value is None:
        return []
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind not in "biuf" or (count is not None and array.size != count):
        raise DataError(f"{where}: the attribute {key} is {value!r}, expected {count or 'one or more'} number(s)")
    return array.ravel().tolist()


def as_text(value: Any) -> str | None:
    """Return an attribute as text, or None if it is none."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def texts_of_attribute(place: h5py.Group | h5py.Dataset, key: str, count: int, where: str) -> list[str] | None:
    """Return an attribute, or an array of text of this name beside it, that holds `count` texts; else None."""
    value = read_attribute(place, key, where)
    if value is None:
        return None
    texts = [as_text(each) for each in np.atleast_1d(np.asarray(value, object)).ravel()]
    return [str(text) for text in texts] if len(texts) == count and None not in texts else None


def is_netcdf(file: h5py.File) -> bool:
    """Return whether a netCDF program wrote a file."""
    return "_NCProperties" in file.attrs or "_nc3_strict" in file.attrs


def is_readable(dtype: np.dtype) -> bool:
    """Return whether values of a type can be a column."""
    return dtype.kind in "biuf" or h5py.check_string_dtype(dtype) is not None


class ValueColumn:
    """A column that is filled with values as they are stored.

    Parameters
    ----------
    rows
        Length of the column.
    dtype
        Of the stored values, as h5py gives it: numbers, text or an enumeration.
    packing
        How numbers are stored.
    where
        Name for messages.
    """

    def __init__(self, rows: int, dtype: np.dtype, packing: Packing, where: str) -> None:
        self._packing, self._where = packing, where
        self._names: dict[int, str] | None = None
        known = h5py.check_enum_dtype(dtype)
        if known is not None:
            self._names = {int(value): name for name, value in known.items()}
        self._column: NumberColumn | TextColumn
        if known is not None or dtype.kind not in "biuf":
            self._column = TextColumn(rows)
        else:
            example, _ = packing.unpacked(np.zeros(1, dtype))
            self._column = NumberColumn(rows, example.dtype)

    def add(self, stored: np.ndarray) -> None:
        """Append stored values ``(m,)``, or ``(m, length)`` of single characters.

        Raises
        ------
        DataError
            Text that is not UTF-8.
        """
        if isinstance(self._column, NumberColumn):
            self._column.add(*self._packing.unpacked(stored))
            return
        if self._names is not None:
            values, places = np.unique(stored, return_inverse=True)
            self._column.add([self._names.get(int(value)) for value in values], places.reshape(-1))
            return
        if stored.ndim == 2:  # single characters
            stored = np.ascontiguousarray(stored).view(f"S{stored.shape[1]}")[:, 0]
        words, places = np.unique(stored, return_inverse=True)
        self._column.add([self._decoded(word) for word in words.tolist()], places.reshape(-1))

    def _decoded(self, word: bytes | str) -> str:
        try:
            text = word.decode("utf-8") if isinstance(word, bytes) else word
        except UnicodeDecodeError as error:
            raise DataError(f"{self._where}: {word!r} is not UTF-8 text", hint="write it again as UTF-8") from error
        text = text.replace("\0", "")
        return "" if text == self._packing.missing_text else text

    def column(self, name: str, field: int, units: str | None) -> Column:
        """Return the column."""
        return self._column.column(name, field, units)
