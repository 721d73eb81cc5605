/* Matrix products on tiles of registers.  Weights are read where they lie; only what is as small as a batch is copied.
 *
 * BLAS packs both operands in every call, which pays when each packed number is then used many times.  A batch of a few
 * dozen rows uses the weights a few times only, and packing them takes about as long as multiplying.
 *
 * All three products of a layer are made of one tile, a sum of outer products: a column of a, its numbers broadcast one by
 * one, by a row of b, whole vectors.  For z = x W^T that means z^T = W x^T, with the batch along the vectors.
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
#define PANEL_BYTES (128 << 10)
/* Rows of b so far apart meet in few sets of the caches, and are copied side by side. */
#define FAR_BYTES 4096
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
enum { SET, ADD, STREAM }; /* the last sets it past the caches */
/* What a tile fetches for tiles to come: what is not in the caches yet. */
enum { NOTHING, ROWS_OF_A, ROWS_OF_B };
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

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
typedef INTEGER NAME(lanes) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL NAME(four) __attribute__((vector_size(4 * sizeof(REAL))));
typedef REAL NAME(loose_four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef INTEGER NAME(pick) __attribute__((vector_size(4 * sizeof(REAL))));

INLINE NAME(vector) NAME(load)(const REAL *p) { return *(const NAME(loose) *) p; }
INLINE void NAME(store)(REAL *p, NAME(vector) v) { *(NAME(loose) *) p = v; }

/* The last n lanes. */
INLINE NAME(lanes) NAME(last)(ptrdiff_t n) {
    NAME(lanes) index;
    UNROLL for (int l = 0; l < LANES; l++) index[l] = l;
    return index >= (INTEGER) (LANES - n);
}

/* v in these lanes, else 0. */
INLINE NAME(vector) NAME(keep)(NAME(vector) v, NAME(lanes) lanes) { return (NAME(vector)) ((NAME(lanes)) v & lanes); }

/* y = x^T of 4 by 4, or y += x^T. */
INLINE void NAME(transpose_four)(const REAL *x, ptrdiff_t next_x, int add, REAL *y, ptrdiff_t next_y) {
    NAME(four) v[4], w[4];
    UNROLL for (int i = 0; i < 4; i++) v[i] = *(const NAME(loose_four) *) (x + i * next_x);
    UNROLL for (int i = 0; i < 2; i++) {
        w[i] = __builtin_shuffle(v[2 * i], v[2 * i + 1], (NAME(pick)) {0, 4, 1, 5});
        w[i + 2] = __builtin_shuffle(v[2 * i], v[2 * i + 1], (NAME(pick)) {2, 6, 3, 7});
    }
    UNROLL for (int i = 0; i < 4; i++) {
        v[i] = __builtin_shuffle(w[i / 2 * 2], w[i / 2 * 2 + 1],
                                 i % 2 ? (NAME(pick)) {2, 3, 6, 7} : (NAME(pick)) {0, 1, 4, 5});
        NAME(loose_four) *p = (NAME(loose_four) *) (y + i * next_y);
        *p = add ? (NAME(four)) *p + v[i] : v[i];
    }
}

/* y (n, m) = x (m, n)^T, or y += x^T. */
static inline void NAME(transpose)(ptrdiff_t m, ptrdiff_t n, const REAL *x, ptrdiff_t next_x, int add, REAL *y, ptrdiff_t next_y) {
    const ptrdiff_t rows = m - m % 4, columns = n - n % 4;
    for (ptrdiff_t j = 0; j < columns; j += 4)
        for (ptrdiff_t i = 0; i < rows; i += 4)
            NAME(transpose_four)(x + i * next_x + j, next_x, add, y + j * next_y + i, next_y);
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = i < rows ? columns : 0; j < n; j++) {
            REAL *p = y + j * next_y + i;
            *p = add ? *p + x[i * next_x + j] : x[i * next_x + j];
        }
}

