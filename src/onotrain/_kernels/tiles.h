/* Matrix products on tiles of registers, straight from where the matrices lie: nothing is packed, copied or allocated.
 *
 * BLAS packs both operands in every call, which pays when each packed number is then used many times.  A batch of a few
 * dozen rows uses the weights a few times only, and packing them takes about as long as multiplying.
 *
 * GCC's vector types make one source of all instruction sets.  Every element of a result is computed by the same
 * operations wherever it lies: a row of a batch gets the same bits whatever other rows are with it.
 */

#ifndef REAL /* the file includes itself, once for each element type */

#include "vectors.h"
#if defined(__clang__)
#error "the kernels need GCC's vector shuffles: build with CC=gcc"
#endif

/* Tiles as large as the registers allow, with what the accumulators need beside them. */
#define DOT_ROWS 4
#if defined(__AVX512F__) || defined(__aarch64__) /* 32 registers */
#define DOT_COLUMNS 6
#define OUTER_ROWS 4 /* 6 would fit, and waste a ninth of the work on 32 rows */
#define OUTER_VECTORS 4
#else /* 16 registers */
#define DOT_COLUMNS 2
#define OUTER_ROWS 6
#define OUTER_VECTORS 2
#endif
/* What is read again and again is cut so that it stays in cache: of a row, for a tile's rows in the first level; of a
 * matrix that all tiles of the other one meet, in the second. */
#define ROW_BYTES 4096
#define DOT_BYTES (512 << 10)
#define OUTER_BYTES (256 << 10)
/* The largest products in which this is faster than BLAS: without bound where a tile fills 32 wide registers, else by
 * the rows of the batch and the bytes of a row of weights (measured, docs/performance.md). */
#if defined(__AVX512F__)
#define MOST_BATCH_ROWS PTRDIFF_MAX
#define MOST_ROW_BYTES PTRDIFF_MAX
#else
#define MOST_BATCH_ROWS 48
#define MOST_ROW_BYTES 4096
#endif
/* What a product does to c. */
enum { SET, ADD, STREAM }; /* the last sets it past the caches */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

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

#else

#define LANES ((ptrdiff_t) (VECTOR_BYTES / sizeof(REAL)))

typedef REAL NAME(vector) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL NAME(loose) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER NAME(lanes) __attribute__((vector_size(VECTOR_BYTES)));

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

/* Sums of neighbours: those of a in the first half, those of b in the second. */
INLINE NAME(vector) NAME(fold)(NAME(vector) a, NAME(vector) b) {
    NAME(lanes) even;
    UNROLL for (int l = 0; l < LANES; l++) even[l] = 2 * l;
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, even + 1);
}

/* Sums of four vectors' lanes. */
INLINE void NAME(totals)(const NAME(vector) *v, REAL *total) {
    const NAME(vector) ab = NAME(fold)(v[0], v[1]), cd = NAME(fold)(v[2], v[3]);
    if (LANES == 2) {
        NAME(store)(total, ab);
        NAME(store)(total + 2, cd);
        return;
    }
    NAME(vector) abcd = NAME(fold)(ab, cd);
    for (ptrdiff_t l = LANES; l > 4; l /= 2) abcd = NAME(fold)(abcd, abcd);
    UNROLL for (int l = 0; l < 4; l++) total[l] = abcd[l];
}

INLINE void NAME(dot_step)(const REAL *const *x, const REAL *const *w, ptrdiff_t p, NAME(lanes) lanes, int whole,
                           NAME(vector) sum[DOT_COLUMNS][DOT_ROWS]) {
    NAME(vector) a[DOT_ROWS];
    UNROLL for (int i = 0; i < DOT_ROWS; i++) {
        a[i] = NAME(load)(x[i] + p);
        if (!whole) a[i] = NAME(keep)(a[i], lanes);
    }
    UNROLL for (int j = 0; j < DOT_COLUMNS; j++) {
        NAME(vector) b = NAME(load)(w[j] + p);
        if (!whole) b = NAME(keep)(b, lanes);
        UNROLL for (int i = 0; i < DOT_ROWS; i++) sum[j][i] += a[i] * b;
    }
}

