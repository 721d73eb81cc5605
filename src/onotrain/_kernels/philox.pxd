"""Philox4x32-10, a counter-based random generator, and the dropout factors drawn from it.

A draw is a function of a key and a counter and of nothing else: no state, hence no order in which ranks must draw.

References
----------
Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
"""

from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    COUNTERS = 16               # counters of one block: they fill a vector register
    COLUMNS = 8 * COUNTERS      # a counter gives 128 bits, a column takes 16


cdef inline void philox_round(uint32_t* x, uint32_t key0, uint32_t key1) noexcept nogil:
    cdef uint64_t a = <uint64_t> 0xD2511F53 * x[0]
    cdef uint64_t b = <uint64_t> 0xCD9E8D57 * x[2]
    x[0] = <uint32_t> (b >> 32) ^ x[1] ^ key0
    x[1] = <uint32_t> b
    x[2] = <uint32_t> (a >> 32) ^ x[3] ^ key1
    x[3] = <uint32_t> a


cdef inline void philox(uint32_t* x, uint32_t key0, uint32_t key1) noexcept nogil:
    """Turn the four words of a counter into four random words."""
    # Written out: a loop here would keep the loop over the counters of a block from being vectorised.
    philox_round(x, key0, key1)
    philox_round(x, key0 + 1 * <uint32_t> 0x9E3779B9, key1 + 1 * <uint32_t> 0xBB67AE85)
    philox_round(x, key0 + 2 * <uint32_t> 0x9E3779B9, key1 + 2 * <uint32_t> 0xBB67AE85)
    philox_round(x, key0 + 3 * <uint32_t> 0x9E3779B9, key1 + 3 * <uint32_t> 0xBB67AE85)
    philox_round(x, key0 + 4 * <uint32_t> 0x9E3779B9, key1 + 4 * <uint32_t> 0xBB67AE85)
    philox_round(x, key0 + 5 * <uint32_t> 0x9E3779B9, key1 + 5 * <uint32_t> 0xBB67AE85)
    philox_round(x, key0 + 6 * <uint32_t> 0x9E3779B9, key1 + 6 * <uint32_t> 0xBB67AE85)
    philox_round(x, key0 + 7 * <uint32_t> 0x9E3779B9, key1 + 7 * <uint32_t> 0xBB67AE85)
    philox_round(x, key0 + 8 * <uint32_t> 0x9E3779B9, key1 + 8 * <uint32_t> 0xBB67AE85)
    philox_round(x, key0 + 9 * <uint32_t> 0x9E3779B9, key1 + 9 * <uint32_t> 0xBB67AE85)


cdef struct Draw:
    # What the mask of a row is a function of; the row and the rest are words of the counter.
    uint64_t seed
    uint32_t step
    uint32_t layer
    uint32_t row
    # An element is kept if its 16 bits are at least this.
    uint32_t threshold


cdef inline void dropout_factors(
    const Draw* draw,
    uint32_t block,             # columns COLUMNS * block and following
    floating scale,
    floating* factor,           # OUT (COLUMNS,): 0, or scale where the element is kept
) noexcept nogil:
    """Column ``COUNTERS h + b`` of a block takes the h-th 16 bits of the b-th counter: loops go over neighbours."""
    cdef uint32_t[4][COUNTERS] word
    cdef uint32_t[4] x
    cdef uint32_t key0 = <uint32_t> draw.seed, key1 = <uint32_t> (draw.seed >> 32)
    cdef uint32_t row = draw.row, step = draw.step, layer = draw.layer, threshold = draw.threshold
    cdef floating zero = 0
    cdef Py_ssize_t b, w
    for b in range(COUNTERS):
        x[0] = COUNTERS * block + <uint32_t> b
        x[1] = row
        x[2] = step
        x[3] = layer
        philox(x, key0, key1)
        word[0][b] = x[0]
        word[1][b] = x[1]
        word[2][b] = x[2]
        word[3][b] = x[3]
    for w in range(4):
        for b in range(COUNTERS):
            factor[2 * w * COUNTERS + b] = scale if (word[w][b] & 0xFFFF) >= threshold else zero
        for b in range(COUNTERS):
            factor[(2 * w + 1) * COUNTERS + b] = scale if (word[w][b] >> 16) >= threshold else zero
