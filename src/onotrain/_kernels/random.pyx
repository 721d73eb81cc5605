"""The generator behind the dropout masks, in the open for its known answers."""

from libc.stdint cimport uint32_t

from onotrain._kernels.philox cimport COUNTERS, philox_words


def philox4x32(
    const uint32_t[::1] counter not None,   # IN  (4,)
    const uint32_t[::1] key not None,       # IN  (2,)
    uint32_t[::1] out not None,             # OUT (4,)
):
    """Philox4x32-10 of one counter."""
    if counter.shape[0] != 4 or key.shape[0] != 2 or out.shape[0] != 4:
        raise ValueError("expected a counter of 4 words, a key of 2 and an out of 4")
    cdef uint32_t[4][COUNTERS] word
    with nogil:
        philox_words(counter[0], counter[1], counter[2], counter[3], key[0], key[1], word)
        for j in range(4):
            out[j] = word[j][0]
