/* Elementary functions of one number, without branches and without calls: a loop over them becomes vector code.
 *
 * Each is right to a few units in the last place over its whole range, denormal results included
 * (tests/kernels/test_elementary.py has the bounds), gives infinities and signed zeros where they are right, and passes NaN.
 * Polynomials are Chebyshev interpolations, so their errors are within a few per cent of the smallest possible ones.
 *
 * References: Moshier, Cephes mathematical library, 1992 (exp); Sun Microsystems, fdlibm, 1993 (log, log1p); Dekker, Numerische
 * Mathematik 18, 1971 (squares without rounding).
 */

#ifndef REAL /* the file includes itself, once for each element type */
#ifndef ONOTRAIN_FUNCTIONS
#define ONOTRAIN_FUNCTIONS
#include <stdint.h>
#include <string.h>

#define REAL float
#define INTEGER int32_t
#define UNSIGNED uint32_t
#define NAME(f) f##_float
#define R(x) x##f
#define MANTISSA_BITS 23
#define BIAS 127
/* 1.5 * 2^23: the unit in the last place of a sum with it is 1, so that the sum is rounded to an integer, */
#define MAGIC 12582912.0f
/* which stands in its last bits, counted from here. */
#define MAGIC_BITS 0x4B400000
#define LOG2_HIGH 0.693359375f
#define LOG2_LOW -2.12194440e-4f
/* Beyond these exp is 0 and infinite. */
#define EXP_LEAST -104.0f
#define EXP_MOST 89.0f
/* Below this exp(x) - 1 is -1, and above this it is not computed. */
#define EXPM1_LEAST -20.0f
#define EXPM1_MOST 88.0f
/* Beyond this tanh is 1. */
#define TANH_MOST 10.0f
/* Beyond this the density of the normal distribution is 0. */
#define NORMAL_MOST 15.0f
/* The upper half of the digits. */
#define UPPER_HALF 0xFFFFF000u
#define ROOT_HALF_BITS 0x3F3504F3
#define LEAST_NORMAL 1.17549435e-38f
/* Cephes; exp(r) = 1 + r + r^2 q(r). */
#define EXP_TERMS {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}
/* log((1 + s) / (1 - s)) = 2 s + s^3 q(s^2): in logarithms of mantissas s^2 < 0.03, else < 1/9. */
#define LOG_TERMS {0.233316138f, 0.285507798f, 0.400001228f, 0.666666687f}
#define LOG1P_TERMS {0.207876176f, 0.174647018f, 0.222647116f, 0.285703063f, 0.400000095f, 0.666666687f}
/* (1 + x) exp(x^2 / 2) Phi(-x) = q(t) with t = (x - TAIL_CENTRE) / (x + TAIL_CENTRE). */
#define TAIL_CENTRE 3.0f
#define TAIL_TERMS {6.26194524e-05f, 3.59316618e-05f, -0.000481287745f, -0.000365748623f, 0.00299310219f, 0.00116432528f, \
    -0.0227267556f, 0.0451633669f, -0.0164323207f, -0.0965267345f, 0.486055791f}
#include "functions.h"
#undef REAL
#undef INTEGER
#undef UNSIGNED
#undef NAME
#undef R
#undef MANTISSA_BITS
#undef BIAS
#undef MAGIC
#undef MAGIC_BITS
#undef LOG2_HIGH
#undef LOG2_LOW
#undef EXP_LEAST
#undef EXP_MOST
#undef EXPM1_LEAST
#undef EXPM1_MOST
#undef TANH_MOST
#undef NORMAL_MOST
#undef UPPER_HALF
#undef ROOT_HALF_BITS
#undef LEAST_NORMAL
#undef EXP_TERMS
#undef LOG_TERMS
#undef LOG1P_TERMS
#undef TAIL_CENTRE
#undef TAIL_TERMS

#define REAL double
#define INTEGER int64_t
#define UNSIGNED uint64_t
#define NAME(f) f##_double
#define R(x) x
#define MANTISSA_BITS 52
#define BIAS 1023
#define MAGIC 6755399441055744.0
#define MAGIC_BITS 0x4338000000000000
#define LOG2_HIGH 6.93145751953125e-1
#define LOG2_LOW 1.42860682030941723212e-6
#define EXP_LEAST -746.0
#define EXP_MOST 710.0
#define EXPM1_LEAST -40.0
#define EXPM1_MOST 709.0
#define TANH_MOST 20.0
#define NORMAL_MOST 40.0
#define UPPER_HALF 0xFFFFFFFFF8000000u
#define ROOT_HALF_BITS 0x3FE6A09E667F3BCD
#define LEAST_NORMAL 2.2250738585072014e-308
#define EXP_TERMS {2.510038549551032e-08, 2.7620088445409746e-07, 2.7557268459997064e-06, 2.4801521295954376e-05, \
    0.00019841269863053618, 0.0013888888917213717, 0.0083333333333300615, 0.041666666666624129, 0.16666666666666669, \
    0.50000000000000011}
