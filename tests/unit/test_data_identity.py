"""Whether data are the same as before."""

from __future__ import annotations

import numpy as np
import pytest

from onotrain.data import identity
from onotrain.data.identity import digest_of, known_to_both

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
