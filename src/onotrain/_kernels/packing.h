/* Operands of tiles, laid out as these read them.  A part of tiles.h, which includes it once for each element type. */

typedef REAL NAME(four) __attribute__((vector_size(4 * sizeof(REAL))));
typedef REAL NAME(loose_four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef INTEGER NAME(pick) __attribute__((vector_size(4 * sizeof(REAL))));

/* y = x^T of 4 by 4, or y += x^T. */
INLINE void NAME(transpose_four)(const REAL *x, ptrdiff_t next_x, int add, REAL *y, ptrdiff_t next_y) {
    NAME(four) v[4], w[4];
    UNROLL for (int i = 0; i < 4; i++) v[i] = *(const NAME(loose_four) *) (x + i * next_x);
    UNROLL for (int i = 0; i < 2; i++) {
        w[i] = __builtin_shuffle(v[2 * i], v[2 * i + 1], (NAME(pick)) {0, 4, 1, 5});
        w[i + 2] = __builtin_shuffle(v[2 * i], v[2 * i + 1], (NAME(pick)) {2, 6, 3, 7});
    }
    UNROLL for (int i = 0; i < 4; i++) {
        v[i] = __builtin_shuffle(w[i / 2 * 2], w[i / 2 * 2 + 1],
                                 i % 2 ? (NAME(pick)) {2, 3, 6, 7} : (NAME(pick)) {0, 1, 4, 5});
        NAME(loose_four) *p = (NAME(loose_four) *) (y + i * next_y);
        *p = add ? (NAME(four)) *p + v[i] : v[i];
    }
}

#if VECTOR_BYTES > 16
/* Numbers in 16 bytes, of which a vector holds those of LANES / CHUNK rows. */
#define CHUNK ((ptrdiff_t) (16 / sizeof(REAL)))

INLINE BYTES NAME(chunks)(const REAL *x, ptrdiff_t next_x) {
    BYTES v = FIRST_CHUNK(x);
    SET_CHUNK(v, x + CHUNK * next_x, 1);
#if VECTOR_BYTES == 64
    SET_CHUNK(v, x + 2 * CHUNK * next_x, 2);
    SET_CHUNK(v, x + 3 * CHUNK * next_x, 3);
#endif
    return v;
}

/* Transposes the CHUNK by CHUNK numbers in each 16 bytes of CHUNK vectors. */
INLINE void NAME(transpose_chunks)(BYTES *v) {
    if (CHUNK == 4) {
        const BYTES w[4] = {LOW_WORDS(v[0], v[1]), HIGH_WORDS(v[0], v[1]), LOW_WORDS(v[2], v[3]), HIGH_WORDS(v[2], v[3])};
        v[0] = LOW_HALVES(w[0], w[2]), v[1] = HIGH_HALVES(w[0], w[2]);
        v[2] = LOW_HALVES(w[1], w[3]), v[3] = HIGH_HALVES(w[1], w[3]);
    } else {
        const BYTES low = LOW_HALVES(v[0], v[1]);
        v[1] = HIGH_HALVES(v[0], v[1]), v[0] = low;
    }
}

/* CHUNK columns of LANES rows of x as vectors. */
INLINE void NAME(columns_of_rows)(const REAL *x, ptrdiff_t next_x, NAME(vector) *column) {
    BYTES v[4];
    UNROLL for (int i = 0; i < 4; i++) if (i < CHUNK) v[i] = NAME(chunks)(x + i * next_x, next_x);
    NAME(transpose_chunks)(v);
    UNROLL for (int i = 0; i < CHUNK; i++) column[i] = (NAME(vector)) v[i];
}

/* y (CHUNK, LANES) = x (LANES, CHUNK)^T, or y += x^T. */
INLINE void NAME(transpose_rows)(const REAL *x, ptrdiff_t next_x, int add, REAL *y, ptrdiff_t next_y) {
    NAME(vector) column[CHUNK];
    NAME(columns_of_rows)(x, next_x, column);
    UNROLL for (int i = 0; i < CHUNK; i++) {
        REAL *p = y + i * next_y;
        NAME(store)(p, add ? NAME(load)(p) + column[i] : column[i]);
    }
}
#endif

/* y (n, m) = x (m, n)^T, or y += x^T.  The last rows and columns that are set are set as parts of a whole block. */
static __attribute__((noinline)) void NAME(transpose)(ptrdiff_t m, ptrdiff_t n, const REAL *x, ptrdiff_t next_x, int add,
                                                      REAL *y, ptrdiff_t next_y) {
    const int again = !add && m >= 4 && n >= 4;
    const ptrdiff_t rows = again ? m : m - m % 4, columns = again ? n : n - n % 4, line = 64 / sizeof(REAL);
    for (ptrdiff_t left = 0; left < columns; left += line) { /* all of a cache line of x at once */
        const ptrdiff_t right = left + line < columns ? left + line : columns;
        ptrdiff_t i = 0;
#if VECTOR_BYTES > 16
        for (; i + LANES <= rows || (again && i < rows && rows > LANES); i += LANES)
            for (ptrdiff_t j = left; j < right; j += CHUNK) {
                const ptrdiff_t row = i < m - LANES ? i : m - LANES, column = j < n - CHUNK ? j : n - CHUNK;
                NAME(transpose_rows)(x + row * next_x + column, next_x, add, y + column * next_y + row, next_y);
            }
#endif
        for (; i < rows; i += 4)
            for (ptrdiff_t j = left; j < right; j += 4) {
                const ptrdiff_t row = i < m - 4 ? i : m - 4, column = j < n - 4 ? j : n - 4;
                NAME(transpose_four)(x + row * next_x + column, next_x, add, y + column * next_y + row, next_y);
            }
    }
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = i < rows ? columns : 0; j < n; j++) {
            REAL *p = y + j * next_y + i;
            *p = add ? *p + x[i * next_x + j] : x[i * next_x + j];
        }
}

/* `vectors` vectors of each of `depth` rows of x, side by side in y, with zeros behind the first `last` lanes of the last. */
static __attribute__((noinline)) void NAME(copy_columns)(ptrdiff_t depth, int vectors, ptrdiff_t last, const REAL *x,
                                                         ptrdiff_t next_x, REAL *y) {
    for (ptrdiff_t q = 0; q < depth; q++, x += next_x, y += vectors * LANES) {
        const int whole = vectors - (last < LANES);
        for (int j = 0; j < whole; j++) NAME(store)(y + j * LANES, NAME(load)(x + j * LANES));
        if (whole == vectors) continue;
        NAME(store)(y + whole * LANES, NAME(load_first)(x + whole * LANES, last));
    }
}
