/* The three products of a convolution, without writing out the matrix of its windows.
 *
 * All of them are made of one tile, as those of a dense layer are (tiles.h): a sum of outer products of a column of a, its
 * numbers broadcast one by one, by a row of b, whole vectors.  Here tables say where rows of a and c begin, and where the
 * terms of a row of a lie (conv.h); b is packed, always.
 *
 *            rows              terms                          columns
 *   z        positions         numbers of the window          filters
 *   dw       numbers of a window   positions                  filters
 *   dx       positions         filters                        numbers of a contiguous part of the window, added to dx
 *
 * dx is thus scattered: every window takes up what its position gives it, with any stride and dilation, and without the
 * multiplications by zeros that a sum over the positions around a pixel has at the border.
 *
 * Where every filter reads one channel, vectors of the image take the place of the broadcast numbers.  Pairs of bfloat16
 * numbers are broadcast as numbers are, and lie in vectors as they do (conv_pairs.h).
 *
 * Every element of a result is the sum of its terms in an order that depends on the shapes alone, not on other samples.
 */

#ifndef REAL /* the file includes itself, once for each element type */

#include "tiles.h"
#include "conv.h"
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")

/* A tile has a register for each row it reads: more rows than these would be fetched from the stack. */
#define WINDOW_ROWS(vectors) ((vectors) == 1 ? 10 : TILE_ROWS(vectors))
/* Terms of a sum that are added up in one go: that many rows of a panel of b stay in the first-level cache. */
#define WINDOW_TERMS (20480 / (MOST_VECTORS * VECTOR_BYTES))

/* What a row of b is multiplied by: a number, a vector, or a pair. */
enum { BROADCAST, EACH, PAIRS };

/* Keeps a vector from being loaded once for each of its uses. */
#if defined(__x86_64__)
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#else
#define IN_REGISTER(v) (void) (v)
#endif

/* The cases of 1, 2 or 3 vectors, and tiles high enough for `high` rows. */
#define EACH_QUARTER(TILES, count) \
    case count: \
        switch ((high * 4 + WINDOW_ROWS(count) - 1) / WINDOW_ROWS(count)) { \
            case 1: TILES((WINDOW_ROWS(count) + 3) / 4, count) break; \
            case 2: TILES((WINDOW_ROWS(count) + 1) / 2, count) break; \
            case 3: TILES((WINDOW_ROWS(count) * 3 + 3) / 4, count) break; \
            case 4: TILES(WINDOW_ROWS(count), count) break; \
        } \
        break;
#if MOST_VECTORS == 3
#define EACH_HEIGHT(TILES) EACH_QUARTER(TILES, 1) EACH_QUARTER(TILES, 2) EACH_QUARTER(TILES, 3)
#else
#define EACH_HEIGHT(TILES) EACH_QUARTER(TILES, 1) EACH_QUARTER(TILES, 2)
#endif

#define REAL float
#define INTEGER int32_t
#define NAME(f) f##_float
#include "conv_tiles.h"
#undef REAL
#undef INTEGER
#undef NAME
#define REAL double
#define INTEGER int64_t
#define NAME(f) f##_double
#include "conv_tiles.h"
#undef REAL
#undef INTEGER
#undef NAME
#pragma GCC pop_options

#if defined(__AVX512BF16__)
#include "conv_pairs.h"
#endif

#else

#define LANES ((ptrdiff_t) (VECTOR_BYTES / sizeof(REAL)))
#define CHUNK ((ptrdiff_t) (16 / sizeof(REAL)))

/* A factor of a product: its first number, and where rows begin and terms lie. */
typedef struct {
    const REAL *first;
    const ptrdiff_t *row, *term;
} NAME(table);

/* sum + the products of pairs in v by the two numbers of a pair. */
INLINE NAME(vector) NAME(add_pairs)(NAME(vector) sum, NAME(vector) v, REAL pair) {
#if defined(__AVX512BF16__)
    return (NAME(vector)) _mm512_dpbf16_ps((__m512) sum, (__m512bh) v, (__m512bh) _mm512_set1_ps(pair));
#else
    return sum;
#endif
}

/* Up to `height` rows of vectors of c, of the last of which the first `last` lanes count: SET them, beginning at `start`,
 * CONTINUE, or ADD to them, where all of c may be written. */