/* Up to `height` rows of whole vectors of c; with `lanes`, of one vector of which these count. */
INLINE void NAME(tile)(ptrdiff_t rows, const int height, const int vectors, ptrdiff_t depth, const REAL *a,
                       ptrdiff_t next_row, const REAL *b, ptrdiff_t next_b, int mode, const NAME(lanes) *lanes, const int ahead,
                       ptrdiff_t number, REAL *c, ptrdiff_t next_c) {
    const ptrdiff_t line = 64 / sizeof(REAL);
    NAME(vector) sum[MOST_TILE_ROWS][MOST_VECTORS] = {{{0}}};
    const REAL *pa[MOST_TILE_ROWS];
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) if (i < height) pa[i] = a + (i < rows ? i : rows - 1) * next_row;
    _Pragma("GCC unroll 2") for (ptrdiff_t q = 0; q < depth; q++, b += next_b) {
        if (ahead == ROWS_OF_A) __builtin_prefetch(a + (height + q % line) * next_row + q / line * line, 0, 2);
        if (ahead == ROWS_OF_B) __builtin_prefetch(b + (vectors + number % vectors) * LANES, 0, 2);
        NAME(vector) v[MOST_VECTORS];
        UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) v[j] = NAME(load)(b + j * LANES);
        UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
            if (i >= height) break;
            const REAL factor = pa[i][q];
            UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) sum[i][j] += factor * v[j];
        }
    }
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
        if (i >= height || i >= rows) break;
        UNROLL for (int j = 0; j < MOST_VECTORS; j++) {
            if (j >= vectors) break;
            REAL *p = c + i * next_c + j * LANES;
            if (lanes) { /* the other lanes are of an earlier tile */
                const NAME(vector) old = NAME(load)(p), new = mode == ADD ? old + sum[i][j] : sum[i][j];
                NAME(store)(p, (NAME(vector)) ((NAME(lanes)) NAME(keep)(new, *lanes) | (NAME(lanes)) NAME(keep)(old, ~*lanes)));
            } else if (mode == STREAM)
                STREAM_VECTOR(p, sum[i][j]);
            else
                NAME(store)(p, mode == ADD ? NAME(load)(p) + sum[i][j] : sum[i][j]);
        }
    }
}

/* All m rows beside some vectors of columns. */
#define PANEL(count) \
    case count: \
        for (ptrdiff_t i = 0; i < m; i += TILE_ROWS(count)) \
            NAME(tile)(m - i, TILE_ROWS(count), count, depth, a + i * next_row, next_row, b, next_b, mode, NULL, ahead, \
                       i / TILE_ROWS(count), c + i * next_c, next_c); \
        break
INLINE void NAME(panel)(ptrdiff_t m, int vectors, ptrdiff_t depth, const REAL *a, ptrdiff_t next_row, const REAL *b,
                        ptrdiff_t next_b, int mode, const int ahead, REAL *c, ptrdiff_t next_c) {
    switch (vectors) {
        PANEL(1);
        PANEL(2);
#if MOST_VECTORS == 3
        PANEL(3);
#endif
    }
}
#undef PANEL

/* The last n % LANES columns: the last whole vector again. */
static void NAME(edge)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const REAL *a, ptrdiff_t next_row, const REAL *b,
                       ptrdiff_t next_b, int mode, REAL *c, ptrdiff_t next_c) {
    const NAME(lanes) rest = NAME(last)(n % LANES);
    for (ptrdiff_t i = 0; i < m; i += TILE_ROWS(1))
        NAME(tile)(m - i, TILE_ROWS(1), 1, depth, a + i * next_row, next_row, b + n - LANES, next_b, mode, &rest, NOTHING, 0,
                   c + i * next_c + n - LANES, next_c);
}

/* Whether the products are possible and faster than BLAS for batches of r rows and weights of i columns. */
INLINE int NAME(prefer_tiles)(ptrdiff_t r, ptrdiff_t i) {
    return i >= LANES && r <= MOST_BATCH_ROWS && i <= MOST_ROW_BYTES / (ptrdiff_t) sizeof(REAL);
}

/* z (r, o) = x (r, i) w (o, i)^T. */
static inline void NAME(x_weight)(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o, const REAL *x, const REAL *w, REAL *z) {
    _Alignas(64) REAL columns[PANEL_BYTES / sizeof(REAL)], block[BLOCK_ROWS * MOST_VECTORS * LANES];
    ptrdiff_t width;
    for (ptrdiff_t top = 0; top < r; top += width) {
        const int vectors = next_vectors((r - top + LANES - 1) / LANES);
        width = vectors * LANES;
        const ptrdiff_t rows = r - top < width ? r - top : width;
        const ptrdiff_t most = PANEL_BYTES / (ptrdiff_t) sizeof(REAL) / width, parts = (i + most - 1) / most;
        const ptrdiff_t terms = (i + parts - 1) / parts;
        for (ptrdiff_t p = 0; p < i; p += terms) {
            const ptrdiff_t count = p + terms < i ? terms : i - p;
            if (rows < width) memset(columns, 0, count * width * sizeof(REAL));
            NAME(transpose)(rows, count, x + top * i + p, i, 0, columns, width);
            for (ptrdiff_t j = 0; j < o; j += BLOCK_ROWS) {
                const ptrdiff_t some = o - j < BLOCK_ROWS ? o - j : BLOCK_ROWS;
                NAME(panel)(some, vectors, count, w + j * i + p, i, columns, width, SET, ROWS_OF_A, block, width);
                NAME(transpose)(some, rows, block, width, p > 0, z + top * o + j, o);
            }
        }
    }
}

