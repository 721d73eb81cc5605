"""How one file is cut in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onotrain.data.parts import in_file
from onotrain.errors import DataError
from tables import prepared, write

ORDER = np.random.default_rng(4).permutation(30)
DATES = [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(30)]


def parts(tmp_path: Path, **split: Any) -> list[list[int]]:
    """Return what the samples of each fold have in column t, in which the file is not sorted."""
    rows = "".join(f"{t},{DATES[t]},{t % 7},{t}\n" for t in ORDER)
    path = write(tmp_path, "t,when,x,target\n" + rows)
    found = []
    for fold in range(3):
        arrays = prepared(path, split={"folds": 3, "fold": fold, **split}).arrays
        assert sorted([*arrays["train_index"], *arrays["validation_index"]]) == [*range(30)]
        found.append(sorted(ORDER[arrays["validation_index"]].tolist()))
    return found


@pytest.mark.parametrize("column", ["t", "when"])
def test_folds_of_an_order_are_spans_of_the_column(tmp_path: Path, column: str) -> None:
    assert parts(tmp_path, by="order", column=column) == [[*range(10)], [*range(10, 20)], [*range(20, 30)]]


def test_folds_of_an_order_without_a_column_are_spans_of_the_file(tmp_path: Path) -> None:
    expected = [sorted(ORDER[begin : begin + 10].tolist()) for begin in (0, 10, 20)]
    assert parts(tmp_path, by="order") == expected


def test_folds_at_random_are_no_spans(tmp_path: Path) -> None:
    found = parts(tmp_path, by="class")
    assert sorted(sum(found, [])) == [*range(30)] and found[0] != [*range(10)]


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_never_cut(tmp_path: Path, seed: int) -> None:
    group = np.random.default_rng(seed).integers(0, 12, 90)
    path = write(tmp_path, "who,x,target\n" + "".join(f"p{g},{row % 7},{row}\n" for row, g in enumerate(group)))
    split = {"by": "group", "column": "who", "seed": seed}
    arrays = prepared(path, split=split, validation=0.2, test=0.3, exclude=["who"]).arrays
    found = [arrays[f"{part}_index"] for part in ("train", "validation", "test")]
    assert sorted(np.concatenate(found)) == [*range(90)]
    whose = [set(group[index]) for index in found]
    assert not whose[0] & whose[1] and not whose[0] & whose[2] and not whose[1] & whose[2]
    assert [len(index) / 90 for index in found] == pytest.approx([0.5, 0.2, 0.3], abs=0.12)


def test_the_last_in_time_test_and_those_before_them_validate(tmp_path: Path) -> None:
    rows = "".join(f"{DATES[t]},{t % 7},{t}\n" for t in ORDER)
    split = {"by": "order", "column": "when"}
    arrays = prepared(write(tmp_path, "when,x,target\n" + rows), split=split, validation=0.2, test=0.1).arrays
    found = [sorted(ORDER[arrays[f"{part}_index"]].tolist()) for part in ("train", "validation", "test")]
    assert found == [[*range(21)], [*range(21, 27)], [*range(27, 30)]]


def test_the_scaling_is_that_of_the_training_part(tmp_path: Path) -> None:
    """Of features and of targets."""
    rows = "".join(f"{t * t + 0.5},{t * t}\n" for t in range(30))
    made = prepared(
        write(tmp_path, "t,target\n" + rows), split={"by": "order"}, validation=0.5, normalize="standard",
        normalize_targets="standard", dtype="float64",
    )  # fmt: skip
    for name in ("features", "targets"):
        values = made.arrays[name][made.arrays["train_index"]]
        assert (values.mean(), values.std()) == pytest.approx((0, 1), abs=1e-12)
        assert abs(made.arrays[name].mean()) > 0.5


def test_an_order_of_dates_is_that_of_their_format(tmp_path: Path) -> None:
    """Where a day may be taken for a month; a date that is missing has no place."""
    dates = [f"{day:02d}/{month:02d}/2024" for month in range(1, 13) for day in range(1, 13)]
    order = np.random.default_rng(1).permutation(len(dates))
    text = "when,x,target\n" + "".join(f"{dates[row]},{row % 7},{row % 5}.5\n" for row in order)
    data: dict[str, Any] = {"validation": 0.25, "split": {"by": "order", "column": "when"}}
    data["columns"] = {"when": {"name": "date", "format": "%d/%m/%Y"}}
    found = order[prepared(write(tmp_path, text), **data).arrays["validation_index"]]
    assert sorted(found) == [*range(108, 144)]
    with pytest.raises(DataError, match=r"a\.csv:2:1: column 'when' has a missing value"):
        prepared(write(tmp_path, text.replace(dates[order[0]], "", 1)), **data)


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_a_split_counts_the_rows_of_the_file(tmp_path: Path, form: str) -> None:
    """Where samples without a target are left out, too; given again, it cuts the same parts."""
    x = np.random.default_rng(2).normal(size=40)
    y = np.where(np.arange(40) % 3 == 1, np.nan, np.arange(40.0) ** 2)
    path = str(tmp_path / f"a.{form}")
    if form == "npz":
        np.savez(path, x=x[:, None], y=y)
    else:
        rows = "".join(f"{a},{'' if np.isnan(b) else b}\n" for a, b in zip(x, y, strict=True))
        write(tmp_path, "x,target\n" + rows)
    made = prepared(path, missing_targets="drop", validation=0.25)
    said = in_file(made.arrays)
    trained, held_out = y[said["train_index"]], y[said["validation_index"]]
    assert sorted([*trained, *held_out]) == [value for value in y if not np.isnan(value)]
    np.testing.assert_array_equal(made.arrays["targets"][made.arrays["train_index"]].reshape(-1), trained)
    np.savez(tmp_path / "split.npz", **said)
    again = prepared(path, missing_targets="drop", split={"file": str(tmp_path / "split.npz")})
    for name in ("train_index", "validation_index"):
        np.testing.assert_array_equal(again.arrays[name], made.arrays[name])


def test_a_split_file_that_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, "x,target\n" + "".join(f"{k % 3},{k}\n" for k in range(9)))
    with pytest.raises(DataError, match="nope.npz: no such file"):
        prepared(path, split={"file": str(tmp_path / "nope.npz")})
