/* Pooling: the largest number or the mean of each window of an image, and the way back of their gradients.
 *
 * All passes have one form: a pixel of the result is made of a rectangle of pixels of the source.  Forward that is the
 * window, without what lies in the padding; backward, those outputs whose windows hold the pixel.  So every number of the
 * result is written once, and is a sum in an order that depends on nothing but its place.
 *
 * Vectors lie along the channels.  Where there are fewer channels than lanes, the lanes behind them take what belongs to
 * the next pixel: it is written later, so that nothing of them is left.  Only at the end of the arrays are they left out.
 */

#ifndef REAL /* the file includes itself, once for each element type */

#include "tiles.h" /* load, store, load_first, store_first */

/* One axis of an image: pixels of the input and of the output, and the window. */
typedef struct {
    ptrdiff_t in, out, size, stride, padding;
} pool_axis;

typedef struct {
    pool_axis y, x;
    ptrdiff_t channels;
} pool_shape;

typedef struct {
    ptrdiff_t begin, end;
} pool_range;

/* What a pass computes. */
enum { MAX_POOL, MEAN_POOL, MAX_POOL_BACK, MEAN_POOL_BACK };

/* Moves a range on to the source of pixel i of the result, from that of the pixel before it; {0, 0} before the first. */
INLINE void next_source(const int backward, const int pairs, const pool_axis *a, ptrdiff_t i, pool_range *source) {
    if (pairs) {
        source->begin = backward ? i / 2 : 2 * i;
        source->end = !backward ? 2 * i + 2 : i / 2 < a->out ? i / 2 + 1 : i / 2;
    } else if (!backward) {
        const ptrdiff_t begin = i * a->stride - a->padding, end = begin + a->size;
        source->begin = begin > 0 ? begin : 0, source->end = end < a->in ? end : a->in;
    } else {
        while (source->end < a->out && source->end * a->stride <= i + a->padding) source->end++;
        while (source->begin < source->end && source->begin * a->stride + a->size <= i + a->padding) source->begin++;
    }
}

#define REAL float
#define INTEGER int32_t
#define NAME(f) f##_float
#include "pooling.h"
#undef REAL
#undef INTEGER
#undef NAME
#define REAL double
#define INTEGER int64_t
#define NAME(f) f##_double
#include "pooling.h"
#undef REAL
#undef INTEGER
#undef NAME

#else

#define LANES ((ptrdiff_t) (VECTOR_BYTES / sizeof(REAL)))

typedef INTEGER NAME(lanes) __attribute__((vector_size(VECTOR_BYTES)));

/* LANES bytes, each in a lane. */
INLINE NAME(lanes) NAME(widen)(const uint8_t *p) {
#if defined(__AVX512F__)
    return (NAME(lanes)) (sizeof(REAL) == 4 ? _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i_u *) p))
                                            : _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i_u *) p)));
#elif defined(__AVX2__)
    return (NAME(lanes)) (sizeof(REAL) == 4 ? _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i_u *) p))
                                            : _mm256_cvtepu8_epi64(_mm_loadu_si32(p)));
#else
    NAME(lanes) v;
    UNROLL for (int l = 0; l < LANES; l++) v[l] = p[l];
    return v;
#endif
}

/* Lanes from 0 to 255 as bytes. */
INLINE void NAME(narrow)(NAME(lanes) v, uint8_t *p) {
#if defined(__AVX512F__)
    if (sizeof(REAL) == 4) _mm_storeu_si128((__m128i_u *) p, _mm512_cvtepi32_epi8((__m512i) v));
    else _mm_storel_epi64((__m128i_u *) p, _mm512_cvtepi64_epi8((__m512i) v));
#elif defined(__AVX2__)
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128((__m256i) v), _mm256_extracti128_si256((__m256i) v, 1));
    if (sizeof(REAL) == 8) w = _mm_packs_epi32(w, w);
    w = _mm_packus_epi16(w, w);
    memcpy(p, &w, LANES);
#else
    UNROLL for (int l = 0; l < LANES; l++) p[l] = (uint8_t) v[l];
#endif
}

