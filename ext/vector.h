/* One register of float64, as a GCC and Clang vector type of the width of this instruction set: a number each of some
   neighbouring float32 or float64 values. GCC makes vectors of a plain loop too, but of float32 it loads a whole
   register and converts its halves, which takes twice as long. */
#ifndef SYNCBN_VECTOR_H
#define SYNCBN_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512VL__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

enum { PER_VECTOR = VECTOR_BYTES / 8 };

typedef double vector_t __attribute__((vector_size(VECTOR_BYTES)));
typedef vector_t vector_f64;
typedef int64_t vector_bits_f64 __attribute__((vector_size(VECTOR_BYTES)));
/* As many float32: half a register, which is a whole one of SSE2's. */
#if defined(__x86_64__) && VECTOR_BYTES == 16
#define VECTOR_F32_BYTES 16
#else
#define VECTOR_F32_BYTES (VECTOR_BYTES / 2)
#endif
typedef float vector_f32 __attribute__((vector_size(VECTOR_F32_BYTES)));
typedef int32_t vector_bits_f32 __attribute__((vector_size(VECTOR_F32_BYTES)));

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Do a statement for all i from 0 to count, n of them at a time: PER_VECTOR, and those that are left in fewer. */
#if defined(__AVX512VL__)
#define LEFT(count) ((int)(count) & (PER_VECTOR - 1))
#else
#define LEFT(count) 1
#endif
#define STRIPS(count, ...)                                                             \
    do {                                                                               \
        ptrdiff_t i = 0;                                                               \
        _Pragma("GCC unroll 4")                                                        \
        for (; i + PER_VECTOR <= (count); i += PER_VECTOR) {                           \
            enum { n = PER_VECTOR };                                                   \
            __VA_ARGS__;                                                               \
        }                                                                              \
        for (int n = LEFT((count) - i); i < (count); i += n)                           \
            __VA_ARGS__;                                                               \
    } while (0)

/* Load and store n values, at any address. Where n is less than PER_VECTOR, the others are 0 and are left alone. */
ALWAYS_INLINE vector_f32 load_f32(const float *p, int n)
{
    vector_f32 v = {0};
    if (n == PER_VECTOR)
#if VECTOR_F32_BYTES == VECTOR_BYTES
        v = (vector_f32)_mm_loadl_epi64((const __m128i *)p);
#else
        memcpy(&v, p, sizeof v);
#endif
    else
#if defined(__AVX512VL__)
        v = (vector_f32)_mm256_maskz_loadu_ps((__mmask8)((1 << n) - 1), p);
#else
        v[0] = *p;
#endif
    return v;
}

ALWAYS_INLINE void store_f32(float *p, vector_f32 v, int n)
{
    if (n == PER_VECTOR)
#if VECTOR_F32_BYTES == VECTOR_BYTES
        _mm_storel_epi64((__m128i *)p, (__m128i)v);
#else
        memcpy(p, &v, sizeof v);
#endif
    else
#if defined(__AVX512VL__)
        _mm256_mask_storeu_ps(p, (__mmask8)((1 << n) - 1), (__m256)v);
#else
        *p = v[0];
#endif
}

ALWAYS_INLINE vector_t load_f64(const double *p, int n)
{
    vector_t v = {0};
    if (n == PER_VECTOR)
        memcpy(&v, p, sizeof v);
    else
#if defined(__AVX512VL__)
        v = (vector_t)_mm512_maskz_loadu_pd((__mmask8)((1 << n) - 1), p);
#else
        v[0] = *p;
#endif
    return v;
}

ALWAYS_INLINE void store_f64(double *p, vector_t v, int n)
{
    if (n == PER_VECTOR)
        memcpy(p, &v, sizeof v);
    else
#if defined(__AVX512VL__)
        _mm512_mask_storeu_pd(p, (__mmask8)((1 << n) - 1), (__m512d)v);
#else
        *p = v[0];
#endif
}

/* To float64 and back. GCC 12 takes three instructions for __builtin_convertvector. */
ALWAYS_INLINE vector_t widened_f32(vector_f32 v)
{
#if defined(__AVX512VL__)
    return (vector_t)_mm512_cvtps_pd((__m256)v);
#elif defined(__AVX__)
    return (vector_t)_mm256_cvtps_pd((__m128)v);
#elif defined(__x86_64__)
    return (vector_t)_mm_cvtps_pd((__m128)v);
#else
    return __builtin_convertvector(v, vector_t);
#endif
}

ALWAYS_INLINE vector_f32 narrowed_f32(vector_t v)
{
#if defined(__AVX512VL__)
    return (vector_f32)_mm512_cvtpd_ps((__m512d)v);
#elif defined(__AVX__)
    return (vector_f32)_mm256_cvtpd_ps((__m256d)v);
#elif defined(__x86_64__)
    return (vector_f32)_mm_cvtpd_ps((__m128d)v);
#else
    return __builtin_convertvector(v, vector_f32);
#endif
}

ALWAYS_INLINE vector_t widened_f64(vector_t v)
{
    return v;
}

ALWAYS_INLINE vector_t narrowed_f64(vector_t v)
{
    return v;
}

#endif
