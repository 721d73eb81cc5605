"""Products in bfloat16: the reference against exact arithmetic, compiled kernels against the reference, bit by bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import update_rule
from kernels.oracle import normal
from onotrain import _kernels
from onotrain._kernels import cpu, reference_bf16
from onotrain.errors import PlatformError, UsageError
from onotrain.known_names import ACTIVATIONS

IDENTITY = ACTIVATIONS["identity"]
SMALLEST_NORMAL = Fraction(2) ** -126
needs_bf16 = pytest.mark.skipif(not cpu.has_bf16(), reason="this CPU has no AVX-512 BF16")
BUILDS = [pytest.param("x86_64_v4", marks=needs_bf16), "reference"]


def load(build: str) -> _kernels.Kernels:
    return _kernels.load("float32", build, "bf16")


@pytest.fixture(params=BUILDS)
def kernels(request: pytest.FixtureRequest) -> _kernels.Kernels:
    return load(request.param)


def assert_same_bits(got: np.ndarray, expected: np.ndarray) -> None:
    """Fail unless the bits are the same; all NaN are one."""
    same = (got.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(got) & np.isnan(expected))
    assert got.shape == expected.shape and same.all()


def wild(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers of one of four kinds: usual, around the smallest normal product, any bits, with special ones."""
    kind, usual = rng.integers(4), rng.standard_normal(shape, np.float32)
    if kind == 1:
        return np.ldexp(usual, rng.integers(-70, -55, shape)).astype(np.float32)
    if kind == 2:
        return rng.integers(0, 1 << 32, shape, dtype=np.uint32).view(np.float32)
    if kind == 3:
        special = np.array([0.0, -0.0, 1e-40, -1e-40, np.inf, -np.inf, np.nan], np.float32)
        usual = np.where(rng.random(shape) < 0.05, rng.choice(special, shape), usual)
    return usual


# The reference --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "rounded"),
    [
        (0x3F800000, 0x3F800000),  # 1
        (0x3F808000, 0x3F800000),  # half-way: to the even neighbour below
        (0x3F818000, 0x3F820000),  # and above
        (0x3F808001, 0x3F810000),
        (0xBF817FFF, 0xBF810000),
        (0x7F7FFFFF, 0x7F800000),  # the largest float32: infinity
        (0xFF800000, 0xFF800000),
        (0x007FFFFF, 0x00000000),  # the largest subnormal float32
        (0x80000001, 0x80000000),
        (0x00800000, 0x00800000),
    ],
)
def test_numbers_are_rounded_to_the_nearest(bits, rounded):
    got = reference_bf16.bfloat(np.array([bits], np.uint32).view(np.float32)).astype(np.float32)
    assert got.view(np.uint32)[0] == rounded
    assert np.isnan(reference_bf16.bfloat(np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32))).all()


def nearest(exact: Fraction) -> Fraction:
    """Return the nearest number of 24 bits, ties to even; 0 for those below the smallest normal float32."""
    if exact == 0:
        return exact
    power = 0
    while abs(exact) * Fraction(2) ** -power >= 2:
        power += 1
    while abs(exact) * Fraction(2) ** -power < 1:
        power -= 1
    unit = Fraction(2) ** (power - 23)
    rounded = round(exact / unit) * unit
    return rounded if abs(rounded) >= SMALLEST_NORMAL else Fraction(0)


@pytest.mark.parametrize("exponent", [0, -63])
def test_the_reference_adds_fused_and_the_second_term_of_a_pair_first(rng, exponent):
    """Also where sums come down to the smallest normal number."""
    for terms in [1, 2, 3, 7, 10] * 20:
        a, b = (np.ldexp(rng.standard_normal(terms), rng.integers(exponent - 12, exponent + 1, terms)) for _ in "ab")
        a, b = a.astype(np.float32), b.astype(np.float32)
        b[0] *= rng.choice([1, 2**20, 2**-20])
        factors = [[Fraction(float(value)) for value in reference_bf16.bfloat(x)] for x in (a, b)]
        products = [x * y for x, y in zip(*factors, strict=True)] + [Fraction(0)]
        expected = Fraction(0)
        for first in range(0, terms, 2):
            expected = nearest(nearest(expected + products[first + 1]) + products[first])
        assert Fraction(float(reference_bf16.product(a[None], b[:, None], None)[0, 0])) == expected


