"""Targets of files as losses take them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.data import Dataset, TargetCodec
from onotrain.data.dataset import make_dataset
from onotrain.errors import DataError


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
            assert encoded.dtype == np.float64
            assert encoded.tolist() == [[0], [1], [1]]
        assert TargetCodec("binary", 1).encode(dataset([0.25])).tolist() == [[0.25]]

    def test_multilabel_and_regression(self) -> None:
        for task in ("multilabel", "regression"):
            codec = TargetCodec.fit(task, 2, dataset([[0, 1], [1, 1]]))
            encoded = codec.encode(dataset([[0, 1], [1, 1]]))
            assert (encoded.dtype, encoded.tolist()) == (np.float64, [[0, 1], [1, 1]])
        assert TargetCodec.fit("regression", 1, dataset([1.5, -2.5])).encode(dataset([1.5])).tolist() == [[1.5]]

    @pytest.mark.parametrize(
        ("task", "outputs", "targets", "message"),
        [
            ("multiclass", 3, [0, 1, 3, -1], "t.npz: 4 classes (-1, 0, 1, 3), but the network has 3"),
            ("multiclass", 3, [0, -1], "2 classes (-1, 0), but the network has 3"),
            ("multiclass", 3, list(range(30)), "numbers of so many values are quantities: use the loss mse"),
            ("multiclass", 3, [0.0, 1.5], "row 1: label 1.5 is outside the classes"),
            ("multiclass", 3, [0.0, np.nan], "row 1: label nan is outside the classes"),
            ("multiclass", 3, [np.inf, 0.0], "row 0: label inf is outside the classes"),
            ("multiclass", 3, [1e30, 0.0], "is outside the classes"),
            ("multiclass", 3, [[1, 0, 1]], "shape (1, 3), expected one class label a sample"),
            ("multiclass", 3, [[1, 0, 0], [0, 0, 0]], "one-hot targets must have exactly one 1 in each row"),
            ("multiclass", 3, [[2, 0, 0]], "expected one class label a sample"),
            ("multiclass", 2, ["a", "b", "c"], "3 classes (a, b, c), but the network has 2"),
            ("multiclass", 4, ["a", "b", "c"], "set the units of the last dense layer to 3"),
            ("multiclass", 3, None, "no targets found"),
            ("binary", 1, [0, 1, 2], "3 classes (0, 1, 2), but the loss needs 2"),
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

    def test_labels_of_another_file_are_held_against_the_classes(self) -> None:
        for known, wrong, message in [
            ([0, 1, 2], [0, 1, 3, -1], r"row 2: label 3 is outside the classes, expected 0 to 2 \(the first of 2\)"),
            ([0, 1, 2], [0, -1], "row 1: label -1 is outside the classes, expected 0 to 2"),
            ([3, 5, 8], [3, 4], "row 1: label '4' is outside the classes, expected one of 3, 5, 8"),
            ([3, 5, 8], [3, 0], "row 1: label '0' is outside the classes"),
        ]:
            codec = TargetCodec.fit("multiclass", 3, dataset(known))
            with pytest.raises(DataError, match=message):
                codec.encode(dataset(wrong))
        with pytest.raises(DataError, match="row 2: label 2 is outside the classes, expected 0 to 1"):
            TargetCodec.fit("binary", 1, dataset([0, 1])).encode(dataset([0, 1, 2]))

    @pytest.mark.parametrize("dtype", ["i8", "f8"])
    @pytest.mark.parametrize(
        ("targets", "names"),
        [
            ([3, 8, 4, 3], ("3", "4", "8")),
            ([-1, 1, 1], ("-1", "1")),
            ([1, 2, 3], ("1", "2", "3")),
            ([10, 9, 100], ("9", "10", "100")),
        ],
    )
    def test_other_whole_numbers_are_named_classes(
        self, targets: list[int], names: tuple[str, ...], dtype: str
    ) -> None:
        data = dataset(np.array(targets, dtype))
        codec = TargetCodec.fit("multiclass", len(names), data)
        codec = TargetCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
        assert codec.class_names == names
        assert [int(names[number]) for number in codec.encode(data)] == targets
        # As text, and with a fraction, they are the same classes.
        written = dataset([f"{value:.1f}" for value in targets])
        assert codec.encode(written).tolist() == codec.encode(data).tolist()

    def test_minus_one_and_one_are_no_and_yes(self) -> None:
        codec = TargetCodec.fit("binary", 1, dataset([-1, 1, 1]))
        assert codec.class_names == ("-1", "1")
        assert codec.encode(dataset([1, -1])).tolist() == [[1], [0]]

    def test_one_hot_columns_are_one_class_of_several(self) -> None:
        data = make_dataset(
            np.zeros((3, 1)), np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), "t", target_names=["cat", "dog", "fish"]
        )
        codec = TargetCodec.fit("multiclass", 3, data)
        assert codec.class_names == ("cat", "dog", "fish")
        encoded = codec.encode(data)
        assert (encoded.dtype, encoded.tolist()) == (np.int32, [2, 0, 1])
        # With binary cross-entropy they stay what they are: labels of their own.
        assert TargetCodec.fit("multilabel", 3, data).encode(data).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]

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
