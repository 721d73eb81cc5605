/* Convolutions of float32 with products in bfloat16, where a filter reads more than one channel.  A part of conv_tiles.h.
 *
 * Factors are rounded as those of a dense layer are (bf16_tiles.h), two of them in the place of a float.  A sum takes up two
 * terms at a time: for z of neighbouring channels, for dx of neighbouring filters, for dw of two samples, whose frames lie
 * inside each other.  The last term of an odd number has a zero beside it.  A filter of one channel would find no second
 * term: such products are of floats.
 *
 * Sums, and all that is no factor, stay float32.
 */

/* The n numbers of x as pairs of neighbours; each group begins with a pair of its own. */
static inline void pairs_along(ptrdiff_t n, ptrdiff_t group, const float *x, float *pairs) {
    const ptrdiff_t some = group % 2 ? group : n;
    for (; n > 0; n -= some, x += some, pairs += (some + 1) / 2)
        for (ptrdiff_t i = 0; i < some; i += 2 * BF16_LANES)
            _mm512_mask_storeu_epi32(pairs + i / 2, bf16_first((some - i + 1) / 2), bf16_pairs_along(x + i, some - i));
}

/* The n numbers of x as pairs with those of `below`, or with zeros. */
static inline void pairs_across(ptrdiff_t n, const float *x, const float *below, float *pairs) {
    for (ptrdiff_t i = 0; i < n; i += BF16_LANES)
        _mm512_mask_storeu_epi32(pairs + i, bf16_first(n - i),
                                 bf16_pairs_across(x + i, below ? below - x : 0, below != NULL, n - i));
}

/* The panels of some products, n columns beside groups of rows, with pairs of rows in the place of rows. */
static inline void pair_panels(ptrdiff_t products, ptrdiff_t n, ptrdiff_t groups, ptrdiff_t rows, float *panel) {
    const float *x = panel; /* never behind what is written */
    for (; products > 0; products--) {
        ptrdiff_t width;
        for (ptrdiff_t j = 0; j < n; j += width) {
            width = next_vectors((n - j + BF16_LANES - 1) / BF16_LANES) * BF16_LANES;
            for (ptrdiff_t g = 0; g < groups; g++, x += rows * width)
                for (ptrdiff_t i = 0; i < rows; i += 2, panel += width)
                    pairs_across(width, x + i * width, i + 1 < rows ? x + (i + 1) * width : NULL, panel);
        }
    }
}

/* n images into frames of pairs of channels. */
static inline const float *frames_of_channels(const conv *s, ptrdiff_t n, const float *x) {
    const frame *f = &s->x;
    const ptrdiff_t pixel = s->products * s->channels, line = f->columns * pixel;
    float *framed = s->x_frame;
    memset(framed, 0, n * f->rows * line * sizeof(float));
    for (; n > 0; n--, framed += f->rows * line)
        for (ptrdiff_t i = 0; i < f->h; i++, x += f->w * f->c)
            pairs_along(f->w * f->c, s->inputs, x, framed + (f->top + i) * line + f->left * pixel);
    return s->x_frame;
}

/* n images into frames of pairs of samples. */
static inline const float *frames_of_samples(const conv *s, ptrdiff_t n, const float *x) {
    const frame *f = &s->x;
    const ptrdiff_t line = f->columns * f->c, image = f->h * f->w * f->c;
    float *framed = s->x_frame;
    memset(framed, 0, (n + 1) / 2 * frame_size(f) * sizeof(float));
    for (; n > 0; n -= 2, framed += frame_size(f), x += 2 * image)
        for (ptrdiff_t i = 0; i < f->h; i++) {
            const float *from = x + i * f->w * f->c;
            pairs_across(f->w * f->c, from, n > 1 ? from + image : NULL, framed + (f->top + i) * line + f->left * f->c);
        }
    return s->x_frame;
}

static inline void conv_begin_forward_bf16(const conv *s, const float *w, const float *bias) {
    conv_begin_forward_float(s, w, bias);
    if (s->pairs) pair_panels(s->products, s->outputs, s->kh * s->kw, s->inputs, s->panels);
}

static inline void conv_z_bf16(const conv *s, ptrdiff_t n, const float *x, float *z) {
    if (s->pairs)
        windows_z_float(s, n, frames_of_channels(s, n, x), z);
    else
        conv_z_float(s, n, x, z);
}

static inline void conv_begin_dx_bf16(const conv *s, const float *w) {
    conv_begin_dx_float(s, w);
    if (s->pairs) pair_panels(s->products * s->runs, s->run, 1, s->outputs, s->panels);
}

static inline void conv_add_dw_bf16(const conv *s, ptrdiff_t n, const float *x, const float *dz) {
    const ptrdiff_t made = s->positions * s->o;
    if (!s->pairs) {
        conv_add_dw_float(s, n, x, dz);
        return;
    }
    for (ptrdiff_t i = 0; i < n; i += 2)
        pairs_across(made, dz + i * made, i + 1 < n ? dz + (i + 1) * made : NULL, (float *) s->dz_pairs + i / 2 * made);
    windows_add_dw_float(s, (n + 1) / 2, frames_of_samples(s, n, x), s->dz_pairs);
}

static inline void conv_dx_bf16(const conv *s, ptrdiff_t n, const float *dz, float *dx) {
    if (s->pairs) {
        pairs_along(n * s->positions * s->o, s->outputs, dz, s->dz_pairs);
        windows_dx_float(s, n, s->dz_pairs, dx);
    } else
        conv_dx_float(s, n, dz, dx);
}

#define conv_begin_forward_float conv_begin_forward_bf16
#define conv_z_float conv_z_bf16
#define conv_begin_dx_float conv_begin_dx_bf16
#define conv_add_dw_float conv_add_dw_bf16
#define conv_dx_float conv_dx_bf16