INLINE void NAME(conv_tile)(ptrdiff_t rows, const int height, const int vectors, ptrdiff_t last, const int kind,
                            NAME(table) a, ptrdiff_t depth, const REAL *b, int mode, const REAL *start, REAL *c,
                            const ptrdiff_t *row) {
    NAME(vector) sum[MOST_TILE_ROWS][MOST_VECTORS] = {{{0}}};
    const REAL *pa[MOST_TILE_ROWS];
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) if (i < height) pa[i] = a.first + a.row[i < rows ? i : rows - 1];
    if (mode == SET && start)
        UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
            if (i >= height) break;
            UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) sum[i][j] = NAME(load)(start + j * LANES);
        }
    if (mode == CONTINUE)
        UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
            if (i >= height || i >= rows) break;
            UNROLL for (int j = 0; j < MOST_VECTORS; j++)
                if (j < vectors)
                    sum[i][j] = j + 1 < vectors || last == LANES ? NAME(load)(c + row[i] + j * LANES)
                                                                 : NAME(load_first)(c + row[i] + j * LANES, last);
        }
    for (ptrdiff_t q = 0; q < depth; q++, b += vectors * LANES) {
        const ptrdiff_t term = a.term[q];
        NAME(vector) v[MOST_VECTORS];
        UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) v[j] = NAME(load)(b + j * LANES);
        UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
            if (i >= height) break;
            if (kind == EACH) {
                UNROLL for (int j = 0; j < MOST_VECTORS; j++)
                    if (j < vectors) sum[i][j] += NAME(load)(pa[i] + term + j * LANES) * v[j];
            } else if (kind == PAIRS) {
                UNROLL for (int j = 0; j < MOST_VECTORS; j++)
                    if (j < vectors) sum[i][j] = NAME(add_pairs)(sum[i][j], v[j], pa[i][term]);
            } else {
                const REAL factor = pa[i][term];
                UNROLL for (int j = 0; j < MOST_VECTORS; j++) if (j < vectors) sum[i][j] += factor * v[j];
            }
        }
    }
    UNROLL for (int i = 0; i < MOST_TILE_ROWS; i++) {
        if (i >= height || i >= rows) break;
        UNROLL for (int j = 0; j < MOST_VECTORS; j++) {
            if (j >= vectors) break;
            REAL *p = c + row[i] + j * LANES;
            if (mode == ADD && j + 1 == vectors) /* zeros to what does not count */
                sum[i][j] = (NAME(vector)) ((NAME(whole)) sum[i][j] & NAME(mask_first)(last));
            if (mode == ADD)
                NAME(store)(p, NAME(load)(p) + sum[i][j]);
            else if (j + 1 < vectors || last == LANES)
                NAME(store)(p, sum[i][j]);
            else
                NAME(store_first)(p, sum[i][j], last);
        }
    }
}

/* All m rows beside some vectors of columns, in tiles of even height. */
#define CONV_TILES(height, count) \
    for (ptrdiff_t t = 0, i = 0, next; t < tiles; t++, i = next) { \
        next = i + m / tiles + (t < m % tiles); \
        NAME(conv_tile)(next - i, height, count, last, kind, (NAME(table)) {a.first, a.row + i, a.term}, depth, b, mode, \
                        start, c, row + i); \
    }
INLINE void NAME(conv_panel)(ptrdiff_t m, int vectors, ptrdiff_t last, const int kind, NAME(table) a, ptrdiff_t depth,
                             const REAL *b, int mode, const REAL *start, REAL *c, const ptrdiff_t *row) {
    const ptrdiff_t most = WINDOW_ROWS(vectors), tiles = (m + most - 1) / most, high = tiles ? (m + tiles - 1) / tiles : 0;
    switch (vectors) { EACH_HEIGHT(CONV_TILES) }
}
#undef CONV_TILES

#define CONV_PANEL(name, kind) \
    static __attribute__((noinline)) void NAME(name)(ptrdiff_t m, int vectors, ptrdiff_t last, NAME(table) a, \
                                                     ptrdiff_t depth, const REAL *b, int mode, const REAL *start, REAL *c, \
                                                     const ptrdiff_t *row) { \
        NAME(conv_panel)(m, vectors, last, kind, a, depth, b, mode, start, c, row); \
    }
CONV_PANEL(broadcast_panel, BROADCAST)
CONV_PANEL(each_panel, EACH)
#if defined(__AVX512BF16__)
CONV_PANEL(pairs_panel, PAIRS)
#endif
#undef CONV_PANEL

INLINE void NAME(panel_of_kind)(const int kind, ptrdiff_t m, int vectors, ptrdiff_t last, NAME(table) a, ptrdiff_t depth,
                                const REAL *b, int mode, const REAL *start, REAL *c, const ptrdiff_t *row) {
#if defined(__AVX512BF16__)
    if (kind == PAIRS) {
        NAME(pairs_panel)(m, vectors, last, a, depth, b, mode, start, c, row);
        return;
    }
#endif
    (kind == EACH ? NAME(each_panel) : NAME(broadcast_panel))(m, vectors, last, a, depth, b, mode, start, c, row);
}

