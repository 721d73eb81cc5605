"""An update rule on vectors of any length: what updates have in common, whatever their gradient is made of.

Dimensions: n parameters, k gradient rows, `stride` elements apart.
"""

from cython cimport floating
from libc.string cimport memcpy, memset

from onotrain._kernels.elementary cimport LANES
from onotrain._kernels.rules cimport MOST_SCALARS, Rule, Step, apply, rule_of
from onotrain._kernels.vectors cimport stream

cdef enum:
    BLOCK = 128         # elements that go past the caches at a time
    COMMON_SCALARS = 3
    WIDE = 64           # elements of a table that are looked at together


cdef inline Step step_of(rule, tuple scalars, tuple state) except *:
    """Return what a rule is a function of."""
    cdef Step step
    cdef Py_ssize_t index, own = len(scalars) - COMMON_SCALARS
    memset(&step, 0, sizeof(Step))
    if not 0 <= own <= MOST_SCALARS:
        raise ValueError(f"scalars: got {len(scalars)}, expected {<int> COMMON_SCALARS} and those of the rule")
    step.scale, step.penalty, step.shrink = scalars[0], scalars[1], scalars[2]
    for index in range(own):
        step.scalars[index] = scalars[COMMON_SCALARS + index]
    step.rule = <Rule> rule_of(rule.kernel, step.scalars, own, len(state))
    return step


cdef inline void take_scalars(Step* step, Py_ssize_t own, const double* scalars) noexcept nogil:
    """Take over the scalars of a step of a run, `own` of which belong to the rule."""
    cdef Py_ssize_t index
    step.scale, step.penalty, step.shrink = scalars[0], scalars[1], scalars[2]
    for index in range(own):
        step.scalars[index] = scalars[COMMON_SCALARS + index]


cdef inline floating* at(floating* p, Py_ssize_t n) noexcept nogil:
    return p + n if p != NULL else NULL


cdef inline const floating* at_in(const floating* p, Py_ssize_t n) noexcept nogil:
    return p + n if p != NULL else NULL


cdef inline void copy(Py_ssize_t n, const floating* x, floating* y) noexcept nogil:
    """``y = x``, where both exist."""
    if x != NULL and y != NULL:
        memcpy(y, x, n * sizeof(floating))


cdef inline double run(
    const Step* step, Py_ssize_t n, const floating* rows, floating* a, floating* b, const floating* p, floating* out
) noexcept nogil:
    """Apply the rule to whole groups of LANES elements where they lie, to the rest in copies; return the squares.

    Every operation is rounded (setup.py), so how the parameters are cut into shards does not change a bit.
    """
    cdef double[LANES] squares
    cdef double total = 0
    cdef Py_ssize_t c, rest = n % LANES, whole = n - rest
    for c in range(LANES):
        squares[c] = 0
    apply_in_blocks(step, whole, rows, a, b, p, out, squares)
    if rest > 0:
        apply_to_rest(step, rest, rows + whole, at(a, whole), at(b, whole), at_in(p, whole), out + whole, squares)
    for c in range(LANES):
        total += squares[c]
    return total


cdef inline void apply_in_blocks(
    const Step* step, Py_ssize_t n, const floating* rows, floating* a, floating* b, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    """Apply the rule; to shared parameters by blocks, which go past the caches as they are made."""
    cdef floating[BLOCK] block
    cdef Py_ssize_t start = 0, count
    if not step.shared:
        apply(step, n, rows, a, b, p, out, squares)
        return
    while start < n:
        count = min(<Py_ssize_t> BLOCK, n - start)
        apply(step, count, rows + start, at(a, start), at(b, start), p + start, block, squares)
        stream(block, out + start, count * sizeof(floating))
        start += count


cdef inline void apply_to_rest(
    const Step* step, Py_ssize_t n, const floating* rows, floating* a, floating* b, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    """Apply the rule to less than LANES elements, in copies that are filled up with zeros."""
    cdef floating[LANES] row, first, second, param, result
    cdef Step summed = step[0]
    cdef Py_ssize_t _, c
    summed.k = 1
    for c in range(LANES):
        row[c] = first[c] = second[c] = param[c] = 0
    for _ in range(step.k):
        for c in range(n):
            row[c] += rows[c]
        rows += step.stride
    copy(n, a, first)
    copy(n, b, second)
    copy(n, p, param)
    apply(
        &summed, LANES, row, first if a != NULL else NULL, second if b != NULL else NULL, param, result, squares
    )
    copy(n, first, a)
    copy(n, second, b)
    copy(n, result, out)


cdef inline Py_ssize_t first_nonzero(
    const Step* step, Py_ssize_t start, Py_ssize_t n, const floating* rows
) noexcept nogil:
    """Place of the first element from `start` on whose gradient, the sum of the rows, is not 0 (NaN is not); or n."""
    cdef floating[WIDE] g
    cdef floating one
    cdef const floating* each
    cdef Py_ssize_t c, _
    cdef int found
    while start + WIDE <= n:
        each = rows + start
        for c in range(WIDE):
            g[c] = each[c]
        for _ in range(1, step.k):
            each += step.stride
            for c in range(WIDE):
                g[c] += each[c]
        found = 0
        for c in range(WIDE):  # no exit: this loop is vectorised
            found |= g[c] != 0
        if found:
            break
        start += WIDE
    while start < n:
        each = rows + start
        one = each[0]
        for _ in range(1, step.k):
            each += step.stride
            one += each[0]
        if one != 0:
            break
        start += 1
    return start