/* c (m, n) = sum over q < depth of a[q] b[q], with n of at least LANES; ADD adds it to c, STREAM needs rows of c at
 * multiples of a vector's size.  Row i of a begins at i * next_row. */
INLINE void NAME(outer_columns)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const REAL *a, ptrdiff_t next_row,
                                const REAL *b, ptrdiff_t next_b, int mode, const int ahead, REAL *c, ptrdiff_t next_c) {
    _Alignas(64) REAL copy[TERMS * MOST_VECTORS * LANES];
    const int far = next_b * (ptrdiff_t) sizeof(REAL) >= FAR_BYTES && m > 2 * TILE_ROWS(MOST_VECTORS);
    int vectors;
    for (ptrdiff_t j = 0; j + LANES <= n; j += vectors * LANES) {
        vectors = next_vectors((n - j) / LANES);
        const ptrdiff_t width = vectors * LANES;
        if (far)
            for (ptrdiff_t q = 0; q < depth; q++) memcpy(copy + q * width, b + q * next_b + j, width * sizeof(REAL));
        NAME(panel)(m, vectors, depth, a, next_row, far ? copy : b + j, far ? width : next_b, mode, ahead, c + j, next_c);
    }
    if (n % LANES) NAME(edge)(m, n, depth, a, next_row, b, next_b, mode == STREAM ? SET : mode, c, next_c);
}

/* dx (r, i) = dz (r, o) w (o, i), with i of at least LANES. */
static inline void NAME(dz_weight)(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o, const REAL *dz, const REAL *w, REAL *dx) {
    for (ptrdiff_t q = 0; q == 0 || q < o; q += TERMS)
        NAME(outer_columns)(r, i, o - q < TERMS ? o - q : TERMS, dz + q, o, w + q * i, i, q ? ADD : SET, ROWS_OF_B, dx, i);
}

/* dz_x of fewer columns than a vector has. */
static inline void NAME(narrow_dz_x)(ptrdiff_t r, ptrdiff_t n, ptrdiff_t o, const REAL *dz, ptrdiff_t next_dz, const REAL *x,
                              ptrdiff_t next_x, int mode, REAL *dw, ptrdiff_t next_dw) {
    for (ptrdiff_t j = 0; j < o && mode != ADD; j++)
        for (ptrdiff_t p = 0; p < n; p++) dw[j * next_dw + p] = 0;
    for (ptrdiff_t q = 0; q < r; q++)
        for (ptrdiff_t j = 0; j < o; j++)
            for (ptrdiff_t p = 0; p < n; p++) dw[j * next_dw + p] += dz[q * next_dz + j] * x[q * next_x + p];
}

/* dw (o, n) = dz (r, o)^T x (r, n), or dw += ...; the rows of dz, x and dw are so far apart. */
static inline void NAME(dz_x)(ptrdiff_t r, ptrdiff_t n, ptrdiff_t o, const REAL *dz, ptrdiff_t next_dz, const REAL *x,
                       ptrdiff_t next_x, int mode, REAL *dw, ptrdiff_t next_dw) {
    _Alignas(64) REAL block[BLOCK_ROWS * TERMS];
    if (n < LANES) {
        NAME(narrow_dz_x)(r, n, o, dz, next_dz, x, next_x, mode, dw, next_dw);
        return;
    }
    if (mode == STREAM && r > TERMS) mode = SET; /* it is read again at once */
    for (ptrdiff_t q = 0; q == 0 || q < r; q += TERMS)
        for (ptrdiff_t j = 0; j < o; j += BLOCK_ROWS) {
            const ptrdiff_t some = o - j < BLOCK_ROWS ? o - j : BLOCK_ROWS, terms = r - q < TERMS ? r - q : TERMS;
            NAME(transpose)(terms, some, dz + q * next_dz + j, next_dz, 0, block, terms);
            NAME(outer_columns)(some, n, terms, block, terms, x + q * next_x, next_x, q ? ADD : mode, NOTHING,
                                dw + j * next_dw, next_dw);
        }
}

#undef LANES
#endif
