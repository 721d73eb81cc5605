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
 * Where every filter reads one channel, vectors of the image take the place of the broadcast numbers.
 *
 * Every element of a result is the sum of its terms in an order that depends on the shapes alone, not on other samples.
 */

#ifndef REAL /* the file includes itself, once for each element type */

#include "conv.h"
#include "tiles.h"
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")

/* Terms of a sum that are added up in one go: that many rows of a panel of b stay in the first-level cache. */
/* A tile has a register for each row it reads: more rows than these would be fetched from the stack. */
#define WINDOW_ROWS(vectors) ((vectors) == 1 ? 10 : TILE_ROWS(vectors))
#define WINDOW_TERMS (20480 / (MOST_VECTORS * VECTOR_BYTES))

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

#else

#define LANES ((ptrdiff_t) (VECTOR_BYTES / sizeof(REAL)))

/* A factor of a product: its first number, and where rows begin and terms lie. */
typedef struct {
    const REAL *first;
    const ptrdiff_t *row, *term;
} NAME(table);

/* Up to `height` rows of vectors of c, of the last of which the first `last` lanes count: SET them, beginning at `start`,
 * CONTINUE, or ADD to them, where all of c may be written. */
INLINE void NAME(conv_tile)(ptrdiff_t rows, const int height, const int vectors, ptrdiff_t last, const int each,
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
            if (each) {
                UNROLL for (int j = 0; j < MOST_VECTORS; j++)
                    if (j < vectors) sum[i][j] += NAME(load)(pa[i] + term + j * LANES) * v[j];
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
            if (mode == ADD)
                NAME(store)(p, NAME(load)(p) + (j + 1 < vectors ? sum[i][j] : (NAME(vector)) ((NAME(whole)) sum[i][j] & NAME(mask_first)(last))));
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
        next = m * (t + 1) / tiles; \
        NAME(conv_tile)(next - i, height, count, last, each, (NAME(table)) {a.first, a.row + i, a.term}, depth, b, mode, \
                        start, c, row + i); \
    }
#define CONV_HEIGHTS(count) \
    case count: \
        switch ((high * 4 + WINDOW_ROWS(count) - 1) / WINDOW_ROWS(count)) { \
            case 1: CONV_TILES((WINDOW_ROWS(count) + 3) / 4, count) break; \
            case 2: CONV_TILES((WINDOW_ROWS(count) + 1) / 2, count) break; \
            case 3: CONV_TILES((WINDOW_ROWS(count) * 3 + 3) / 4, count) break; \
            case 4: CONV_TILES(WINDOW_ROWS(count), count) break; \
        } \
        break;
INLINE void NAME(conv_panel)(ptrdiff_t m, int vectors, ptrdiff_t last, const int each, NAME(table) a, ptrdiff_t depth,
                             const REAL *b, int mode, const REAL *start, REAL *c, const ptrdiff_t *row) {
    const ptrdiff_t most = WINDOW_ROWS(vectors), tiles = (m + most - 1) / most, high = tiles ? (m + tiles - 1) / tiles : 0;
    switch (vectors) {
        CONV_HEIGHTS(1)
        CONV_HEIGHTS(2)
#if MOST_VECTORS == 3
        CONV_HEIGHTS(3)
#endif
    }
}
#undef CONV_HEIGHTS
#undef CONV_TILES

static __attribute__((noinline)) void NAME(broadcast_panel)(ptrdiff_t m, int vectors, ptrdiff_t last, NAME(table) a,
                                                            ptrdiff_t depth, const REAL *b, int mode, const REAL *start,
                                                            REAL *c, const ptrdiff_t *row) {
    NAME(conv_panel)(m, vectors, last, 0, a, depth, b, mode, start, c, row);
}

static __attribute__((noinline)) void NAME(each_panel)(ptrdiff_t m, int vectors, ptrdiff_t last, NAME(table) a,
                                                       ptrdiff_t depth, const REAL *b, int mode, const REAL *start,
                                                       REAL *c, const ptrdiff_t *row) {
    NAME(conv_panel)(m, vectors, last, 1, a, depth, b, mode, start, c, row);
}

/* c (m, n) = a (m, depth) b (depth, n): in parts of a sum that are of even length; columns of b are in panels. */
static void NAME(conv_product)(ptrdiff_t m, ptrdiff_t n, const int each, NAME(table) a, ptrdiff_t depth, const REAL *b,
                               int mode, const REAL *start, REAL *c, const ptrdiff_t *row) {
    const ptrdiff_t parts = (depth + WINDOW_TERMS - 1) / WINDOW_TERMS;
    ptrdiff_t width;
    for (ptrdiff_t j = 0; j < n; j += width, b += depth * width) {
        const int vectors = next_vectors((n - j + LANES - 1) / LANES);
        width = vectors * LANES;
        const ptrdiff_t last = n - j < width ? n - j - (width - LANES) : LANES;
        for (ptrdiff_t p = 0; p < parts; p++) {
            const ptrdiff_t q = depth * p / parts, count = depth * (p + 1) / parts - q;
            const NAME(table) part = {a.first + (each ? j : 0), a.row, a.term + q};
            (each ? NAME(each_panel) : NAME(broadcast_panel))(m, vectors, last, part, count, b + q * width,
                                                              p && mode == SET ? CONTINUE : mode, start ? start + j : NULL,
                                                              c + j, row);
        }
    }
}

/* n images into their frames. */
static void NAME(frame_images)(const frame *f, ptrdiff_t n, const REAL *x, REAL *framed) {
    const ptrdiff_t pixel = f->copies * f->c, line = f->columns * pixel;
    memset(framed, 0, n * frame_size(f) * sizeof(REAL));
    for (; n > 0; n--, framed += frame_size(f))
        for (ptrdiff_t i = 0; i < f->h; i++) {
            REAL *y = framed + (f->top + i * f->step_y) * line + f->left * pixel;
            if (f->copies == 1 && f->step_x == 1) {
                memcpy(y, x, f->w * f->c * sizeof(REAL));
                x += f->w * f->c;
                continue;
            }
            for (ptrdiff_t j = 0; j < f->w; j++, y += f->step_x * pixel)
                for (ptrdiff_t c = 0; c < f->c; c++, x++)
                    for (ptrdiff_t k = 0; k < f->copies; k++) y[c * f->copies + k] = *x;
        }
}

/* n images out of their frames, copies added up. */
static void NAME(images_of_frames)(const frame *f, ptrdiff_t n, const REAL *framed, REAL *x) {
    const ptrdiff_t pixel = f->copies * f->c, line = f->columns * pixel;
    for (; n > 0; n--, framed += frame_size(f))
        for (ptrdiff_t i = 0; i < f->h; i++) {
            const REAL *y = framed + (f->top + i) * line + f->left * pixel;
            if (f->copies == 1) {
                memcpy(x, y, f->w * f->c * sizeof(REAL));
                x += f->w * f->c;
                continue;
            }
            for (ptrdiff_t j = 0; j < f->w * f->c; j++, y += f->copies) {
                REAL sum = y[0];
                for (ptrdiff_t k = 1; k < f->copies; k++) sum += y[k];
                *x++ = sum;
            }
        }
}

/* Weights (o, inputs, kh, kw) as rows of panels: a tap of a window, beside the filters.  `turned`: the last tap first. */
static void NAME(pack_filters)(const conv *s, const REAL *w, int turned, REAL *panel) {
    const ptrdiff_t pixels = s->kh * s->kw;
    for (ptrdiff_t g = 0; g < s->products; g++) {
        ptrdiff_t width;
        for (ptrdiff_t j = 0; j < s->outputs; j += width, panel += s->taps * width) {
            width = next_vectors((s->outputs - j + LANES - 1) / LANES) * LANES;
            const ptrdiff_t filters = s->outputs - j < width ? s->outputs - j : width;
            if (filters < width) memset(panel, 0, s->taps * width * sizeof(REAL));
            for (ptrdiff_t f = 0; f < filters; f++)
                for (ptrdiff_t c = 0; c < s->inputs; c++)
                    for (ptrdiff_t t = 0; t < pixels; t++)
                        panel[((turned ? pixels - 1 - t : t) * s->inputs + c) * width + f] = *w++;
        }
    }
}

/* Weights as rows of panels: a filter, beside the numbers of a run; panels of one run after the other. */
static void NAME(pack_runs)(const conv *s, const REAL *w, REAL *panel) {
    const ptrdiff_t pixels = s->kh * s->kw, in_run = pixels / s->runs;
    for (ptrdiff_t g = 0; g < s->products; g++, w += s->outputs * s->inputs * pixels)
        for (ptrdiff_t u = 0; u < s->runs; u++) {
            ptrdiff_t width;
            for (ptrdiff_t j = 0; j < s->run; j += width) {
                width = next_vectors((s->run - j + LANES - 1) / LANES) * LANES;
                for (ptrdiff_t f = 0; f < s->outputs; f++, panel += width) {
                    const REAL *of_filter = w + f * s->inputs * pixels + u * in_run;
                    for (ptrdiff_t e = 0; e < width; e++)
                        panel[e] = j + e < s->run ? of_filter[(j + e) % s->inputs * pixels + (j + e) / s->inputs] : 0;
                }
            }
        }
}

/* What a pass needs beside x: panels of the weights, and the bias in whole vectors. */
static inline void NAME(conv_begin_forward)(const conv *s, const REAL *w, const REAL *bias) {
    REAL *padded = s->bias;
    const ptrdiff_t filled = NAME(filled)(s->outputs);
    NAME(pack_filters)(s, w, 0, s->panels);
    memset(padded, 0, s->products * filled * sizeof(REAL));
    if (bias)
        for (ptrdiff_t g = 0; g < s->products; g++)
            memcpy(padded + g * filled, bias + g * s->outputs, s->outputs * sizeof(REAL));
}

/* z of n samples, n <= together. */
static inline void NAME(conv_z)(const conv *s, ptrdiff_t n, const REAL *x, REAL *z) {
    const ptrdiff_t filled = NAME(filled)(s->outputs);
    if (s->copied) NAME(frame_images)(&s->x, n, x, s->x_frame), x = s->x_frame;
    for (ptrdiff_t g = 0; g < s->products; g++)
        NAME(conv_product)(n * s->positions, s->outputs, s->depthwise, (NAME(table)) {x + g * s->inputs, s->window, s->tap},
                           s->taps, (const REAL *) s->panels + g * s->taps * filled, SET, (const REAL *) s->bias + g * filled,
                           z + g * s->outputs, s->position);
}

static inline void NAME(conv_begin_backward)(const conv *s, const REAL *w, int with_dx) {
    memset(s->sums, 0, s->products * s->taps * NAME(filled)(s->outputs) * sizeof(REAL));
    if (!with_dx) return;
    if (s->depthwise)
        NAME(pack_filters)(s, w, 1, s->panels);
    else
        NAME(pack_runs)(s, w, s->panels);
}

/* Adds what n samples give to the sums of dw. */
static inline void NAME(conv_add_dw)(const conv *s, ptrdiff_t n, const REAL *x, const REAL *dz) {
    _Alignas(64) REAL columns[TERMS * MOST_VECTORS * LANES];
    const ptrdiff_t filled = NAME(filled)(s->outputs), positions = n * s->positions;
    if (s->copied) NAME(frame_images)(&s->x, n, x, s->x_frame), x = s->x_frame;
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
                (s->depthwise ? NAME(each_panel) : NAME(broadcast_panel))(
                    s->taps, vectors, LANES, a, terms, columns, ADD, NULL,
                    (REAL *) s->sums + g * s->taps * filled + j, s->sum);
            }
        }
}

