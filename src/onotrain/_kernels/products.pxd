"""The three matrix products of a dense layer, on tiles of registers or by BLAS, whichever is faster for the shape.

Dimensions: r rows of the batch, i inputs, o outputs.
"""

from cython cimport floating

from onotrain._kernels.gemm cimport matmul
from onotrain._kernels.tiles cimport (
    ADD, SET, STREAM, dz_weight_double, dz_weight_float, dz_x_tiles, follow_double, follow_float, prefer_tiles,
    x_weight_double, x_weight_float,
)
from onotrain._kernels.vectors cimport VECTOR_BYTES, can_stream, end_of_stream


cdef inline void x_weight(
    int r, int i, int o, const floating* x, const floating* weight, const floating* packed, floating* z, void* follow,
    const void* context,
) noexcept nogil:
    """``z (r, o) = x (r, i) weight (o, i)^T``, by blocks, each of which `follow` then goes on with.

    `packed` is the weight as tiles read it, or NULL; `follow` is a follow_float or follow_double.
    """
    if not prefer_tiles(r, i, x):
        matmul(False, True, r, o, i, <floating> 1, x, weight, <floating> 0, z)
        if floating is float:
            (<follow_float> follow)(context, 0, r, 0, o, z, o)
        else:
            (<follow_double> follow)(context, 0, r, 0, o, z, o)
    elif floating is float:
        x_weight_float(r, i, o, x, weight, packed, z, <follow_float> follow, context)
    else:
        x_weight_double(r, i, o, x, weight, packed, z, <follow_double> follow, context)


cdef inline void dz_weight(
    int r, int i, int o, const floating* dz, const floating* weight, floating* dx
) noexcept nogil:
    """``dx (r, i) = dz (r, o) weight (o, i)``."""
    if not prefer_tiles(r, i, dz):
        matmul(False, False, r, i, o, <floating> 1, dz, weight, <floating> 0, dx)
    elif floating is float:
        dz_weight_float(r, i, o, dz, weight, dx)
    else:
        dz_weight_double(r, i, o, dz, weight, dx)


cdef inline void dz_x(
    int r, int i, int o, const floating* dz, const floating* x, bint accumulate, bint shared, floating* dw
) noexcept nogil:
    """``dw (o, i) = dz (r, o)^T x (r, i)``, plus dw if `accumulate`; past the caches if dw is large and `shared`."""
    cdef int mode = ADD if accumulate else SET
    cdef size_t row = i * sizeof(floating)
    if not prefer_tiles(r, i, x):
        matmul(True, False, o, i, r, <floating> 1, dz, x, <floating> (1 if accumulate else 0), dw)
        return
    if shared and not accumulate and row % VECTOR_BYTES == 0 and can_stream(dw, o * row):
        mode = STREAM
    dz_x_tiles(r, i, o, dz, o, x, i, mode, dw, i)
    if mode == STREAM:
        end_of_stream()