#define LOG_TERMS {0.13088034850927555, 0.13268638369266825, 0.15386244737621665, 0.18181795547521137, 0.22222222392581045, \
    0.28571428570799784, 0.40000000000000885, 0.66666666666666663}
#define LOG1P_TERMS {0.15231262619428984, 0.063341108517702457, 0.099420248965547353, 0.10480399234365274, \
    0.11767997767241035, 0.13333176949138179, 0.15384620253804163, 0.18181818086005655, 0.22222222223331986, \
    0.28571428571421942, 0.40000000000000013, 0.66666666666666663}
#define TAIL_CENTRE 4.0
#define TAIL_TERMS {-7.2554606958517679e-10, -1.5463815545201715e-09, 5.7583857020788578e-09, 1.7446821834780391e-08, \
    -1.8643150877103823e-08, -1.1023376811602899e-07, -2.2103572445430463e-10, 5.5078876830896967e-07, \
    4.0580524875156294e-07, -2.611858307579318e-06, -3.4328382916146516e-06, 1.3626321688909283e-05, \
    2.1250241889757066e-05, -8.785300671505195e-05, -9.4430288886016375e-05, 0.00069489706976127107, \
    -0.00028562309443218612, -0.0050023785871165238, 0.01793609747950764, -0.0321978374283102, 0.028600364053552738, \
    0.013999634724430356, -0.096703477326525789, 0.47205320650984467}
#include "functions.h"
#undef REAL
#undef INTEGER
#undef UNSIGNED
#undef NAME
#undef R
#endif

#else

#define INLINE static inline __attribute__((always_inline))
/* Horner's rule, highest power first. */
#define POLYNOMIAL(x, TERMS) \
    ({ \
        const REAL terms[] = TERMS; \
        REAL sum = terms[0]; \
        _Pragma("GCC unroll 32") for (unsigned term = 1; term < sizeof terms / sizeof *terms; term++) sum = sum * (x) + terms[term]; \
        sum; \
    })

