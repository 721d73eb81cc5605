"""Samples whose values are put elsewhere: transposed, or images shifted and flipped at random.

Dimensions: r rows of the batch on this rank, m by n values, or images of h by w pixels of c channels.
"""

from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from onotrain._kernels.arrays cimport expect, in_3d, in_4d, out_3d, out_4d
from onotrain._kernels.philox cimport Draw, at, make_draw, row_words
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded
from onotrain._kernels.tiles cimport transpose


cdef struct Transposition:
    Py_ssize_t r
    Py_ssize_t m
    Py_ssize_t n
    void* y


cdef int run_transpose_samples(const floating* x, const Transposition* a, const Moment* now) noexcept nogil:
    cdef floating* y = <floating*> a.y
    cdef Py_ssize_t q
    if a.r == 0 or a.m == 0 or a.n == 0:
        return 0
    if a.m == 1 or a.n == 1:
        memcpy(y, x, a.r * a.m * a.n * sizeof(floating))
        return 0
    for q in range(a.r):
        transpose(a.m, a.n, x + q * a.m * a.n, y + q * a.m * a.n)
    return 0


def transpose_samples(
    const floating[:, :, ::1] x not None,       # IN  (r, m, n)
    floating[:, :, ::1] y not None,             # OUT (r, n, m)
    bint record=False,
):
    """``y = x^T`` of every sample."""
    cdef Py_ssize_t r = x.shape[0], m = x.shape[1], n = x.shape[2]
    cdef Moment now = at_step(0)
    cdef Transposition a = Transposition(r, m, n, out_3d(y))
    expect("rows of y", y.shape[0], r)
    expect("axis 1 of y", y.shape[1], n)
    expect("axis 2 of y", y.shape[2], m)
    if record:
        return recorded(<Kernel> run_transpose_samples[floating], in_3d(x), &a, sizeof(a), (x, y), "")
    with nogil:
        run_transpose_samples(in_3d(x), &a, &now)


cdef enum:
    # What comes in at the border (onotrain.known_names.BORDERS).
    CONSTANT = 0
    EDGE = 1
    REFLECT = 2


cdef struct Move:
    Py_ssize_t r
    Py_ssize_t h
    Py_ssize_t w
    Py_ssize_t c
    Py_ssize_t pixels
    int border
    double fill
    bint horizontal
    bint vertical
    Draw draw
    void* out


cdef struct Axis:
    # One axis of a sample that is shifted and flipped.
    Py_ssize_t n
    Py_ssize_t shift
    bint flip


cdef inline Py_ssize_t source(const Axis* a, int border, Py_ssize_t i) noexcept nogil:
    """Place of what comes to place i, or -1 for the fill."""
    i -= a.shift
    if i < 0 or i >= a.n:
        if border == CONSTANT:
            return -1
        if border == EDGE:
            i = 0 if i < 0 else a.n - 1
        else:
            i = -i if i < 0 else 2 * (a.n - 1) - i
    return a.n - 1 - i if a.flip else i


cdef inline void draw_move(const Move* a, Draw draw, Py_ssize_t q, Axis* y, Axis* x) noexcept nogil:
    """Shifts from -pixels to pixels, and flips with probability 1/2, of row q."""
    cdef uint32_t[4] word
    cdef uint64_t places = 2 * a.pixels + 1
    draw.row += <uint32_t> q
    row_words(&draw, word)
    y[0] = Axis(a.h, <Py_ssize_t> (word[0] * places >> 32) - a.pixels, a.vertical and word[2] & 1)
    x[0] = Axis(a.w, <Py_ssize_t> (word[1] * places >> 32) - a.pixels, a.horizontal and word[3] & 1)


cdef inline void copy_pixel(Py_ssize_t c, const floating* x, floating* y) noexcept nogil:
    if c == 1:
        y[0] = x[0]
    elif c == 3:
        memcpy(y, x, 3 * sizeof(floating))
    else:
        memcpy(y, x, c * sizeof(floating))


cdef inline void fill_with(Py_ssize_t n, floating value, floating* y) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        y[k] = value


cdef void move_row(
    const Move* a, const Axis* axis, Py_ssize_t begin, Py_ssize_t end, const floating* x, floating* y
) noexcept nogil:
    """Pixels `begin` to `end` of a row of the image, one by one."""
    cdef Py_ssize_t j, place
    for j in range(begin, end):
        place = source(axis, a.border, j)
        if place < 0:
            fill_with(a.c, <floating> a.fill, y + j * a.c)
        else:
            copy_pixel(a.c, x + place * a.c, y + j * a.c)


