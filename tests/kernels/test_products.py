"""The matrix products of a dense layer at every edge of their tiles, for every build."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.oracle import normal
from onotrain import _kernels
from onotrain._kernels import Kernels
from onotrain.known_names import ACTIVATIONS

BUILDS = _kernels.available()
COMPILED = [build for build in BUILDS if build != "reference"]
IDENTITY = ACTIVATIONS["identity"]
#: Elements beside an output that a kernel must leave alone.
MARGIN = 64


class Guarded:
    """An array in the middle of a larger one whose other elements must not change."""

    def __init__(self, dtype: np.dtype, *shape: int) -> None:
        size = int(np.prod(shape))
        whole = np.full(size + 3 * MARGIN, 7, dtype)
        # As in training, at a multiple of 64 bytes: only there are stores made past the caches.
        begin = MARGIN + -whole.ctypes.data % 64 // whole.itemsize
        self.array = whole[begin : begin + size].reshape(shape)
        self._margins = whole[:begin], whole[begin + size :]

    def check(self) -> None:
        for margin in self._margins:
            assert (margin == 7).all()


class Product:
    """A product in double, and what the order of the additions may change."""

    def __init__(self, a: np.ndarray, b: np.ndarray) -> None:
        a, b = a.astype(np.float64), b.astype(np.float64)
        self._product, self._bound = a @ b, np.abs(a) @ np.abs(b) + 1e-30

    def expect(self, got: np.ndarray, start: np.ndarray | float = 0.0) -> None:
        """Compare with the product, or with a sum that went on from a start."""
        error = np.abs(got - (start + self._product)) / (self._bound + np.abs(start))
        assert error.max(initial=0) < 8 * np.finfo(got.dtype).eps


def check_products(build: str, dtype: str, r: int, i: int, o: int) -> None:
    kernels, rng = _kernels.load(dtype, build), np.random.default_rng([r, i, o])
    x, weight, dz = (normal(rng, kernels.dtype, *shape) for shape in [(r, i), (o, i), (r, o)])
    z, dx, dw = (Guarded(kernels.dtype, *shape) for shape in [(r, o), (r, i), (o, i)])
    kernels.dense_predict(x, weight, None, None, IDENTITY, 0.0, z.array)
    Product(x, weight.T).expect(z.array)
    of_weight, of_x = Product(dz.T, x), Product(dz, weight)
    check_packed(kernels, x, weight, z.array)
    for accumulate, shared in ((False, False), (True, False), (False, True), (True, True)):
        start = dw.array.copy() if accumulate else 0.0
        kernels.dense_backward(x, weight, np.ones_like(dz), accumulate, shared, dz.copy(), dx.array, dw.array, None)
        of_weight.expect(dw.array, start)
        of_x.expect(dx.array)
    for guarded in (z, dx, dw):
        guarded.check()


def check_packed(kernels: Kernels, x: np.ndarray, weight: np.ndarray, expected: np.ndarray) -> None:
    """Compare, bit by bit, with the product by a weight that is packed once."""
    packed, z = Guarded(kernels.dtype, kernels.packed_size(weight)), Guarded(kernels.dtype, *expected.shape)
    kernels.pack_weight(weight, packed.array)
    kernels.dense_predict(x, weight, packed.array, None, IDENTITY, 0.0, z.array)
    np.testing.assert_array_equal(z.array, expected)
    for guarded in (packed, z):
        guarded.check()


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 55), st.integers(1, 150), st.integers(1, 30))
def test_products_of_any_small_shape(build, dtype, r, i, o):
    check_products(build, dtype, r, i, o)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("r", "i", "o"),
    [
        (33, 1024, 7),
        (5, 1030, 13),
        (300, 2500, 3),
        (3, 4099, 5),
        (7, 40, 1100),
        (1300, 37, 5),
        (1100, 16, 16),
        (20, 1024, 130),
        (1100, 256, 260),
    ],
)
def test_products_that_are_cut_into_blocks(build, dtype, r, i, o):
    check_products(build, dtype, r, i, o)


@pytest.mark.parametrize("build", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_every_narrow_layer(build, dtype):
    for i in range(1, 41):
        for o in range(1, 41):
            check_products(build, dtype, 1 + (7 * i + 3 * o) % 40, i, o)


BATCH_SHAPES = [(1, 1), (3, 21), (12, 48), (16, 3), (45, 46), (100, 21), (500, 65), (784, 128)]
#: Build, dtype, inputs and outputs of what is done by tiles (tiles.h): BLAS promises no bits.
ON_TILES = [
    (build, dtype, i, o)
    for build in COMPILED
    for dtype in ("float32", "float64")
    for i, o in BATCH_SHAPES
    if build == "x86_64_v4" or i * np.dtype(dtype).itemsize <= 4096
]


@pytest.mark.parametrize(("build", "dtype", "i", "o"), ON_TILES)
def test_a_row_gets_the_same_bits_in_any_batch(build, dtype, rng, i, o):
    kernels = _kernels.load(dtype, build)
    x, weight, dz = (normal(rng, kernels.dtype, *shape) for shape in [(100, i), (o, i), (100, o)])
    z, dx = np.empty_like(dz), np.empty_like(x)

    def products(begin: int, end: int, z: np.ndarray, dx: np.ndarray) -> None:
        some = np.ascontiguousarray(x[begin:end])
        kernels.dense_predict(some, weight, None, None, IDENTITY, 0.0, z)
        kernels.dense_backward(some, weight, np.ones_like(z), False, False, dz[begin:end].copy(), dx, None, None)

    products(0, 100, z, dx)
    for begin, end in [(0, 1), (5, 12), (17, 48), (0, 47), (1, 65), (30, 100)]:
        part, dx_part = z[begin:end].copy(), dx[begin:end].copy()
        products(begin, end, part, dx_part)
        np.testing.assert_array_equal(part, z[begin:end])
        np.testing.assert_array_equal(dx_part, dx[begin:end])


@pytest.mark.parametrize("r", [1, 40, 128])
@pytest.mark.parametrize(("build", "dtype", "i", "o"), ON_TILES)
def test_a_gradient_gets_the_same_bits_in_any_block(build, dtype, rng, r, i, o):
    """Ranks that share activations compute blocks of rows, and those go through columns by blocks."""
    kernels = _kernels.load(dtype, build)
    x, dz, weight = (normal(rng, kernels.dtype, *shape) for shape in [(r, i), (r, o), (o, i)])

    def gradient(outputs: slice, inputs: slice) -> np.ndarray:
        part = np.ascontiguousarray(dz[:, outputs])
        dw = np.ascontiguousarray(weight[outputs, inputs])
        x_part = np.ascontiguousarray(x[:, inputs])
        kernels.dense_backward(x_part, dw.copy(), np.ones_like(part), False, False, part, None, dw, None)
        return dw

    whole = gradient(slice(None), slice(None))
    for outputs, inputs in [
        (slice(o // 2), slice(None)),
        (slice(o // 3, None), slice(i // 2)),
        (slice(None), slice(i // 3, None)),
        (slice(1), slice(1)),
    ]:
        np.testing.assert_array_equal(gradient(outputs, inputs), whole[outputs, inputs])


@pytest.mark.parametrize("i", [31, 784])
def test_nan_stays_in_its_row(kernels, rng, i):
    x, weight = normal(rng, kernels.dtype, 9, i), normal(rng, kernels.dtype, 11, i)
    x[4, i - 1] = np.nan
    y = np.empty((9, 11), kernels.dtype)
    kernels.dense_predict(x, weight, None, None, IDENTITY, 0.0, y)
    assert np.isnan(y[4]).all()
    assert np.isfinite(np.delete(y, 4, axis=0)).all()


def test_packing_pays_where_it_saves_time(kernels, build):
    """That is, where a weight is used a few times only, and tiles use it."""
    weight = np.ones((512, 256), kernels.dtype)
    compiled = build != "reference"
    assert [kernels.packing_pays(rows, weight) for rows in (0, 1, 10**5)] == [False, compiled, False]
    assert kernels.packed_size(weight) == (weight.size if compiled else 0)
    wide = np.ones((2, 10**5), kernels.dtype)
    assert kernels.packing_pays(1, wide) == (build == "x86_64_v4"), "elsewhere the product is that of BLAS"


def test_packed_weights_of_another_length_are_refused(kernels):
    x, weight, y = (np.ones(shape, kernels.dtype) for shape in [(3, 5), (2, 5), (3, 2)])
    wrong = np.ones(kernels.packed_size(weight) + 1, kernels.dtype)
    with pytest.raises(ValueError, match="packed"):
        kernels.pack_weight(weight, wrong)
    with pytest.raises(ValueError, match="packed"):
        kernels.dense_predict(x, weight, wrong, None, IDENTITY, 0.0, y)
    assert (wrong == 1).all() and (y == 1).all()
