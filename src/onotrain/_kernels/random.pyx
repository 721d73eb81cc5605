"""The order of samples: a keyed permutation that is computed, not stored.

``P_key`` is a bijection of ``range(n)``.  Any rank can ask for any part of it without a table of n entries, and all get
the same one.  It is a Feistel network on pairs ``(left, right)`` of ``Z_a x Z_a`` with ``a = ceil(sqrt(n))``; a value
beyond n is sent through again until it falls into the range (cycle walking), which is rare: ``a^2 - n <= 2 sqrt(n)``.

References
----------
Black and Rogaway: Ciphers with arbitrary finite domains. CT-RSA 2002.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from onotrain._kernels.philox cimport COUNTERS, philox_words

cdef enum:
    ROUNDS = 8


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014): an input bit flips each output bit with probability 1/2."""
    x = (x ^ (x >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t> 0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline uint64_t permute(uint64_t x, uint64_t a, const uint64_t* round_key) noexcept nogil:
    """One pass through the Feistel network."""
    cdef uint64_t left = x // a, right = x % a, turned
    cdef Py_ssize_t j
    for j in range(ROUNDS):
        # the high 32 bits of the hash, scaled to a number below a without a division
        turned = left + (((mix(right + round_key[j]) >> 32) * a) >> 32)
        left = right
        right = turned - a if turned >= a else turned
    return left * a + right


def shuffle_positions(
    int64_t start,
    int64_t n,
    uint64_t key,
    int64_t[::1] out not None,      # OUT
):
    """``out[j] = P_key(start + j)``."""
    cdef uint64_t[ROUNDS] round_key
    cdef uint64_t a = 1, x
    cdef Py_ssize_t j
    if start < 0 or n < 0 or out.shape[0] > n - start:
        raise ValueError(f"positions {start} to {start + out.shape[0]} do not lie in range({n})")
    if n >= <int64_t> 1 << 62:
        raise ValueError(f"n: got {n}, expected less than 2^62")
    with nogil:
        for j in range(ROUNDS):
            round_key[j] = mix(key + <uint64_t> (j + 1) * <uint64_t> 0x9E3779B97F4A7C15)
        a = ceil_sqrt(<uint64_t> n)
        for j in range(out.shape[0]):
            x = permute(<uint64_t> (start + j), a, round_key)
            while x >= <uint64_t> n:
                x = permute(x, a, round_key)
            out[j] = <int64_t> x


cdef uint64_t ceil_sqrt(uint64_t n) noexcept nogil:
    """Smallest a with ``a * a >= n``, by bisection: a rounded float root could be one off."""
    cdef uint64_t low = 0, high = <uint64_t> 1 << 31, middle
    while low < high:
        middle = (low + high) // 2
        if middle * middle >= n:
            high = middle
        else:
            low = middle + 1
    return low


def philox4x32(
    const uint32_t[::1] counter not None,   # IN  (4,)
    const uint32_t[::1] key not None,       # IN  (2,)
    uint32_t[::1] out not None,             # OUT (4,)
):
    """Philox4x32-10 of one counter: the generator behind the dropout masks, in the open for its known answers."""
    if counter.shape[0] != 4 or key.shape[0] != 2 or out.shape[0] != 4:
        raise ValueError("expected a counter of 4 words, a key of 2 and an out of 4")
    cdef uint32_t[4][COUNTERS] word
    with nogil:
        philox_words(counter[0], counter[1], counter[2], counter[3], key[0], key[1], word)
        for j in range(4):
            out[j] = word[j][0]
