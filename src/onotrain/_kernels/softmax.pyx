"""Classes that exclude each other: cross-entropy on logits with its gradient, and what logits mean as probabilities.

Dimensions and sums as in losses.pyx.
"""

from cython cimport floating
from libc.stdint cimport int32_t
from libc.string cimport memcpy

from onotrain._kernels.arrays cimport expect, in_1d, in_2d, out_2d
from onotrain._kernels.elementary cimport exp, log, total
from onotrain._kernels.program cimport GO_ON, WRONG_VALUE, Kernel, Moment, at_step, recorded

cdef enum:
    BLOCK = 256     # exponentials, and rows, that wait in the first-level cache for their sums


cdef Py_ssize_t largest(Py_ssize_t o, const floating* z) noexcept nogil:
    """First place of the largest of z."""
    cdef Py_ssize_t c, best = 0
    for c in range(1, o):
        if z[c] > z[best]:
            best = c
    return best


cdef void exponentials(Py_ssize_t n, floating* e) noexcept nogil:
    """``e = exp(e)``."""
    cdef Py_ssize_t c
    for c in range(n):
        e[c] = exp(e[c])


cdef double sum_in_blocks(Py_ssize_t o, const floating* e) noexcept nogil:
    cdef double sum = 0
    cdef Py_ssize_t start = 0
    while start < o:
        sum += total(e + start, min(<Py_ssize_t> BLOCK, o - start))
        start += BLOCK
    return sum


cdef void exponentials_of_rows(
    Py_ssize_t r,
    Py_ssize_t o,
    const floating* z,          # IN  (r, o)
    floating* e,                # OUT (r, o), may be z
    Py_ssize_t* best,           # OUT (r,) first places of the largest z
    double* denominator,        # OUT (r,)
) noexcept nogil:
    """``e = exp(z - max z)`` of each row, and its sum: of several rows together, for a row may be short."""
    cdef Py_ssize_t q, c
    cdef floating top
    for q in range(r):
        best[q] = largest(o, z + q * o)
        top = z[q * o + best[q]]
        for c in range(o):
            e[q * o + c] = z[q * o + c] - top
    exponentials(r * o, e)
    for q in range(r):
        denominator[q] = sum_in_blocks(o, e + q * o)


cdef double denominator_of_long_row(
    Py_ssize_t o, const floating* z, floating* block, Py_ssize_t* best
) noexcept nogil:
    """The same of a row of more than BLOCK numbers, whose exponentials are not kept."""
    cdef double sum = 0
    cdef Py_ssize_t start = 0, count, c
    cdef floating top
    best[0] = largest(o, z)
    top = z[best[0]]
    while start < o:
        count = min(<Py_ssize_t> BLOCK, o - start)
        for c in range(count):
            block[c] = exp(z[start + c] - top)
        sum += total(block, count)
        start += BLOCK
    return sum


