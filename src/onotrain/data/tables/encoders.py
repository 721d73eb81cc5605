"""Encoders: what one column becomes for a network, fitted on the training part and kept with the model.

An encoder writes its column's values to one or several columns of a matrix.  It says what it knows as plain data
(`to_dict`), from which it is made again.
"""

from __future__ import annotations

from onotrain.data.tables.categorical import BooleanEncoder, CategoricalEncoder
from onotrain.data.tables.date import DateEncoder
from onotrain.data.tables.numeric import NumericEncoder

__all__ = ["ENCODERS", "BooleanEncoder", "CategoricalEncoder", "DateEncoder", "Encoder", "NumericEncoder"]

Encoder = NumericEncoder | CategoricalEncoder | BooleanEncoder | DateEncoder
ENCODERS: dict[str, type[Encoder]] = {
    cls.kind: cls for cls in (NumericEncoder, CategoricalEncoder, BooleanEncoder, DateEncoder)
}
