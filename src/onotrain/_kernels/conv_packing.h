/* Images in their padding, and weights as the tiles of a convolution read them.  A part of conv_tiles.h, which includes it
 * once for each element type.
 */

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
                    ptrdiff_t c = j % s->inputs, t = j / s->inputs; /* counted on: a division takes longer than the rest */
                    for (ptrdiff_t e = 0; e < width; e++) {
                        panel[e] = j + e < s->run ? of_filter[c * pixels + t] : 0;
                        if (++c == s->inputs) c = 0, t++;
                    }
                }
            }
        }
}
