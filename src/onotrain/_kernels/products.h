/* The three products of a dense layer, and sums of columns.  A part of tiles.h, which includes it once for each element type.
 *
 * Dimensions: r rows of the batch, i inputs, o outputs, n some of the inputs.
 */

/* Whether tiles are faster than BLAS for batches of r rows and weights of i columns. */
INLINE int NAME(prefer_tiles)(ptrdiff_t r, ptrdiff_t i) {
    return i < LANES || (r <= MOST_BATCH_ROWS && i <= MOST_ROW_BYTES / (ptrdiff_t) sizeof(REAL));
}

/* n in whole vectors. */
INLINE ptrdiff_t NAME(filled)(ptrdiff_t n) { return (n + LANES - 1) / LANES * LANES; }

/* Panels beside operands that are in the caches. */
static __attribute__((noinline)) void NAME(near_panel)(ptrdiff_t m, int vectors, ptrdiff_t last, ptrdiff_t depth,
                                                       const REAL *a, ptrdiff_t next_a, const REAL *b, ptrdiff_t next_b,
                                                       int mode, REAL *c, ptrdiff_t next_c) {
    NAME(panel)(m, vectors, last, depth, a, ALONG, next_a, b, next_b, mode, NOTHING, c, next_c);
}

static __attribute__((noinline)) void NAME(near_panel_across)(ptrdiff_t m, int vectors, ptrdiff_t last, ptrdiff_t depth,
                                                              const REAL *a, ptrdiff_t next_a, const REAL *b,
                                                              ptrdiff_t next_b, int mode, REAL *c, ptrdiff_t next_c) {
    NAME(panel)(m, vectors, last, depth, a, ACROSS, next_a, b, next_b, mode, NOTHING, c, next_c);
}

/* c (m, n) = sum over q < depth of a[q] b[q]; ADD adds it to c, STREAM needs rows of c at multiples of a vector's size. */
INLINE void NAME(outer_columns)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const REAL *a, const int along, ptrdiff_t next_a,
                                const REAL *b, ptrdiff_t next_b, int mode, const int ahead, REAL *c, ptrdiff_t next_c) {
    _Alignas(64) REAL copy[TERMS * MOST_VECTORS * LANES];
    const int far = next_b * (ptrdiff_t) sizeof(REAL) >= FAR_BYTES && m > 2 * TILE_ROWS(MOST_VECTORS);
    int vectors;
    for (ptrdiff_t j = 0; j < n; j += vectors * LANES) {
        vectors = next_vectors((n - j + LANES - 1) / LANES);
        const ptrdiff_t width = vectors * LANES, last = n - j < width ? n - j - (width - LANES) : LANES;
        const REAL *columns = b + j;
        ptrdiff_t next = next_b;
        if (far || last < LANES) {
            NAME(copy_columns)(depth, vectors, last, columns, next_b, copy);
            columns = copy, next = width;
        }
        if (!along)
            NAME(near_panel_across)(m, vectors, last, depth, a, next_a, columns, next, mode, c + j, next_c);
        else if (columns == copy || ahead == NOTHING)
            NAME(near_panel)(m, vectors, last, depth, a, next_a, columns, next, mode, c + j, next_c);
        else
            NAME(panel)(m, vectors, last, depth, a, along, next_a, columns, next, mode, ahead, c + j, next_c);
    }
}

/* What is done with a block of z, rows `row` and columns `column` and following, while it is in the first-level cache. */
typedef void (*NAME(follow))(const void *context, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t column, ptrdiff_t columns,
                             REAL *z, ptrdiff_t next_z);

/* x_weight with the rows of the batch along the vectors: z^T = w x^T. */
static void NAME(x_weight_rows)(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o, const REAL *x, const REAL *w, REAL *z,
                                NAME(follow) follow, const void *context) {
    _Alignas(64) REAL columns[PANEL_BYTES / sizeof(REAL)], block[GROUP_COLUMNS * MOST_VECTORS * LANES];
    ptrdiff_t width;
    for (ptrdiff_t top = 0; top < r; top += width) {
        const int vectors = next_vectors((r - top + LANES - 1) / LANES);
        width = vectors * LANES;
        const ptrdiff_t rows = r - top < width ? r - top : width;
        const ptrdiff_t most = PANEL_BYTES / (ptrdiff_t) sizeof(REAL) / width;
        for (ptrdiff_t p = 0; p == 0 || p < i; p += most) {
            const ptrdiff_t count = p + most < i ? most : i - p;
            if (rows < width) memset(columns, 0, count * width * sizeof(REAL));
            NAME(transpose)(rows, count, x + top * i + p, i, 0, columns, width);
            for (ptrdiff_t j = 0; j < o; j += GROUP_COLUMNS) {
                const ptrdiff_t some = o - j < GROUP_COLUMNS ? o - j : GROUP_COLUMNS;
                REAL *part = z + top * o + j;
                if (p > 0) NAME(transpose)(rows, some, part, o, 0, block, width);
                NAME(panel)(some, vectors, LANES, count, w + j * i + p, ALONG, i, columns, width, p > 0 ? CONTINUE : SET, ROWS_OF_A,
                            block, width);
                NAME(transpose)(some, rows, block, width, 0, part, o);
                if (p + most >= i) follow(context, top, rows, j, some, part, o);
            }
        }
    }
}

