"""The order of streamed samples, and what `data info` says."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.data import DataSpec
from onotrain.data.dataset import make_dataset
from onotrain.data.info import describe, describe_dataset
from onotrain.data.stream import BlockOrder
from onotrain.data.tables.info import describe_table
from onotrain.seeds import key


def shuffle(start: int, n: int, key: int, out: np.ndarray) -> None:
    """Do what the kernels' shuffle_positions does, with NumPy."""
    out[:] = np.random.default_rng(key).permutation(n)[start : start + len(out)]


def even(rows: int, block_rows: int) -> np.ndarray:
    """Return the edges of blocks of the same size."""
    return np.array([*range(0, rows, block_rows), rows])


def order_of(order: BlockOrder, cuts: list[int] | None = None) -> list[int]:
    """Return the rows of the file in the order of the epoch, read in chunks that end at `cuts`."""
    rows: list[int] = []
    edges = [0, *sorted(cuts or []), order.samples]
    for begin, end in zip(edges, edges[1:], strict=False):
        for chunk in order.chunks(begin, end):
            window = order.windows[chunk.window]
            buffer = np.concatenate([np.arange(*block) for block in window.blocks])
            assert len(buffer) == window.rows
            assert (chunk.begin, chunk.end - chunk.begin) == (len(rows), len(chunk.rows))
            rows += buffer[chunk.rows].tolist()
    return rows


SIZES = st.tuples(st.integers(1, 60), st.integers(1, 12), st.integers(1, 6))


class TestBlockOrder:
    @given(SIZES, st.integers(0, 3), st.data())
    def test_every_sample_once_however_it_is_read(
        self, sizes: tuple[int, int, int], epoch: int, data: st.DataObject
    ) -> None:
        rows, block_rows, window_blocks = sizes
        index = np.array(sorted(data.draw(st.sets(st.integers(0, rows - 1), min_size=1))))
        for chosen in (None, index):
            order = BlockOrder(even(rows, block_rows), window_blocks, epoch, partial(key, 1), shuffle, chosen)
            got = order_of(order)
            assert sorted(got) == (list(range(rows)) if chosen is None else index.tolist())
            cuts = data.draw(st.lists(st.integers(0, order.samples), max_size=5))
            assert order_of(order, cuts) == got

    @given(SIZES)
    def test_windows(self, sizes: tuple[int, int, int]) -> None:
        rows, block_rows, window_blocks = sizes
        windows = BlockOrder(even(rows, block_rows), window_blocks, 0, partial(key, 0), shuffle).windows
        blocks = [block for window in windows for block in window.blocks]
        assert sorted(blocks) == [(b, min(b + block_rows, rows)) for b in range(0, rows, block_rows)]
        counts = [len(window.blocks) for window in windows]
        assert max(counts) <= window_blocks
        assert max(counts) - min(counts) <= 1
        assert [window.begin for window in windows] == np.cumsum([0, *(w.samples for w in windows[:-1])]).tolist()

    def test_one_window_is_the_order_in_memory(self) -> None:
        for index in (None, np.array([1, 5, 6, 20])):
            n = 30 if index is None else 4
            for block_rows in (30, 7):
                got = order_of(BlockOrder(even(30, block_rows), 5, 2, partial(key, 9), shuffle, index))
                positions = np.empty(n, np.int64)
                shuffle(0, n, key(9, "order", 2), positions)
                assert got == (positions if index is None else index[positions]).tolist()

    def test_epochs_and_seeds_differ(self) -> None:
        orders = {
            tuple(order_of(BlockOrder(even(100, 5), 4, epoch, partial(key, seed), shuffle)))
            for epoch in range(5)
            for seed in range(5)
        }
        assert len(orders) == 25

    def test_blocks_meet_in_other_windows(self) -> None:
        together = set()
        for epoch in range(30):
            for window in BlockOrder(even(40, 5), 2, epoch, partial(key, 0), shuffle).windows:
                together.add(window.blocks)
        assert len(together) == 8 * 7 / 2

    def test_wrong_arguments(self) -> None:
        order = BlockOrder(even(10, 3), 2, 0, partial(key, 0), shuffle)
        with pytest.raises(IndexError, match="position 10 of an epoch of 10"):
            order.window_at(10)
        with pytest.raises(IndexError, match="positions 3 to 11"):
            next(order.chunks(3, 11))
        with pytest.raises(ValueError, match="0 blocks"):
            BlockOrder(even(0, 3), 2, 0, partial(key, 0), shuffle)

    def test_windows_without_a_sample_are_passed_over(self) -> None:
        order = BlockOrder(even(100, 10), 1, 0, partial(key, 0), shuffle, np.array([3, 4, 77]))
        assert sorted(order_of(order)) == [3, 4, 77]
        assert sorted(window.samples for window in order.windows)[-2:] == [1, 2]


