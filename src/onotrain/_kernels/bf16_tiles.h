/* Products of float32 matrices in bfloat16 with float32 sums, by AVX-512 BF16.
 *
 * Both factors are rounded to bfloat16: to nearest, ties to even, subnormal numbers to zero.  VDPBF16PS then adds two terms
 * to each of 16 sums, the *second* term of a pair first, by fused multiply-adds that round to nearest, ties to even; it takes
 * subnormal numbers for zero, as factors and as sums, and MXCSR plays no part (reference_bf16.py).
 *
 * A sum begins at 0, or at what it is added to, and takes up its terms pair by pair in their order; a last term without
 * another one is paired with zeros.  Blocks of terms go on with the sums as they lie in c, so no bit depends on blocks, on
 * other rows, or on ranks.
 *
 * a (m, depth) is packed by rows, a pair of terms after the other, to be broadcast; b (depth, n) by pairs, a column after
 * the other, to be loaded as vectors.  Both are rounded once for a block of the other one.
 */

#include <immintrin.h>

/* Terms of a sum that are packed together: three vectors of pairs of b take half of the first-level cache. */
#define BF16_TERMS 256
/* Rows of a that are packed together: a share of the second-level cache. */
#define BF16_ROWS 256
#define BF16_PAIRS (BF16_TERMS / 2)
#define BF16_VECTORS 3
#define BF16_LANES 16
/* Tiles of 1, 2 or 3 vectors: as many sums as the registers have room for, and more than the latency hides. */
#define BF16_TILE_ROWS(vectors) ((vectors) == 3 ? 8 : (vectors) == 2 ? 12 : 16)
#define BF16_MOST_TILE_ROWS 16

/* Tiles that together fetch the lines of the panel of b to come: each of them one with each pair. */
#define BF16_SHARES (BF16_VECTORS * BF16_TERMS / BF16_PAIRS)

/* A factor as it lies in memory, from some term and lane on: a lane is a row of a or a column of b. */
typedef struct {
    const float *x;
    ptrdiff_t next; /* elements from row to row */
    int across; /* whether the terms of a sum are in rows below each other, not along a row */
} bf16_factor;

INLINE bf16_factor bf16_from(bf16_factor f, ptrdiff_t term, ptrdiff_t lane) {
    f.x += f.across ? term * f.next + lane : lane * f.next + term;
    return f;
}

/* The first of n lanes. */
INLINE __mmask16 bf16_first(ptrdiff_t n) { return n >= BF16_LANES ? 0xffff : n > 0 ? (__mmask16) ((1u << n) - 1) : 0; }

/* 16 pairs: of up to 32 numbers of a row. */
INLINE __m512i bf16_pairs_along(const float *x, ptrdiff_t n) {
    return (__m512i) _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(bf16_first(n - BF16_LANES), x + BF16_LANES),
                                         _mm512_maskz_loadu_ps(bf16_first(n), x));
}

/* 16 pairs: of up to 16 numbers of a row and those below them, zeros without a row below. */
INLINE __m512i bf16_pairs_across(const float *x, ptrdiff_t next, int below, ptrdiff_t n) {
    const __m512 upper = _mm512_maskz_loadu_ps(below ? bf16_first(n) : 0, x + next);
    const __m512i both = (__m512i) _mm512_cvtne2ps_pbh(upper, _mm512_maskz_loadu_ps(bf16_first(n), x));
    /* 0, 16, 1, 17, ... */
    const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(both));
    return _mm512_or_si512(low, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 1)), 16));
}