/* Columns of w^T for the tiles, panel by panel: `some` rows of w from the first to the last, `count` numbers of each. */
static void NAME(pack_outputs)(ptrdiff_t some, ptrdiff_t count, const REAL *w, ptrdiff_t next_w, REAL *packed) {
    ptrdiff_t width;
    for (ptrdiff_t j = 0; j < some; j += width, packed += count * width) {
        width = next_vectors((some - j + LANES - 1) / LANES) * LANES;
        const ptrdiff_t columns = some - j < width ? some - j : width;
        if (columns < width) memset(packed, 0, count * width * sizeof(REAL));
        NAME(transpose)(columns, count, w + j * next_w, next_w, 0, packed, width);
    }
}

/* Numbers in the panels of all of w. */
INLINE ptrdiff_t NAME(packed_size)(ptrdiff_t i, ptrdiff_t o) { return NAME(filled)(o) * i; }

/* All of w (o, i) in panels, as x_weight_outputs goes through them. */
static inline void NAME(pack_weight)(ptrdiff_t i, ptrdiff_t o, const REAL *w, REAL *panels) {
    const ptrdiff_t most = GROUP_BYTES / (ptrdiff_t) sizeof(REAL) / GROUP_COLUMNS;
    for (ptrdiff_t j = 0; j < o; j += GROUP_COLUMNS) {
        const ptrdiff_t some = o - j < GROUP_COLUMNS ? o - j : GROUP_COLUMNS;
        for (ptrdiff_t p = 0; p < i; p += most) {
            const ptrdiff_t count = p + most < i ? most : i - p;
            NAME(pack_outputs)(some, count, w + j * i + p, i, panels);
            panels += NAME(packed_size)(count, some);
        }
    }
}

/* x_weight with the outputs along the vectors: z = x w^T; w is packed here, unless its panels are given. */
static void NAME(x_weight_outputs)(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o, const REAL *x, const REAL *w,
                                   const REAL *panels, REAL *z, NAME(follow) follow, const void *context) {
    _Alignas(64) REAL packed[GROUP_BYTES / sizeof(REAL)];
    const ptrdiff_t most = GROUP_BYTES / (ptrdiff_t) sizeof(REAL) / GROUP_COLUMNS;
    for (ptrdiff_t j = 0; j < o; j += GROUP_COLUMNS) {
        const ptrdiff_t some = o - j < GROUP_COLUMNS ? o - j : GROUP_COLUMNS;
        for (ptrdiff_t p = 0; p == 0 || p < i; p += most) {
            const ptrdiff_t count = p + most < i ? most : i - p;
            const REAL *group = panels ? panels : packed;
            if (panels)
                panels += NAME(packed_size)(count, some);
            else
                NAME(pack_outputs)(some, count, w + j * i + p, i, packed);
            for (ptrdiff_t top = 0; top < r; top += GROUP_ROWS) {
                const ptrdiff_t rows = r - top < GROUP_ROWS ? r - top : GROUP_ROWS;
                REAL *part = z + top * o + j;
                const REAL *panel = group;
                ptrdiff_t width;
                for (ptrdiff_t c = 0; c < some; c += width, panel += count * width) {
                    const int vectors = next_vectors((some - c + LANES - 1) / LANES);
                    width = vectors * LANES;
                    NAME(near_panel)(rows, vectors, some - c < width ? some - c - (width - LANES) : LANES, count,
                                     x + top * i + p, i, panel, width, p > 0 ? CONTINUE : SET, part + c, o);
                }
                if (p + most >= i) follow(context, top, rows, j, some, part, o);
            }
        }
    }
}

/* What x_weight costs in multiply-adds, with the rows of the batch along the vectors, or with the outputs. */
INLINE ptrdiff_t NAME(rows_cost)(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o) {
    return NAME(filled)(r) * o * i + TRANSPOSE_COST * r * (i + o);
}
INLINE ptrdiff_t NAME(outputs_cost)(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o, int packed) {
    return NAME(filled)(o) * r * i + (packed ? 0 : TRANSPOSE_COST * o * i);
}

