/* Philox4x32-10 (philox.pxd) of 16 counters at once, in vectors.
 *
 * Each counter's word is the lower half of a lane of 64 bits: so the instruction that multiplies the lower halves needs no
 * shuffles around it.  What stands in the upper half does not matter.
 */

#ifndef ONOTRAIN_PHILOX
#define ONOTRAIN_PHILOX
#include "vectors.h"

#define PHILOX_COUNTERS 16
#define PHILOX_VECTORS (PHILOX_COUNTERS * 8 / VECTOR_BYTES)

typedef uint64_t philox_lanes __attribute__((vector_size(VECTOR_BYTES)));

/* The products of the lower halves of all lanes by m. */
static inline philox_lanes philox_multiply(philox_lanes x, uint64_t m) {
    const philox_lanes factor = m - (philox_lanes) {0};
#if defined(__AVX512F__)
    return (philox_lanes) _mm512_mul_epu32((__m512i) x, (__m512i) factor);
#elif defined(__AVX2__)
    return (philox_lanes) _mm256_mul_epu32((__m256i) x, (__m256i) factor);
#elif defined(__x86_64__)
    return (philox_lanes) _mm_mul_epu32((__m128i) x, (__m128i) factor);
#else
    return (x & 0xFFFFFFFF) * factor;
#endif
}

/* The four random words of counters (first, b, c, d), (first + 1, b, c, d) and so on. */
static inline void philox_words(uint32_t first, uint32_t b, uint32_t c, uint32_t d, uint32_t key0, uint32_t key1,
                                uint32_t word[4][PHILOX_COUNTERS]) {
    philox_lanes x[4][PHILOX_VECTORS];
    for (int v = 0; v < PHILOX_VECTORS; v++) {
        for (int l = 0; l < VECTOR_BYTES / 8; l++) x[0][v][l] = first + v * (VECTOR_BYTES / 8) + l;
        x[1][v] = b - (philox_lanes) {0}, x[2][v] = c - (philox_lanes) {0}, x[3][v] = d - (philox_lanes) {0};
    }
    for (int round = 0; round < 10; round++, key0 += 0x9E3779B9, key1 += 0xBB67AE85)
        for (int v = 0; v < PHILOX_VECTORS; v++) {
            const philox_lanes p = philox_multiply(x[0][v], 0xD2511F53), q = philox_multiply(x[2][v], 0xCD9E8D57);
            x[0][v] = q >> 32 ^ x[1][v] ^ key0, x[1][v] = q;
            x[2][v] = p >> 32 ^ x[3][v] ^ key1, x[3][v] = p;
        }
    for (int w = 0; w < 4; w++)
        for (int v = 0; v < PHILOX_VECTORS; v++)
            for (int l = 0; l < VECTOR_BYTES / 8; l++) word[w][v * (VECTOR_BYTES / 8) + l] = (uint32_t) x[w][v][l];
}
#endif
