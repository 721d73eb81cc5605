"""Text tables for tests: written, read, and prepared for training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import config
from onotrain.config.columns import TextTable
from onotrain.data.prepare import Prepared, prepare
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.table import Table
from onotrain.data.tables.text import read_text
from onotrain.errors import DataError


def write(folder: Path, text: str | bytes, name: str = "a.csv") -> str:
    """Write a file; return its path."""
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return str(folder / name)


def read(path: str, *, block_bytes: int | None = None, **csv: Any) -> Table:
    """Read all columns of a text table, `block_bytes` at once; `csv` is what is known of its dialect."""
    kind = "tsv" if ".tsv" in Path(path).name else "csv"
    return read_text(path, kind, TextTable.model_validate(csv), block_bytes=block_bytes)


def columns(table: Table) -> dict[str, list[Any]]:
    """Return the values of all columns: numbers, or text; missing ones are None."""
    found: dict[str, list[Any]] = {}
    for column in table:
        values = column.texts().tolist() if column.is_text else column.values.tolist()
        found[column.name] = [None if gone else v for v, gone in zip(values, column.missing, strict=True)]
    return found


def section(path: str, **data: Any) -> Any:
    """Return a ``data`` section."""
    return config(2, data={"train": path, **data}).data


def prepared(path: str, task: str = "regression", outputs: int = 1, dtype: str = "float32", **data: Any) -> Prepared:
    """Return what training gets of a file."""
    return prepare(section(path, **data), task, outputs, dtype, 10**9)


def preparation_of(made: Prepared) -> Preparation:
    """Return what becomes of the columns."""
    assert made.description.preparation is not None
    return made.description.preparation


def refused(path: str, task: str = "regression", outputs: int = 1, **data: Any) -> str:
    """Prepare what cannot be trained on; return the message without the folder."""
    with pytest.raises(DataError) as caught:
        prepared(path, task, outputs, **data)
    message = str(caught.value)
    assert message.startswith(path)
    return message.removeprefix(str(Path(path).parent) + "/")


def kinds(made: Prepared) -> dict[str, str]:
    """Return the kinds of the columns that are learned from."""
    return {name: encoder.kind for name, encoder in preparation_of(made).encoders}


def fitted(
    table: Table, options: Mapping[str, Any], scale: Any = "none", rows: np.ndarray | None = None
) -> Preparation:
    """Return the preparation of columns, whose options are as in ``data.columns``."""
    made = config(2, data={"train": "a.csv", "columns": dict(options)}).data.columns
    return Preparation.fit(table, made, scale, rows)