@pytest.mark.parametrize(("power", "kept"), [(-152, True), (-151, True), (-150, False)])
def test_what_is_rounded_up_to_a_normal_number_is_not_flushed(kernels, power, kept):
    """The smallest normal number, from which little is taken away: the second term of a pair comes first."""
    x = np.array([[-(2.0**-76), 2.0**-63]], np.float32)
    weight = np.array([[2.0 ** (power + 76), 2.0**-63]], np.float32)
    y = np.empty((1, 1), np.float32)
    kernels.dense_predict(x, weight, None, None, IDENTITY, 0.0, y)
    assert y[0, 0] == (2.0**-126 if kept else 0.0)


def test_products_are_near_those_of_float64(kernels, rng):
    x, weight = normal(rng, np.float32, 40, 300), normal(rng, np.float32, 30, 300)
    y = np.empty((40, 30), np.float32)
    kernels.dense_predict(x, weight, None, None, IDENTITY, 0.0, y)
    error, bound = np.abs(y - x.astype(np.float64) @ weight.T), np.abs(x) @ np.abs(weight.T)
    assert 1e-5 < (error / bound).max() < 2.0**-8


# Compiled kernels -----------------------------------------------------------------------------------------------------


def check_products(r: int, i: int, o: int, seed: int) -> None:
    """Compare all three products, and the sums that go on, with the reference."""
    compiled, reference, rng = load("x86_64_v4"), load("reference"), np.random.default_rng([r, i, o, seed])
    x, weight, dz, dw = (wild(rng, *shape) for shape in [(r, i), (o, i), (r, o), (o, i)])
    ones = np.ones_like(dz)
    results = []
    for kernels in (compiled, reference):
        y, slope, forward, dx = (np.full(shape, 7, np.float32) for shape in [(r, o), (r, o), (r, o), (r, i)])
        kernels.dense_predict(x, weight, None, None, IDENTITY, 0.0, y)
        packed, again = np.full(kernels.packed_size(weight), 7, np.float32), np.full_like(y, 7)
        kernels.pack_weight(weight, packed)
        kernels.dense_predict(x, weight, packed, None, IDENTITY, 0.0, again)
        assert_same_bits(again, y)
        kernels.dense_forward(x, weight, None, IDENTITY, 0.0, 0.0, 0, 0, 0, 0, slope, forward)
        written, added = np.full((o, i), 7, np.float32), dw.copy()
        for accumulate, shared, out in ((False, seed % 2 == 0, written), (True, False, added)):
            kernels.dense_backward(x, weight, ones, accumulate, shared, dz.copy(), dx, out, None)
        results.append((y, forward, dx, written, added))
    for got, expected in zip(*results, strict=True):
        assert_same_bits(got, expected)


@needs_bf16
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(1, 90), st.integers(1, 60), st.integers(0, 1000))
def test_products_of_any_small_shape_equal_the_reference(r, i, o, seed):
    check_products(r, i, o, seed)


@needs_bf16
@pytest.mark.parametrize(
    ("r", "i", "o"), [(3, 513, 5), (257, 20, 33), (300, 48, 3), (6, 50, 600), (530, 17, 2), (256, 1024, 65)]
)
def test_products_that_are_cut_into_blocks_equal_the_reference(r, i, o):
    for seed in range(2):
        check_products(r, i, o, seed)


@needs_bf16
@pytest.mark.parametrize(("r", "i", "o"), [(1, 1, 1), (9, 20, 37), (33, 64, 100), (260, 1100, 3)])
@pytest.mark.parametrize("shared", [False, True])
def test_an_update_by_products_equals_the_reference(rng, r, i, o, shared):
    x, dz, start = (normal(rng, np.float32, *shape) for shape in [(r, i), (r, o), (o * i,)])
    rule = update_rule("adam")
    ends = []
    for build in ("x86_64_v4", "reference"):
        param, state = start.copy(), (np.zeros_like(start), np.zeros_like(start))
        scalars = (1.0, *rule.decay(0.01), *rule.scalars(0.01, 1))
        squares = load(build).update(rule, scalars, dz, x, shared, state, None, param)
        ends.append((param, *state, squares))
    for got, expected in zip(ends[0][:3], ends[1][:3], strict=True):
        assert_same_bits(got, expected)
    assert ends[0][3] == pytest.approx(ends[1][3], rel=1e-12)


