"""Group normalisation: the channels of each group, at all positions of a set, by their own moments.

Layer normalisation is the same with one group and sets of one position.

Dimensions: m sets of p positions, c channels in g groups; samples of one or several sets each.
"""

from cython cimport floating
from libc.math cimport sqrt
from libc.string cimport memset

from onotrain._kernels.arrays cimport expect, expect_shape, in_1d, in_2d, out_2d
from onotrain._kernels.normalised_row cimport gradient_of_row, normalise_row
from onotrain._kernels.normalised_rows cimport (
    WIDTH, Strip, affine, at, expect_length, make_strip, mix_strip, positions_of, repeat, scale_strip, sum_moments,
    sum_of, sum_products,
)
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded


cdef struct Groups:
    # Several small groups are computed together, and a large one in parts; either is a strip of at most WIDTH channels.
    Py_ssize_t m
    Py_ssize_t p
    Py_ssize_t c
    Py_ssize_t g
    Py_ssize_t size         # channels of a group
    Py_ssize_t together     # groups at the same time


cdef int make_groups(Groups* out, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t positions, Py_ssize_t groups) except -1:
    if positions < 1 or rows % positions:
        raise ValueError(f"positions: got {positions}, expected a divisor of the {rows} rows of x")
    if groups < 1 or c < groups or c % groups:
        raise ValueError(f"groups: got {groups}, expected a divisor of the {c} columns of x")
    cdef Py_ssize_t size = c // groups
    out[0] = Groups(rows // positions, positions, c, groups, size, max(1, WIDTH // size))
    return 0


cdef void moments(
    const Groups* s,
    Py_ssize_t k,           # groups, at most `together`
    const floating* x,
    double epsilon,
    double* mean,           # OUT (k,), as inverse: 1 / sqrt(variance + epsilon)
    double* inverse,
) noexcept nogil:
    """The first value of each group is subtracted, so that no difference of large sums is left."""
    cdef double[WIDTH] shift, sums, squares
    cdef double count = <double> s.p * s.size, first_value, variance
    cdef Py_ssize_t n = k * s.size, first, columns, begin, end, group, c
    cdef Strip strip
    memset(mean, 0, k * sizeof(double))
    memset(inverse, 0, k * sizeof(double))
    first = 0
    while first < n:
        columns = min(<Py_ssize_t> WIDTH, n - first)
        strip = make_strip(s.p, columns, s.c)
        for group in range(k):
            begin, end = group * s.size, min((group + 1) * s.size, columns)
            first_value = x[begin]
            for c in range(begin, end):
                shift[c] = first_value
        repeat(&strip, shift)
        sum_moments(&strip, x + first, shift, sums, squares)
        for group in range(k):
            begin, end = group * s.size, min((group + 1) * s.size, columns)
            mean[group] += sum_of(end - begin, sums + begin)
            inverse[group] += sum_of(end - begin, squares + begin)
        first += WIDTH
    for group in range(k):
        mean[group] /= count
        variance = inverse[group] / count - mean[group] * mean[group]
        if variance < 0:  # rounded; NaN stays
            variance = 0
        mean[group] += x[group * s.size]
        inverse[group] = 1 / sqrt(variance + epsilon)


cdef struct Forward:
    Groups groups
    double epsilon
    const void* weight
    const void* bias
    double* statistics
    void* y


cdef void normalise(
    const Groups* s, Py_ssize_t k, const floating* x, const double* mean, const double* inverse,
    const floating* weight, const floating* bias, floating* y,
) noexcept nogil:
    cdef floating[WIDTH] centre, scale, offset
    cdef Py_ssize_t n = k * s.size, first, columns, group, c
    cdef double factor
    cdef Strip strip
    first = 0
    while first < n:
        columns = min(<Py_ssize_t> WIDTH, n - first)
        strip = make_strip(s.p, columns, s.c)
        for group in range(k):
            for c in range(group * s.size, min((group + 1) * s.size, columns)):
                factor = inverse[group] * (weight[first + c] if weight != NULL else 1)
                affine(
                    mean[group], factor, bias[first + c] if bias != NULL else 0, centre + c, scale + c, offset + c
                )
        repeat(&strip, centre)
        repeat(&strip, scale)
        repeat(&strip, offset)
        scale_strip(&strip, x + first, centre, scale, offset, y + first)
        first += WIDTH


cdef void normalise_positions(const floating* x, const Forward* a) noexcept nogil:
    """Sets of one position."""
    cdef double[2] unused
    cdef double* statistics = unused
    cdef const Groups* s = &a.groups
    cdef Py_ssize_t place, group, begin
    for place in range(s.m):
        for group in range(s.g):
            begin = place * s.c + group * s.size
            if a.statistics != NULL:
                statistics = a.statistics + 2 * (place * s.g + group)
            normalise_row(
                s.size, x + begin, a.epsilon, at(<const floating*> a.weight, group * s.size),
                at(<const floating*> a.bias, group * s.size), statistics, <floating*> a.y + begin,
            )


cdef int run_group_norm_forward(const floating* x, const Forward* a, const Moment* now) noexcept nogil:
    cdef double[WIDTH] mean, inverse
    cdef const Groups* s = &a.groups
    cdef const floating* weight = <const floating*> a.weight
    cdef const floating* bias = <const floating*> a.bias
    cdef Py_ssize_t place, group, k, begin, each
    if s.p == 1:
        normalise_positions(x, a)
        return 0
    for place in range(s.m):
        group = 0
        while group < s.g:
            k, begin = min(s.together, s.g - group), place * s.p * s.c + group * s.size
            moments(s, k, x + begin, a.epsilon, mean, inverse)
            normalise(
                s, k, x + begin, mean, inverse, at(weight, group * s.size), at(bias, group * s.size),
                <floating*> a.y + begin,
            )
            if a.statistics != NULL:
                for each in range(k):
                    a.statistics[2 * (place * s.g + group + each)] = mean[each]
                    a.statistics[2 * (place * s.g + group + each) + 1] = inverse[each]
            group += s.together
    return 0


def group_norm_forward(
    const floating[:, ::1] x not None,          # IN  (m p, c)
    Py_ssize_t positions,
    Py_ssize_t groups,
    double epsilon,
    const floating[::1] weight,                 # IN  (c,) or None
    const floating[::1] bias,                   # IN  (c,) or None
    double[:, ::1] statistics,                  # OUT (m, 2 g) or None
    floating[:, ::1] y not None,                # OUT (m p, c)
    bint record=False,
):
    """``y = weight (x - mean) / sqrt(variance + epsilon) + bias``; mean and 1 / sqrt(...) of each group."""
    cdef Py_ssize_t rows = x.shape[0], c = x.shape[1]
    cdef Moment now = at_step(0)
    cdef Forward a
    make_groups(&a.groups, rows, c, positions, groups)
    a.epsilon, a.weight, a.bias, a.statistics, a.y = epsilon, in_1d(weight), in_1d(bias), out_2d(statistics), out_2d(y)
    expect_length("weight", weight, c)
    expect_length("bias", bias, c)
    if statistics is not None:
        expect_shape("statistics", statistics, a.groups.m, 2 * groups)
    expect_shape("y", y, rows, c)
    if record:
        return recorded(
            <Kernel> run_group_norm_forward[floating], in_2d(x), &a, sizeof(a), (x, weight, bias, statistics, y), ""
        )
    with nogil:
        run_group_norm_forward(in_2d(x), &a, &now)


cdef struct Backward:
    Groups groups
    Py_ssize_t sets         # of a sample
    const double* statistics
    const void* weight
    const void* dy
    void* dx
    void* dweight
    void* dbias


cdef void weigh(
    const Groups* s, Py_ssize_t k, const floating* x, const floating* dy, const double* statistics,
    const floating* weight, floating* dweight, floating* dbias, double* of_dy, double* of_x,
) noexcept nogil:
    """Sums over each group of ``weight dy`` and of ``weight dy x'``, and over each channel without its weight."""
    cdef floating[WIDTH] centre, scale, offset
    cdef double[WIDTH] sums, products
    cdef Py_ssize_t n = k * s.size, first, columns, begin, end, group, c
    cdef Strip strip
    memset(of_dy, 0, k * sizeof(double))
    memset(of_x, 0, k * sizeof(double))
    first = 0
    while first < n:
        columns = min(<Py_ssize_t> WIDTH, n - first)
        strip = make_strip(s.p, columns, s.c)
        for group in range(k):
            for c in range(group * s.size, min((group + 1) * s.size, columns)):
                affine(statistics[2 * group], statistics[2 * group + 1], 0, centre + c, scale + c, offset + c)
        repeat(&strip, centre)
        repeat(&strip, scale)
        repeat(&strip, offset)
        sum_products(&strip, x + first, dy + first, centre, scale, offset, sums, products)
        if dweight != NULL:
            for c in range(columns):
                dweight[first + c] += <floating> products[c]
                dbias[first + c] += <floating> sums[c]
        if weight != NULL:
            for c in range(columns):
                sums[c] *= weight[first + c]
                products[c] *= weight[first + c]
        for group in range(k):
            begin, end = group * s.size, min((group + 1) * s.size, columns)
            of_dy[group] += sum_of(end - begin, sums + begin)
            of_x[group] += sum_of(end - begin, products + begin)
        first += WIDTH


cdef void gradient(
    const Groups* s, Py_ssize_t k, const floating* x, const floating* dy, const double* statistics,
    const floating* weight, const double* sums, const double* products, floating* dx,
) noexcept nogil:
    cdef floating[WIDTH] centre, of_dy, of_x, offset
    cdef Py_ssize_t n = k * s.size, first, columns, group, c
    cdef double count = <double> s.p * s.size, inverse, slope, level
    cdef Strip strip
    first = 0
    while first < n:
        columns = min(<Py_ssize_t> WIDTH, n - first)
        strip = make_strip(s.p, columns, s.c)
        for group in range(k):
            inverse = statistics[2 * group + 1]
            slope, level = -inverse * inverse * products[group] / count, -inverse * sums[group] / count
            for c in range(group * s.size, min((group + 1) * s.size, columns)):
                affine(statistics[2 * group], slope, level, centre + c, of_x + c, offset + c)
                of_dy[c] = <floating> (inverse * (weight[first + c] if weight != NULL else 1))
        repeat(&strip, centre)
        repeat(&strip, of_dy)
        repeat(&strip, of_x)
        repeat(&strip, offset)
        mix_strip(&strip, x + first, dy + first, centre, of_dy, of_x, offset, dx + first)
        first += WIDTH


cdef floating* behind(floating* a, Py_ssize_t first) noexcept nogil:
    return a + first if a != NULL else NULL


cdef void gradient_of_positions(const floating* x, const Backward* a) noexcept nogil:
    """Sets of one position."""
    cdef const Groups* s = &a.groups
    cdef floating* dweight = <floating*> a.dweight
    cdef floating* dbias = <floating*> a.dbias
    cdef Py_ssize_t sample, place, group, begin
    for sample in range(s.m // a.sets):
        for place in range(sample * a.sets, (sample + 1) * a.sets):
            for group in range(s.g):
                begin = place * s.c + group * s.size
                gradient_of_row(
                    s.size, x + begin, <const floating*> a.dy + begin, a.statistics + 2 * (place * s.g + group),
                    at(<const floating*> a.weight, group * s.size), behind(<floating*> a.dx, begin),
                    behind(dweight, sample * s.c + group * s.size), behind(dbias, sample * s.c + group * s.size),
                )


cdef int run_group_norm_backward(const floating* x, const Backward* a, const Moment* now) noexcept nogil:
    cdef double[WIDTH] sums, products
    cdef const Groups* s = &a.groups
    cdef const floating* weight = <const floating*> a.weight
    cdef const floating* dy = <const floating*> a.dy
    cdef const double* statistics
    cdef Py_ssize_t place, group, k, begin, of_sample
    if a.dweight != NULL:
        memset(a.dweight, 0, s.m // a.sets * s.c * sizeof(floating))
        memset(a.dbias, 0, s.m // a.sets * s.c * sizeof(floating))
    if s.p == 1:
        gradient_of_positions(x, a)
        return 0
    for place in range(s.m):
        group = 0
        while group < s.g:
            k, begin = min(s.together, s.g - group), place * s.p * s.c + group * s.size
            of_sample = place // a.sets * s.c + group * s.size
            statistics = a.statistics + 2 * (place * s.g + group)
            weigh(
                s, k, x + begin, dy + begin, statistics, at(weight, group * s.size),
                behind(<floating*> a.dweight, of_sample), behind(<floating*> a.dbias, of_sample), sums, products,
            )
            if a.dx != NULL:
                gradient(
                    s, k, x + begin, dy + begin, statistics, at(weight, group * s.size), sums, products,
                    <floating*> a.dx + begin,
                )
            group += s.together
    return 0


def group_norm_backward(
    const floating[:, ::1] x not None,          # IN  (m p, c)
    Py_ssize_t positions,
    Py_ssize_t groups,
    const double[:, ::1] statistics not None,   # IN  (m, 2 g)
    const floating[::1] weight,                 # IN  (c,) or None
    const floating[:, ::1] dy not None,         # IN  (m p, c)
    floating[:, ::1] dx,                        # OUT (m p, c) or None
    floating[:, ::1] dweight,                   # OUT (r, c) or None, as dbias
    floating[:, ::1] dbias,
    bint record=False,
):
    """``dx = (weight dy - mean of (weight dy) - x' mean of (weight dy x')) / std`` with ``x' = (x - mean) / std``."""
    cdef Py_ssize_t rows = x.shape[0], c = x.shape[1], m, r
    cdef Moment now = at_step(0)
    cdef Backward a
    make_groups(&a.groups, rows, c, positions, groups)
    m = a.groups.m
    r = m if dweight is None else dweight.shape[0]
    a.sets, a.statistics, a.weight, a.dy = max(1, positions_of(m, r)), in_2d(statistics), in_1d(weight), in_2d(dy)
    a.dx, a.dweight, a.dbias = out_2d(dx), out_2d(dweight), out_2d(dbias)
    expect_shape("statistics", statistics, m, 2 * groups)
    expect_length("weight", weight, c)
    expect_shape("dy", dy, rows, c)
    if dx is not None:
        expect_shape("dx", dx, rows, c)
    expect("sets of positions", m, r * positions_of(m, r))
    if (dweight is None) != (dbias is None):
        raise ValueError("dweight and dbias: expected both or none")
    if dweight is not None:
        expect_shape("dweight", dweight, r, c)
        expect_shape("dbias", dbias, r, c)
    if record:
        return recorded(
            <Kernel> run_group_norm_backward[floating], in_2d(x), &a, sizeof(a),
            (x, statistics, weight, dy, dx, dweight, dbias), "",
        )
    with nogil:
        run_group_norm_backward(in_2d(x), &a, &now)
