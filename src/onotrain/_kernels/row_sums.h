/* Sums over neighbouring values in double precision, of as many as a vector holds at a time. */

#ifndef ONOTRAIN_ROW_SUMS
#define ONOTRAIN_ROW_SUMS
#include <stddef.h>
#include <string.h>
#include "vectors.h"

#define SUM_LANES ((ptrdiff_t) (VECTOR_BYTES / sizeof(double)))

typedef double sum_vector __attribute__((vector_size(VECTOR_BYTES)));
typedef double few_double __attribute__((vector_size(VECTOR_BYTES)));
typedef float few_float __attribute__((vector_size(VECTOR_BYTES / 2)));

static inline double sum_lanes(sum_vector v) {
    double sum = 0;
    for (int lane = 0; lane < SUM_LANES; lane++) sum += v[lane];
    return sum;
}

/* Both with two vectors at a time, whose sums do not wait for each other. */
#define DEFINE_ROW_SUMS(T)                                                                                             \
    static inline sum_vector sum_load_##T(const T *p) {                                                                \
        few_##T v;                                                                                                     \
        memcpy(&v, p, sizeof(v));                                                                                      \
        return __builtin_convertvector(v, sum_vector);                                                                 \
    }                                                                                                                  \
                                                                                                                       \
    /* Sums of x - shift and of its square. */                                                                         \
    static inline void row_moments_##T(ptrdiff_t n, const T *x, double shift, double *sum, double *squares) {          \
        sum_vector s0 = {0}, s1 = {0}, q0 = {0}, q1 = {0};                                                             \
        ptrdiff_t c = 0;                                                                                               \
        for (; c + 2 * SUM_LANES <= n; c += 2 * SUM_LANES) {                                                           \
            const sum_vector v0 = sum_load_##T(x + c) - shift, v1 = sum_load_##T(x + c + SUM_LANES) - shift;           \
            s0 += v0, s1 += v1, q0 += v0 * v0, q1 += v1 * v1;                                                          \
        }                                                                                                              \
        double s = sum_lanes(s0 + s1), q = sum_lanes(q0 + q1);                                                         \
        for (; c < n; c++) {                                                                                           \
            const double v = x[c] - shift;                                                                             \
            s += v, q += v * v;                                                                                        \
        }                                                                                                              \
        *sum = s, *squares = q;                                                                                        \
    }                                                                                                                  \
                                                                                                                       \
    /* Sums of weight dy and of weight dy ((x - centre) scale + offset); no weight: 1. */                              \
    static inline void row_products_##T(                                                                               \
        ptrdiff_t n, const T *x, const T *dy, const T *weight, T centre, T scale, T offset, double *sum,               \
        double *products                                                                                               \
    ) {                                                                                                                \
        sum_vector s0 = {0}, q0 = {0};                                                                                 \
        ptrdiff_t c = 0;                                                                                               \
        for (; c + SUM_LANES <= n; c += SUM_LANES) {                                                                   \
            few_##T v, normal;                                                                                         \
            memcpy(&normal, x + c, sizeof(v));                                                                         \
            memcpy(&v, dy + c, sizeof(v));                                                                             \
            normal = (normal - centre) * scale + offset;                                                               \
            sum_vector wide = __builtin_convertvector(v, sum_vector);                                                  \
            if (weight) wide *= sum_load_##T(weight + c);                                                              \
            s0 += wide, q0 += wide * __builtin_convertvector(normal, sum_vector);                                      \
        }                                                                                                              \
        double s = sum_lanes(s0), q = sum_lanes(q0);                                                                   \
        for (; c < n; c++) {                                                                                           \
            const double v = weight ? (double) dy[c] * weight[c] : dy[c];                                              \
            s += v, q += v * ((x[c] - centre) * scale + offset);                                                       \
        }                                                                                                              \
        *sum = s, *products = q;                                                                                       \
    }

DEFINE_ROW_SUMS(float)
DEFINE_ROW_SUMS(double)
#endif
