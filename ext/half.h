/* float16 <-> float32, rounded to nearest even. NumPy's own casts take 2 to 5 ns a value, more than normalizing it;
   these are branch-free integer arithmetic, which compilers turn into vectors of any instruction set. */
#ifndef SYNCBN_HALF_H
#define SYNCBN_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline float syncbn_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t syncbn_bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Exponent and fraction move to their float32 places; times 2^112 corrects the bias, subnormals included. */
static inline float syncbn_float_of_half(uint16_t half)
{
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t finite = syncbn_bits_of_float(syncbn_float_of_bits(magnitude) * 0x1p112f);
    uint32_t special = magnitude | (magnitude > 0x0f800000 ? 0x7fc00000 : 0x7f800000); /* NaN becomes quiet */
    return syncbn_float_of_bits((magnitude >= 0x0f800000 ? special : finite) | sign);
}

static inline uint16_t syncbn_half_of_float(float value)
{
    uint32_t bits = syncbn_bits_of_float(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    /* Below 2^-14, float16 is a multiple of 2^-24: adding 0.5, whose last place that is, rounds to one. */
    uint32_t subnormal = syncbn_bits_of_float(syncbn_float_of_bits(magnitude) + 0.5f) - 0x3f000000;
    uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
    uint32_t nan = magnitude > 0x7f800000 ? 0x200 | (magnitude >> 13 & 0x3ff) : 0;
    uint32_t finite = magnitude < 0x38800000 ? subnormal : normal;
    return (uint16_t)(sign | (magnitude >= 0x477ff000 ? 0x7c00 | nan : finite));
}

/* Processors with AVX2 have instructions for it, which give the same bits: they return how many values they converted. */
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

__attribute__((target("avx2,f16c"))) static inline ptrdiff_t
syncbn_widen_f16c(const uint16_t *halves, float *floats, ptrdiff_t count)
{
    ptrdiff_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(floats + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(halves + i))));
    return i;
}

__attribute__((target("avx2,f16c"))) static inline ptrdiff_t
syncbn_narrow_f16c(const float *floats, uint16_t *halves, ptrdiff_t count)
{
    ptrdiff_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i *)(halves + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(floats + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}

static inline int syncbn_has_f16c(void) { return __builtin_cpu_supports("avx2"); }
#else
static inline ptrdiff_t syncbn_widen_f16c(const uint16_t *halves, float *floats, ptrdiff_t count) { return 0; }
static inline ptrdiff_t syncbn_narrow_f16c(const float *floats, uint16_t *halves, ptrdiff_t count) { return 0; }
static inline int syncbn_has_f16c(void) { return 0; }
#endif

static inline void syncbn_floats_of_halves(const uint16_t *halves, float *floats, ptrdiff_t count)
{
    for (ptrdiff_t i = syncbn_has_f16c() ? syncbn_widen_f16c(halves, floats, count) : 0; i < count; i++)
        floats[i] = syncbn_float_of_half(halves[i]);
}

static inline void syncbn_halves_of_floats(const float *floats, uint16_t *halves, ptrdiff_t count)
{
    for (ptrdiff_t i = syncbn_has_f16c() ? syncbn_narrow_f16c(floats, halves, count) : 0; i < count; i++)
        halves[i] = syncbn_half_of_float(floats[i]);
}

#endif
