"""The order of samples: a keyed permutation that is computed, not stored.

``P_key`` is a bijection of ``range(n)``.  Any rank can ask for any part of it without a table of n entries, and all get
the same one.  It is a Feistel network on pairs ``(left, right)`` of ``Z_a x Z_a`` with ``a = ceil(sqrt(n))``; a value
beyond n is sent through again until it falls into the range (cycle walking), which is rare: ``a^2 - n <= 2 sqrt(n)``.

References
----------
Black and Rogaway: Ciphers with arbitrary finite domains. CT-RSA 2002.
"""

from libc.stdint cimport int64_t, uint64_t

from onotrain._kernels.program cimport GO_ON, WRONG_VALUE, Kernel, Moment, at_step, recorded

cdef enum:
    ROUNDS = 8
    BLOCK = 64      # values that go through the network side by side, in the first-level cache


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014): an input bit flips each output bit with probability 1/2."""
    x = (x ^ (x >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t> 0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline uint64_t turned(uint64_t left, uint64_t right, uint64_t a, uint64_t round_key) noexcept nogil:
    """``left + hash(right)`` in Z_a: the high 32 bits of the hash, scaled to a number below a without a division."""
    cdef uint64_t sum = left + (((mix(right + round_key) >> 32) * a) >> 32), less = sum - a
    return less if less < sum else sum  # less wraps around where sum is below a


cdef uint64_t permute(uint64_t x, uint64_t a, const uint64_t* round_key) noexcept nogil:
    """One pass of one value through the network."""
    cdef uint64_t left = x // a, right = x % a, new
    cdef Py_ssize_t j
    for j in range(ROUNDS):
        new = turned(left, right, a, round_key[j])
        left, right = right, new
    return left * a + right


cdef void permute_block(
    uint64_t start, uint64_t a, uint64_t n, const uint64_t* round_key, Py_ssize_t count, int64_t* out
) noexcept nogil:
    """``out[j] = P(start + j)``; one round of all values after the other."""
    cdef uint64_t[BLOCK] first
    cdef uint64_t[BLOCK] second
    cdef uint64_t* left = first
    cdef uint64_t* right = second
    cdef uint64_t high = start // a, low = start % a, x
    cdef Py_ssize_t j, k
    for j in range(count):
        left[j], right[j] = high, low
        low += 1
        if low == a:
            high, low = high + 1, 0
    for k in range(ROUNDS):
        for j in range(count):
            left[j] = turned(left[j], right[j], a, round_key[k])
        left, right = right, left
    for j in range(count):
        x = left[j] * a + right[j]
        while x >= n:
            x = permute(x, a, round_key)
        out[j] = <int64_t> x


cdef void shuffled(int64_t start, uint64_t n, uint64_t key, Py_ssize_t count, int64_t* out) noexcept nogil:
    cdef uint64_t[ROUNDS] round_key
    cdef uint64_t a = ceil_sqrt(n)
    cdef Py_ssize_t j
    for j in range(ROUNDS):
        round_key[j] = mix(key + <uint64_t> (j + 1) * <uint64_t> 0x9E3779B97F4A7C15)
    j = 0
    while j < count:
        permute_block(<uint64_t> (start + j), a, n, round_key, min(<Py_ssize_t> BLOCK, count - j), out + j)
        j += BLOCK


cdef int check_length(int64_t n) except -1:
    if n >= <int64_t> 1 << 62:
        raise ValueError(f"n: got {n}, expected less than 2^62")
    return 0


def shuffle_positions(
    int64_t start,
    int64_t n,
    uint64_t key,
    int64_t[::1] out not None,      # OUT
):
    """``out[j] = P_key(start + j)``."""
    if start < 0 or n < 0 or out.shape[0] > n - start:
        raise ValueError(f"positions {start} to {start + out.shape[0]} do not lie in range({n})")
    check_length(n)
    if out.shape[0] > 0:
        with nogil:
            shuffled(start, n, key, out.shape[0], &out[0])


cdef struct Order:
    int64_t offset
    int64_t every
    int64_t own
    int64_t n
    Py_ssize_t r
    const uint64_t* key
    int64_t* out


cdef int run_order(const void* _, const Order* a, const Moment* now) noexcept nogil:
    cdef int64_t start = a.offset + now.position // a.every * a.own
    if start < 0 or a.r > a.n - start:
        return WRONG_VALUE
    shuffled(start, a.n, a.key[0], a.r, a.out)
    return GO_ON


def batch_order(
    int64_t position,
    int64_t offset,
    int64_t every,
    int64_t own,
    int64_t n,
    const uint64_t[::1] key not None,   # IN  (1,)
    int64_t[::1] out not None,          # OUT (r,)
    bint record=False,
):
    """`shuffle_positions` from ``offset + position // every * own`` on, with the key of then."""
    cdef Order a = Order(offset, every, own, n, out.shape[0], NULL, NULL)
    cdef Moment now = at_step(0)
    cdef int said
    check_length(n)
    if key.shape[0] != 1 or every < 1:
        raise ValueError(f"expected one key (got {key.shape[0]}), and every (got {every}) of at least 1")
    a.key = &key[0]
    if out.shape[0] > 0:
        a.out = &out[0]
    if record:
        return recorded(<Kernel> run_order, NULL, &a, sizeof(a), (key, out), f"positions beyond range({n})")
    now.position = position
    with nogil:
        said = run_order(NULL, &a, &now)
    if said == WRONG_VALUE:
        raise IndexError(f"position {position}: expected positions below {n}")


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