/* c (m, n) = a (m, depth) b (depth, n): in parts of a sum that are of even length; columns of b are in panels. */
static void NAME(conv_product)(ptrdiff_t m, ptrdiff_t n, const int kind, NAME(table) a, ptrdiff_t depth, const REAL *b,
                               int mode, const REAL *start, REAL *c, const ptrdiff_t *row) {
    const ptrdiff_t parts = (depth + WINDOW_TERMS - 1) / WINDOW_TERMS;
    ptrdiff_t width;
    for (ptrdiff_t j = 0; j < n; j += width, b += depth * width) {
        const int vectors = next_vectors((n - j + LANES - 1) / LANES);
        width = vectors * LANES;
        const ptrdiff_t last = n - j < width ? n - j - (width - LANES) : LANES;
        for (ptrdiff_t p = 0; p < parts; p++) {
            const ptrdiff_t q = depth * p / parts, count = depth * (p + 1) / parts - q;
            const NAME(table) part = {a.first + (kind == EACH ? j : 0), a.row, a.term + q};
            NAME(panel_of_kind)(kind, m, vectors, last, part, count, b + q * width, p && mode == SET ? CONTINUE : mode,
                                start ? start + j : NULL, c + j, row);
        }
    }
}

#include "conv_packing.h"
#include "conv_planes.h"

/* What a pass needs beside x: panels of the weights, and the bias in whole vectors. */
static inline void NAME(conv_begin_forward)(const conv *s, const REAL *w, const REAL *bias) {
    REAL *padded = s->bias;
    const ptrdiff_t filled = NAME(filled)(s->outputs);
    if (s->planes) /* they are read as they lie */
        memcpy(s->panels, w, s->o * s->taps * sizeof(REAL));
    else
        NAME(pack_filters)(s, w, 0, s->panels);
    memset(padded, 0, s->products * filled * sizeof(REAL));
    if (bias)
        for (ptrdiff_t g = 0; g < s->products; g++)
            memcpy(padded + g * filled, bias + g * s->outputs, s->outputs * sizeof(REAL));
}

/* n samples as the products read them. */
INLINE const REAL *NAME(framed)(const conv *s, ptrdiff_t n, const REAL *x) {
    if (!s->copied) return x;
    if (s->planes)
        NAME(images_in_planes)(&s->x, n, x, s->x_frame);
    else
        NAME(frame_images)(&s->x, n, x, s->x_frame);
    return s->x_frame;
}

/* What the products are of. */
INLINE int NAME(kind_of)(const conv *s) { return s->depthwise ? EACH : s->pairs ? PAIRS : BROADCAST; }

/* z of n samples in their frames. */
static inline void NAME(windows_z)(const conv *s, ptrdiff_t n, const REAL *x, REAL *z) {
    const ptrdiff_t filled = NAME(filled)(s->outputs), terms = s->kh * s->kw * s->channels;
    const REAL *panels = s->panels, *bias = s->bias;
    for (ptrdiff_t g = 0; g < s->products; g++, panels += terms * filled, bias += filled)
        NAME(conv_product)(n * s->positions, s->outputs, NAME(kind_of)(s),
                           (NAME(table)) {x + g * s->channels, s->window, s->tap}, terms, panels, SET, bias,
                           z + g * s->outputs, s->position);
}

/* z of n samples, n <= together. */
static inline void NAME(conv_z)(const conv *s, ptrdiff_t n, const REAL *x, REAL *z) {
    x = NAME(framed)(s, n, x);
    (s->planes ? NAME(planes_z) : NAME(windows_z))(s, n, x, z);
}

/* What dx needs: panels of the weights. */
static inline void NAME(conv_begin_dx)(const conv *s, const REAL *w) {
    if (s->depthwise)
        NAME(pack_filters)(s, w, 1, s->panels);
    else
        NAME(pack_runs)(s, w, s->panels);
}