/* dw (o, inputs, kh, kw) of the sums, or dw += ... */
static inline void NAME(conv_end_dw)(const conv *s, int accumulate, REAL *dw) {
    const ptrdiff_t pixels = s->kh * s->kw, filled = NAME(filled)(s->outputs);
    for (ptrdiff_t f = 0; f < s->o; f++) {
        const REAL *sums = (const REAL *) s->sums + f / s->outputs * s->taps * filled + f % s->outputs;
        for (ptrdiff_t c = 0; c < s->inputs; c++)
            for (ptrdiff_t t = 0; t < pixels; t++, dw++) {
                const REAL sum = sums[(t * s->inputs + c) * filled];
                *dw = accumulate ? *dw + sum : sum;
            }
    }
}

/* dx of n samples, n <= together. */
static inline void NAME(conv_dx)(const conv *s, ptrdiff_t n, const REAL *dz, REAL *dx) {
    REAL *framed = s->dx_frame;
    const REAL *panels = s->panels;
    const ptrdiff_t size = s->outputs * NAME(filled)(s->run); /* of the panels of a run */
    if (s->depthwise) {
        NAME(frame_images)(&s->dz, n, dz, s->dz_frame);
        const int direct = s->dx.copies == 1;
        NAME(conv_product)(n * s->h * s->w, s->o, 1, (NAME(table)) {s->dz_frame, s->dz_row, s->dz_term}, s->taps, panels, SET,
                           NULL, direct ? dx : framed, s->dx_row);
        if (!direct) NAME(images_of_frames)(&s->dx, n, framed, dx);
        return;
    }
    memset(framed, 0, n * frame_size(&s->dx) * sizeof(REAL));
    for (ptrdiff_t g = 0; g < s->products; g++)
        for (ptrdiff_t u = 0; u < s->runs; u++, panels += size)
            NAME(conv_product)(n * s->positions, s->run, 0, (NAME(table)) {dz + g * s->outputs, s->dz_row, s->dz_term},
                               s->outputs, panels, ADD, NULL, framed + g * s->inputs + s->run_begin[u], s->dx_row);
    NAME(images_of_frames)(&s->dx, n, framed, dx);
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
#undef LANES
#endif