@needs_bf16
def test_no_bit_depends_on_the_other_rows_and_outputs(rng):
    """Of a batch, and of the rows of a weight that a rank updates."""
    kernels, rule = load("x86_64_v4"), update_rule("sgd")
    x, weight, dz = (normal(rng, np.float32, *shape) for shape in [(300, 70), (130, 70), (300, 130)])
    y, param = np.empty((300, 130), np.float32), np.zeros((130, 70), np.float32)
    scalars = (1.0, *rule.decay(0.1), *rule.scalars(0.1, 1))
    kernels.dense_predict(x, weight, None, None, IDENTITY, 0.0, y)
    kernels.update(rule, scalars, dz, x, False, (), None, param.reshape(-1))
    for begin, end in [(0, 1), (5, 12), (17, 130), (64, 128)]:
        rows, own = np.empty((end - begin, 130), np.float32), np.zeros((end - begin, 70), np.float32)
        kernels.dense_predict(x[begin:end], weight, None, None, IDENTITY, 0.0, rows)
        kernels.update(rule, scalars, dz[:, begin:end], x, False, (), None, own.reshape(-1))
        assert_same_bits(rows, y[begin:end])
        assert_same_bits(own, param[begin:end])


@needs_bf16
def test_all_else_is_what_the_build_computes(rng):
    """Activations, dropout, bias and their gradients: the same kernels, compiled once more."""
    ours, full = load("x86_64_v4"), _kernels.load("float32", "x86_64_v4")
    x, dy = np.eye(40, dtype=np.float32), normal(rng, np.float32, 40, 23)  # products without roundings
    weight, bias = np.round(8 * normal(rng, np.float32, 23, 40)), normal(rng, np.float32, 23)
    made = []
    for kernels in (ours, full):
        slope, y, dz, db = np.empty_like(dy), np.empty_like(dy), dy.copy(), np.empty_like(bias)
        kernels.dense_forward(x, weight, bias, ACTIVATIONS["gelu"], 0.0, 0.3, 1, 2, 3, 4, slope, y)
        kernels.dense_backward(x, weight, slope, False, False, dz, None, None, db)
        made.append((slope, y, dz, db))
    for got, expected in zip(*made, strict=True):
        assert_same_bits(got, expected)


def test_nan_stays_in_its_row(kernels, rng):
    x, weight = normal(rng, np.float32, 9, 31), normal(rng, np.float32, 11, 31)
    x[4, 30] = np.nan
    y = np.empty((9, 11), np.float32)
    kernels.dense_predict(x, weight, None, None, IDENTITY, 0.0, y)
    assert np.isnan(y[4]).all()
    assert np.isfinite(np.delete(y, 4, axis=0)).all()


# Which kernels --------------------------------------------------------------------------------------------------------


def test_kernels_know_their_precision(kernels):
    others = kernels.wrapped(lambda name, kernel: kernel), kernels.timed(lambda: None)
    assert [each.precision for each in (kernels, *others)] == ["bf16"] * 3
    assert _kernels.load("float32").precision == "full"


@pytest.mark.parametrize("build", [*_kernels.available()])
def test_float64_is_refused(build):
    with pytest.raises(UsageError, match="precision bf16: got a network of float64, expected float32") as error:
        _kernels.load("float64", build, "bf16")
    assert error.value.hint


def test_a_build_that_would_be_slow_is_refused(monkeypatch):
    monkeypatch.setenv("ONOTRAIN_KERNELS", "baseline")
    with pytest.raises(PlatformError, match="AVX-512 BF16, without which bf16 is slower than float32") as error:
        _kernels.load("float32", precision="bf16")
    assert error.value.hint and "ONOTRAIN_KERNELS=reference" in error.value.hint


def test_a_cpu_without_it_is_refused(monkeypatch):
    monkeypatch.setattr(cpu, "has_bf16", lambda: False)
    with pytest.raises(PlatformError, match="this CPU has no AVX-512 BF16"):
        _kernels.load("float32", _kernels.available()[0], "bf16")
    assert _kernels.load("float32", "reference", "bf16").precision == "bf16"
