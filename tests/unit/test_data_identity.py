"""Whether data are the same as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import config
from onotrain.data import identity
from onotrain.data.identity import digest_of, known_to_both
from onotrain.data.prepare import prepare

X = np.arange(24.0).reshape(6, 4)


@pytest.mark.parametrize(
    "other",
    [X[::-1], X + 1e-12, X.astype(np.float32), X.reshape(4, 6), X.T, X[:5]],
    ids=["order", "value", "type", "shape", "axes", "number"],
)
def test_a_digest_sees_values_order_type_and_shape(other: np.ndarray) -> None:
    assert digest_of([other]) != digest_of([X])


def test_equal_arrays_have_the_same_digest_however_they_lie() -> None:
    assert digest_of([np.asfortranarray(X)]) == digest_of([X]) == digest_of([np.repeat(X, 2, axis=0)[::2]])
    assert digest_of([None, X]) == digest_of([X])
    assert digest_of([np.array(["a", "b"])]) != digest_of([np.array(["b", "a"])])


def test_rows_of_large_arrays_are_samples_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_MOST_BYTES", X.nbytes // 2)
    other = X.copy()
    other[0] = -1
    assert digest_of([other]) != digest_of([X])


def test_what_one_digest_leaves_open_is_not_compared() -> None:
    for one, other, same in [
        ("a:b", "a:b", True), ("a:b", "a:c", False), ("a:b", "a:", True), ("a:", "a:b", True), ("a:", "c:b", False),
        ("a", "a", True), ("a", "b", False),
    ]:  # fmt: skip
        first, second = known_to_both(one, other)
        assert (first == second) is same


RNG = np.random.default_rng(2)
COLUMNS = {name: RNG.normal(size=30) for name in "abwy"} | {"kind": RNG.choice(["p", "q"], 30)}
COLUMNS["w"] = abs(COLUMNS["w"])
FILES = ("train", "validation", "test")


def write(folder: Path, suffix: str, changed: str = "", column: str = "") -> dict[str, Any]:
    """Write the files of a run, one with another value in a column; return a ``data`` section."""
    for part in FILES:
        columns = {name: values.copy() for name, values in COLUMNS.items()}
        if part == changed:
            columns[column][7] = "r" if column == "kind" else 0.25
        path = folder / f"{part}.{suffix}"
        if suffix == "parquet":
            pq.write_table(pa.table(columns), path, row_group_size=10)
        elif suffix == "csv":
            rows = zip(*(values.tolist() for values in columns.values()), strict=True)
            path.write_text("\n".join(",".join(map(str, row)) for row in [tuple(columns), *rows]) + "\n")
        else:
            with h5py.File(path, "w") as file:
                file["x"], file["y"], file["w"] = np.stack([columns["a"], columns["b"]], 1), columns["y"], columns["w"]
    train, validation, test = (str(folder / f"{part}.{suffix}") for part in FILES)
    return {"train": train, "validation": validation, "test": test, "targets": "y", "weights": "w"}


def digest(data: dict[str, Any], **more: Any) -> str:
    section = config(1, loss="mse", data={**data, **more}).data
    return prepare(section, "regression", 1, "float32", 10**9).description.digest


@pytest.mark.parametrize("suffix", ["csv", "parquet", "h5"])
@pytest.mark.parametrize("part", FILES)
def test_other_values_in_any_part_are_other_data(tmp_path: Path, suffix: str, part: str) -> None:
    """Features, targets and weights of samples to train on, to validate with and to test with."""
    before = digest(write(tmp_path, suffix))
    for column in ("b", "w", "y", *(["kind"] if suffix != "h5" and part != "train" else [])):
        assert digest(write(tmp_path, suffix, part, column)) != before
    assert digest(write(tmp_path, suffix)) == before


@pytest.mark.parametrize("suffix", ["parquet", "h5"])
def test_data_are_the_same_whether_streamed_or_not(tmp_path: Path, suffix: str) -> None:
    data = write(tmp_path, suffix)
    assert digest(data, stream=True) == digest(data, stream=False)


def test_older_runs_tell_nothing_of_weights_and_other_parts(tmp_path: Path) -> None:
    now = digest(write(tmp_path, "h5"))
    old = ":".join(now.split(":")[:2])
    assert len(now.split(":")) == 5 and len(set(known_to_both(now, old))) == 1
