/* One register of float64, as a GCC and Clang vector type of the width of this instruction set. It holds one number for
   each of some neighbouring float32 or float64 values. GCC vectorizes a plain loop too, but of float32 it loads a whole
   register and converts its halves, which takes twice as long. */
#ifndef SYNCBN_VECTOR_H
#define SYNCBN_VECTOR_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SYNCBN_ALWAYS_INLINE __attribute__((always_inline))

namespace syncbn {

using std::int64_t;
using std::ptrdiff_t;

#if defined(__AVX512VL__)
enum { VECTOR_BYTES = 64, FLOAT_VECTOR_BYTES = 32 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32, FLOAT_VECTOR_BYTES = 16 };
#elif defined(__x86_64__)
enum { VECTOR_BYTES = 16, FLOAT_VECTOR_BYTES = 16 }; /* half of an SSE2 register is used */
#else
enum { VECTOR_BYTES = 16, FLOAT_VECTOR_BYTES = 8 };
#endif

enum { PER_VECTOR = VECTOR_BYTES / 8, CACHE_LINE = 64 };

typedef double Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t VectorBits __attribute__((vector_size(VECTOR_BYTES)));
typedef float FloatVector __attribute__((vector_size(FLOAT_VECTOR_BYTES)));
typedef int32_t FloatVectorBits __attribute__((vector_size(FLOAT_VECTOR_BYTES)));

/* Load n values as they are, at any address: PER_VECTOR or fewer, the others are 0. */
SYNCBN_ALWAYS_INLINE inline Vector load_unchanged(const double *p, int n)
{
    Vector v = {0};
    if (n == PER_VECTOR)
        std::memcpy(&v, p, sizeof v);
    else
#if defined(__AVX512VL__)
        v = (Vector)_mm512_maskz_loadu_pd((__mmask8)((1 << n) - 1), p);
#else
        v[0] = *p;
#endif
    return v;
}

SYNCBN_ALWAYS_INLINE inline FloatVector load_unchanged(const float *p, int n)
{
    FloatVector v = {0};
    if (n == PER_VECTOR)
#if defined(__x86_64__) && !defined(__AVX__)
        v = (FloatVector)_mm_loadl_epi64((const __m128i *)p);
#else
        std::memcpy(&v, p, sizeof v);
#endif
    else
#if defined(__AVX512VL__)
        v = (FloatVector)_mm256_maskz_loadu_ps((__mmask8)((1 << n) - 1), p);
#else
        v[0] = *p;
#endif
    return v;
}

/* Store n values at any address. */
SYNCBN_ALWAYS_INLINE inline void store(double *p, Vector v, int n)
{
    if (n == PER_VECTOR)
        std::memcpy(p, &v, sizeof v);
    else
#if defined(__AVX512VL__)
        _mm512_mask_storeu_pd(p, (__mmask8)((1 << n) - 1), (__m512d)v);
#else
        *p = v[0];
#endif
}

SYNCBN_ALWAYS_INLINE inline void store(float *p, FloatVector v, int n)
{
    if (n == PER_VECTOR)
#if defined(__x86_64__) && !defined(__AVX__)
        _mm_storel_epi64((__m128i *)p, (__m128i)v);
#else
        std::memcpy(p, &v, sizeof v);
#endif
    else
#if defined(__AVX512VL__)
        _mm256_mask_storeu_ps(p, (__mmask8)((1 << n) - 1), (__m256)v);
#else
        *p = v[0];
#endif
}

/* Convert to float64. GCC 12 takes three instructions for __builtin_convertvector. */
SYNCBN_ALWAYS_INLINE inline Vector widen(Vector v)
{
    return v;
}

SYNCBN_ALWAYS_INLINE inline Vector widen(FloatVector v)
{
#if defined(__AVX512VL__)
    return (Vector)_mm512_maskz_cvtps_pd(0xff, (__m256)v); /* without a mask, GCC 12 warns about its own header */
#elif defined(__AVX__)
    return (Vector)_mm256_cvtps_pd((__m128)v);
#elif defined(__x86_64__)
    return (Vector)_mm_cvtps_pd((__m128)v);
#else
    return __builtin_convertvector(v, Vector);
#endif
}

/* Round to the type that `p` points to, which is not read. */
SYNCBN_ALWAYS_INLINE inline Vector narrow(Vector v, const double *)
{
    return v;
}

SYNCBN_ALWAYS_INLINE inline FloatVector narrow(Vector v, const float *)
{
#if defined(__AVX512VL__)
    return (FloatVector)_mm512_maskz_cvtpd_ps(0xff, (__m512d)v);
#elif defined(__AVX__)
    return (FloatVector)_mm256_cvtpd_ps((__m256d)v);
#elif defined(__x86_64__)
    return (FloatVector)_mm_cvtpd_ps((__m128d)v);
#else
    return __builtin_convertvector(v, FloatVector);
#endif
}

/* Replace negative values and -0 by +0. NaN stays. */
SYNCBN_ALWAYS_INLINE inline Vector rectify(Vector v)
{
    return (Vector)((VectorBits)v & ~(VectorBits)(v <= 0));
}

SYNCBN_ALWAYS_INLINE inline FloatVector rectify(FloatVector v)
{
    return (FloatVector)((FloatVectorBits)v & ~(FloatVectorBits)(v <= 0));
}

/* Load n values as float64. */
template <class T> SYNCBN_ALWAYS_INLINE inline Vector load(const T *p, int n)
{
    return widen(load_unchanged(p, n));
}

/* Store n float64 numbers, rounded to T. */
template <class T> SYNCBN_ALWAYS_INLINE inline void store_rounded(T *p, Vector v, int n)
{
    store(p, narrow(v, p), n);
}

/* Call body(i, n) for all i from 0 to count, n of them at a time: PER_VECTOR, and the remainder in fewer. */
template <class Body> SYNCBN_ALWAYS_INLINE inline void for_each_vector(ptrdiff_t count, Body body)
{
    ptrdiff_t i = 0;
#pragma GCC unroll 4
    for (; i + PER_VECTOR <= count; i += PER_VECTOR)
        body(i, PER_VECTOR);
#if defined(__AVX512VL__)
    if (i < count)
        body(i, (int)(count - i));
#else
    for (; i < count; i++)
        body(i, 1);
#endif
}

/* Fetch into the second-level cache. */
SYNCBN_ALWAYS_INLINE inline void prefetch_for_reading(const void *p)
{
    __builtin_prefetch(p, 0, 2);
}

SYNCBN_ALWAYS_INLINE inline void prefetch_for_writing(const void *p)
{
    __builtin_prefetch(p, 1, 2);
}

} // namespace syncbn

#endif