/* One vector of channels, of which n count, of pixel (i, j) of the result; `winner` is of the output's pixels. */
INLINE void NAME(pool_pixel)(const int pass, const int pairs, const pool_shape *s, ptrdiff_t i, ptrdiff_t j, pool_range ys,
                             pool_range xs, ptrdiff_t n, const REAL *source, ptrdiff_t row, uint8_t *winner, REAL *out) {
    const int once = pairs && (pass == MAX_POOL_BACK || pass == MEAN_POOL_BACK); /* no window overlaps another */
    uint8_t part[VECTOR_BYTES / sizeof(REAL)] = {0};
    NAME(vector) result = {0};
    NAME(lanes) best = {0};
    const ptrdiff_t rows = pairs && !once ? 2 : ys.end - ys.begin, columns = pairs && !once ? 2 : xs.end - xs.begin;
    for (ptrdiff_t a = 0; a < rows; a++) {
        for (ptrdiff_t b = 0; b < columns; b++) {
            const ptrdiff_t y = ys.begin + a, x = xs.begin + b;
            const ptrdiff_t place = (y * row + x) * s->channels;
            const NAME(vector) v = n == LANES ? NAME(load)(source + place) : NAME(load_first)(source + place, n);
            const ptrdiff_t down = pass == MAX_POOL ? y - i * s->y.stride : i - y * s->y.stride;
            const ptrdiff_t right = pass == MAX_POOL ? x - j * s->x.stride : j - x * s->x.stride;
            const INTEGER code = (INTEGER) ((down + s->y.padding) * s->x.size + right + s->x.padding);
            if (pass == MEAN_POOL || pass == MEAN_POOL_BACK) {
                result += v;
            } else if (pass == MAX_POOL_BACK) {
                if (n < LANES) memcpy(part, winner + place, n);
                result += (NAME(vector)) ((NAME(lanes)) v & (NAME(widen)(n < LANES ? part : winner + place) == code));
            } else if (a == 0 && b == 0) {
                result = v, best += code;
            } else {
                const NAME(lanes) better = (v > result) | (v != v); /* NaN wins */
                result = (NAME(vector)) ((better & (NAME(lanes)) v) | (~better & (NAME(lanes)) result));
                best = (better & code) | (~better & best);
            }
            if (once) break;
        }
        if (once) break;
    }
    if (pass == MEAN_POOL || pass == MEAN_POOL_BACK) result /= (REAL) (s->y.size * s->x.size);
    if (n == LANES) NAME(store)(out, result);
    else NAME(store_first)(out, result, n);
    if (pass == MAX_POOL && winner) {
        NAME(narrow)(best, n < LANES ? part : winner);
        if (n < LANES) memcpy(winner, part, n);
    }
}

/* All pixels of r samples; `pairs`: windows are two by two pixels, side by side. */
INLINE void NAME(pool_pixels)(const int pass, const int pairs, ptrdiff_t r, const pool_shape *shape, const REAL *source,
                              uint8_t *winner, REAL *out) {
    pool_shape s = *shape;
    if (pairs) s.y.size = s.x.size = s.y.stride = s.x.stride = 2, s.y.padding = s.x.padding = 0;
    const int backward = pass == MAX_POOL_BACK || pass == MEAN_POOL_BACK;
    const ptrdiff_t c = s.channels, height = backward ? s.y.in : s.y.out, width = backward ? s.x.in : s.x.out;
    const ptrdiff_t row = backward ? s.x.out : s.x.in, size = (backward ? s.y.out : s.y.in) * row * c;
    const REAL *const source_end = source + r * size, *const out_end = out + r * height * width * c;
    for (; r > 0; r--, source += size) {
        pool_range ys = {0, 0};
        for (ptrdiff_t i = 0; i < height; i++) {
            pool_range xs = {0, 0};
            next_source(backward, pairs, &s.y, i, &ys);
            for (ptrdiff_t j = 0; j < width; j++, out += c) {
                next_source(backward, pairs, &s.x, j, &xs);
#define PIXEL(k, n) \
    NAME(pool_pixel)(pass, pairs, &s, i, j, ys, xs, n, source + (k), row, winner ? winner + (k) : NULL, out + (k))
                if (c >= LANES) {
                    for (ptrdiff_t k = 0; k < c - LANES; k += LANES) PIXEL(k, LANES);
                    PIXEL(c - LANES, LANES);
                } else if (out_end - out >= LANES && source_end - source >= ((ys.end - 1) * row + xs.end - 1) * c + LANES) {
                    PIXEL(0, LANES);
                } else {
                    PIXEL(0, c);
                }
#undef PIXEL
                if (pass == MAX_POOL && winner) winner += c;
            }
        }
        if (pass == MAX_POOL_BACK) winner += size;
    }
}

#define PASS(pass) \
    case pass: \
        if (pairs) NAME(pool_pixels)(pass, 1, r, s, source, winner, out); \
        else NAME(pool_pixels)(pass, 0, r, s, source, winner, out); \
        break
/* One of the passes; `winner` is of the output's pixels, or NULL where nobody wants it. */
static void NAME(pool)(int pass, ptrdiff_t r, const pool_shape *s, const REAL *source, uint8_t *winner, REAL *out) {
    const int pairs = s->y.size == 2 && s->y.stride == 2 && s->y.padding == 0 && s->x.size == 2 && s->x.stride == 2
                      && s->x.padding == 0;
    switch (pass) {
        PASS(MAX_POOL);
        PASS(MEAN_POOL);
        PASS(MAX_POOL_BACK);
        PASS(MEAN_POOL_BACK);
    }
}
#undef PASS
#undef LANES
#endif