/* Adds what n samples in their frames, or pairs of samples, give to the sums of dw. */
static inline void NAME(windows_add_dw)(const conv *s, ptrdiff_t n, const REAL *x, const REAL *dz) {
    _Alignas(64) REAL columns[TERMS * MOST_VECTORS * LANES];
    const ptrdiff_t filled = NAME(filled)(s->outputs), positions = n * s->positions;
    for (ptrdiff_t q = 0; q < positions; q += TERMS)
        for (ptrdiff_t g = 0; g < s->products; g++) {
            const ptrdiff_t terms = positions - q < TERMS ? positions - q : TERMS;
            ptrdiff_t width;
            for (ptrdiff_t j = 0; j < s->outputs; j += width) {
                const int vectors = next_vectors((s->outputs - j + LANES - 1) / LANES);
                width = vectors * LANES;
                const ptrdiff_t last = s->outputs - j < width ? s->outputs - j - (width - LANES) : LANES;
                NAME(copy_columns)(terms, vectors, last, dz + q * s->o + g * s->outputs + j, s->o, columns);
                const NAME(table) a = {x + g * s->inputs + (s->depthwise ? j : 0), s->tap, s->window + q};
                NAME(panel_of_kind)(NAME(kind_of)(s), s->taps, vectors, LANES, a, terms, columns, ADD, NULL,
                                    (REAL *) s->sums + g * s->taps * filled + j, s->sum);
            }
        }
}

/* Adds what n samples give to the sums of dw, n <= together. */
static inline void NAME(conv_add_dw)(const conv *s, ptrdiff_t n, const REAL *x, const REAL *dz) {
    x = NAME(framed)(s, n, x);
    (s->planes ? NAME(planes_add_dw) : NAME(windows_add_dw))(s, n, x, dz);
}

/* dw (o, inputs, kh, kw) of the sums since conv_begin_dw, or dw += ... */
static inline void NAME(conv_end_dw)(const conv *s, int accumulate, REAL *dw) {
    const ptrdiff_t filled = NAME(filled)(s->outputs), each = s->outputs * s->taps;
    const REAL *sums = s->sums;
    if (s->planes)
        NAME(planes_end_dw)(each, sums, accumulate, dw);
    else
        for (ptrdiff_t g = 0; g < s->products; g++, sums += s->taps * filled, dw += each)
            NAME(transpose)(s->taps, s->outputs, sums, filled, accumulate, dw, s->taps);
}

/* dx of n samples of a depthwise convolution. */
static inline void NAME(depthwise_dx)(const conv *s, ptrdiff_t n, const REAL *dz, REAL *dx) {
    NAME(frame_images)(&s->dz, n, dz, s->dz_frame);
    const int direct = s->dx.copies == 1;
    const NAME(table) a = {s->dz_frame, s->dz_row, s->dz_term};
    NAME(conv_product)(n * s->h * s->w, s->o, EACH, a, s->taps, s->panels, SET, NULL, direct ? dx : s->dx_frame, s->dx_row);
    if (!direct) NAME(images_of_frames)(&s->dx, n, s->dx_frame, dx);
}

/* dx of n samples, scattered from where their windows lie. */
static inline void NAME(windows_dx)(const conv *s, ptrdiff_t n, const REAL *dz, REAL *dx) {
    REAL *framed = s->dx_frame;
    const REAL *panels = s->panels;
    const ptrdiff_t size = s->filters * NAME(filled)(s->run); /* of the panels of a run */
    memset(framed, 0, n * frame_size(&s->dx) * sizeof(REAL));
    for (ptrdiff_t g = 0; g < s->products; g++)
        for (ptrdiff_t u = 0; u < s->runs; u++, panels += size)
            NAME(conv_product)(n * s->positions, s->run, NAME(kind_of)(s),
                               (NAME(table)) {dz + g * s->filters, s->dz_row, s->dz_term}, s->filters, panels, ADD, NULL,
                               framed + g * s->inputs + s->run_begin[u], s->dx_row);
    NAME(images_of_frames)(&s->dx, n, framed, dx);
}

/* dx of n samples, n <= together. */
static inline void NAME(conv_dx)(const conv *s, ptrdiff_t n, const REAL *dz, REAL *dx) {
    (s->depthwise ? NAME(depthwise_dx) : NAME(windows_dx))(s, n, dz, dx);
}

/* db (o) += the sum of the rows of dz (m, o): of several rows beside each other, where rows are narrow. */
static inline void NAME(conv_add_db)(const conv *s, ptrdiff_t m, const REAL *dz, REAL *db) {
    const ptrdiff_t beside = s->o < 4 * LANES ? SEGMENTS : 1, whole = m / beside;
    REAL *columns = s->columns;
    if (whole) NAME(column_sums)(whole, beside * s->o, dz, beside * s->o, columns);
    for (ptrdiff_t c = 0; c < s->o; c++) {
        REAL sum = 0;
        for (ptrdiff_t k = 0; whole && k < beside; k++) sum += columns[k * s->o + c];
        for (ptrdiff_t i = whole * beside; i < m; i++) sum += dz[i * s->o + c];
        db[c] += sum;
    }
}
#undef CHUNK
#undef LANES
#endif
