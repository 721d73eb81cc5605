"""Convolutions of every build and precision against NumPy, against differences, and at every edge of their tiles."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels.oracle import central_differences, normal, unset
from kernels.test_products import BUILDS, Guarded
from onotrain import _kernels
from onotrain._kernels import Kernels, cpu, reference_bf16
from onotrain._kernels.recording import Live
from onotrain.known_names import ACTIVATIONS

DRAW = (2**40 + 7, 3, 1, 64)  # seed, step, layer, first row
TANH, IDENTITY = ACTIVATIONS["tanh"], ACTIVATIONS["identity"]
needs_bf16 = pytest.mark.skipif(not cpu.has_bf16(), reason="this CPU has no AVX-512 BF16")
#: What convolutions are computed by: a dtype, a precision and a build.
KINDS = [(dtype, "full", build) for build in BUILDS for dtype in ("float32", "float64")] + [
    ("float32", "bf16", "reference"), pytest.param(("float32", "bf16", "x86_64_v4"), marks=needs_bf16)
]  # fmt: skip
COMPILED = [kind for kind in KINDS if "reference" not in kind]


def loaded(kind: tuple[str, Any, str]) -> Kernels:
    dtype, precision, build = kind
    return _kernels.load(dtype, build, precision)


@pytest.fixture(params=KINDS, ids="-".join)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return loaded(request.param)


class Conv(NamedTuple):
    """The shapes of a convolution."""

    r: int
    image: tuple[int, int, int]
    weight: tuple[int, int, int, int]
    window: tuple[int, int, int, int, int, int]
    positions: tuple[int, int]

    @property
    def out(self) -> tuple[int, int, int, int]:
        return (self.r, *self.positions, self.weight[0])

    def operands(self, rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        """Return x, weight, bias and a gradient by the output; sums over a window are about as large as x."""
        shapes = (self.r, *self.image), self.weight, self.weight[:1], self.out
        x, weight, bias, dy = (normal(rng, dtype, *shape) for shape in shapes)
        return [x, weight / dtype.type(np.sqrt(np.prod(self.weight[1:]))), bias, dy]


def conv(  # noqa: PLR0913
    r: int, image: tuple[int, int, int], filters: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0), dilation: tuple[int, int] = (1, 1), groups: int = 1, behind: int = 0,
) -> Conv:  # fmt: skip
    """Return shapes with the same padding at both ends, and `behind` pixels more below and at the right."""
    h, w, c = image
    sizes = zip((h, w), kernel, stride, padding, dilation, strict=True)
    positions = [(n + 2 * p + behind - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in sizes]
    return Conv(r, image, (filters, c // groups, *kernel), (*stride, *padding, *dilation), (positions[0], positions[1]))


@st.composite
def convs(draw: st.DrawFn) -> Conv:
    """Return convolutions of all kinds: one group, some, and one for each channel."""
    small = st.integers(1, 4)
    groups = draw(st.one_of(st.just(1), st.integers(2, 20)))
    inputs = draw(st.integers(1, 12 if groups == 1 else 3))
    filters = groups * draw(st.integers(1, 40 if groups == 1 else 3))
    pairs = [(draw(small), draw(small)) for _ in range(4)]
    image = draw(st.integers(1, 11)), draw(st.integers(1, 11)), groups * inputs
    kernel, stride, padding, dilation = pairs
    padding = padding[0] - 1, padding[1] - 1
    made = conv(
        draw(st.integers(0, 4)), image, filters, kernel, stride, padding, dilation, groups, draw(st.integers(0, 2))
    )
    assume(min(made.positions) > 0)
    return made


def passes(
    kernels: Kernels, shapes: Conv, operands: list[np.ndarray], accumulate: bool, block_rows: int
) -> dict[str, np.ndarray]:
    """Return all that the three kernels write, in arrays whose surroundings must stay what they are.

    The backward pass is given a slope that does not come from the forward pass: what a bit there makes of the rounding
    of dz to bfloat16 would be as large as the difference of the precisions.
    """
    x, weight, bias, dy = operands
    blocks = max(1, -(-len(x) // block_rows))
    guarded = {name: Guarded(x.dtype, *shapes.out) for name in ("slope", "y", "predicted", "dz")}
    guarded |= {
        "dx": Guarded(x.dtype, *x.shape),
        "dw": Guarded(x.dtype, blocks * len(weight), *weight.shape[1:]),
        "db": Guarded(x.dtype, blocks * len(bias)),
    }
    out = {name: each.array for name, each in guarded.items()}
    for name in ("slope", "y", "predicted", "dx"):
        out[name][...] = np.nan
    kernels.conv_forward(x, weight, bias, shapes.window, TANH, 0.0, 0.25, *DRAW, out["slope"], out["y"])
    kernels.conv_predict(x, weight, None, shapes.window, IDENTITY, 0.0, out["predicted"])
    out["dz"][...] = dy
    kernels.conv_backward(
        x, weight, shapes.window, np.cos(dy), block_rows, accumulate, out["dz"], out["dx"], out["dw"], out["db"]
    )
    for each in guarded.values():
        each.check()
    return out


def check(kernels: Kernels, shapes: Conv, accumulate: bool, block_rows: int) -> None:
    """Compare with the reference, within what the order of additions may change."""
    operands = shapes.operands(np.random.default_rng(5), kernels.dtype)
    expected = passes(reference_kernels(kernels), shapes, operands, accumulate, block_rows)
    eps = np.finfo(kernels.dtype).eps
    for name, got in passes(kernels, shapes, operands, accumulate, block_rows).items():
        scale = max(1.0, np.abs(expected[name]).max(initial=0.0))
        np.testing.assert_allclose(got, expected[name], rtol=0, atol=40 * eps * scale, err_msg=f"{name} of {shapes}")


def reference_kernels(kernels: Kernels) -> Kernels:
    return _kernels.load(kernels.dtype, "reference", kernels.precision)


@pytest.mark.parametrize("kind", COMPILED, ids="-".join)
@settings(max_examples=120, deadline=None)
@given(convs(), st.booleans(), st.integers(1, 5))
def test_any_small_shape_against_the_reference(kind, shapes, accumulate, block_rows):
    check(loaded(kind), shapes, accumulate, block_rows)


@pytest.mark.parametrize(
    "shapes",
    [
        conv(5, (12, 12, 6), 16, (5, 5)),
        conv(3, (28, 28, 1), 6, (5, 5)),
        conv(3, (13, 27, 3), 5, (4, 5), (2, 1), (1, 1), (1, 2)),  # along the lines, the last vector not full
        conv(2, (9, 34, 1), 19, (5, 5)),
        conv(3, (14, 14, 32), 64, (3, 3), padding=(1, 1)),
        conv(2, (7, 7, 130), 40, (3, 3), padding=(1, 1)),  # sums in parts
        conv(2, (6, 6, 8), 700, (1, 1)),
        conv(1, (40, 40, 3), 20, (3, 3), (2, 2), (1, 1)),
        conv(40, (3, 2, 20), 5, (2, 2)),  # many samples together
        conv(9, (1, 100, 4), 30, (1, 7), padding=(0, 3)),
        conv(2, (9, 9, 48), 96, (3, 3), padding=(1, 1), groups=48),
        conv(2, (9, 9, 32), 64, (3, 3), (2, 1), (1, 1), (2, 2), groups=4),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", COMPILED, ids="-".join)
def test_shapes_that_are_cut_into_blocks(kind, shapes):
    check(loaded(kind), shapes, False, shapes.r)


@pytest.mark.parametrize("shapes", [
    conv(3, (6, 7, 4), 8, (3, 3), padding=(1, 1)), conv(3, (6, 7, 3), 5, (2, 3)),
    conv(4, (6, 7, 9), 6, (3, 3), groups=3), conv(3, (6, 7, 1), 8, (3, 3)), conv(3, (6, 7, 9), 9, (3, 3), groups=9),
], ids=str)  # fmt: skip
def test_in_bf16_the_factors_are_rounded_unless_a_filter_reads_one_channel(rng, shapes):
    """And nothing else: rounded before, they give the same numbers in float32."""
    full, rounding = (_kernels.load("float32", "reference", precision) for precision in ("full", "bf16"))
    x, weight, bias, _ = shapes.operands(rng, np.dtype("float32"))
    pairs = weight.shape[1] > 1
    factors = [reference_bf16.bfloat(factor).astype(np.float32) if pairs else factor for factor in (x, weight)]
    y, expected, exact = (unset(np.float32, *shapes.out) for _ in range(3))
    rounding.conv_predict(x, weight, bias, shapes.window, IDENTITY, 0.0, y)
    full.conv_predict(*factors, bias, shapes.window, IDENTITY, 0.0, expected)
    full.conv_predict(x, weight, bias, shapes.window, IDENTITY, 0.0, exact)
    np.testing.assert_array_equal(y, expected)
    assert (np.abs(y - exact).max() > 1e-3) == pairs


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gradients_are_those_of_the_forward_pass(double_kernels, rng, groups, dropout):
    """Every gradient against fourth-order central differences of sum(y * dy)."""
    shapes = conv(2, (5, 4, 4), 8, (3, 2), (2, 1), (1, 1), (1, 2), groups)
    x, weight, bias, dy = shapes.operands(rng, np.dtype("float64"))
    slope, y = unset(np.float64, *shapes.out), unset(np.float64, *shapes.out)

    def objective() -> float:
        double_kernels.conv_forward(x, weight, bias, shapes.window, TANH, 0.0, dropout, *DRAW, slope, y)
        return float((y * dy).sum())

    expected = [central_differences(objective, array) for array in (x, weight, bias)]
    objective()
    dx, dw, db = np.empty_like(x), np.empty_like(weight), np.empty_like(bias)
    double_kernels.conv_backward(x, weight, shapes.window, slope, len(x), False, dy.copy(), dx, dw, db)
    for got, wanted in zip((dx, dw, db), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_the_mask_of_a_sample_is_that_of_its_values_in_a_row(kernels, rng):
    """So that a dropout layer behind the convolution would drop the same ones, on any rank."""
    shapes = conv(5, (9, 9, 2), 20, (3, 3))
    x, weight, bias, _ = shapes.operands(rng, kernels.dtype)
    y, plain = unset(kernels.dtype, *shapes.out), unset(kernels.dtype, *shapes.out)
    kernels.conv_forward(x, weight, bias, shapes.window, TANH, 0.0, 0.5, *DRAW, unset(kernels.dtype, *shapes.out), y)
    kernels.conv_predict(x, weight, bias, shapes.window, IDENTITY, 0.0, plain)
    rows, dropped = plain.reshape(5, -1), unset(kernels.dtype, 5, 49 * 20)
    kernels.elementwise_forward(rows, TANH, 0.0, 0.5, *DRAW, unset(kernels.dtype, 5, 49 * 20), dropped)
    np.testing.assert_array_equal(y.reshape(5, -1), dropped)
    last = unset(kernels.dtype, 2, *shapes.out[1:])
    draw = (*DRAW[:3], DRAW[3] + 3)
    kernels.conv_forward(x[3:], weight, bias, shapes.window, TANH, 0.0, 0.5, *draw, np.empty_like(last), last)
    np.testing.assert_array_equal(last == 0, y[3:] == 0)


@pytest.mark.parametrize(
    "shapes",
    [
        conv(40, (6, 6, 1), 6, (3, 3)),
        conv(40, (6, 23, 1), 6, (5, 5), padding=(1, 1)),
        conv(40, (5, 5, 20), 33, (3, 3), padding=(1, 1)),
        conv(40, (5, 5, 24), 24, (3, 3), padding=(1, 1), groups=24),
        conv(40, (7, 4, 6), 8, (2, 3), (2, 2), groups=2),
        conv(3, (20, 20, 40), 24, (3, 3), padding=(1, 1)),
    ],
    ids=str,
)
def test_a_row_gets_the_same_bits_in_any_batch(kernels, rng, shapes):
    """Of the reference implementation the same to rounding: BLAS promises no bits."""
    tolerance = 1e-5 if kernels.path == "reference" else 0.0
    x, weight, bias, dy = shapes.operands(rng, kernels.dtype)
    y, dx = np.empty_like(dy), np.empty_like(x)

    def products(begin: int, end: int, y: np.ndarray, dx: np.ndarray) -> None:
        kernels.conv_predict(x[begin:end], weight, bias, shapes.window, TANH, 0.0, y)
        dz, ones = dy[begin:end].copy(), np.ones_like(y)
        kernels.conv_backward(x[begin:end], weight, shapes.window, ones, end - begin, False, dz, dx, None, None)

    products(0, shapes.r, y, dx)
    for begin, end in [(0, 1), (1, 3), (0, shapes.r - 1), (shapes.r // 2, shapes.r)]:
        part, dx_part = np.empty_like(y[begin:end]), np.empty_like(x[begin:end])
        products(begin, end, part, dx_part)
        np.testing.assert_allclose(part, y[begin:end], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(dx_part, dx[begin:end], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shapes", [
    conv(11, (12, 12, 6), 16, (5, 5)), conv(11, (6, 9, 1), 6, (3, 3)), conv(11, (5, 5, 6), 12, (3, 3), groups=6),
    conv(11, (5, 5, 6), 33, (3, 3), padding=(1, 1), groups=3),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("rows", [1, 2, 4, 11, 50])
@pytest.mark.parametrize("accumulate", [False, True])
def test_blocks_of_rows_have_gradients_of_their_own(kernels, rng, shapes, rows, accumulate):
    """With the bits that the block alone would have, in however many others it comes."""
    x, weight, _, dy = shapes.operands(rng, kernels.dtype)
    begins = range(0, shapes.r, rows)
    dw, db = (normal(rng, kernels.dtype, len(begins), *shape) for shape in (weight.shape, weight.shape[:1]))
    expected = [dw.copy(), db.copy(), np.empty_like(x)]
    ones, dx = np.ones_like(dy), np.empty_like(x)
    for block, begin in enumerate(begins):
        part = slice(begin, begin + rows)
        kernels.conv_backward(
            x[part], weight, shapes.window, ones[part], rows, accumulate, dy[part].copy(), expected[2][part],
            expected[0][block], expected[1][block],
        )  # fmt: skip
    kernels.conv_backward(
        x, weight, shapes.window, ones, rows, accumulate, dy.copy(), dx, dw.reshape(-1, *weight.shape[1:]), db.ravel()
    )
    tolerance = 1e-5 if kernels.path == "reference" else 0.0
    for got, wanted in zip((dw, db, dx), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("channels", "filters", "groups"), [(1, 6, 1), (3, 5, 1), (8, 16, 1), (9, 9, 9), (4, 8, 2)])
def test_nan_goes_where_the_window_reaches_and_no_further(kernels, rng, channels, filters, groups):
    shapes = conv(2, (6, 7, channels), filters, (3, 3), padding=(1, 1), groups=groups)
    x, weight, bias, dy = shapes.operands(rng, kernels.dtype)
    x[1, 5, 6, channels - 1] = np.nan  # the last value of all
    y = unset(kernels.dtype, *shapes.out) * 0
    kernels.conv_predict(x, weight, bias, shapes.window, IDENTITY, 0.0, y)
    reached = np.zeros(y.shape, bool)
    reached[1, 4:, 5:, filters - filters // groups :] = True
    np.testing.assert_array_equal(np.isnan(y), reached)
    dy[1, 5, 6, filters - 1] = np.nan
    dx = np.empty_like(x)
    kernels.conv_backward(np.zeros_like(x), weight, shapes.window, np.ones_like(y), 1, False, dy, dx, None, None)
    reached = np.zeros(x.shape, bool)
    reached[1, 4:, 5:, channels - channels // groups :] = True
    np.testing.assert_array_equal(np.isnan(dx), reached)


def test_infinities_have_their_products(kernels):
    x, weight = np.ones((1, 2, 2, 1), kernels.dtype), np.array([1.0, -1.0], kernels.dtype).reshape(2, 1, 1, 1)
    x[0, 0, 0] = np.inf
    y = unset(kernels.dtype, 1, 2, 2, 2)
    kernels.conv_predict(x, weight, None, (1, 1, 0, 0, 1, 1), IDENTITY, 0.0, y)
    np.testing.assert_array_equal(y[0, 0], [[np.inf, -np.inf], [1, -1]])


def test_no_rows_clear_the_gradients_unless_they_accumulate(kernels):
    x, dy = np.empty((0, 4, 4, 2), kernels.dtype), np.empty((0, 2, 2, 3), kernels.dtype)
    weight, dw, db = np.ones((3, 2, 3, 3), kernels.dtype), unset(kernels.dtype, 3, 2, 3, 3), unset(kernels.dtype, 3)
    window = (1, 1, 0, 0, 1, 1)
    kernels.conv_forward(x, weight, None, window, TANH, 0.0, 0.0, *DRAW, dy, dy.copy())
    kernels.conv_backward(x, weight, window, dy, 3, False, dy.copy(), x.copy(), dw, db)
    assert not dw.any() and not db.any()
    dw[:], db[:] = 5, 6
    kernels.conv_backward(x, weight, window, dy, 3, True, dy.copy(), None, dw, db)
    assert (dw == 5).all() and (db == 6).all()


def test_a_program_runs_what_was_recorded(kernels, rng):
    """Again and again, with the parameters of then, and the mask of the step."""
    shapes = conv(7, (5, 5, 3), 9, (3, 3), padding=(1, 1))
    x, weight, bias, dy = shapes.operands(rng, kernels.dtype)
    slope, y, dz, dx, dw, db = (
        unset(kernels.dtype, *shape) for shape in (*[shapes.out] * 2, shapes.out, x.shape, weight.shape, bias.shape)
    )
    program = kernels.program(
        [
            kernels.record(
                "conv_forward", x, weight, bias, shapes.window, TANH, 0.0, 0.5, 7, Live.STEP, 0, 0, slope, y
            ),
            kernels.record("conv_backward", x, weight, shapes.window, slope, 7, False, dz, dx, dw, db),
        ]
    )
    for step in (3, 4, 3):
        weight += 1
        dz[...] = dy
        program.run(step)
        expected = [unset(kernels.dtype, *array.shape) for array in (slope, y, dx, dw, db)]
        kernels.conv_forward(x, weight, bias, shapes.window, TANH, 0.0, 0.5, 7, step, 0, 0, *expected[:2])
        kernels.conv_backward(x, weight, shapes.window, expected[0], 7, False, dy.copy(), *expected[2:])
        for got, wanted in zip((slope, y, dx, dw, db), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


RIGHT = {
    "x": (4, 5, 6, 4), "weight": (6, 2, 3, 3), "bias": (6,), "slope": (4, 3, 4, 6), "y": (4, 3, 4, 6),
    "dy": (4, 3, 4, 6), "dx": (4, 5, 6, 4), "dw": (6, 2, 3, 3), "db": (6,),
}  # fmt: skip
WRONG = {
    "x": [(4, 5, 6, 3), (3, 5, 6, 4), (4, 0, 6, 4)], "weight": [(6, 3, 3, 3), (5, 2, 3, 3), (6, 0, 3, 3)],
    "bias": [(5,)], "slope": [(4, 4, 4, 6), (3, 3, 4, 6)], "y": [(4, 3, 4, 5), (3, 3, 4, 6)],
    "dy": [(4, 3, 4, 5), (3, 3, 4, 6)], "dx": [(4, 6, 5, 4)], "dw": [(6, 2, 3, 2)], "db": [(7,)],
}  # fmt: skip
READ = [
    ("x", "weight", "bias", "slope", "y"),
    ("x", "weight", "bias", "y"),
    ("x", "weight", "slope", "dy", "dx", "dw", "db"),
]


def calls(kernels: Kernels, a: dict[str, np.ndarray], window: tuple[int, ...]) -> list:
    return [
        lambda: kernels.conv_forward(a["x"], a["weight"], a["bias"], window, 1, 0.0, 0.0, *DRAW, a["slope"], a["y"]),
        lambda: kernels.conv_predict(a["x"], a["weight"], a["bias"], window, 1, 0.0, a["y"]),
        lambda: kernels.conv_backward(
            a["x"], a["weight"], window, a["slope"], 4, False, a["dy"], a["dx"], a["dw"], a["db"]
        ),
    ]


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in WRONG.items() for shape in shapes])
def test_wrong_shapes_dtypes_and_layouts_are_refused(kernels, name, shape):
    other = np.dtype("float64" if kernels.dtype == np.float32 else "float32")
    gaps = np.zeros([2 * n for n in RIGHT[name]], kernels.dtype)[tuple(slice(None, None, 2) for _ in RIGHT[name])]
    for wrong in (np.zeros(shape, kernels.dtype), np.zeros(RIGHT[name], other), gaps):
        arrays = {key: np.zeros(right, kernels.dtype) for key, right in RIGHT.items()} | {name: wrong}
        for call, read in zip(calls(kernels, arrays, (1, 1, 0, 0, 1, 1)), READ, strict=True):
            if name in read:
                with pytest.raises(ValueError):
                    call()


@pytest.mark.parametrize("place", range(6))
def test_strides_paddings_and_dilations_that_make_no_sense_are_refused(kernels, place):
    arrays = {key: np.zeros(right, kernels.dtype) for key, right in RIGHT.items()}
    window = [1, 1, 0, 0, 1, 1]
    window[place] -= 1
    for call in calls(kernels, arrays, tuple(window)):
        with pytest.raises(ValueError):
            call()


def test_right_shapes_are_taken(kernels):
    arrays = {key: np.zeros(right, kernels.dtype) for key, right in RIGHT.items()}
    for call in calls(kernels, arrays, (1, 1, 0, 0, 1, 1)):
        call()


def test_the_reference_agrees_with_a_sum_by_hand():
    """One filter, two channels, stride 2, a border of zeros."""
    x = np.arange(18.0).reshape(1, 3, 3, 2)
    weight = np.arange(8.0).reshape(1, 2, 2, 2)
    y = np.empty((1, 2, 2, 1))
    reference_kernels(_kernels.load("float64")).conv_predict(x, weight, None, (2, 2, 1, 1, 1, 1), IDENTITY, 0.0, y)
    framed = np.pad(x[0], ((1, 0), (1, 0), (0, 0)))
    expected = [
        [sum(framed[2 * p + u, 2 * q + v, c] * weight[0, c, u, v] for u, v, c in np.ndindex(2, 2, 2)) for q in range(2)]
        for p in range(2)
    ]
    np.testing.assert_allclose(y[0, :, :, 0], expected)
