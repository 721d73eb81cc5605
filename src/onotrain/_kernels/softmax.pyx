"""Classes that exclude each other: cross-entropy on logits with its gradient, and what logits mean as probabilities.

Dimensions and sums as in losses.pyx.
"""

from cython cimport floating
from libc cimport math
from libc.stdint cimport int32_t

from onotrain._kernels.arrays cimport expect, in_1d, in_2d, out_2d
from onotrain._kernels.elementary cimport exp, total
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded

cdef enum:
    BLOCK = 256     # exponentials that wait in the first-level cache for their sum


cdef Py_ssize_t exponentials(
    Py_ssize_t o,
    const floating* z,          # IN  (o,)
    floating* e,                # OUT (o,) or NULL
    double* denominator,        # OUT
) noexcept nogil:
    """``e = exp(z - max z)`` and its sum; returns the first place of the largest z."""
    cdef floating[BLOCK] few
    cdef floating* block = few
    cdef Py_ssize_t start = 0, count, c, best = 0
    cdef floating top
    for c in range(1, o):
        if z[c] > z[best]:
            best = c
    top = z[best]
    denominator[0] = 0
    while start < o:
        count = min(<Py_ssize_t> BLOCK, o - start)
        if e != NULL:
            block = e + start
        for c in range(count):
            block[c] = exp(z[start + c] - top)
        denominator[0] += total(block, count)
        start += BLOCK
    return best


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
    cdef Py_ssize_t o = a.o, q, c, best
    cdef const floating* row_weights = <const floating*> a.row_weights
    cdef floating* dz = <floating*> a.dlogits
    cdef double hit = 1 - a.label_smoothing, miss = a.label_smoothing / o if o > 0 else 0, share = a.weight
    cdef double denominator, loss, spread, losses = 0, right = 0
    cdef floating factor, offset = <floating> (a.weight * miss)
    cdef int32_t target
    if first_outside(a.r, a.targets, o) >= 0:
        return 1
    for q in range(a.r):
        target = a.targets[q]
        best = exponentials(o, z, dz, &denominator)
        loss = math.log(denominator) - hit * (<double> z[target] - <double> z[best])
        if miss > 0:  # a logit of -inf has an infinite loss only if it is asked for
            spread = 0
            for c in range(o):
                spread += <double> z[c] - <double> z[best]
            loss -= miss * spread
        if row_weights != NULL:
            loss *= row_weights[q]
            share = a.weight * row_weights[q]
            offset = <floating> (share * miss)
        losses += loss
        right += best == target and loss == loss  # NaN is never right
        if dz != NULL:
            factor = <floating> (share / denominator)
            for c in range(o):
                dz[c] = dz[c] * factor - offset
            dz[target] -= <floating> (share * hit)
            dz += o
        z += o
    a.loss_sums[0] += losses
    a.loss_sums[1] += right
    return 0


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
    cdef Py_ssize_t r = logits.shape[0], o = logits.shape[1], _, c
    cdef const floating* z = in_2d(logits)
    cdef floating* p = out_2d(out)
    cdef double denominator
    cdef floating factor
    expect("rows of out", out.shape[0], r)
    expect("columns of out", out.shape[1], o)
    if o == 0:
        return
    with nogil:
        for _ in range(r):
            exponentials(o, z, p, &denominator)
            factor = <floating> (1 / denominator)
            for c in range(o):
                p[c] *= factor
            z += o
            p += o
