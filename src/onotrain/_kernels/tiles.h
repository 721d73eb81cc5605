/* Matrix products on tiles of registers.  Weights are read where they lie; only what is as small as a batch is copied,
 * unless there are many rows, or prediction keeps the weights packed.
 *
 * BLAS packs both operands in every call, which pays when each packed number is then used many times.  A batch of a few
 * dozen rows uses the weights a few times only, and packing them takes about as long as multiplying.
 *
 * All three products of a layer (products.h) are made of one tile, a sum of outer products: a column of a, its numbers
 * broadcast one by one, by a row of b, whole vectors.  One side of the result lies along the vectors, the other is rows of
 * tiles; which is which, a product decides by its shape.
 *
 * GCC's vector types make one source of all instruction sets.  Every element of a result is the sum of its terms in their
 * order, wherever it lies: a row of a batch gets the same bits whatever other rows are with it.
 */

#ifndef REAL /* the file includes itself, once for each element type */

#include "vectors.h"
#if defined(__clang__)
#error "the kernels need GCC's vector shuffles: build with CC=gcc"
#endif
/* Products are fused multiply-adds, also in a module that rounds everything else (setup.py). */
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")

/* Tiles of 1, 2 or 3 vectors and as many rows as the registers have room for, beside a row of b and a number of a. */
#if defined(__AVX512F__) || defined(__aarch64__) /* 32 registers */
#define MOST_VECTORS 3
#define TILE_ROWS(vectors) ((vectors) == 3 ? 8 : (vectors) == 2 ? 12 : 16)
#else /* 16 registers */
#define MOST_VECTORS 2
#define TILE_ROWS(vectors) ((vectors) == 2 ? 6 : 12)
#endif
#define MOST_TILE_ROWS 16
/* Rows of a that are gone through beside the same columns of b: a multiple of all tiles' rows. */
#define BLOCK_ROWS 96
/* Terms of a sum that are added up in one go: that many rows of three vectors of b stay in the caches. */
#define TERMS 128
#define PANEL_BYTES (256 << 10)
/* Outputs of a layer that are computed beside each other, a multiple of a block of dropout's mask (philox.pxd), their
 * packed weights, a share of the second-level cache, and the rows of the batch. */
#define GROUP_COLUMNS 128
#define GROUP_BYTES (512 << 10)
#define GROUP_ROWS 48
/* Rows of b so far apart meet in few sets of the caches, and are copied side by side. */
#define FAR_BYTES 4096
/* Transposing a number takes as long as that many multiply-adds. */
#define TRANSPOSE_COST 6
/* Weights are kept packed where prediction gains one part in that many by it (measured, docs/performance.md). */
#define LEAST_GAIN 128
/* The largest products in which this is faster than BLAS: without bound where a tile fills 32 wide registers, else by
 * the rows of the batch and the bytes of a row of weights (measured, docs/performance.md). */
#if defined(__AVX512F__)
#define MOST_BATCH_ROWS PTRDIFF_MAX
#define MOST_ROW_BYTES PTRDIFF_MAX
#else
#define MOST_BATCH_ROWS 128
#define MOST_ROW_BYTES 4096
#endif
/* What a product does to c. */
enum { SET, ADD, CONTINUE, STREAM }; /* CONTINUE adds term by term, ADD their sum; STREAM sets c past the caches */
/* How a lies in memory: the terms of a row are neighbours, or the rows of a term. */
enum { ACROSS, ALONG };
/* What a tile fetches for tiles to come: what is not in the caches yet. */
enum { NOTHING, ROWS_OF_A, ROWS_OF_B };
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* Bytes of a vector for packing.h: 16 of them at a time, and the lower or upper half of each 16, interleaved. */
#if VECTOR_BYTES == 64
#define BYTES __m512i
#define FIRST_CHUNK(p) _mm512_castsi128_si512(_mm_loadu_si128((const __m128i_u *) (p)))
#define SET_CHUNK(v, p, number) v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i_u *) (p)), number)
#define LOW_WORDS _mm512_unpacklo_epi32
#define HIGH_WORDS _mm512_unpackhi_epi32
#define LOW_HALVES _mm512_unpacklo_epi64
#define HIGH_HALVES _mm512_unpackhi_epi64
#elif VECTOR_BYTES == 32
#define BYTES __m256i
#define FIRST_CHUNK(p) _mm256_castsi128_si256(_mm_loadu_si128((const __m128i_u *) (p)))
#define SET_CHUNK(v, p, number) v = _mm256_inserti128_si256(v, _mm_loadu_si128((const __m128i_u *) (p)), number)
#define LOW_WORDS _mm256_unpacklo_epi32
#define HIGH_WORDS _mm256_unpackhi_epi32
#define LOW_HALVES _mm256_unpacklo_epi64
#define HIGH_HALVES _mm256_unpackhi_epi64
#endif

