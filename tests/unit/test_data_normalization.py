"""Normalisation, and the split in training and validation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from onotrain.data import Normalization, stratified_split
from onotrain.errors import ConfigError, DataError


class TestNormalization:
    def apply(self, norm: Normalization, features: np.ndarray) -> np.ndarray:
        shift, scale = norm.for_storage(features.dtype, features.shape[1], "f8")
        return (features.astype("f8") - shift) * scale

    @given(
        arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(-1e6, 1e6, width=32)),
        st.integers(1, 5),
    )
    def test_is_numpys_whatever_the_blocks(self, features: np.ndarray, rows: int) -> None:
        blocks = [features[k : k + rows] for k in range(0, len(features), rows)]
        wide = features.astype("f8")
        low, spread = wide.min(0), np.ptp(wide, axis=0)
        norm = Normalization.fit_blocks("standard", blocks)
        np.testing.assert_allclose(norm.mean, wide.mean(0), rtol=1e-12, atol=1e-9)
        varies = spread > 0
        np.testing.assert_allclose(norm.std[varies], wide.std(0)[varies], rtol=1e-6)
        assert (norm.std[~varies] == 1).all()
        norm = Normalization.fit_blocks("minmax", blocks)
        np.testing.assert_array_equal(norm.mean, low)
        np.testing.assert_array_equal(norm.std, np.where(varies, spread, 1))

    def test_standard_and_minmax(self) -> None:
        features = np.random.default_rng(1).normal(7, 3, (500, 4)).astype(np.float32)
        done = self.apply(Normalization.fit("standard", features), features)
        np.testing.assert_allclose(done.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(done.std(0), 1, atol=1e-12)
        done = self.apply(Normalization.fit("minmax", features), features)
        np.testing.assert_allclose((done.min(0), done.max(0)), ([0] * 4, [1] * 4), atol=1e-12)

    def test_large_mean_does_not_cancel(self) -> None:
        features = (1e4 + np.random.default_rng(2).normal(size=(1000, 1))).astype(np.float32)
        np.testing.assert_allclose(
            Normalization.fit("standard", features).std, features.astype("f8").std(0), rtol=1e-12
        )

    def test_constant_columns_become_zero(self) -> None:
        features = np.full((1001, 2), 0.1, np.float32)
        for kind in ("standard", "minmax"):
            norm = Normalization.fit(kind, features)
            assert norm.std.tolist() == [1, 1]
            np.testing.assert_allclose(self.apply(norm, features), 0, atol=1e-15)

    def test_pixels_are_divided_by_255(self) -> None:
        pixels = np.array([[0, 255], [255, 51]], np.uint8)
        np.testing.assert_allclose(self.apply(Normalization.none(), pixels), [[0, 1], [1, 0.2]])
        np.testing.assert_allclose(self.apply(Normalization.given(0.5, 0.25), pixels), [[-2, 2], [2, -1.2]])
        norm = Normalization.fit("standard", pixels)
        np.testing.assert_allclose(norm.mean, [0.5, 0.6])
        np.testing.assert_allclose(self.apply(norm, pixels), [[-1, 1], [1, -1]])
        # The same data as float32 of 0 to 1 are normalised alike.
        same = (pixels / 255).astype(np.float32)
        np.testing.assert_allclose(Normalization.fit("standard", same).mean, norm.mean, rtol=1e-6)

    def test_index_chooses_samples(self) -> None:
        features = np.arange(12, dtype=np.float32).reshape(6, 2)
        index = np.array([1, 4])
        assert Normalization.fit("minmax", features, index) == Normalization.fit("minmax", features[index])
        with pytest.raises(DataError, match="no samples"):
            Normalization.fit("standard", features, index[:0])

    @given(arrays(np.float64, 3, elements=st.floats(-1e9, 1e9)), arrays(np.float64, 3, elements=st.floats(1e-9, 1e9)))
    def test_json_keeps_every_bit(self, mean: np.ndarray, std: np.ndarray) -> None:
        norm = Normalization.given(mean, std)
        assert Normalization.from_dict(json.loads(json.dumps(norm.to_dict()))) == norm

    def test_dtype_and_shape_for_the_kernels(self) -> None:
        for compute in ("f4", "f8"):
            shift, scale = Normalization.given([1, 2, 3], 2).for_storage("f4", 3, compute)
            assert shift.dtype == scale.dtype == np.dtype(compute)
            assert (shift.tolist(), scale.tolist()) == ([1, 2, 3], [0.5, 0.5, 0.5])
            assert shift.flags.writeable
            assert scale.flags.c_contiguous

    @pytest.mark.parametrize(
        ("mean", "std", "message"),
        [
            ([1, 2], [1, 2, 3], "2 means but 3 standard deviations"),
            (0, 0, "std: got 0.0, expected positive"),
            (0, [1, -1], "std: got -1.0"),
            (float("nan"), 1, "mean: got nan"),
            ([], 1, "expected numbers or lists"),
        ],
    )
    def test_given_numbers_are_checked(self, mean: object, std: object, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Normalization.given(mean, std)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=message):
            Normalization.from_dict({"mean": mean, "std": std})

    def test_wrong_length_and_kind(self) -> None:
        with pytest.raises(ConfigError, match=r"data.normalize.mean: 2 values, expected 1 or 3"):
            Normalization.given([1, 2], 1).for_storage("f4", 3, "f4")
        with pytest.raises(ConfigError, match="got 'robust', expected one of none, standard, minmax"):
            Normalization.fit("robust", np.ones((2, 2), "f4"))


class TestSplit:
    @given(
        st.lists(st.integers(0, 6), min_size=2, max_size=120),
        st.floats(0.01, 0.99),
        st.integers(0, 2**63),
    )
    def test_parts(self, values: list[int], fraction: float, seed: int) -> None:
        labels = np.array(values)
        train, held = stratified_split(labels, len(labels), fraction, seed)
        assert train.dtype == held.dtype == np.int64
        assert len(train)
        assert len(held)
        assert (np.diff(train) > 0).all()
        assert (np.diff(held) > 0).all()
        assert sorted([*train, *held]) == list(range(len(labels)))
        sizes, got = np.bincount(labels), np.bincount(labels[held], minlength=labels.max() + 1)
        for size, taken in zip(sizes, got, strict=True):
            if size >= 2:
                assert 1 <= taken <= size - 1
                assert abs(taken - size * fraction) < 1 or taken in (1, size - 1)

    def test_total_is_right_and_shares_are_even(self) -> None:
        labels = np.repeat(np.arange(7), [10, 20, 30, 11, 13, 17, 99])
        _, held = stratified_split(labels, 200, 0.15, 3)
        assert len(held) == 30
        assert (np.abs(np.bincount(labels[held]) - 0.15 * np.bincount(labels)) < 1).all()

    def test_a_seed_is_a_split_for_ever(self) -> None:
        # A stored result: a run that resumes must find the same validation samples.
        assert stratified_split(np.arange(20) % 2, 20, 0.3, 0)[1].tolist() == [0, 3, 8, 9, 18, 19]
        splits = {tuple(stratified_split(None, 30, 0.5, seed)[1]) for seed in range(20)}
        assert len(splits) == 20

    def test_text_labels_and_single_samples(self) -> None:
        labels = np.array(["a", "b", "c", "d", "e", "e"])
        train, held = stratified_split(labels, 6, 0.5, 0)
        assert len(held) == 3
        # The four classes of one sample are split like one class of four.
        assert sorted(labels[held] == "e") == sorted(labels[train] == "e") == [False, False, True]

    def test_too_few(self) -> None:
        for n in (0, 1):
            with pytest.raises(DataError, match="expected at least 2"):
                stratified_split(None, n, 0.5, 0)
        for fraction in (0.0, 1.0, float("nan")):
            with pytest.raises(ValueError, match="between 0 and 1"):
                stratified_split(None, 5, fraction, 0)
        with pytest.raises(ValueError, match="labels have shape"):
            stratified_split(np.zeros(4), 5, 0.5, 0)