/* v^T of 16 by 16 pairs. */
INLINE void bf16_transpose(__m512i v[BF16_LANES]) {
    __m512i w[BF16_LANES];
    UNROLL for (int i = 0; i < 16; i += 2) {
        w[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        w[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4)
        UNROLL for (int j = 0; j < 2; j++) {
            v[i + 2 * j] = _mm512_unpacklo_epi64(w[i + j], w[i + 2 + j]);
            v[i + 2 * j + 1] = _mm512_unpackhi_epi64(w[i + j], w[i + 2 + j]);
        }
    UNROLL for (int i = 0; i < 4; i++)
        UNROLL for (int j = 0; j < 2; j++) {
            w[8 * j + i] = _mm512_shuffle_i32x4(v[8 * j + i], v[8 * j + 4 + i], 0x88);
            w[8 * j + 4 + i] = _mm512_shuffle_i32x4(v[8 * j + i], v[8 * j + 4 + i], 0xdd);
        }
    UNROLL for (int i = 0; i < 8; i++) {
        v[i] = _mm512_shuffle_i32x4(w[i], w[8 + i], 0x88);
        v[8 + i] = _mm512_shuffle_i32x4(w[i], w[8 + i], 0xdd);
    }
}

/* Packs `terms` terms of `lanes` rows of a or columns of b: pairs[lane][pair], or, by_pair, pairs[pair][lane], with zeros
 * up to multiples of 16. */
INLINE void bf16_pack(ptrdiff_t lanes, ptrdiff_t terms, const bf16_factor f, const int by_pair, uint32_t *pairs, ptrdiff_t next) {
    /* Vectors as they are loaded: 16 pairs of each lane, or 16 lanes of each pair. */
    const ptrdiff_t count = f.across ? (terms + 1) / 2 : lanes, width = f.across ? lanes : terms;
    const ptrdiff_t step = f.across ? BF16_LANES : 2 * BF16_LANES;
    const int transposed = f.across != by_pair;
    for (ptrdiff_t u = 0; u < count; u += BF16_LANES)
        for (ptrdiff_t c = 0; c < width; c += step) {
            __m512i v[BF16_LANES];
            const ptrdiff_t first = f.across ? c : c / 2; /* lane or pair */
            UNROLL for (int i = 0; i < BF16_LANES; i++) {
                const ptrdiff_t row = f.across ? 2 * (u + i) : u + i;
                if (u + i >= count)
                    v[i] = _mm512_setzero_si512();
                else if (f.across)
                    v[i] = bf16_pairs_across(f.x + row * f.next + c, f.next, row + 1 < terms, width - c);
                else
                    v[i] = bf16_pairs_along(f.x + row * f.next + c, width - c);
            }
            if (transposed) bf16_transpose(v);
            UNROLL for (int i = 0; i < BF16_LANES; i++)
                _mm512_storeu_si512(transposed ? pairs + (first + i) * next + u : pairs + (u + i) * next + first, v[i]);
        }
}

/* Up to `height` rows of vectors of c, the last of which has these lanes; fetches lines of `ahead`, which will be packed. */
INLINE void bf16_tile(ptrdiff_t rows, const int height, const int vectors, ptrdiff_t pairs, const uint32_t *a, const uint32_t *b,
                      bf16_factor ahead, int mode, __mmask16 last, float *c, ptrdiff_t next_c) {
    const ptrdiff_t lines = ahead.across ? 1 : BF16_TERMS / BF16_LANES; /* of a row */
    __m512 sum[BF16_MOST_TILE_ROWS][BF16_VECTORS];
    UNROLL for (int i = 0; i < BF16_MOST_TILE_ROWS; i++) {
        if (i >= height) break;
        UNROLL for (int j = 0; j < BF16_VECTORS; j++) {
            if (j >= vectors) break;
            const __mmask16 lanes = mode != ADD || i >= rows ? 0 : j == vectors - 1 ? last : 0xffff;
            sum[i][j] = _mm512_maskz_loadu_ps(lanes, c + i * next_c + j * BF16_LANES);
        }
    }
    for (ptrdiff_t q = 0; q < pairs; q++, a++, b += vectors * BF16_LANES) {
        __builtin_prefetch(ahead.x + q / lines * ahead.next + q % lines * BF16_LANES, 0, 2);
        __m512bh v[BF16_VECTORS];
        UNROLL for (int j = 0; j < BF16_VECTORS; j++) if (j < vectors) v[j] = (__m512bh) _mm512_loadu_si512(b + j * BF16_LANES);
        UNROLL for (int i = 0; i < BF16_MOST_TILE_ROWS; i++) {
            if (i >= height) break;
            const __m512bh pair = (__m512bh) _mm512_set1_epi32((int) a[i * BF16_PAIRS]);
            UNROLL for (int j = 0; j < BF16_VECTORS; j++) if (j < vectors) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], pair, v[j]);
        }
    }
    UNROLL for (int i = 0; i < BF16_MOST_TILE_ROWS; i++) {
        if (i >= height || i >= rows) break;
        UNROLL for (int j = 0; j < BF16_VECTORS; j++) {
            if (j >= vectors) break;
            float *p = c + i * next_c + j * BF16_LANES;
            if (mode == STREAM)
                _mm512_stream_ps(p, sum[i][j]);
            else
                _mm512_mask_storeu_ps(p, j == vectors - 1 ? last : 0xffff, sum[i][j]);
        }
    }
}

