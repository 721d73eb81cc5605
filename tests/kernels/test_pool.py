from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.oracle import assert_is_gradient, assert_matches_reference, normal, unset
from onotrain import _kernels
from onotrain._kernels import Kernels, reference_pool

#: Images (r, h, w, c), and size, stride and padding along height and width.
CASES = {
    "pairs": ((3, 6, 8, 5), (2, 2, 2, 2, 0, 0)),
    "pairs of an odd image": ((2, 7, 5, 20), (2, 2, 2, 2, 0, 0)),
    "pairs of few channels": ((4, 4, 4, 1), (2, 2, 2, 2, 0, 0)),
    "pairs of many channels": ((2, 4, 4, 64), (2, 2, 2, 2, 0, 0)),
    "windows overlap": ((2, 9, 7, 6), (3, 3, 2, 2, 1, 1)),
    "windows overlap by all but one": ((1, 5, 5, 33), (3, 3, 1, 1, 1, 1)),
    "gaps between windows": ((2, 9, 11, 3), (2, 1, 3, 4, 0, 0)),
    "wide": ((2, 3, 12, 17), (1, 4, 1, 2, 0, 2)),
    "the whole image": ((2, 7, 7, 9), (7, 7, 7, 7, 0, 0)),
    "one pixel": ((2, 1, 1, 3), (1, 1, 1, 1, 0, 0)),
    "the last pixels are in no window": ((2, 8, 8, 2), (3, 3, 3, 3, 0, 0)),
    "one sample of one number": ((1, 1, 1, 1), (1, 1, 1, 1, 0, 0)),
    "no rows": ((0, 4, 4, 3), (2, 2, 2, 2, 0, 0)),
}


