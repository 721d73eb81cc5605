/* Where the numbers of a convolution lie: tables of offsets that its products (conv_tiles.h) go by.
 *
 * Arrays are channels-last, so that the channels of a pixel, and the filters of an output position, lie side by side.  A
 * sum over a window of the image is then a sum over a list of offsets from where the window begins, the same list for
 * every position: products of matrices are computed without writing out the matrix of all windows.
 *
 * Padding is made by copying: some samples at a time are laid into borders of zeros.
 *
 * In a build whose products of float32 are in bfloat16, pairs of numbers are what is multiplied, each in the place of a
 * float: neighbouring channels for z, the same number of two samples for dw, neighbouring filters for dx (conv_pairs.h).
 */

#ifndef ONOTRAIN_CONV
#define ONOTRAIN_CONV
#include <stddef.h>
#include <string.h>
#include "vectors.h"

/* Samples that are gone through together: what they read and write takes a share of the second-level cache, or, where
 * they are small, weights are used so often each time they are fetched. */
#define TOGETHER_BYTES (128 << 10)
#define TOGETHER_POSITIONS 384
/* The same of a first-level cache. */
#define PLANES_BYTES (16 << 10)
/* Positions are gone through in an order in which so many neighbours lie far apart. */
#define SEGMENTS 16
/* Vectors behind an array that a tile may load in excess. */
#define EXCESS_BYTES (4 * VECTOR_BYTES)

/* Whether products of numbers of that size are of pairs. */
#if defined(__AVX512BF16__)
#define IN_PAIRS(itemsize) ((itemsize) == 4)
#else
#define IN_PAIRS(itemsize) 0
#endif

/* An image (h, w, c) in a border: its pixels are `step` apart in (rows, columns, copies * c), from `top` and `left` on. */
typedef struct {
    ptrdiff_t h, w, c, copies, rows, columns, top, left, step_y, step_x;
} frame;

typedef struct {
    /* Given; dw is made of so many rows at a time. */
    ptrdiff_t block_rows, r, h, w, c, o, groups, kh, kw, ho, wo, stride_y, stride_x, top, left, dilation_y, dilation_x;
    /* Every filter reads one channel: vectors go along the channels, each copied for its filters. */
    int depthwise;
    /* Products: so many of inputs and outputs of their own, over that many taps of an input each. */
    ptrdiff_t products, inputs, outputs, taps;
    /* Pairs are multiplied: a filter reads more than one channel. */
    int pairs;
    /* What a sum takes up of a product's inputs at a pixel, and of its outputs at a position: numbers or pairs. */
    ptrdiff_t channels, filters;
    ptrdiff_t positions, together;
    /* Few filters: vectors go along the lines of an image in planes, one for each channel, so many of them in an output. */
    int planes;
    ptrdiff_t vectors;
    frame x;        /* the image with its padding; */
    frame dz;       /* of depthwise convolutions, the gradient by the output as dx reads it; */
    frame dx;       /* and dx with its copies of channels. */
    int copied;     /* whether x is read in its frame, not where it lies */
    ptrdiff_t runs; /* parts of a window that are contiguous, */
    ptrdiff_t run;  /* and the numbers in each */
    /* Offsets in elements, for `together` samples: */
    ptrdiff_t *window;      /* of a position, where its window begins in the frame of x, */
    ptrdiff_t *position;    /* and where it lies in the output; */
    ptrdiff_t *tap;         /* of a number of a window, from its beginning, the channel running fastest (planes: not); */
    ptrdiff_t *sum;         /* of the same, its row of the sums that become dw, in the order of dw. */
    ptrdiff_t *dz_row, *dx_row; /* Of a product that makes dx: rows it reads, and rows it adds to or writes, */
    ptrdiff_t *dz_term;         /* and the terms of a sum; */
    ptrdiff_t *run_begin;       /* of a run, where it begins in a window. */
    /* Of a vector of positions: where its first window begins, where it lies in z, and how many positions it has. */
    ptrdiff_t *vector, *vector_position, *lanes;
    /* Numbers. */
    void *panels;       /* the weights, as the tiles of the forward pass read them, or of the backward pass */
    void *bias;         /* of each product, in whole vectors */
    void *x_frame, *dz_frame, *dx_frame, *dz_pairs;
    void *sums;         /* that become dw */
    void *columns;      /* sums of columns of dz */
} conv;