/* Dot products, over k terms, of up to DOT_ROWS rows of x and DOT_COLUMNS rows of w; past the edge, the last row is taken
 * again.  Rows of x and w are `stride` apart, those of c `n`. */
INLINE void NAME(dot_tile)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t k, ptrdiff_t stride, const REAL *x,
                           const REAL *w, const REAL *soon, ptrdiff_t n, int accumulate, REAL *c) {
    NAME(vector) sum[DOT_COLUMNS][DOT_ROWS] = {{{0}}};
    const NAME(lanes) rest = NAME(last)(k % LANES);
    const REAL *px[DOT_ROWS], *pw[DOT_COLUMNS];
    UNROLL for (int i = 0; i < DOT_ROWS; i++) px[i] = x + (i < rows ? i : rows - 1) * stride;
    UNROLL for (int j = 0; j < DOT_COLUMNS; j++) pw[j] = w + (j < columns ? j : columns - 1) * stride;
    for (ptrdiff_t p = 0; p + LANES <= k; p += LANES) {
        __builtin_prefetch(soon + p, 0, 2);
        NAME(dot_step)(px, pw, p, rest, 1, sum);
    }
    /* The last whole vector again, in the lanes that are not in the sum yet. */
    if (k % LANES) NAME(dot_step)(px, pw, k - LANES, rest, 0, sum);
    UNROLL for (int j = 0; j < DOT_COLUMNS; j++) {
        REAL total[DOT_ROWS];
        if (j >= columns) break;
        NAME(totals)(sum[j], total);
        UNROLL for (int i = 0; i < DOT_ROWS; i++)
            if (i < rows) c[i * n + j] = accumulate ? c[i * n + j] + total[i] : total[i];
    }
}

/* Whether the products are possible and faster than BLAS for batches of r rows and weights of k columns. */
INLINE int NAME(prefer_tiles)(ptrdiff_t r, ptrdiff_t k) {
    return k >= LANES && r <= MOST_BATCH_ROWS && k <= MOST_ROW_BYTES / (ptrdiff_t) sizeof(REAL);
}

/* c (r, n) = x (r, k) w (n, k)^T, with k of at least LANES. */
static void NAME(dot_product)(ptrdiff_t r, ptrdiff_t n, ptrdiff_t k, const REAL *x, const REAL *w, REAL *c) {
    const ptrdiff_t blocks = (k * (ptrdiff_t) sizeof(REAL) + ROW_BYTES - 1) / ROW_BYTES;
    const ptrdiff_t terms = (k / blocks + LANES) / LANES * LANES;
    const ptrdiff_t height = DOT_BYTES / (ptrdiff_t) sizeof(REAL) / terms / DOT_ROWS * DOT_ROWS;
    for (ptrdiff_t p = 0; p < k; p += terms)
        for (ptrdiff_t top = 0; top < r; top += height)
            for (ptrdiff_t j = 0; j < n; j += DOT_COLUMNS) {
                ptrdiff_t soon = j + DOT_COLUMNS; /* each tile fetches a row of the next tiles' w */
                for (ptrdiff_t i = top; i < r && i < top + height; i += DOT_ROWS, soon += soon + 1 < n)
                    NAME(dot_tile)(r - i, n - j, p + terms < k ? terms : k - p, k, x + i * k + p, w + j * k + p,
                                   w + (soon < n ? soon : j) * k + p, n, p > 0, c + i * n + j);
            }
}

