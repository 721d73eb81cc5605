from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.oracle import assert_matches_reference, normal, unset
from onotrain import _kernels
from onotrain._kernels import reference

LENGTH = st.integers(0, 9)


@given(LENGTH, LENGTH, LENGTH, st.booleans(), st.booleans(), st.sampled_from([0.0, 1.0, -2.5]), st.integers(0, 99))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_the_reference(dtype, m, n, k, transpose_a, transpose_b, beta, seed):
    rng = np.random.default_rng(seed)
    a = normal(rng, dtype, *((k, m) if transpose_a else (m, k)))
    b = normal(rng, dtype, *((n, k) if transpose_b else (k, n)))
    c = normal(rng, dtype, m, n) if beta else unset(dtype, m, n)
    expected = c.copy()
    _kernels.load(dtype, "baseline").gemm(a, b, transpose_a, transpose_b, 1.5, beta, c)
    reference.gemm(a, b, transpose_a, transpose_b, 1.5, beta, expected)
    assert_matches_reference(c, expected)
    assert np.isfinite(c).all()


def test_shapes_that_do_not_fit_are_refused(kernels, rng):
    def array(*shape):
        return normal(rng, kernels.dtype, *shape)

    for a, b, c in [((2, 3), (4, 5), (2, 5)), ((2, 3), (3, 5), (2, 4)), ((2, 3), (3, 5), (3, 5))]:
        with pytest.raises(ValueError):
            kernels.gemm(array(*a), array(*b), False, False, 1.0, 0.0, array(*c))
    with pytest.raises(ValueError):
        kernels.gemm(array(3, 4).T, array(3, 5), False, False, 1.0, 0.0, array(4, 5))