enum { CONV_FORWARD, CONV_BACKWARD };

static inline ptrdiff_t frame_size(const frame *f) { return f->rows * f->columns * f->copies * f->c; }

static inline ptrdiff_t at_least(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

/* Whole vectors of n numbers. */
static inline ptrdiff_t in_vectors(ptrdiff_t n, size_t itemsize) {
    const ptrdiff_t lanes = VECTOR_BYTES / itemsize;
    return (n + lanes - 1) / lanes * lanes;
}

/* What follows from what is given. */
static inline void conv_describe(conv *s, size_t itemsize) {
    const ptrdiff_t reach_y = (s->kh - 1) * s->dilation_y, reach_x = (s->kw - 1) * s->dilation_x;
    s->depthwise = s->groups == s->c && s->groups > 1;
    s->products = s->depthwise ? 1 : s->groups;
    s->inputs = s->depthwise ? 1 : s->c / s->groups;
    s->outputs = s->o / s->products;
    s->taps = s->kh * s->kw * s->inputs;
    s->pairs = IN_PAIRS(itemsize) && s->inputs > 1;
    s->channels = s->pairs ? (s->inputs + 1) / 2 : s->inputs;
    s->filters = s->pairs ? (s->outputs + 1) / 2 : s->outputs;
    s->positions = s->ho * s->wo;
    s->x = (frame) {
        s->h, s->w, s->c, s->depthwise ? s->o / s->c : 1, at_least(s->top + s->h, (s->ho - 1) * s->stride_y + reach_y + 1),
        at_least(s->left + s->w, (s->wo - 1) * s->stride_x + reach_x + 1), s->top, s->left, 1, 1,
    };
    /* The costs in multiply-adds: with filters along the vectors, every broadcast is used once if they fit into one. */
    const ptrdiff_t lanes = in_vectors(1, itemsize), by_filters = in_vectors(s->o, itemsize) * s->positions * s->taps;
    const ptrdiff_t by_positions = in_vectors(s->wo, itemsize) * s->ho * s->o * s->taps
                                 + TRANSPOSE_COST * (s->positions * s->o + (s->c > 1 ? s->h * s->w * s->c : 0));
    s->planes = s->groups == 1 && s->stride_x == 1 && !s->pairs && by_positions < (s->o <= lanes ? by_filters / 5 * 6 : by_filters);
    s->vectors = in_vectors(s->wo, itemsize) / lanes * s->ho;
    s->copied = s->depthwise || s->planes || s->pairs || s->x.rows > s->h || s->x.columns > s->w;
    const int whole = s->products == 1 && s->dilation_x == 1 && !s->depthwise;
    s->runs = whole ? s->kh : s->kh * s->kw;
    s->run = whole ? s->kw * s->inputs : s->inputs;
    /* dx of a depthwise convolution is one of dz, its positions a stride apart, with the kernel turned around. */
    const ptrdiff_t top = at_least(reach_y - s->top, 0), left = at_least(reach_x - s->left, 0);
    s->dz = (frame) {
        s->ho, s->wo, s->o, 1, at_least(s->h + s->top + top, (s->ho - 1) * s->stride_y + top + 1),
        at_least(s->w + s->left + left, (s->wo - 1) * s->stride_x + left + 1), top, left, s->stride_y, s->stride_x,
    };
    s->dx = s->depthwise ? (frame) {s->h, s->w, s->c, s->o / s->c, s->h, s->w, 0, 0, 1, 1} : s->x;
    const ptrdiff_t nbytes = (frame_size(&s->x) + 2 * s->positions * s->o) * itemsize;
    if (s->planes) /* they are gone through for every other tap */
        s->together = at_least(1, PLANES_BYTES / (s->o * s->vectors * VECTOR_BYTES));
    else
        s->together = at_least((TOGETHER_POSITIONS + s->positions - 1) / s->positions, TOGETHER_BYTES / nbytes);
    if (s->pairs) s->together += s->together % 2;
    if (s->together > s->r) s->together = at_least(s->r, 1);
    if (s->together > s->block_rows) s->together = s->block_rows;
}

/* Takes `bytes` from the memory from *end on, in whole cache lines; NULL only counts. */
static inline void *conv_take(char *memory, size_t *end, ptrdiff_t numbers, size_t itemsize) {
    void *taken = memory ? memory + *end : NULL;
    *end += (numbers * itemsize + 63) / 64 * 64;
    return taken;
}

/* Offsets of the pixels (i, j) of n images, so many numbers after another. */
static inline void conv_fill(ptrdiff_t *table, ptrdiff_t n, ptrdiff_t next, ptrdiff_t height, ptrdiff_t next_i,
                             ptrdiff_t width, ptrdiff_t next_j, ptrdiff_t channels) {
    for (ptrdiff_t s = 0; s < n; s++)
        for (ptrdiff_t i = 0; i < height; i++)
            for (ptrdiff_t j = 0; j < width; j++)
                for (ptrdiff_t c = 0; c < channels; c++) *table++ = s * next + i * next_i + j * next_j + c;
}

/* The tables of an image in planes. */
static inline void conv_fill_planes(conv *s, ptrdiff_t lanes) {
    const ptrdiff_t line = s->x.columns;
    ptrdiff_t n = 0;
    for (ptrdiff_t i = 0; i < s->together * s->ho; i++)
        for (ptrdiff_t j = 0; j < s->wo; j += lanes, n++) {
            s->vector[n] = i / s->ho * frame_size(&s->x) + i % s->ho * s->stride_y * line + j;
            s->vector_position[n] = (i * s->wo + j) * s->o;
            s->lanes[n] = s->wo - j < lanes ? s->wo - j : lanes;
        }
    conv_fill(s->tap, 1, 0, s->c, s->x.rows * line, s->kh, s->dilation_y * line, s->kw);
    for (ptrdiff_t n = 0; n < s->taps; n++) s->tap[n] += n % s->kw * (s->dilation_x - 1);
}

/* Rows and terms of the products that make dx. */
static inline void conv_fill_dx(conv *s) {
    const ptrdiff_t pixel = s->x.copies * s->x.c, line = s->x.columns * pixel;
    if (s->depthwise) {
        const ptrdiff_t pixels = s->together * s->h * s->w, step = s->dz.columns * s->o;
        const ptrdiff_t begin = (s->top + s->dz.top - (s->kh - 1) * s->dilation_y) * step
                              + (s->left + s->dz.left - (s->kw - 1) * s->dilation_x) * s->o;
        conv_fill(s->dz_row, s->together, frame_size(&s->dz), s->h, step, s->w, s->o, 1);
        for (ptrdiff_t n = 0; n < pixels; n++) s->dz_row[n] += begin;
        conv_fill(s->dx_row, pixels, s->o, 1, 0, 1, 0, 1);
        conv_fill(s->dz_term, 1, 0, s->kh, s->dilation_y * step, s->kw, s->dilation_x * s->o, 1);
        return;
    }
    /* Windows of neighbours overlap, and would wait for each other to be added to. */
    const ptrdiff_t each = (s->positions + SEGMENTS - 1) / SEGMENTS;
    ptrdiff_t n = 0;
    for (ptrdiff_t t = 0; t < s->together; t++)
        for (ptrdiff_t j = 0; j < each; j++)
            for (ptrdiff_t i = j; i < s->positions; i += each, n++) {
                s->dz_row[n] = (t * s->positions + i) * s->products * s->filters;
                s->dx_row[n] = s->window[t * s->positions + i];
            }
    conv_fill(s->dz_term, 1, 0, 1, 0, 1, 0, s->filters);
    conv_fill(s->run_begin, 1, 0, s->kh, s->dilation_y * line, s->runs / s->kh, s->dilation_x * pixel, 1);
}

/* Numbers that become dw: rows of taps beside whole vectors of filters, or, in planes, a vector for each. */
static inline ptrdiff_t conv_sums(const conv *s, size_t itemsize) {
    if (s->planes) return s->o * s->taps * in_vectors(1, itemsize);
    return s->products * s->taps * in_vectors(s->outputs, itemsize);
}

/* Takes memory for a pass (first without any, to learn how much), and fills the tables; returns the bytes. */
static inline size_t conv_prepare(conv *s, size_t itemsize, int pass, char *memory) {
    size_t end = 0;
    const size_t offset = sizeof(ptrdiff_t);
    const ptrdiff_t rows = s->together * s->positions, lanes = in_vectors(1, itemsize), excess = EXCESS_BYTES / itemsize;
    const ptrdiff_t filled = in_vectors(s->outputs, itemsize);
    const ptrdiff_t channels = pass == CONV_FORWARD ? s->channels : s->inputs;
    const ptrdiff_t pixel = s->depthwise ? s->x.copies * s->x.c : s->products * channels, line = s->x.columns * pixel;
    const ptrdiff_t image = s->x.rows * line;
    s->window = conv_take(memory, &end, rows, offset);
    s->position = conv_take(memory, &end, rows, offset);
    s->tap = conv_take(memory, &end, s->taps, offset);
    s->x_frame = s->copied ? conv_take(memory, &end, s->together * image + excess, itemsize) : NULL;
    if (memory) {
        conv_fill(s->window, s->together, image, s->ho, s->stride_y * line, s->wo, s->stride_x * pixel, 1);
        conv_fill(s->position, rows, s->o, 1, 0, 1, 0, 1);
        conv_fill(s->tap, 1, 0, s->kh, s->dilation_y * line, s->kw, s->dilation_x * pixel, channels);
    }
    if (s->planes) {
        const ptrdiff_t vectors = s->together * s->vectors;
        s->vector = conv_take(memory, &end, vectors, offset);
        s->vector_position = conv_take(memory, &end, vectors, offset);
        s->lanes = conv_take(memory, &end, vectors, offset);
        if (memory) conv_fill_planes(s, lanes);
    }
    if (pass == CONV_FORWARD) {
        s->panels = conv_take(memory, &end, s->products * s->taps * filled, itemsize);
        s->bias = conv_take(memory, &end, s->products * filled, itemsize);
        return end;
    }
    const ptrdiff_t dx_rows = s->depthwise ? s->together * s->h * s->w : rows;
    const ptrdiff_t in_runs = s->runs * s->outputs * in_vectors(s->run, itemsize), together = s->together;
    s->sum = conv_take(memory, &end, s->taps, offset);
    s->dz_row = conv_take(memory, &end, dx_rows, offset);
    s->dx_row = conv_take(memory, &end, dx_rows, offset);
    s->dz_term = conv_take(memory, &end, s->depthwise ? s->taps : s->filters, offset);
    s->run_begin = conv_take(memory, &end, s->runs, offset);
    s->panels = conv_take(memory, &end, s->depthwise ? s->taps * filled : s->products * in_runs, itemsize);
    s->dx_frame = conv_take(memory, &end, together * frame_size(&s->dx) + excess, itemsize);
    const ptrdiff_t dz_planes = s->planes ? (s->o * together * s->vectors + MOST_TILE_ROWS) * lanes : 0;
    s->dz_frame = conv_take(memory, &end, s->depthwise ? together * frame_size(&s->dz) + excess : dz_planes, itemsize);
    s->sums = conv_take(memory, &end, conv_sums(s, itemsize), itemsize);
    /* Of a sample's neighbouring filters, or of two samples. */
    const ptrdiff_t dz_pairs = at_least(rows * s->products * s->filters, (together + 1) / 2 * s->positions * s->o);
    s->dz_pairs = s->pairs ? conv_take(memory, &end, dz_pairs, itemsize) : NULL;
    s->columns = conv_take(memory, &end, SEGMENTS * s->o, itemsize);
    if (memory) {
        const ptrdiff_t pixels = s->kh * s->kw;
        for (ptrdiff_t t = 0; t < s->taps; t++) s->sum[t] = (t % s->inputs * pixels + t / s->inputs) * filled;
        conv_fill_dx(s);
    }
    return end;
}

static inline void conv_begin_dw(const conv *s, size_t itemsize) {
    memset(s->sums, 0, conv_sums(s, itemsize) * itemsize);
}
#endif
