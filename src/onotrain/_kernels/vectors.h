/* Width of the vector registers that this file is compiled for, and stores that go past the caches. */

#ifndef ONOTRAIN_VECTORS
#define ONOTRAIN_VECTORS
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

/* An array that a rank writes and others read, step after step, lies in the caches of all of them: before it can be
 * written again, every line must be called back from the others, 6 to 10 ns each.  Stores past the caches save that, and
 * the readers, who go through it in order, fetch it ahead.  Arrays smaller than this stay where they are. */
#define STREAM_BYTES (256 << 10)

/* Stores a vector past the caches, at a multiple of its size. */
#if defined(__AVX512F__)
#define STREAM_VECTOR(p, v) _mm512_stream_si512((void *) (p), (__m512i) (v))
#elif defined(__AVX2__)
#define STREAM_VECTOR(p, v) _mm256_stream_si256((void *) (p), (__m256i) (v))
#elif defined(__x86_64__)
#define STREAM_VECTOR(p, v) _mm_stream_si128((void *) (p), (__m128i) (v))
#else
#define STREAM_VECTOR(p, v) memcpy((p), &(v), VECTOR_BYTES)
#endif

/* The first address from p on where a vector lies in one cache line: an array on the stack begins anywhere, and products
 * whose every load and store crosses two lines take 4 % longer. */
static inline void *vector_boundary(void *p) {
    return (void *) (((uintptr_t) p + VECTOR_BYTES - 1) & ~(uintptr_t) (VECTOR_BYTES - 1));
}

static inline int can_stream(const void *p, size_t bytes) {
    return bytes >= STREAM_BYTES && (uintptr_t) p % VECTOR_BYTES == 0;
}

/* Makes streamed stores visible before all later ones. */
static inline void end_of_stream(void) {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

/* Takes numbers too small for a normal float as zero, until `restore_rounding` of what this returns: where a gradient has
 * vanished, the running means of the optimisers sink into them, and x86 takes ten times as long for each. */
static inline unsigned flush_subnormals(void) {
#if defined(__x86_64__)
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | _MM_FLUSH_ZERO_ON | 0x0040 /* as inputs, too */);
    return before;
#else
    return 0;
#endif
}

static inline void restore_rounding(unsigned before) {
#if defined(__x86_64__)
    _mm_setcsr(before);
#else
    (void) before;
#endif
}

/* Copies `bytes`, a multiple of the vector's, past the caches to y. */
static inline void stream(const void *x, void *y, size_t bytes) {
    typedef char bytes_of_vector __attribute__((vector_size(VECTOR_BYTES)));
    for (size_t b = 0; b < bytes; b += VECTOR_BYTES) {
        bytes_of_vector v;
        memcpy(&v, (const char *) x + b, VECTOR_BYTES);
        STREAM_VECTOR((char *) y + b, v);
    }
}
#endif