cdef int run_shift_and_flip(const floating* x, const Move* a, const Moment* now) noexcept nogil:
    cdef Draw draw = at(a.draw, now.step)
    cdef floating* out = <floating*> a.out
    cdef Py_ssize_t q, i, place, begin, end, row = a.w * a.c
    cdef Axis ys, xs
    for q in range(a.r):
        draw_move(a, draw, q, &ys, &xs)
        begin, end = max(xs.shift, 0), min(a.w + xs.shift, a.w)
        for i in range(a.h):
            place = source(&ys, a.border, i)
            if place < 0:
                fill_with(row, <floating> a.fill, out)
            elif xs.flip:
                move_row(a, &xs, 0, a.w, x + place * row, out)
            else:
                move_row(a, &xs, 0, begin, x + place * row, out)
                memcpy(
                    out + begin * a.c, x + place * row + (begin - xs.shift) * a.c,
                    (end - begin) * a.c * sizeof(floating),
                )
                move_row(a, &xs, end, a.w, x + place * row, out)
            out += row
        x += a.h * row
    return 0


cdef Move move_of(
    const floating[:, :, :, ::1] x, floating[:, :, :, ::1] out, Py_ssize_t pixels, int border, double fill,
    bint horizontal, bint vertical, uint64_t seed, long long layer, long long first_row,
) except *:
    """Return the arguments of both passes, checked."""
    cdef Py_ssize_t r = x.shape[0], h = x.shape[1], w = x.shape[2], c = x.shape[3]
    cdef int each
    for each in range(4):
        expect(f"axis {each} of the output", out.shape[each], x.shape[each])
    if pixels < 0 or pixels > 0 and pixels >= min(h, w):
        raise ValueError(f"pixels: got {pixels}, expected at least 0 and fewer than the image of {h} by {w} has")
    if border not in (CONSTANT, EDGE, REFLECT):
        raise ValueError(f"border: got code {border}, expected {CONSTANT}, {EDGE} or {REFLECT}")
    return Move(
        r, h, w, c, pixels, border, fill, horizontal, vertical, make_draw(0, seed, layer, first_row), out_4d(out)
    )


def shift_and_flip(
    const floating[:, :, :, ::1] x not None,    # IN  (r, h, w, c)
    Py_ssize_t pixels,
    int border,
    double fill,
    bint horizontal,
    bint vertical,
    uint64_t seed,
    long long step,
    long long layer,
    long long first_row,
    floating[:, :, :, ::1] y not None,          # OUT (r, h, w, c)
    bint record=False,
):
    """Shift and flip every image at random."""
    cdef Moment now = at_step(step)
    cdef Move a = move_of(x, y, pixels, border, fill, horizontal, vertical, seed, layer, first_row)
    if record:
        return recorded(<Kernel> run_shift_and_flip[floating], in_4d(x), &a, sizeof(a), (x, y), "")
    with nogil:
        run_shift_and_flip(in_4d(x), &a, &now)


cdef int run_shift_and_flip_backward(const floating* dy, const Move* a, const Moment* now) noexcept nogil:
    cdef Draw draw = at(a.draw, now.step)
    cdef floating* dx = <floating*> a.out
    cdef Py_ssize_t q, i, j, k, row, column
    cdef Axis ys, xs
    if a.r > 0 and a.h > 0 and a.w > 0 and a.c > 0:
        memset(dx, 0, a.r * a.h * a.w * a.c * sizeof(floating))
    for q in range(a.r):
        draw_move(a, draw, q, &ys, &xs)
        for i in range(a.h):
            row = source(&ys, a.border, i)
            for j in range(a.w):
                column = source(&xs, a.border, j)
                if row >= 0 and column >= 0:
                    for k in range(a.c):
                        dx[(row * a.w + column) * a.c + k] += dy[k]
                dy += a.c
        dx += a.h * a.w * a.c
    return 0


def shift_and_flip_backward(
    const floating[:, :, :, ::1] dy not None,   # IN  (r, h, w, c)
    Py_ssize_t pixels,
    int border,
    bint horizontal,
    bint vertical,
    uint64_t seed,
    long long step,
    long long layer,
    long long first_row,
    floating[:, :, :, ::1] dx not None,         # OUT (r, h, w, c)
    bint record=False,
):
    """Each pixel gets the sum of the gradients of where it went."""
    cdef Moment now = at_step(step)
    cdef Move a = move_of(dy, dx, pixels, border, 0, horizontal, vertical, seed, layer, first_row)
    if record:
        return recorded(<Kernel> run_shift_and_flip_backward[floating], in_4d(dy), &a, sizeof(a), (dy, dx), "")
    with nogil:
        run_shift_and_flip_backward(in_4d(dy), &a, &now)