class TestInfo:
    def test_digits(self) -> None:
        info = describe(DataSpec("digits"))
        assert (info.format, info.samples, info.features, info.feature_shape) == ("builtin", 1797, 64, (8, 8))
        assert info.targets is not None
        assert info.targets.kind == "classes"
        assert info.targets.class_counts is not None
        assert info.targets.class_counts[:2] == (("0", 178), ("1", 182))
        assert info.constant == (0, 32, 39)
        assert info.overall[:2] == (0, 16)
        assert not info.missing.any()

    def test_csv_with_holes(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,b,c,kind\n1,,5,x\n2,NA,5,y\n,8,5,y\n4,inf,5,\n")
        info = describe_table(DataSpec(str(tmp_path / "a.csv")))
        a, b, c, kind = info.columns
        assert [column.name for column in info.columns] == ["a", "b", "c", "kind"]
        assert [column.missing for column in info.columns] == [1, 2, 0, 1]
        assert [column.infinite for column in info.columns] == [0, 1, 0, 0]
        assert [column.different for column in info.columns] == [3, 1, 1, 2]
        assert a.summary == "1 to 4, sd 1.2472, mean 2.3333"
        assert b.summary == "8 to 8, sd 0, mean 8"
        assert (c.role, c.why) == ("ignore", "every value is the same")
        assert (kind.role, kind.why, kind.summary) == ("target", "the last column", "y (2), x (1)")
        assert info.targets is not None
        assert (info.targets.missing, info.targets.dtype) == (1, "text")
        assert info.targets.class_counts == (("x", 1), ("y", 2))
        assert info.targets.names == ("kind",)
        assert info.problem == ""

    def test_csv_with_missing_numeric_labels(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,label\n1.5,3\n2,\n3,3\n4,7\n1,7\n")
        targets = describe_table(DataSpec(str(tmp_path / "a.csv"))).targets
        assert targets is not None
        assert (targets.kind, targets.missing, targets.class_counts) == ("classes", 1, (("3", 2), ("7", 2)))

    def test_a_column_without_values(self) -> None:
        info = describe_dataset(make_dataset(np.full((3, 1), np.nan), None, "memory"))
        assert np.isnan([info.minimum[0], info.mean[0], info.std[0], *info.overall]).all()
        assert (info.constant, info.missing.tolist(), info.targets) == ((), [3], None)

    @pytest.mark.parametrize("dtype", ["u1", "f4"])
    def test_blocks_of_a_stream_give_the_whole(
        self, tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x = np.random.default_rng(0).uniform(0, 99, (83, 5)).astype(dtype)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"], file["y"] = x, np.arange(83) % 4
        monkeypatch.setattr("onotrain.data.streams.BLOCK_BYTES", 200)
        info = describe(DataSpec(str(tmp_path / "a.h5")))
        assert (info.format, info.samples, info.features, info.dtype) == ("hdf5", 83, 5, str(x.dtype))
        wide = x.astype("f8")
        np.testing.assert_array_equal(info.minimum, wide.min(0))
        np.testing.assert_allclose(info.mean, wide.mean(0), rtol=1e-12)
        np.testing.assert_allclose(info.std, wide.std(0), rtol=1e-9)
        np.testing.assert_allclose(info.overall[2:], (wide.mean(), wide.std()), rtol=1e-9)
        assert info.targets is not None
        assert info.targets.class_counts == (("0", 21), ("1", 21), ("2", 21), ("3", 20))

    def test_kinds_of_targets(self) -> None:
        def targets(values: list[object], **names: list[str]) -> object:
            found = describe_dataset(
                make_dataset(np.zeros((len(values), 1)), np.array(values), "memory", **names)
            ).targets
            assert found is not None
            return found

        values = targets([0.5, 2.5, np.nan])
        assert (values.kind, values.ranges, values.missing) == ("values", (("0", 0.5, 2.5, 1.5, 1.0),), 1)
        assert targets([[1, 0], [0, 1], [1, 0]]).one_hot
        assert targets([0.0, 1.0, 2.0]).kind == "values"
        assert targets([[1, 5], [2, 6], [3, 7]]).kind == "values"
        labels = targets([[0, 1], [1, 1], [0, 1]], target_names=["sun", "wind"])
        assert (labels.kind, labels.class_counts) == ("labels", (("sun", 1), ("wind", 3)))
        named = targets([0, 0, 2], class_names=["a", "b", "c"])
        assert named.class_counts == (("a", 2), ("b", 0), ("c", 1))
        assert targets([5, 5, -3, 5]).class_counts == (("-3", 1), ("5", 3))
        assert targets([5, 4, -3, 5]).kind == "values"
