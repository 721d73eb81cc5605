"""Losses of independent outputs, one for each target, on logits, with their gradients.

softmax.pyx has those of outputs that exclude each other, distributions.pyx those of several outputs for each target.

Dimensions: r rows of the batch on this rank, o outputs.

The loss of one sample is the sum over its outputs, times the weight of its row unless `row_weights` is None.  A kernel
adds the sum over its rows to ``loss_sums[0]`` and the number of right rows, whatever they weigh, to ``loss_sums[1]``,
and writes `weight` times the gradient unless `dlogits` is None.

With `output_weights` each output counts by its weight, and a target that is NaN, or an output of weight 0, for nothing.
"""

from cython cimport floating

from onotrain._kernels.arrays cimport expect, in_1d, in_2d, out_2d
from onotrain._kernels.elementary cimport total
from onotrain._kernels.loss_terms cimport (
    absolute_error_of, binary_cross_entropy_of, counts, expect_loss, huber_of, log_cosh_of, poisson_of,
    squared_error_of,
)
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded

cdef enum:
    BLOCK = 256     # elements whose losses wait in the first-level cache for their sum

cdef enum Kind:
    BINARY_CROSS_ENTROPY
    SQUARED_ERROR
    ABSOLUTE_ERROR
    HUBER
    LOG_COSH
    POISSON


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
        elif kind == LOG_COSH:
            for c in range(count):
                loss[c] = log_cosh_of(z[first + c] - target[first + c], &slope[c])
        elif kind == POISSON:
            for c in range(count):
                loss[c] = poisson_of(z[first + c], target[first + c], &slope[c])
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


cdef struct OutputLoss:
    Kind kind
    double delta
    double weight
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
        add_loss(a.kind, <floating> a.delta, a.r * a.o, z, target, NULL, <floating> a.weight, dz, a.loss_sums)
    else:
        add_weighted_loss(
            a.kind, <floating> a.delta, a.r, a.o, z, target, row_weights, output_weights, a.weight, dz, a.loss_sums
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
    cdef Moment now = at_step(0)
    expect("columns of targets", targets.shape[1], logits.shape[1])
    expect_loss(logits, targets, row_weights, output_weights, dlogits, loss_sums)
    cdef OutputLoss a = OutputLoss(
        kind, delta, weight, logits.shape[0], logits.shape[1], in_2d(targets), in_1d(row_weights),
        in_1d(output_weights), out_2d(dlogits), &loss_sums[0],
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


def log_cosh(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    const floating[:, ::1] targets not None,    # IN  (r, o)
    const floating[::1] row_weights,            # IN  (r,) or None
    const floating[::1] output_weights,         # IN  (o,) or None
    double weight,
    floating[:, ::1] dlogits,                   # OUT (r, o) or None
    double[::1] loss_sums not None,                 # IN, OUT (2,)
    bint record=False,
):
    """``log(cosh(z - t))``."""
    return output_loss[floating](
        LOG_COSH, 0, logits, targets, row_weights, output_weights, weight, dlogits, loss_sums, record
    )


def poisson(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    const floating[:, ::1] targets not None,    # IN  (r, o)
    const floating[::1] row_weights,            # IN  (r,) or None
    const floating[::1] output_weights,         # IN  (o,) or None
    double weight,
    floating[:, ::1] dlogits,                   # OUT (r, o) or None
    double[::1] loss_sums not None,                 # IN, OUT (2,)
    bint record=False,
):
    """``exp(z) - t z``: of counts t with the mean exp(z), up to what does not depend on z."""
    return output_loss[floating](
        POISSON, 0, logits, targets, row_weights, output_weights, weight, dlogits, loss_sums, record
    )