cdef inline Py_ssize_t rows_of_block(Py_ssize_t o) noexcept nogil:
    """How many rows go together: a block of numbers, if rows are short."""
    return max(<Py_ssize_t> 1, <Py_ssize_t> BLOCK // max(o, <Py_ssize_t> 1))


cdef void logarithms(Py_ssize_t n, double* x) noexcept nogil:
    """``x = log(x)``."""
    cdef Py_ssize_t c
    for c in range(n):
        x[c] = log(x[c])


cdef Py_ssize_t first_outside(Py_ssize_t r, const int32_t* targets, Py_ssize_t o) noexcept nogil:
    """Place of the first target outside ``range(o)``, or -1."""
    cdef Py_ssize_t q
    for q in range(r):
        if targets[q] < 0 or targets[q] >= o:
            return q
    return -1


cdef struct CrossEntropy:
    Py_ssize_t r
    Py_ssize_t o
    double label_smoothing
    double weight
    const int32_t* targets
    const void* row_weights
    void* dlogits
    double* loss_sums


cdef int run_cross_entropy(const floating* z, const CrossEntropy* a, const Moment* now) noexcept nogil:
    cdef floating* dz = <floating*> a.dlogits
    cdef const floating* row_weights = <const floating*> a.row_weights
    cdef Py_ssize_t q = 0, rows = rows_of_block(a.o)
    cdef double[2] sums
    if first_outside(a.r, a.targets, a.o) >= 0:
        return WRONG_VALUE
    sums[0] = sums[1] = 0
    while q < a.r:
        cross_entropy_of_rows(
            a, min(rows, a.r - q), z + q * a.o, a.targets + q, row_weights + q if row_weights != NULL else NULL,
            dz + q * a.o if dz != NULL else NULL, sums,
        )
        q += rows
    a.loss_sums[0] += sums[0]
    a.loss_sums[1] += sums[1]
    return GO_ON


cdef void cross_entropy_of_rows(
    const CrossEntropy* a,
    Py_ssize_t r,
    const floating* z,              # IN  (r, o)
    const int32_t* targets,         # IN  (r,)
    const floating* row_weights,    # IN  (r,) or NULL
    floating* dz,                   # OUT (r, o) or NULL
    double* sums,                   # IN, OUT losses and right rows
) noexcept nogil:
    cdef floating[BLOCK] few
    cdef Py_ssize_t[BLOCK] best
    cdef double[BLOCK] denominator
    cdef double[BLOCK] logarithm
    cdef Py_ssize_t o = a.o, q, c
    cdef double hit = 1 - a.label_smoothing, miss = a.label_smoothing / o, share = a.weight
    cdef double loss, spread
    cdef floating factor, offset = <floating> (a.weight * miss)
    cdef int32_t target
    if dz != NULL:
        exponentials_of_rows(r, o, z, dz, best, denominator)
    elif o <= BLOCK:
        exponentials_of_rows(r, o, z, few, best, denominator)
    else:
        denominator[0] = denominator_of_long_row(o, z, few, best)
    memcpy(logarithm, denominator, r * sizeof(double))
    logarithms(r, logarithm)
    for q in range(r):
        target = targets[q]
        loss = logarithm[q] - hit * (<double> z[target] - <double> z[best[q]])
        if miss > 0:  # a logit of -inf has an infinite loss only if it is asked for
            spread = 0
            for c in range(o):
                spread += <double> z[c] - <double> z[best[q]]
            loss -= miss * spread
        if row_weights != NULL:
            loss *= row_weights[q]
            share = a.weight * row_weights[q]
            offset = <floating> (share * miss)
        sums[0] += loss
        sums[1] += best[q] == target and loss == loss  # NaN is never right
        z += o
        if dz == NULL:
            continue
        factor = <floating> (share / denominator[q])
        for c in range(o):
            dz[c] = dz[c] * factor - offset
        dz[target] -= <floating> (share * hit)
        dz += o


def softmax_cross_entropy(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    const int32_t[::1] targets not None,        # IN  (r,)
    const floating[::1] row_weights,            # IN  (r,) or None
    double label_smoothing,
    double weight,
    floating[:, ::1] dlogits,                   # OUT (r, o) or None
    double[::1] loss_sums not None,                 # IN, OUT (2,)
    bint record=False,
):
    """Cross-entropy of softmax(logits) with the class `targets`, a part of which is spread evenly over all classes.

    ``loss = -log softmax(z) . t`` with ``t = (1 - label_smoothing) onehot + label_smoothing / o``; a row is right if
    its first largest logit is the target's.
    """
    cdef Py_ssize_t r = logits.shape[0], o = logits.shape[1], bad
    cdef const int32_t* target = &targets[0] if targets.shape[0] > 0 else NULL
    cdef Moment now = at_step(0)
    cdef int wrong
    expect("length of targets", targets.shape[0], r)
    if row_weights is not None:
        expect("length of row_weights", row_weights.shape[0], r)
    expect("length of loss_sums", loss_sums.shape[0], 2)
    if dlogits is not None:
        expect("rows of dlogits", dlogits.shape[0], r)
        expect("columns of dlogits", dlogits.shape[1], o)
    cdef CrossEntropy a = CrossEntropy(
        r, o, label_smoothing, weight, target, in_1d(row_weights), out_2d(dlogits), &loss_sums[0]
    )
    if record:
        return recorded(
            <Kernel> run_cross_entropy[floating], in_2d(logits), &a, sizeof(a),
            (logits, targets, row_weights, dlogits, loss_sums), f"targets: expected classes below {o}",
        )
    with nogil:
        wrong = run_cross_entropy(in_2d(logits), &a, &now)
    if wrong:
        bad = first_outside(r, target, o)
        raise IndexError(f"targets[{bad}]: got {targets[bad]}, expected a class below {o}")


def softmax(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    floating[:, ::1] out not None,              # OUT (r, o), may be the same array
):
    """Probabilities of classes that exclude each other: ``exp(z) / sum exp(z)`` of each row."""
    cdef Py_ssize_t r = logits.shape[0], o = logits.shape[1], q = 0, k, c, rows = rows_of_block(o)
    cdef const floating* z = in_2d(logits)
    cdef floating* p = out_2d(out)
    cdef Py_ssize_t[BLOCK] best
    cdef double[BLOCK] denominator
    cdef floating factor
    expect("rows of out", out.shape[0], r)
    expect("columns of out", out.shape[1], o)
    if o == 0:
        return
    with nogil:
        while q < r:
            exponentials_of_rows(min(rows, r - q), o, z + q * o, p + q * o, best, denominator)
            for k in range(min(rows, r - q)):
                factor = <floating> (1 / denominator[k])
                for c in range(o):
                    p[(q + k) * o + c] *= factor
            q += rows