/* What the tile of this number fetches of a panel: a line each of many rows, or all of a few. */
INLINE bf16_factor bf16_share(bf16_factor panel, ptrdiff_t tile) {
    const ptrdiff_t share = tile < BF16_SHARES ? tile : BF16_SHARES - 1;
    if (panel.across) return bf16_from(panel, share / BF16_VECTORS * BF16_PAIRS, share % BF16_VECTORS * BF16_LANES);
    return bf16_from(panel, 0, share * (BF16_VECTORS * BF16_LANES / BF16_SHARES));
}

/* All m packed rows beside some vectors of columns. */
#define BF16_PANEL(count) \
    case count: \
        for (ptrdiff_t i = 0; i < m; i += BF16_TILE_ROWS(count)) \
            bf16_tile(m - i, BF16_TILE_ROWS(count), count, pairs, a + i * BF16_PAIRS, b, \
                      bf16_share(ahead, i / BF16_TILE_ROWS(count)), mode, last, c + i * next_c, next_c); \
        break
static inline void bf16_panel(ptrdiff_t m, int vectors, ptrdiff_t pairs, const uint32_t *a, const uint32_t *b, bf16_factor ahead,
                              int mode, __mmask16 last, float *c, ptrdiff_t next_c) {
    switch (vectors) {
        BF16_PANEL(1);
        BF16_PANEL(2);
        BF16_PANEL(3);
    }
}
#undef BF16_PANEL

/* n lanes in whole vectors, and pairs of n terms as bf16_pack fills them up. */
INLINE ptrdiff_t bf16_filled(ptrdiff_t n) { return (n + BF16_LANES - 1) / BF16_LANES * BF16_LANES; }
INLINE ptrdiff_t bf16_pairs(ptrdiff_t n) { return bf16_filled((n + 1) / 2); }

/* The panel of b from term q and column j on, among those of pack_weight_bf16. */
INLINE ptrdiff_t bf16_panel_begin(ptrdiff_t n, ptrdiff_t terms, ptrdiff_t q, ptrdiff_t j) {
    return q / 2 * bf16_filled(n) + j * bf16_pairs(terms);
}

/* c (m, n) = a b, or c += a b; STREAM needs rows of c that are whole vectors at multiples of their size.  b is packed
 * here, unless its panels are given. */
INLINE void bf16_product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, bf16_factor a, bf16_factor b, const uint32_t *panels,
                         int mode, float *c, ptrdiff_t next_c) {
    _Alignas(64) uint32_t rows[(BF16_ROWS + BF16_MOST_TILE_ROWS) * BF16_PAIRS], columns[BF16_PAIRS * BF16_VECTORS * BF16_LANES];
    if (mode == STREAM && depth > BF16_TERMS) mode = SET; /* it is read again at once */
    for (ptrdiff_t i = 0; i < m; i += BF16_ROWS)
        for (ptrdiff_t q = 0; q == 0 || q < depth; q += BF16_TERMS) {
            const ptrdiff_t some = m - i < BF16_ROWS ? m - i : BF16_ROWS, terms = depth - q < BF16_TERMS ? depth - q : BF16_TERMS;
            bf16_pack(some, terms, bf16_from(a, q, i), 0, rows, BF16_PAIRS);
            int vectors;
            for (ptrdiff_t j = 0; j < n; j += vectors * BF16_LANES) {
                vectors = next_vectors((n - j + BF16_LANES - 1) / BF16_LANES);
                const ptrdiff_t width = vectors * BF16_LANES, lanes = n - j < width ? n - j : width;
                bf16_factor ahead = j + width < n ? bf16_from(b, q, j + width) : bf16_from(b, q + BF16_TERMS, 0);
                const uint32_t *panel = columns;
                if (panels) {
                    panel = panels + bf16_panel_begin(n, terms, q, j);
                    ahead = (bf16_factor) {(const float *) (panel + width * bf16_pairs(terms)), BF16_TERMS, 0};
                } else
                    bf16_pack(lanes, terms, bf16_from(b, q, j), 1, columns, width);
                bf16_panel(some, vectors, (terms + 1) / 2, rows, panel, ahead, q ? ADD : mode, bf16_first(lanes - width + BF16_LANES),
                           c + i * next_c + j, next_c);
            }
        }
}