/* Whether x_weight is so much faster with panels of w that it is worth keeping them. */
INLINE int NAME(packing_pays)(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o) {
    const ptrdiff_t by_rows = NAME(rows_cost)(r, i, o), by_outputs = NAME(outputs_cost)(r, i, o, 0);
    const ptrdiff_t once = NAME(outputs_cost)(r, i, o, 1), each = by_rows < by_outputs ? by_rows : by_outputs;
    return NAME(prefer_tiles)(r, i) && each - once > once / LEAST_GAIN;
}

/* z (r, o) = x (r, i) w (o, i)^T, and what follows; `panels` are those of pack_weight, or NULL. */
static inline void NAME(x_weight)(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o, const REAL *x, const REAL *w,
                                  const REAL *panels, REAL *z, NAME(follow) follow, const void *context) {
    if (!panels && NAME(rows_cost)(r, i, o) < NAME(outputs_cost)(r, i, o, 0))
        NAME(x_weight_rows)(r, i, o, x, w, z, follow, context);
    else
        NAME(x_weight_outputs)(r, i, o, x, w, panels, z, follow, context);
}

/* dx (r, i) = dz (r, o) w (o, i). */
static inline void NAME(dz_weight)(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o, const REAL *dz, const REAL *w, REAL *dx) {
    for (ptrdiff_t q = 0; q == 0 || q < o; q += TERMS)
        NAME(outer_columns)(r, i, o - q < TERMS ? o - q : TERMS, dz + q, ALONG, o, w + q * i, i, q ? ADD : SET, ROWS_OF_B,
                            dx, i);
}

/* c (m, n) = a (depth, m)^T b (depth, n) with the columns of a along the vectors, of at most BLOCK_ROWS rows and columns. */
static void NAME(outer_turned)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const REAL *a, ptrdiff_t next_a, const REAL *b,
                               ptrdiff_t next_b, int mode, REAL *c, ptrdiff_t next_c) {
    _Alignas(64) REAL block[BLOCK_ROWS * BLOCK_ROWS];
    NAME(outer_columns)(n, m, depth, b, ACROSS, next_b, a, next_a, SET, NOTHING, block, m);
    NAME(transpose)(n, m, block, m, mode == ADD, c, next_c);
}

/* dw (o, n) = dz (r, o)^T x (r, n), or dw += ...; the rows of dz, x and dw are so far apart. */
static inline void NAME(dz_x)(ptrdiff_t r, ptrdiff_t n, ptrdiff_t o, const REAL *dz, ptrdiff_t next_dz, const REAL *x,
                              ptrdiff_t next_x, int mode, REAL *dw, ptrdiff_t next_dw) {
    if (mode == STREAM && r > TERMS) mode = SET; /* it is read again at once */
    for (ptrdiff_t q = 0; q == 0 || q < r; q += TERMS)
        for (ptrdiff_t j = 0; j < o; j += BLOCK_ROWS) {
            const ptrdiff_t some = o - j < BLOCK_ROWS ? o - j : BLOCK_ROWS, terms = r - q < TERMS ? r - q : TERMS;
            const REAL *a = dz + q * next_dz + j, *b = x + q * next_x;
            REAL *c = dw + j * next_dw;
            if (n <= BLOCK_ROWS && NAME(filled)(some) * n * terms + TRANSPOSE_COST * n * some < NAME(filled)(n) * some * terms)
                NAME(outer_turned)(some, n, terms, a, next_dz, b, next_x, q ? ADD : mode, c, next_dw);
            else
                NAME(outer_columns)(some, n, terms, a, ACROSS, next_dz, b, next_x, q ? ADD : mode, NOTHING, c, next_dw);
        }
}

/* sums (n) = row 0 + row 1 + ... of x (r, n), in this order. */
#define SUM_COLUMNS(count) \
    for (; n - j >= (count) * LANES; j += (count) * LANES) { \
        NAME(vector) sum[count]; \
        UNROLL for (int v = 0; v < count; v++) sum[v] = NAME(load)(x + j + v * LANES); \
        for (ptrdiff_t i = 1; i < r; i++) \
            UNROLL for (int v = 0; v < count; v++) sum[v] += NAME(load)(x + i * next_x + j + v * LANES); \
        UNROLL for (int v = 0; v < count; v++) NAME(store)(sums + j + v * LANES, sum[v]); \
    }
static inline void NAME(column_sums)(ptrdiff_t r, ptrdiff_t n, const REAL *x, ptrdiff_t next_x, REAL *sums) {
    ptrdiff_t j = 0;
    SUM_COLUMNS(8) /* side by side, for each addition waits for the one before */
    SUM_COLUMNS(4)
    SUM_COLUMNS(1)
    if (j == n) return;
    NAME(vector) sum = NAME(load_first)(x + j, n - j);
    for (ptrdiff_t i = 1; i < r; i++) sum += NAME(load_first)(x + i * next_x + j, n - j);
    NAME(store_first)(sums + j, sum, n - j);
}
#undef SUM_COLUMNS