/* Up to OUTER_ROWS rows of `vectors` whole vectors of c; or, with `lanes`, of one vector of which these lanes count. */
INLINE void NAME(outer_tile)(ptrdiff_t rows, int vectors, ptrdiff_t depth, const REAL *a, ptrdiff_t next_row,
                             ptrdiff_t next_term, const REAL *b, ptrdiff_t n, int mode, int whole,
                             NAME(lanes) lanes, REAL *c) {
    NAME(vector) sum[OUTER_ROWS][OUTER_VECTORS] = {{{0}}};
    const REAL *pa[OUTER_ROWS];
    UNROLL for (int i = 0; i < OUTER_ROWS; i++) pa[i] = a + (i < rows ? i : rows - 1) * next_row;
    for (ptrdiff_t q = 0, t = 0; q < depth; q++, t += next_term, b += n) {
        NAME(vector) v[OUTER_VECTORS];
        UNROLL for (int j = 0; j < OUTER_VECTORS; j++) if (j < vectors) v[j] = NAME(load)(b + j * LANES);
        UNROLL for (int i = 0; i < OUTER_ROWS; i++)
            UNROLL for (int j = 0; j < OUTER_VECTORS; j++) if (j < vectors) sum[i][j] += pa[i][t] * v[j];
    }
    UNROLL for (int i = 0; i < OUTER_ROWS; i++) {
        if (i >= rows) break;
        UNROLL for (int j = 0; j < OUTER_VECTORS; j++) {
            if (j >= vectors) continue;
            REAL *p = c + i * n + j * LANES;
            if (whole && mode == STREAM)
                STREAM_VECTOR(p, sum[i][j]);
            else if (whole)
                NAME(store)(p, mode == ADD ? NAME(load)(p) + sum[i][j] : sum[i][j]);
            else { /* the other lanes are of an earlier tile */
                const NAME(vector) old = NAME(load)(p), new = mode == ADD ? old + sum[i][j] : sum[i][j];
                NAME(store)(p, (NAME(vector)) ((NAME(lanes)) NAME(keep)(new, lanes) | (NAME(lanes)) NAME(keep)(old, ~lanes)));
            }
        }
    }
}

/* The rows of c beside columns j to end. */
INLINE void NAME(outer_columns)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const REAL *a, ptrdiff_t next_row,
                                ptrdiff_t next_term, const REAL *b, int mode, ptrdiff_t begin, ptrdiff_t end,
                                REAL *c) {
    const ptrdiff_t width = OUTER_VECTORS * LANES;
    const NAME(lanes) rest = NAME(last)(n % LANES);
    for (ptrdiff_t i = 0; i < m; i += OUTER_ROWS, a += OUTER_ROWS * next_row, c += OUTER_ROWS * n) {
        ptrdiff_t j = begin;
        for (; j + width <= end; j += width)
            NAME(outer_tile)(m - i, OUTER_VECTORS, depth, a, next_row, next_term, b + j, n, mode, 1, rest, c + j);
        for (; j + LANES <= end; j += LANES)
            NAME(outer_tile)(m - i, 1, depth, a, next_row, next_term, b + j, n, mode, 1, rest, c + j);
        if (j < end) /* the last whole vector again */
            NAME(outer_tile)(m - i, 1, depth, a, next_row, next_term, b + n - LANES, n, mode, 0, rest, c + n - LANES);
    }
}

/* c (m, n) = sum over q < depth of a[q] b[q], with n of at least LANES; ADD adds it to c, STREAM needs rows of c at
 * multiples of a vector's size.  Row q of b is (n,); the element of a for row i and term q is
 * a[i * next_row + q * next_term]: any transposition of a. */
static void NAME(outer_product)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const REAL *a, ptrdiff_t next_row,
                                ptrdiff_t next_term, const REAL *b, int mode, REAL *c) {
    const ptrdiff_t width = OUTER_VECTORS * LANES, terms = OUTER_BYTES / VECTOR_BYTES / OUTER_VECTORS;
    ptrdiff_t q = 0;
    if (mode == STREAM && depth > terms) mode = SET; /* it is read again at once */
    do {
        const ptrdiff_t count = q + terms < depth ? terms : depth - q;
        const ptrdiff_t block = count ? terms / count * width : n;
        for (ptrdiff_t j = 0; j < n; j += block)
            NAME(outer_columns)(m, n, count, a + q * next_term, next_row, next_term, b + q * n, q ? ADD : mode, j,
                                j + block < n ? j + block : n, c);
        q += terms;
    } while (q < depth);
}

#undef LANES
#endif