def pooled(shape: tuple[int, ...], window: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the output."""
    sizes = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape[1:3], window, window[2:], window[4:], strict=False)]
    return (shape[0], *sizes, shape[3])


def passes(kernels: Kernels, x: np.ndarray, dy: np.ndarray, window: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return what all passes write."""
    winner = np.full(dy.shape, 255, np.uint8)
    made = {name: unset(x.dtype, *dy.shape) for name in ("max", "max alone", "mean")}
    made |= {name: unset(x.dtype, *x.shape) for name in ("dx of max", "dx of mean")}
    kernels.max_pool(x, *window, winner, made["max"])
    kernels.max_pool(x, *window, None, made["max alone"])
    kernels.avg_pool(x, *window, made["mean"])
    kernels.max_pool_backward(winner, dy, *window, made["dx of max"])
    kernels.avg_pool_backward(dy, *window, made["dx of mean"])
    return made | {"winner": winner}


def assert_as_the_reference(kernels: Kernels, x: np.ndarray, dy: np.ndarray, window: tuple[int, ...]) -> None:
    got, expected = passes(kernels, x, dy, window), passes(_kernels.load(x.dtype, "reference"), x, dy, window)
    for name, array in got.items():
        if name == "winner":
            np.testing.assert_array_equal(array, expected[name])
        else:
            assert_matches_reference(array, expected[name])
    assert got["max alone"].tobytes() == got["max"].tobytes()


@pytest.mark.parametrize("case", CASES)
def test_against_the_reference(compiled, rng, case):
    shape, window = CASES[case]
    x, dy = normal(rng, compiled.dtype, *shape), normal(rng, compiled.dtype, *pooled(shape, window))
    assert_as_the_reference(compiled, x, dy, window)
    assert_as_the_reference(compiled, np.round(x), dy, window)  # equal numbers in most windows


@st.composite
def problems(draw):
    """Draw a shape and a window."""
    window, sides = [], []
    for _ in range(2):
        size = draw(st.integers(1, 5))
        padding = draw(st.integers(0, size // 2))
        window.append((size, draw(st.integers(1, 6)), padding))
        sides.append(draw(st.integers(max(1, size - 2 * padding), 12)))
    return (draw(st.integers(0, 3)), *sides, draw(st.integers(1, 35))), tuple(
        n for each in zip(*window, strict=True) for n in each
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(problem=problems(), seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_any_shape_and_window(dtype, problem, seed):
    shape, window = problem
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, shape).astype(dtype)
    x[rng.random(shape) < 0.02] = np.nan
    x[rng.random(shape) < 0.02] = -np.inf
    for build in _kernels.available()[:-1]:
        assert_as_the_reference(_kernels.load(dtype, build), x, normal(rng, dtype, *pooled(shape, window)), window)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_forward_pass(double_kernels, rng, case):
    """Of sum(y * dy), with numbers too far apart to change places."""
    shape, window = CASES[case]
    x = rng.permutation(int(np.prod(shape))).astype(np.float64).reshape(shape) * 0.1
    dy = normal(rng, np.float64, *pooled(shape, window))
    made = passes(double_kernels, x, dy, window)
    for kernel, extra, name in (("max_pool", (None,), "dx of max"), ("avg_pool", (), "dx of mean")):
        y = unset(np.float64, *dy.shape)

        def objective(kernel: str = kernel, extra: tuple[None, ...] = extra, y: np.ndarray = y) -> float:
            getattr(double_kernels, kernel)(x, *window, *extra, y)
            return float((y * dy).sum())

        assert_is_gradient(made[name], objective, x, rng)


def test_the_first_of_equal_numbers_wins(kernels):
    x = np.zeros((1, 4, 4, 9), kernels.dtype)
    made = passes(kernels, x, np.ones((1, 2, 2, 9), kernels.dtype), (2, 2, 2, 2, 0, 0))
    assert not made["winner"].any()
    assert made["dx of max"][0, :, :, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("channels", [1, 6, 16])
@pytest.mark.parametrize("window", [(2, 2, 2, 2, 0, 0), (3, 3, 2, 2, 1, 1)])
def test_nan_is_never_swallowed(kernels, window, channels):
    """Wherever in its windows it is, whatever is beside it; no other output sees it."""
    shape = (1, 6, 6, channels)
    for place in np.ndindex(6, 6):
        x = np.full(shape, np.inf, kernels.dtype)
        x[0, place[0], place[1], channels - 1] = np.nan
        made = passes(kernels, x, np.ones(pooled(shape, window), kernels.dtype), window)
        expected = np.zeros(made["max"].shape, bool)
        for i, j in np.ndindex(*expected.shape[1:3]):
            down, right = place[0] + window[4] - i * window[2], place[1] + window[5] - j * window[3]
            expected[0, i, j, channels - 1] = 0 <= down < window[0] and 0 <= right < window[1]
        np.testing.assert_array_equal(np.isnan(made["max"]), expected)
        np.testing.assert_array_equal(np.isnan(made["mean"]), expected)
    dx = unset(kernels.dtype, *shape)
    kernels.avg_pool_backward(np.full(pooled(shape, window), np.nan, kernels.dtype), *window, dx)
    assert np.isnan(dx).all()


def test_minus_infinity_can_win_and_padding_cannot(kernels):
    x = np.full((1, 2, 2, 3), -np.inf, kernels.dtype)
    made = passes(kernels, x, np.ones((1, 2, 2, 3), kernels.dtype), (3, 3, 1, 1, 1, 1))
    assert np.isneginf(made["max"]).all()
    assert made["winner"][0, :, :, 0].tolist() == [[4, 3], [1, 0]]


@pytest.mark.parametrize("case", [case for case in CASES if case != "no rows"])
def test_nothing_beside_the_outputs_is_written_or_read(kernels, rng, case):
    """Rows of a batch whose other rows are other ranks': what is around them stays what it is, and does not count."""
    shape, window = CASES[case]
    out, margin = pooled(shape, window), 70

    def within(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = np.full(array.size + 2 * margin, 99, array.dtype)
        flat[margin:-margin] = array.ravel()
        return flat, flat[margin:-margin].reshape(array.shape)

    x, dy = normal(rng, kernels.dtype, *shape), normal(rng, kernels.dtype, *out)
    expected = passes(kernels, x, dy, window)
    (_, x), (_, dy), (w, winner) = within(x), within(dy), within(np.zeros(out, np.uint8))
    (a, y), (b, dx) = within(np.zeros_like(dy)), within(np.zeros_like(x))
    for name, call in {
        "max": lambda: kernels.max_pool(x, *window, winner, y),
        "dx of max": lambda: kernels.max_pool_backward(winner, dy, *window, dx),
        "mean": lambda: kernels.avg_pool(x, *window, y),
        "dx of mean": lambda: kernels.avg_pool_backward(dy, *window, dx),
    }.items():
        call()
        assert (dx if name.startswith("dx") else y).tobytes() == expected[name].tobytes()
        for flat in (a, b, w):
            assert (flat[:margin] == 99).all() and (flat[-margin:] == 99).all()


def test_a_sample_gets_the_same_bits_wherever_it_is(kernels, rng):
    shape, window = (5, 7, 7, 6), (3, 3, 2, 2, 1, 1)
    x, dy = normal(rng, kernels.dtype, *shape), normal(rng, kernels.dtype, *pooled(shape, window))
    whole = passes(kernels, x, dy, window)
    for row in range(5):
        alone = passes(kernels, x[row : row + 1].copy(), dy[row : row + 1].copy(), window)
        for name, array in alone.items():
            assert array.tobytes() == whole[name][row].tobytes(), name


@pytest.mark.parametrize(
    "window",
    [
        (0, 2, 2, 2, 0, 0), (2, 2, 0, 2, 0, 0), (2, 2, 2, 2, -1, 0), (2, 2, 2, 2, 2, 0), (7, 2, 2, 2, 0, 0),
        (2, 2, 2, 1, 0, 0), (2, 2, 1, 2, 0, 0), (2, 2, 2, 2, 1, 0),
    ],
)  # fmt: skip
def test_windows_that_do_not_go_with_the_arrays_are_refused(kernels, window):
    x, y = np.zeros((2, 6, 6, 3), kernels.dtype), np.zeros((2, 3, 3, 3), kernels.dtype)
    winner = np.zeros(y.shape, np.uint8)
    for call in (
        lambda: kernels.max_pool(x, *window, winner, y),
        lambda: kernels.max_pool_backward(winner, y, *window, x),
        lambda: kernels.avg_pool(x, *window, y),
        lambda: kernels.avg_pool_backward(y, *window, x),
    ):
        with pytest.raises(ValueError):
            call()


def test_wrong_arrays_are_refused(kernels):
    window = (2, 2, 2, 2, 0, 0)
    other = np.dtype("float64" if kernels.dtype == np.float32 else "float32")
    right = (
        np.zeros((2, 6, 6, 3), kernels.dtype),
        np.zeros((2, 3, 3, 3), np.uint8),
        np.zeros((2, 3, 3, 3), kernels.dtype),
    )
    for number, wrong in [
        (0, np.zeros((3, 6, 6, 3), kernels.dtype)), (0, np.zeros((2, 6, 6, 4), kernels.dtype)),
        (0, np.zeros((2, 6, 6, 3), other)), (0, np.zeros((2, 6, 6, 6), kernels.dtype)[..., ::2]),
        (1, np.zeros((2, 3, 3, 4), np.uint8)), (1, np.zeros((2, 3, 3, 3), np.int8)),
        (2, np.zeros((2, 3, 4, 3), kernels.dtype)), (2, np.zeros((2, 3, 3, 3), other)),
    ]:  # fmt: skip
        x, winner, y = (wrong if place == number else each for place, each in enumerate(right))
        with pytest.raises(ValueError):
            kernels.max_pool(x, *window, winner, y)
        with pytest.raises(ValueError):
            kernels.max_pool_backward(winner, y, *window, x)
        if number != 1:
            with pytest.raises(ValueError):
                kernels.avg_pool(x, *window, y)
            with pytest.raises(ValueError):
                kernels.avg_pool_backward(y, *window, x)


def test_a_window_of_more_places_than_a_byte_tells_has_no_winner(kernels, rng):
    x, y = normal(rng, kernels.dtype, 1, 17, 17, 2), unset(kernels.dtype, 1, 1, 1, 2)
    window = (17, 17, 1, 1, 0, 0)
    assert reference_pool.MOST_PLACES == 256
    with pytest.raises(ValueError, match="at most 256"):
        kernels.max_pool(x, *window, np.zeros(y.shape, np.uint8), y)
    kernels.max_pool(x, *window, None, y)
    np.testing.assert_array_equal(y, x.max(axis=(1, 2), keepdims=True))
    window, x = (16, 16, 1, 1, 0, 0), x[:, :16, :16].copy()
    winner = np.zeros(y.shape, np.uint8)
    kernels.max_pool(x, *window, winner, y)
    np.testing.assert_array_equal(winner[0, 0, 0], x.reshape(256, 2).argmax(axis=0))