/* Words in the panels of all of w. */
INLINE ptrdiff_t packed_size_bf16(ptrdiff_t i, ptrdiff_t o) { return bf16_filled(o) * bf16_pairs(i); }

/* All of w (o, i) in panels, as x_weight_bf16 goes through them. */
static inline void pack_weight_bf16(ptrdiff_t i, ptrdiff_t o, const float *w, float *panels) {
    const bf16_factor b = {w, i, 0};
    for (ptrdiff_t q = 0; q < i; q += BF16_TERMS) {
        const ptrdiff_t terms = i - q < BF16_TERMS ? i - q : BF16_TERMS;
        ptrdiff_t width;
        for (ptrdiff_t j = 0; j < o; j += width) {
            width = next_vectors((o - j + BF16_LANES - 1) / BF16_LANES) * BF16_LANES;
            bf16_pack(o - j < width ? o - j : width, terms, bf16_from(b, q, j), 1,
                      (uint32_t *) panels + bf16_panel_begin(o, terms, q, j), width);
        }
    }
}

/* Whether panels of w that are packed once make x_weight_bf16 so much faster that it is worth keeping them: it packs w for
 * every BF16_ROWS rows, in a twentieth of its time or more. */
INLINE int packing_pays_bf16(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o) { return r > 0; }

/* z (r, o) = x (r, i) w (o, i)^T, and what follows; `panels` are those of pack_weight_bf16, or NULL. */
static inline void x_weight_bf16(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o, const float *x, const float *w, const float *panels,
                                 float *z, follow_float follow, const void *context) {
    for (ptrdiff_t top = 0; top < r; top += BF16_ROWS) {
        const ptrdiff_t rows = r - top < BF16_ROWS ? r - top : BF16_ROWS;
        bf16_product(rows, o, i, (bf16_factor) {x + top * i, i, 0}, (bf16_factor) {w, i, 0}, (const uint32_t *) panels, SET,
                     z + top * o, o);
        follow(context, top, rows, 0, o, z + top * o, o);
    }
}

/* dx (r, i) = dz (r, o) w (o, i). */
static inline void dz_weight_bf16(ptrdiff_t r, ptrdiff_t i, ptrdiff_t o, const float *dz, const float *w, float *dx) {
    bf16_product(r, i, o, (bf16_factor) {dz, o, 0}, (bf16_factor) {w, i, 1}, NULL, SET, dx, i);
}

/* dw (o, n) = dz (r, o)^T x (r, n), or dw += ...; the rows of dz, x and dw are so far apart. */
static inline void dz_x_bf16(ptrdiff_t r, ptrdiff_t n, ptrdiff_t o, const float *dz, ptrdiff_t next_dz, const float *x,
                             ptrdiff_t next_x, int mode, float *dw, ptrdiff_t next_dw) {
    bf16_product(o, n, r, (bf16_factor) {dz, next_dz, 1}, (bf16_factor) {x, next_x, 1}, NULL, mode, dw, next_dw);
}

#define prefer_tiles_float(r, i) 1
#define packed_size_float packed_size_bf16
#define pack_weight_float pack_weight_bf16
#define packing_pays_float packing_pays_bf16
#define x_weight_float x_weight_bf16
#define dz_weight_float dz_weight_bf16
#define dz_x_float dz_x_bf16
