"""Philox4x32-10, a counter-based random generator, and the dropout factors drawn from it.

A draw is a function of a key and a counter and of nothing else: no state, hence no order in which ranks must draw.

References
----------
Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
"""

from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    COUNTERS = 16               # that philox.h goes through at once
    COLUMNS = 8 * COUNTERS      # a counter gives 128 bits, a column takes 16

cdef extern from "philox.h" nogil:
    void philox_words(
        uint32_t first, uint32_t b, uint32_t c, uint32_t d, uint32_t key0, uint32_t key1, uint32_t (*word)[COUNTERS])


cdef struct Draw:
    # What the mask of a row is a function of; the row and the rest are words of the counter.
    uint64_t seed
    uint32_t step
    uint32_t layer
    uint32_t row
    # An element is kept if its 16 bits are at least this.
    uint32_t threshold


cdef inline Draw make_draw(double dropout, uint64_t seed, long long layer, long long first_row) except *:
    """Return a draw of the first step."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: got {dropout}, expected a rate of at least 0 and below 1")
    cdef uint32_t threshold = min(<uint32_t> (dropout * 65536 + 0.5), <uint32_t> 65535)
    return Draw(seed, 0, <uint32_t> layer, <uint32_t> first_row, threshold)


cdef inline Draw at(Draw draw, long long step) noexcept nogil:
    """Return a draw for a step."""
    draw.step = <uint32_t> step
    return draw


cdef inline void dropout_factors(
    const Draw* draw,
    uint32_t block,             # columns COLUMNS * block and following
    floating scale,
    floating* factor,           # OUT (COLUMNS,): 0, or scale where the element is kept
) noexcept nogil:
    """Column ``COUNTERS h + b`` of a block takes the h-th 16 bits of the b-th counter: loops go over neighbours."""
    cdef uint32_t[4][COUNTERS] word
    cdef uint32_t threshold = draw.threshold
    cdef floating zero = 0
    cdef Py_ssize_t b, w
    philox_words(
        COUNTERS * block, draw.row, draw.step, draw.layer,
        <uint32_t> draw.seed, <uint32_t> (draw.seed >> 32), word,
    )
    for w in range(4):
        for b in range(COUNTERS):
            factor[2 * w * COUNTERS + b] = scale if (word[w][b] & 0xFFFF) >= threshold else zero
        for b in range(COUNTERS):
            factor[(2 * w + 1) * COUNTERS + b] = scale if (word[w][b] >> 16) >= threshold else zero


cdef inline void row_words(const Draw* draw, uint32_t* word) noexcept nogil:
    """Four random words (4,) of the draw's row: those of the counter (0, row, step, layer)."""
    cdef uint32_t[4][COUNTERS] words
    cdef Py_ssize_t w
    philox_words(
        0, draw.row, draw.step, draw.layer, <uint32_t> draw.seed, <uint32_t> (draw.seed >> 32), words
    )
    for w in range(4):
        word[w] = words[w][0]
