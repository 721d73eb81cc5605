/* Numbers and the bits that they are, for float and double: branch-free, so that loops over them are vectorised. */

#ifndef ONOTRAIN_ROUNDINGS_H
#define ONOTRAIN_ROUNDINGS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* To float32 with the last bit set if anything was lost, so that a second rounding to fewer than 23 bits is right. */
static inline float rounded_to_odd(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits >> 29 | ((bits & 0x1fffffff) != 0)) << 29;
    memcpy(&x, &bits, sizeof x);
    return (float) x;
}

/* To binary16, to the nearest, ties to even. */
static inline uint16_t half_of(float x) {
    const uint32_t bits = bits_of(x), size = bits & 0x7fffffff, sign = bits >> 16 & 0x8000;
    /* Half a unit of the last place that is kept, less one if that place is even, carries where it should. */
    const uint32_t carried = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
    const uint32_t normal = carried < 0x7c00 ? carried : 0x7c00;
    /* The sum's unit in the last place is that of the subnormal halves. */
    const uint32_t subnormal = bits_of(float_of(size) + 0.5f) - bits_of(0.5f);
    const uint32_t number = size < 113u << 23 ? subnormal : normal;
    return (uint16_t) (sign | (size > 0x7f800000 ? 0x7e00 : number));
}

/* From binary16, exactly. */
static inline float single_of(uint16_t half) {
    const uint32_t size = (uint32_t) (half & 0x7fff) << 13, sign = (uint32_t) (half & 0x8000) << 16;
    const uint32_t normal = size + (size < 0x7c00u << 13 ? 112u << 23 : 224u << 23);
    const uint32_t subnormal = bits_of(float_of(size + (113u << 23)) - float_of(113u << 23));
    return float_of(sign | (size < 1u << 23 ? subnormal : normal));
}

/* To the upper half of a float32, to the nearest, ties to even. */
static inline uint16_t upper_half_of(float x) {
    const uint32_t bits = bits_of(x);
    return (uint16_t) ((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float single_of_upper_half(uint16_t half) {
    return float_of((uint32_t) half << 16);
}

/* To the nearest whole number, ties to even, of numbers of at most 128: the sum's unit in the last place is 1. */
static inline int8_t integer_float(float x) {
    return (int8_t) bits_of(x + 12582912.0f);
}

static inline int8_t integer_double(double x) {
    uint64_t bits;
    x += 6755399441055744.0;
    memcpy(&bits, &x, sizeof bits);
    return (int8_t) bits;
}

/* Largest magnitude of n numbers: as whole numbers magnitudes are in the same order, infinity after all others, and NaN
   after that. */
#define DEFINE_LARGEST(T, U)                                                                                            \
    static inline T largest_##T(const T* x, ptrdiff_t n) {                                                              \
        U top = 0;                                                                                                      \
        T result;                                                                                                       \
        for (ptrdiff_t c = 0; c < n; ++c) {                                                                             \
            U size;                                                                                                     \
            memcpy(&size, &x[c], sizeof size);                                                                          \
            size &= (U) -1 >> 1;                                                                                        \
            top = size > top ? size : top;                                                                              \
        }                                                                                                               \
        memcpy(&result, &top, sizeof result);                                                                           \
        return result;                                                                                                  \
    }

DEFINE_LARGEST(float, uint32_t)
DEFINE_LARGEST(double, uint64_t)

#endif