INLINE INTEGER NAME(bits_of)(REAL x) {
    INTEGER bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE REAL NAME(of_bits)(INTEGER bits) {
    REAL x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE REAL NAME(magnitude)(REAL x) { return NAME(of_bits)(NAME(bits_of)(x) & ~((INTEGER) 1 << (sizeof(REAL) * 8 - 1))); }

/* |x| with the sign of y. */
INLINE REAL NAME(with_sign)(REAL x, REAL y) {
    const INTEGER sign = (INTEGER) 1 << (sizeof(REAL) * 8 - 1);
    return NAME(of_bits)((NAME(bits_of)(x) & ~sign) | (NAME(bits_of)(y) & sign));
}

/* 2^k, within the exponents of normal numbers. */
INLINE REAL NAME(power_of_2)(INTEGER k) { return NAME(of_bits)((INTEGER) ((UNSIGNED) (k + BIAS) << MANTISSA_BITS)); }

INLINE REAL NAME(exp)(REAL x) {
    /* exp(x) = 2^n exp(r), |r| <= log(2) / 2. */
    const REAL low = x < EXP_LEAST ? EXP_LEAST : x;
    const REAL z = low > EXP_MOST ? EXP_MOST : low;
    const REAL shifted = z * R(1.44269504088896341) + MAGIC, n = shifted - MAGIC;
    const REAL r = (z - n * LOG2_HIGH) - n * LOG2_LOW;
    const REAL p = POLYNOMIAL(r, EXP_TERMS) * r * r + r + R(1.0);
    /* Two factors, for 2^n alone leaves the range before the result does.  What is shifted is positive: of signed 64 bits
     * there is no vector code below AVX-512. */
    const INTEGER k = NAME(bits_of)(shifted) - MAGIC_BITS;
    const INTEGER half = (INTEGER) ((UNSIGNED) (k + 2 * BIAS) >> 1) - BIAS;
    return p * NAME(power_of_2)(half) * NAME(power_of_2)(k - half);
}

/* exp(x) - 1 for x from EXPM1_LEAST to EXPM1_MOST. */
INLINE REAL NAME(expm1_within)(REAL x) {
    const REAL shifted = x * R(1.44269504088896341) + MAGIC, n = shifted - MAGIC;
    const REAL r = (x - n * LOG2_HIGH) - n * LOG2_LOW;
    const REAL scale = NAME(power_of_2)(NAME(bits_of)(shifted) - MAGIC_BITS);
    return scale * (POLYNOMIAL(r, EXP_TERMS) * r * r + r) + (scale - R(1.0));
}

/* exp(x) - 1; x beyond EXPM1_MOST is taken for that. */
INLINE REAL NAME(expm1)(REAL x) {
    const REAL low = x < EXPM1_LEAST ? EXPM1_LEAST : x;
    return NAME(expm1_within)(low > EXPM1_MOST ? EXPM1_MOST : low);
}

INLINE REAL NAME(tanh)(REAL x) {
    const REAL size = NAME(magnitude)(x), z = size > TANH_MOST ? TANH_MOST : size;
    const REAL e = NAME(expm1_within)(R(2.0) * z);
    return NAME(with_sign)(e / (e + R(2.0)), x);
}

/* 1 / (1 + exp(-x)). */
INLINE REAL NAME(logistic)(REAL x) {
    const REAL e = NAME(exp)(-NAME(magnitude)(x));
    return (x >= R(0.0) ? R(1.0) : e) / (R(1.0) + e);
}

/* log(1 + f) where s = f / (2 + f) and q = POLYNOMIAL(s^2, ...); n log(2) more of it. */
INLINE REAL NAME(log_sum)(REAL f, REAL s, REAL q, REAL n) {
    const REAL square = R(0.5) * f * f;
    return n * LOG2_HIGH - ((square - (s * (square + s * s * q) + n * LOG2_LOW)) - f);
}

INLINE REAL NAME(log)(REAL x) {
    /* log(x) = n log(2) + log(1 + f), sqrt(1/2) <= 1 + f < sqrt(2). */
    const int denormal = x < LEAST_NORMAL;
    const INTEGER bits = NAME(bits_of)(denormal ? x * (REAL) ((INTEGER) 1 << (MANTISSA_BITS + 1)) : x);
    const INTEGER mantissa = (INTEGER) 1 << MANTISSA_BITS;
    /* A whole number in the last bits of MAGIC: conversions of 64 bits are no vector code below AVX-512.  The bias keeps
     * what is shifted positive. */
    const INTEGER exponent = (INTEGER) ((UNSIGNED) (bits - ROOT_HALF_BITS + ((INTEGER) BIAS << MANTISSA_BITS)) >> MANTISSA_BITS) & (2 * BIAS + 1);
    const REAL n = NAME(of_bits)(exponent + MAGIC_BITS) - (MAGIC + BIAS) - (denormal ? R(1.0) * (MANTISSA_BITS + 1) : R(0.0));
    const REAL f = NAME(of_bits)(bits - (INTEGER) ((UNSIGNED) (exponent - BIAS) * (UNSIGNED) mantissa)) - R(1.0);
    const REAL s = f / (R(2.0) + f);
    const REAL found = NAME(log_sum)(f, s, POLYNOMIAL(s * s, LOG_TERMS), n);
    const REAL infinity = (REAL) __builtin_inf();
    const REAL proper = x > R(0.0) ? found : x == R(0.0) ? -infinity : (REAL) __builtin_nan("");
    return x == infinity || x != x ? x : proper;
}

/* log(1 + x) for 0 <= x <= 1. */
INLINE REAL NAME(log1p)(REAL x) {
    const REAL s = x / (R(2.0) + x);
    return NAME(log_sum)(x, s, POLYNOMIAL(s * s, LOG1P_TERMS), R(0.0));
}

/* exp(-x^2 / 2). */
INLINE REAL NAME(gaussian)(REAL x) {
    const REAL low = x < -NORMAL_MOST ? -NORMAL_MOST : x, z = low > NORMAL_MOST ? NORMAL_MOST : low;
    const REAL square = z * z, upper = NAME(of_bits)(NAME(bits_of)(z) & (INTEGER) UPPER_HALF), lower = z - upper;
    const REAL rounded_off = ((upper * upper - square) + R(2.0) * upper * lower) + lower * lower;
    const REAL e = NAME(exp)(R(-0.5) * square);
    return e - e * (R(0.5) * rounded_off);
}

/* Distribution function of the standard normal, with gauss = exp(-x^2 / 2) at hand. */
INLINE REAL NAME(normal_cdf)(REAL x, REAL gauss) {
    const REAL size = NAME(magnitude)(x), a = size > NORMAL_MOST ? NORMAL_MOST : size;
    const REAL t = (a - TAIL_CENTRE) / (a + TAIL_CENTRE);
    const REAL tail = gauss * (POLYNOMIAL(t, TAIL_TERMS) / (R(1.0) + a));
    return x < R(0.0) ? tail : R(1.0) - tail;
}

#undef INLINE
#undef POLYNOMIAL
#endif
