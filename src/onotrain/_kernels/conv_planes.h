/* Convolutions with few filters: vectors go along the lines of the image.  A part of conv_tiles.h, which includes it once
 * for each element type.
 *
 * With the filters along the vectors, 6 of them leave a quarter of 8 lanes idle, and each broadcast number is used once.
 * Here the image is laid out in planes, one for each channel, in which neighbours along a line are neighbours in memory;
 * some filters share a vector of it.  What that costs is to transpose z, or dz.
 */

/* z of some vectors of positions, by up to `height` filters: z^T (filters, positions) = w (filters, taps) x. */
INLINE void NAME(plane_tile)(ptrdiff_t rows, const int height, const int vectors, ptrdiff_t depth, const REAL *w,
                             const REAL *bias, const REAL *x, const ptrdiff_t *begin, const ptrdiff_t *tap, REAL *c) {
    NAME(vector) sum[MOST_TILE_ROWS][MOST_VECTORS];
    const REAL *pw[MOST_TILE_ROWS], *px[MOST_VECTORS];
    UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) px[j] = x + begin[j];
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
        if (i >= height) break;
        const ptrdiff_t filter = i < rows ? i : rows - 1;
        pw[i] = w + filter * depth;
        UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) sum[i][j] = bias[filter] + (NAME(vector)) {0};
    }
    for (ptrdiff_t q = 0; q < depth; q++) {
        NAME(vector) v[MOST_VECTORS];
        UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) v[j] = NAME(load)(px[j] + tap[q]);
        UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
            if (i >= height) break;
            const REAL factor = pw[i][q];
            UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) sum[i][j] += factor * v[j];
        }
    }
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
        if (i >= height) break;
        UNROLL for (int j = 0; j < MOST_VECTORS; j++)
            if (j < vectors) NAME(store)(c + (i * vectors + j) * LANES, sum[i][j]);
    }
}

/* Adds to the vectors of sums that become dw (filters, taps), of up to `height` filters and some taps, what all vectors of
 * positions give; in dz those of all filters are side by side. */
INLINE void NAME(plane_dw_tile)(ptrdiff_t rows, const int height, const int taps, ptrdiff_t depth, const REAL *dz,
                                ptrdiff_t next_dz, const REAL *x, const ptrdiff_t *begin, const ptrdiff_t *tap, REAL *sums,
                                ptrdiff_t next_sums) {
    NAME(vector) sum[MOST_TILE_ROWS][MOST_VECTORS];
    const REAL *px[MOST_VECTORS];
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
        if (i >= height) break;
        UNROLL for (int j = 0; j < MOST_VECTORS; j++)
            if (j < taps) sum[i][j] = NAME(load)(sums + (i < rows ? i : rows - 1) * next_sums + j * LANES);
    }
    UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < taps) px[j] = x + tap[j];
    for (ptrdiff_t q = 0; q < depth; q++, dz += next_dz) {
        NAME(vector) v[MOST_VECTORS];
        UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < taps) v[j] = NAME(load)(px[j] + begin[q]);
        UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
            if (i >= height) break;
            NAME(vector) factor = NAME(load)(dz + i * LANES); /* beyond the last filter: of the next vector */
            IN_REGISTER(factor);
            UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < taps) sum[i][j] += factor * v[j];
        }
    }
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
        if (i >= height || i >= rows) break;
        UNROLL for (int j = 0; j < MOST_VECTORS; j++)
            if (j < taps) NAME(store)(sums + i * next_sums + j * LANES, sum[i][j]);
    }
}

/* dw (n) of n vectors of sums, or dw += ... */
static inline void NAME(planes_end_dw)(ptrdiff_t n, const REAL *sums, int accumulate, REAL *dw) {
    for (ptrdiff_t e = 0; e < n; e++, sums += LANES) {
        REAL lanes[LANES];
        NAME(store)(lanes, NAME(load)(sums));
        for (ptrdiff_t half = LANES / 2; half > 0; half /= 2)
            for (ptrdiff_t k = 0; k < half; k++) lanes[k] += lanes[k + half];
        dw[e] = accumulate ? dw[e] + lanes[0] : lanes[0];
    }
}

/* n images (h, w, c) into planes (c, rows, columns). */
static void NAME(images_in_planes)(const frame *f, ptrdiff_t n, const REAL *x, REAL *planes) {
    memset(planes, 0, n * frame_size(f) * sizeof(REAL) + EXCESS_BYTES);
    for (; n > 0; n--, planes += frame_size(f))
        for (ptrdiff_t i = 0; i < f->h; i++, x += f->w * f->c) {
            REAL *y = planes + (f->top + i) * f->columns + f->left;
            if (f->c == 1)
                memcpy(y, x, f->w * sizeof(REAL));
            else
                NAME(transpose)(f->w, f->c, x, f->c, 0, y, f->rows * f->columns);
        }
}

#if VECTOR_BYTES > 16
/* The same of `count` <= CHUNK filters. */
INLINE void NAME(turn_some)(const int count, ptrdiff_t positions, const REAL *block, ptrdiff_t next, REAL *z,
                            ptrdiff_t next_z) {
    BYTES v[CHUNK];
    UNROLL for (int i = 0; i < CHUNK; i++) v[i] = (BYTES) NAME(load)(block + (i < count ? i : 0) * next);
    NAME(transpose_chunks)(v);
    UNROLL for (int i = 0; i < CHUNK; i++) { /* of every CHUNK-th position, all filters */
        REAL chunks[LANES];
        NAME(store)(chunks, (NAME(vector)) v[i]);
        UNROLL for (int p = 0; p < LANES; p += CHUNK)
            if (p + i < positions) memcpy(z + (p + i) * next_z, chunks + p, count * sizeof(REAL));
    }
}
#endif