/* Vectors of the next panel, when `left` are left: no panel of one vector beside wider ones. */
static inline int next_vectors(ptrdiff_t left) {
    return left == MOST_VECTORS + 1 ? (MOST_VECTORS + 1) / 2 : left < MOST_VECTORS ? (int) left : MOST_VECTORS;
}

#define REAL float
#define INTEGER int32_t
#define NAME(f) f##_float
#include "tiles.h"
#undef REAL
#undef INTEGER
#undef NAME
#define REAL double
#define INTEGER int64_t
#define NAME(f) f##_double
#include "tiles.h"
#undef REAL
#undef INTEGER
#undef NAME
#pragma GCC pop_options

#if defined(__AVX512BF16__) /* a build whose products of float32 are in bfloat16 */
#include "bf16_tiles.h"
#endif

#else

#define LANES ((ptrdiff_t) (VECTOR_BYTES / sizeof(REAL)))

typedef REAL NAME(vector) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL NAME(loose) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

typedef INTEGER NAME(whole) __attribute__((vector_size(VECTOR_BYTES)));
typedef INTEGER NAME(loose_whole) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
static const INTEGER NAME(ones_then_zeros)[2 * LANES] = {[0 ... LANES - 1] = -1};

INLINE NAME(vector) NAME(load)(const REAL *p) { return *(const NAME(loose) *) p; }
INLINE void NAME(store)(REAL *p, NAME(vector) v) { *(NAME(loose) *) p = v; }

/* All bits of the first n <= LANES lanes. */
INLINE NAME(whole) NAME(mask_first)(ptrdiff_t n) {
    return *(const NAME(loose_whole) *) (NAME(ones_then_zeros) + LANES - n);
}

/* y = x, of n < LANES numbers. */
INLINE void NAME(copy_first)(const REAL *x, REAL *y, ptrdiff_t n) {
#if defined(__AVX512F__)
    const unsigned mask = (1u << n) - 1;
    if (sizeof(REAL) == 4) _mm512_mask_storeu_epi32(y, mask, _mm512_maskz_loadu_epi32(mask, x));
    else _mm512_mask_storeu_epi64(y, mask, _mm512_maskz_loadu_epi64(mask, x));
#else
    UNROLL for (ptrdiff_t some = LANES / 2; some > 0; some /= 2)
        if (n & some) memcpy(y, x, some * sizeof(REAL)), x += some, y += some;
#endif
}

/* The first n < LANES numbers at p, then zeros. */
INLINE NAME(vector) NAME(load_first)(const REAL *p, ptrdiff_t n) {
#if defined(__AVX512F__)
    const unsigned mask = (1u << n) - 1;
    return (NAME(vector)) (sizeof(REAL) == 4 ? _mm512_maskz_loadu_epi32(mask, p) : _mm512_maskz_loadu_epi64(mask, p));
#elif defined(__AVX2__)
    const __m256i mask = (__m256i) NAME(mask_first)(n);
    return (NAME(vector)) (sizeof(REAL) == 4 ? _mm256_maskload_epi32((const void *) p, mask)
                                             : _mm256_maskload_epi64((const void *) p, mask));
#else
    NAME(vector) v = {0};
    NAME(copy_first)(p, (REAL *) &v, n);
    return v;
#endif
}

/* The first n < LANES lanes to p. */
INLINE void NAME(store_first)(REAL *p, NAME(vector) v, ptrdiff_t n) {
#if defined(__AVX512F__)
    const unsigned mask = (1u << n) - 1;
    if (sizeof(REAL) == 4) _mm512_mask_storeu_epi32(p, mask, (__m512i) v);
    else _mm512_mask_storeu_epi64(p, mask, (__m512i) v);
#elif defined(__AVX2__)
    __m128i some = _mm256_castsi256_si128((__m256i) v);
    if (n & (LANES / 2)) _mm_storeu_si128((__m128i_u *) p, some), p += LANES / 2, some = _mm256_extracti128_si256((__m256i) v, 1);
    if (n & (8 / sizeof(REAL) & LANES / 4)) _mm_storeu_si64(p, some), p += LANES / 4, some = _mm_unpackhi_epi64(some, some);
    if (sizeof(REAL) == 4 && n & 1) _mm_storeu_si32(p, some);
#else
    NAME(copy_first)((const REAL *) &v, p, n);
#endif
}

