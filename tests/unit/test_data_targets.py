"""Targets, normalisation, and the split in training and validation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from onotrain.data import Dataset, Normalization, TargetCodec, stratified_split
from onotrain.data.dataset import make_dataset
from onotrain.errors import ConfigError, DataError


def dataset(targets: object, class_names: list[str] | None = None) -> Dataset:
    values = None if targets is None else np.array(targets)
    samples = 1 if values is None else len(values)
    return make_dataset(np.zeros((samples, 1), np.float32), values, "t.npz", class_names=class_names)


def refused(task: str, outputs: int, targets: object, **names: list[str] | None) -> str:
    """Fit and encode what is wrong, and return the message."""
    data = dataset(targets, **names)
    with pytest.raises(DataError) as caught:
        TargetCodec.fit(task, outputs, data).encode(data)
    return str(caught.value)


class TestCodec:
    @pytest.mark.parametrize("targets", [[0, 2, 1], [0.0, 2.0, 1.0], [[0], [2], [1]], np.array([0, 2, 1], "u1")])
    def test_multiclass_numbers(self, targets: object) -> None:
        codec = TargetCodec.fit("multiclass", 3, dataset(targets))
        encoded = codec.encode(dataset(targets))
        assert (encoded.dtype, encoded.tolist()) == (np.int32, [0, 2, 1])
        assert (codec.class_names, codec.classes) == (None, 3)

    def test_multiclass_text(self) -> None:
        codec = TargetCodec.fit("multiclass", 3, dataset(["pear", "apple", "fig", "apple"]))
        assert codec.class_names == ("apple", "fig", "pear")
        assert codec.encode(dataset(["fig", "pear"])).tolist() == [1, 2]
        with pytest.raises(
            DataError, match=r"t.npz: row 1: label 'plum' is outside the classes, expected one of apple, "
        ):
            codec.encode(dataset(["fig", "plum"]))
        # Numbers are indices into the names.
        assert codec.encode(dataset([2, 0])).tolist() == [2, 0]

    def test_names_of_the_file(self) -> None:
        codec = TargetCodec.fit("multiclass", 2, dataset([0, 1], class_names=["cat", "dog"]))
        assert codec.class_names == ("cat", "dog")
        # Another file may number its classes in another order: the names count.
        assert codec.encode(dataset([0, 1, 1], class_names=["dog", "cat"])).tolist() == [1, 0, 0]
        assert codec.encode(dataset(["dog", "cat"])).tolist() == [1, 0]
        with pytest.raises(DataError, match="row 0: label 'cow' is outside"):
            codec.encode(dataset([0], class_names=["cow", "cat"]))
        with pytest.raises(DataError, match="row 0: label 2 is outside"):
            codec.encode(dataset([2], class_names=["dog", "cat"]))

    def test_binary(self) -> None:
        for targets in ([0, 1, 1], [0.0, 1.0, 1.0], ["n", "y", "y"], [[0], [1], [1]]):
            codec = TargetCodec.fit("binary", 1, dataset(targets))
            encoded = codec.encode(dataset(targets))
            assert encoded.dtype == np.float32
            assert encoded.tolist() == [[0], [1], [1]]
        assert TargetCodec("binary", 1).encode(dataset([0.25])).tolist() == [[0.25]]

    def test_multilabel_and_regression(self) -> None:
        for task in ("multilabel", "regression"):
            codec = TargetCodec.fit(task, 2, dataset([[0, 1], [1, 1]]))
            encoded = codec.encode(dataset([[0, 1], [1, 1]]))
            assert (encoded.dtype, encoded.tolist()) == (np.float32, [[0, 1], [1, 1]])
        assert TargetCodec.fit("regression", 1, dataset([1.5, -2.5])).encode(dataset([1.5])).tolist() == [[1.5]]

    @pytest.mark.parametrize(
        ("task", "outputs", "targets", "message"),
        [
            (
                "multiclass",
                3,
                [0, 1, 3, -1],
                "t.npz: row 2: label 3 is outside the classes, expected 0 to 2 (the first of 2)",
            ),
            ("multiclass", 3, [0, -1], "row 1: label -1 is outside the classes"),
            ("multiclass", 3, [0.0, 1.5], "row 1: label 1.5 is outside the classes"),
            ("multiclass", 3, [0.0, np.nan], "row 1: label nan is outside the classes"),
            ("multiclass", 3, [np.inf, 0.0], "row 0: label inf is outside the classes"),
            ("multiclass", 3, [1e30, 0.0], "is outside the classes"),
            ("multiclass", 3, [[1, 0, 0]], "shape (1, 3), expected one class label a sample"),
            ("multiclass", 2, ["a", "b", "c"], "3 classes (a, b, c), but the network has 2"),
            ("multiclass", 4, ["a", "b", "c"], "set the units of the last dense layer to 3"),
            ("multiclass", 3, None, "no targets found"),
            ("binary", 1, [0, 1, 2], "row 2: label 2 is outside the classes, expected 0 to 1"),
            ("binary", 1, [0.0, 1.5], "row 1: the target is 1.5, expected a number from 0 to 1"),
            ("binary", 1, [0.0, np.nan], "row 1: the target is nan"),
            ("binary", 1, ["a", "b", "c"], "3 classes (a, b, c), but the loss needs 2"),
            ("multilabel", 3, [[0, 1]], "2 targets a sample, but the network has 3 outputs"),
            ("multilabel", 2, [[0, 1], [0, 2]], "row 1: the target is 2.0, expected a number from 0 to 1"),
            ("multilabel", 2, [["a", "b"]], "the target is the text 'a', expected numbers (multilabel)"),
            ("regression", 2, [1.0, 2.0], "1 target a sample, but the network has 2 outputs"),
            (
                "regression",
                1,
                [1.0, np.nan, np.inf],
                "row 1: the target is nan, expected a finite number (the first of 2)",
            ),
            ("regression", 2, [[1.0, 2.0], [3.0, np.inf]], "row 1: the target is inf, expected a finite number"),
            ("regression", 1, ["a"], "choose the target column with data.targets"),
        ],
    )
    def test_what_is_wrong(self, task: str, outputs: int, targets: object, message: str) -> None:
        assert message in refused(task, outputs, targets)

    def test_text_for_a_model_of_numbers(self) -> None:
        with pytest.raises(DataError, match="the label is the text 'a', but the model knows .* numbers 0 to 2"):
            TargetCodec("multiclass", 3).encode(dataset(["a"]))

    def test_unknown_task(self) -> None:
        with pytest.raises(ValueError, match="task is 'ranking'"):
            TargetCodec.fit("ranking", 1, dataset([0]))
        with pytest.raises(ValueError, match="task is 'ranking'"):
            TargetCodec.from_dict({"task": "ranking", "outputs": 1, "class_names": None})

    @given(
        st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=20)
    )
    def test_text_labels_come_back(self, labels: list[str]) -> None:
        data = dataset(labels)
        codec = TargetCodec.fit("multiclass", len(set(labels)), data)
        codec = TargetCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
        assert codec.class_names is not None
        assert [codec.class_names[number] for number in codec.encode(data)] == labels


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