/* z (positions, filters) = block (filters, positions)^T, of up to LANES positions. */
static inline void NAME(turn_block)(ptrdiff_t filters, ptrdiff_t positions, const REAL *block, ptrdiff_t next, REAL *z,
                                    ptrdiff_t next_z) {
#if VECTOR_BYTES > 16
    for (; filters >= CHUNK; filters -= CHUNK, block += CHUNK * next, z += CHUNK)
        NAME(turn_some)(CHUNK, positions, block, next, z, next_z);
    if (filters == 1) NAME(turn_some)(1, positions, block, next, z, next_z);
    if (filters == 2) NAME(turn_some)(2, positions, block, next, z, next_z);
    if (filters == 3) NAME(turn_some)(3, positions, block, next, z, next_z);
#else
    NAME(transpose)(filters, positions, block, next, 0, z, next_z);
#endif
}

/* A line of dz (positions, filters) as vectors of positions, those of all filters side by side. */
static inline void NAME(turn_line)(ptrdiff_t positions, ptrdiff_t filters, const REAL *dz, REAL *turned) {
    ptrdiff_t p = 0;
#if VECTOR_BYTES > 16
    for (; filters >= CHUNK && p + LANES <= positions; p += LANES)
        for (ptrdiff_t f = 0; f < filters; f += CHUNK) {
            const ptrdiff_t first = f < filters - CHUNK ? f : filters - CHUNK;
            NAME(transpose_rows)(dz + p * filters + first, filters, 0, turned + (p * filters + first * LANES), LANES);
        }
#endif
    for (; p < positions; p += LANES)
        NAME(transpose)(positions - p < LANES ? positions - p : LANES, filters, dz + p * filters, filters, 0,
                        turned + p * filters, LANES);
}

/* z of n samples, n <= together. */
#define PLANE_TILES(height, count) \
    for (ptrdiff_t t = 0, f = 0, next; t < tiles; t++, f = next) { \
        next = f + each + (t < more); \
        NAME(plane_tile)(next - f, height, count, s->taps, w + f * s->taps, bias + f, x, s->vector + v, s->tap, block); \
        for (int j = 0; j < count; j++) \
            NAME(turn_block)(next - f, s->lanes[v + j], block + j * LANES, count * LANES, \
                             z + s->vector_position[v + j] + f, s->o); \
    }
static void NAME(planes_z)(const conv *s, ptrdiff_t n, const REAL *x, REAL *z) {
    _Alignas(64) REAL block[MOST_TILE_ROWS * MOST_VECTORS * LANES];
    const REAL *w = s->panels, *bias = s->bias;
    const ptrdiff_t all = n * s->vectors;
    ptrdiff_t tiles = 0, each = 0, more = 0, high = 0; /* tiles of filters, and filters in each */
    int vectors, before = 0;
    for (ptrdiff_t v = 0; v < all; v += vectors) {
        vectors = next_vectors(all - v);
        if (vectors != before) {
            const ptrdiff_t most = WINDOW_ROWS(vectors);
            tiles = (s->o + most - 1) / most, each = s->o / tiles, more = s->o % tiles, high = each + (more > 0);
            before = vectors;
        }
        switch (vectors) { EACH_HEIGHT(PLANE_TILES) }
    }
}
#undef PLANE_TILES

/* Adds what n samples give to the sums of dw, here a vector for each number of it. */
#define PLANE_DW_TILES(height, count) \
    for (ptrdiff_t t = 0, f = 0, next; t < tiles; t++, f = next) { \
        next = f + each + (t < more); \
        NAME(plane_dw_tile)(next - f, height, count, all, planes + f * LANES, s->o * LANES, x, s->vector, \
                            s->tap + q, sums + (f * s->taps + q) * LANES, s->taps * LANES); \
    }
static void NAME(planes_add_dw)(const conv *s, ptrdiff_t n, const REAL *x, const REAL *dz) {
    REAL *planes = s->dz_frame, *sums = s->sums;
    const ptrdiff_t all = n * s->vectors;
    /* Lanes behind the end of a line are 0: what they meet in x is another line. */
    if (s->wo % LANES) memset(planes, 0, s->o * all * LANES * sizeof(REAL));
    for (ptrdiff_t i = 0; i < n * s->ho; i++)
        NAME(turn_line)(s->wo, s->o, dz + i * s->wo * s->o, planes + i * NAME(filled)(s->wo) * s->o);
    ptrdiff_t tiles = 0, each = 0, more = 0, high = 0; /* tiles of filters, and filters in each */
    int vectors, before = 0;
    for (ptrdiff_t q = 0; q < s->taps; q += vectors) {
        vectors = next_vectors(s->taps - q);
        if (vectors != before) {
            const ptrdiff_t most = WINDOW_ROWS(vectors);
            tiles = (s->o + most - 1) / most, each = s->o / tiles, more = s->o % tiles, high = each + (more > 0);
            before = vectors;
        }
        switch (vectors) { EACH_HEIGHT(PLANE_DW_TILES) }
    }
}
#undef PLANE_DW_TILES