/* Up to `height` rows of vectors of c, of the last of which the first `last` lanes count. */
INLINE void NAME(tile)(ptrdiff_t rows, const int height, const int vectors, ptrdiff_t last, ptrdiff_t depth, const REAL *a,
                       const int along, ptrdiff_t next_a, const REAL *b, ptrdiff_t next_b, int mode, const int ahead,
                       ptrdiff_t number, REAL *c, ptrdiff_t next_c) {
    const ptrdiff_t line = 64 / sizeof(REAL);
    NAME(vector) sum[MOST_TILE_ROWS][MOST_VECTORS] = {{{0}}};
    const REAL *pa[MOST_TILE_ROWS];
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) if (i < height) pa[i] = a + (i < rows ? i : rows - 1) * (along ? next_a : 1);
    if (mode == CONTINUE)
        UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
            if (i >= height || i >= rows) break;
            UNROLL for (int j = 0; j < MOST_VECTORS; j++)
                if (j < vectors)
                    sum[i][j] = j + 1 < vectors || last == LANES ? NAME(load)(c + i * next_c + j * LANES)
                                                                 : NAME(load_first)(c + i * next_c + j * LANES, last);
        }
    _Pragma("GCC unroll 2") for (ptrdiff_t q = 0; q < depth; q++, b += next_b) {
        if (ahead == ROWS_OF_A) __builtin_prefetch(a + (height + q % line) * next_a + q / line * line, 0, 2);
        if (ahead == ROWS_OF_B) __builtin_prefetch(b + (vectors + number % vectors) * LANES, 0, 2);
        NAME(vector) v[MOST_VECTORS];
        UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) v[j] = NAME(load)(b + j * LANES);
        UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
            if (i >= height) break;
            const REAL factor = pa[i][along ? q : q * next_a];
            UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) sum[i][j] += factor * v[j];
        }
    }
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
        if (i >= height || i >= rows) break;
        UNROLL for (int j = 0; j < MOST_VECTORS; j++) {
            if (j >= vectors) break;
            REAL *p = c + i * next_c + j * LANES;
            if (j + 1 == vectors && last < LANES)
                NAME(store_first)(p, mode == ADD ? NAME(load_first)(p, last) + sum[i][j] : sum[i][j], last);
            else if (mode == STREAM)
                STREAM_VECTOR(p, sum[i][j]);
            else
                NAME(store)(p, mode == ADD ? NAME(load)(p) + sum[i][j] : sum[i][j]);
        }
    }
}

#define TILE(height, count, ahead) \
    NAME(tile)(m - i, height, count, last, depth, a + i * (along ? next_a : 1), along, next_a, b, next_b, mode, ahead, \
               i / TILE_ROWS(count), c + i * next_c, next_c)

/* A tile of the last m rows, fewer than a whole one has, as low as it can be. */
#define LAST_ROWS(count) \
    case count: \
        switch ((m * 4 + TILE_ROWS(count) - 1) / TILE_ROWS(count)) { \
            case 1: TILE((TILE_ROWS(count) + 3) / 4, count, NOTHING); break; \
            case 2: TILE((TILE_ROWS(count) + 1) / 2, count, NOTHING); break; \
            case 3: TILE((TILE_ROWS(count) * 3 + 3) / 4, count, NOTHING); break; \
            case 4: TILE(TILE_ROWS(count), count, NOTHING); break; \
        } \
        break
static __attribute__((noinline)) void NAME(last_rows)(ptrdiff_t m, int vectors, ptrdiff_t last, ptrdiff_t depth,
                                                      const REAL *a, const int along, ptrdiff_t next_a, const REAL *b,
                                                      ptrdiff_t next_b, int mode, REAL *c, ptrdiff_t next_c) {
    const ptrdiff_t i = 0;
    switch (vectors) {
        LAST_ROWS(1);
        LAST_ROWS(2);
#if MOST_VECTORS == 3
        LAST_ROWS(3);
#endif
    }
}
#undef LAST_ROWS

/* All m rows beside some vectors of columns, of the last of which `last` lanes count. */
#define PANEL(count) \
    case count: \
        for (; i + TILE_ROWS(count) <= m; i += TILE_ROWS(count)) TILE(TILE_ROWS(count), count, ahead); \
        break
INLINE void NAME(panel)(ptrdiff_t m, int vectors, ptrdiff_t last, ptrdiff_t depth, const REAL *a, const int along,
                        ptrdiff_t next_a, const REAL *b, ptrdiff_t next_b, int mode, const int ahead, REAL *c,
                        ptrdiff_t next_c) {
    ptrdiff_t i = 0;
    switch (vectors) {
        PANEL(1);
        PANEL(2);
#if MOST_VECTORS == 3
        PANEL(3);
#endif
    }
    if (i < m)
        NAME(last_rows)(m - i, vectors, last, depth, a + i * (along ? next_a : 1), along, next_a, b, next_b, mode,
                        c + i * next_c, next_c);
}
#undef PANEL
#undef TILE

#include "packing.h"
#include "products.h"
#undef LANES
#endif
