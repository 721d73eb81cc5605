"""Losses on logits with their gradients, and what logits mean as probabilities.

Dimensions: r rows of the batch on this rank, o outputs.

The loss of one sample is the sum over its outputs, times the weight of its row unless `row_weights` is None.  A kernel
adds the sum over its rows to ``loss_sums[0]`` and the number of right rows, whatever they weigh, to ``loss_sums[1]``,
and writes `weight` times the gradient unless `dlogits` is None.

With `output_weights` each output counts by its weight, and a target that is NaN, or an output of weight 0, for nothing.
"""

from cython cimport floating
from libc cimport math
from libc.stdint cimport int32_t

from onotrain._kernels.arrays cimport expect, in_1d, in_2d, out_2d
from onotrain._kernels.elementary cimport exp, fabs, log1p, logistic, total
from onotrain._kernels.program cimport Kernel, Moment, recorded

cdef enum:
    BLOCK = 256     # elements whose losses wait in the first-level cache for their sum

cdef enum Kind:
    BINARY_CROSS_ENTROPY
    SQUARED_ERROR
    ABSOLUTE_ERROR
    HUBER


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
    const int32_t* targets
    const void* row_weights
    void* dlogits
    double* loss_sums


cdef int run_cross_entropy(const floating* z, const CrossEntropy* a, const Moment* now) noexcept nogil:
    cdef Py_ssize_t o = a.o, q, c, best
    cdef const floating* row_weights = <const floating*> a.row_weights
    cdef floating* dz = <floating*> a.dlogits
    cdef double hit = 1 - a.label_smoothing, miss = a.label_smoothing / o if o > 0 else 0, share = now.weight
    cdef double denominator, loss, spread, losses = 0, right = 0
    cdef floating factor, offset = <floating> (now.weight * miss)
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
            share = now.weight * row_weights[q]
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
    cdef Moment now = Moment(0, 0, weight)
    cdef int wrong
    expect("length of targets", targets.shape[0], r)
    if row_weights is not None:
        expect("length of row_weights", row_weights.shape[0], r)
    expect("length of loss_sums", loss_sums.shape[0], 2)
    if dlogits is not None:
        expect("rows of dlogits", dlogits.shape[0], r)
        expect("columns of dlogits", dlogits.shape[1], o)
    cdef CrossEntropy a = CrossEntropy(
        r, o, label_smoothing, target, in_1d(row_weights), out_2d(dlogits), &loss_sums[0]
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


cdef inline floating binary_cross_entropy_of(floating z, floating target, floating* slope) noexcept nogil:
    """``log(1 + exp(z)) - z t`` without overflow."""
    cdef floating zero = 0
    slope[0] = logistic(z) - target
    return (zero if z <= 0 else z) - z * target + log1p(exp(-fabs(z)))


cdef inline floating squared_error_of(floating error, floating* slope) noexcept nogil:
    slope[0] = 2 * error
    return error * error


cdef inline floating absolute_error_of(floating error, floating* slope) noexcept nogil:
    cdef floating one = 1, minus_one = -1
    slope[0] = one if error > 0 else (minus_one if error < 0 else error)  # 0 at 0, NaN at NaN
    return fabs(error)


cdef inline floating huber_of(floating error, floating delta, floating* slope) noexcept nogil:
    """Huber 1964: quadratic up to delta, linear beyond."""
    cdef floating half = 0.5, size = fabs(error)
    slope[0] = delta if error > delta else (-delta if error < -delta else error)
    return delta * (size - half * delta) if size > delta else half * error * error


cdef inline bint counts(floating target, floating weight) noexcept nogil:
    """Whether a target is measured, and its output counts."""
    return target == target and weight > 0


cdef void add_loss(
    Kind kind,
    floating delta,
    Py_ssize_t n,
    const floating* z,          # IN  (n,)
    const floating* target,     # IN  (n,)
    const floating* weights,    # IN  (n,), of the outputs, or NULL
    floating weight,
    floating* dz,               # OUT (n,) or NULL
    double* loss_sums,              # IN, OUT
) noexcept nogil:
    """Losses that treat every output alike, by blocks."""
    cdef floating[BLOCK] loss
    cdef floating[BLOCK] slope
    cdef Py_ssize_t first, count, c
    first = 0
    while first < n:
        count = min(<Py_ssize_t> BLOCK, n - first)
        if kind == BINARY_CROSS_ENTROPY:
            for c in range(count):
                loss[c] = binary_cross_entropy_of(z[first + c], target[first + c], &slope[c])
        elif kind == SQUARED_ERROR:
            for c in range(count):
                loss[c] = squared_error_of(z[first + c] - target[first + c], &slope[c])
        elif kind == ABSOLUTE_ERROR:
            for c in range(count):
                loss[c] = absolute_error_of(z[first + c] - target[first + c], &slope[c])
        else:
            for c in range(count):
                loss[c] = huber_of(z[first + c] - target[first + c], delta, &slope[c])
        if weights != NULL:
            for c in range(count):
                if counts(target[first + c], weights[first + c]):
                    loss[c] *= weights[first + c]
                    slope[c] *= weights[first + c]
                else:  # no product: what is left out may be NaN
                    loss[c] = 0
                    slope[c] = 0
        loss_sums[0] += total(loss, count)
        if dz != NULL:
            for c in range(count):
                dz[first + c] = weight * slope[c]
        first += BLOCK


cdef void add_weighted_loss(
    Kind kind,
    floating delta,
    Py_ssize_t r,
    Py_ssize_t o,
    const floating* z,                # IN  (r, o)
    const floating* target,           # IN  (r, o)
    const floating* row_weights,      # IN  (r,) or NULL
    const floating* output_weights,   # IN  (o,) or NULL
    double weight,
    floating* dz,                     # OUT (r, o) or NULL
    double* loss_sums,                # IN, OUT
) noexcept nogil:
    """Losses of which rows or outputs count by their weights, row by row."""
    cdef Py_ssize_t q
    cdef double loss, own = 1
    for q in range(r):
        loss = 0
        if row_weights != NULL:
            own = row_weights[q]
        add_loss(kind, delta, o, z, target, output_weights, <floating> (weight * own), dz, &loss)
        loss_sums[0] += own * loss
        z += o
        target += o
        if dz != NULL:
            dz += o


cdef int check(
    const floating[:, ::1] logits, const floating[:, ::1] targets, const floating[::1] row_weights,
    const floating[::1] output_weights, floating[:, ::1] dlogits, double[::1] loss_sums
) except -1:
    if row_weights is not None:
        expect("length of row_weights", row_weights.shape[0], logits.shape[0])
    if output_weights is not None:
        expect("length of output_weights", output_weights.shape[0], logits.shape[1])
    expect("rows of targets", targets.shape[0], logits.shape[0])
    expect("columns of targets", targets.shape[1], logits.shape[1])
    if dlogits is not None:
        expect("rows of dlogits", dlogits.shape[0], logits.shape[0])
        expect("columns of dlogits", dlogits.shape[1], logits.shape[1])
    return expect("length of loss_sums", loss_sums.shape[0], 2)


cdef struct OutputLoss:
    Kind kind
    double delta
    Py_ssize_t r
    Py_ssize_t o
    const void* targets
    const void* row_weights
    const void* output_weights
    void* dlogits
    double* loss_sums


cdef int run_output_loss(const floating* z, const OutputLoss* a, const Moment* now) noexcept nogil:
    cdef const floating* target = <const floating*> a.targets
    cdef const floating* row_weights = <const floating*> a.row_weights
    cdef const floating* output_weights = <const floating*> a.output_weights
    cdef floating* dz = <floating*> a.dlogits
    if a.r == 0 or a.o == 0:
        return 0
    if a.kind == BINARY_CROSS_ENTROPY:
        a.loss_sums[1] += right_rows(a.r, a.o, z, target, output_weights != NULL)
    if row_weights == NULL and output_weights == NULL:
        add_loss(a.kind, <floating> a.delta, a.r * a.o, z, target, NULL, <floating> now.weight, dz, a.loss_sums)
    else:
        add_weighted_loss(
            a.kind, <floating> a.delta, a.r, a.o, z, target, row_weights, output_weights, now.weight, dz, a.loss_sums
        )
    return 0


cdef double right_rows(
    Py_ssize_t r, Py_ssize_t o, const floating* z, const floating* target, bint missing
) noexcept nogil:
    """Sum over the rows of the part of their targets that are right, of the measured ones if some are missing."""
    cdef Py_ssize_t q, c, right = 0, measured
    cdef double rows = 0
    if not missing:
        for c in range(r * o):
            right += (z[c] > 0) == (target[c] > 0.5)
        return <double> right / <double> o
    for q in range(r):
        right = 0
        measured = 0
        for c in range(q * o, (q + 1) * o):
            if target[c] == target[c]:
                measured += 1
                right += (z[c] > 0) == (target[c] > 0.5)
        rows += <double> right / <double> max(measured, 1)
    return rows


cdef object output_loss(
    Kind kind, double delta, const floating[:, ::1] logits, const floating[:, ::1] targets,
    const floating[::1] row_weights, const floating[::1] output_weights, double weight, floating[:, ::1] dlogits,
    double[::1] loss_sums, bint record,
):
    cdef Moment now = Moment(0, 0, weight)
    check(logits, targets, row_weights, output_weights, dlogits, loss_sums)
    cdef OutputLoss a = OutputLoss(
        kind, delta, logits.shape[0], logits.shape[1], in_2d(targets), in_1d(row_weights), in_1d(output_weights),
        out_2d(dlogits), &loss_sums[0],
    )
    if record:
        return recorded(
            <Kernel> run_output_loss[floating], in_2d(logits), &a, sizeof(a),
            (logits, targets, row_weights, output_weights, dlogits, loss_sums), "",
        )
    with nogil:
        run_output_loss(in_2d(logits), &a, &now)


def binary_cross_entropy(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    const floating[:, ::1] targets not None,    # IN  (r, o)
    const floating[::1] row_weights,            # IN  (r,) or None
    const floating[::1] output_weights,         # IN  (o,) or None
    double weight,
    floating[:, ::1] dlogits,                   # OUT (r, o) or None
    double[::1] loss_sums not None,                 # IN, OUT (2,)
    bint record=False,
):
    """Binary cross-entropy of sigmoid(logits); a row counts as right by the part of its outputs that are.

    With `output_weights`: by the part of its measured targets, however much their outputs weigh.
    """
    return output_loss[floating](
        BINARY_CROSS_ENTROPY, 0, logits, targets, row_weights, output_weights, weight, dlogits, loss_sums, record
    )


def squared_error(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    const floating[:, ::1] targets not None,    # IN  (r, o)
    const floating[::1] row_weights,            # IN  (r,) or None
    const floating[::1] output_weights,         # IN  (o,) or None
    double weight,
    floating[:, ::1] dlogits,                   # OUT (r, o) or None
    double[::1] loss_sums not None,                 # IN, OUT (2,)
    bint record=False,
):
    """``(z - t)^2``."""
    return output_loss[floating](
        SQUARED_ERROR, 0, logits, targets, row_weights, output_weights, weight, dlogits, loss_sums, record
    )


def absolute_error(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    const floating[:, ::1] targets not None,    # IN  (r, o)
    const floating[::1] row_weights,            # IN  (r,) or None
    const floating[::1] output_weights,         # IN  (o,) or None
    double weight,
    floating[:, ::1] dlogits,                   # OUT (r, o) or None
    double[::1] loss_sums not None,                 # IN, OUT (2,)
    bint record=False,
):
    """``|z - t|``, with slope 0 at 0."""
    return output_loss[floating](
        ABSOLUTE_ERROR, 0, logits, targets, row_weights, output_weights, weight, dlogits, loss_sums, record
    )


def huber(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    const floating[:, ::1] targets not None,    # IN  (r, o)
    const floating[::1] row_weights,            # IN  (r,) or None
    const floating[::1] output_weights,         # IN  (o,) or None
    double delta,
    double weight,
    floating[:, ::1] dlogits,                   # OUT (r, o) or None
    double[::1] loss_sums not None,                 # IN, OUT (2,)
    bint record=False,
):
    """``e^2 / 2`` for ``|e| <= delta``, else ``delta (|e| - delta / 2)``, of the error ``e = z - t``."""
    return output_loss[floating](
        HUBER, delta, logits, targets, row_weights, output_weights, weight, dlogits, loss_sums, record
    )


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


def sigmoid(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    floating[:, ::1] out not None,              # OUT (r, o), may be the same array
):
    """Probabilities of outputs that do not exclude each other: ``1 / (1 + exp(-z))``."""
    cdef Py_ssize_t n = logits.shape[0] * logits.shape[1], c
    cdef const floating* z = in_2d(logits)
    cdef floating* p = out_2d(out)
    expect("rows of out", out.shape[0], logits.shape[0])
    expect("columns of out", out.shape[1], logits.shape[1])
    with nogil:
        for c in range(n):
            p[c] = logistic(z[c])
