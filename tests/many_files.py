"""Data in seven files of uneven lengths, as simulations and exports write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onotrain.data.dataset import DataSpec

#: Rows of seven files.
LENGTHS = (40, 1, 7, 100, 23, 2, 64)
ROWS = sum(LENGTHS)


#: What the columns of the tables are.
COLUMNS: dict[str, Any] = {
    "name": "id",
    "count": {"name": "numeric", "missing": "mean", "indicator": True, "scale": "robust"},
    "code": "categorical",
    "size": {"name": "numeric", "scale": "quantile"},
}


def write_hdf5(place: Path, *, names: bool = False, weights: bool = False) -> DataSpec:
    """Write seven files of different types and chunks; some have their columns in another order."""
    draw = np.random.default_rng(0)
    for number, rows in enumerate(LENGTHS):
        with h5py.File(place / f"part-{number}.h5", "w") as file:
            kind = ("f4", "f8", "i4")[number % 3]
            chunks = None if rows < 5 else (5, 3)
            file.create_dataset("x", data=(100 * draw.normal(size=(rows, 3))).astype(kind), chunks=chunks)
            file["y"] = draw.integers(0, 4, rows)
            file["y"].attrs["units"] = "m"
            if weights:
                file["w"] = draw.uniform(1, 2, rows)
            if names:
                file.attrs["feature_names"] = list(("abc", "cab")[number % 2])
    return DataSpec(str(place / "part-*.h5"), features="x", targets="y", weights="w" if weights else None)


def write_parquet(place: Path, *, files: int = 7, holes: bool = False, group: int = 9) -> str:
    """Write files of uneven lengths with columns of all kinds; missing values in some files only."""
    draw = np.random.default_rng(1)
    for number, rows in enumerate(LENGTHS[:files]):
        few = holes and number == 3
        lost = draw.uniform(size=rows) < 0.3 if few else np.zeros(rows, bool)
        size, count = draw.normal(1e6, 1, rows), draw.integers(0, 5, rows)
        kind, day = draw.choice(["é", "b", "c", "d"], rows), draw.integers(0, 10**9, rows)
        columns = {
            "name": [f"s{number}-{row}" for row in range(rows)],
            "size": size.astype("f4") if number == 2 else size,
            "count": pa.array(count, mask=lost),
            "code": pa.array([str(c) for c in count]) if number == 4 else pa.array(count),
            "kind": pa.array(kind, mask=lost),
            "open": pa.array(draw.uniform(size=rows) < 0.5, mask=lost),
            "day": pa.array(day.astype("datetime64[s]"), mask=lost),
            "w": draw.uniform(1, 2, rows),
            "price": pa.array(size + count + draw.normal(size=rows), mask=lost if holes else None),
        }
        table = pa.table(columns)
        if number % 2:  # the columns in another order
            table = table.select(table.column_names[::-1])
        pq.write_table(table, place / f"part-{number}.parquet", row_group_size=group)
    return str(place / "part-*.parquet")
