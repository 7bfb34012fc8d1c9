/* One register of float64 or float32, as a GCC and Clang vector type of the width of this instruction set. It holds one
   number for each of some neighbouring values: A is the type of the numbers, T that of the values in memory. Float32
   values are computed with as they are, or widened to float64. GCC vectorizes a plain loop too, but to widen float32 it
   loads a whole register and converts its halves, which takes twice as long. */
#ifndef SYNCBN_VECTOR_H
#define SYNCBN_VECTOR_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SYNCBN_ALWAYS_INLINE __attribute__((always_inline))

namespace syncbn {

using std::int64_t;
using std::ptrdiff_t;

#if defined(__AVX512VL__)
enum { VECTOR_BYTES = 64, HALF_VECTOR_BYTES = 32 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32, HALF_VECTOR_BYTES = 16 };
#elif defined(__x86_64__)
enum { VECTOR_BYTES = 16, HALF_VECTOR_BYTES = 16 }; /* half of an SSE2 register is used */
#else
enum { VECTOR_BYTES = 16, HALF_VECTOR_BYTES = 8 };
#endif

enum { CACHE_LINE = 64 };

typedef double Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef float FloatVector __attribute__((vector_size(VECTOR_BYTES)));
typedef float HalfVector __attribute__((vector_size(HALF_VECTOR_BYTES))); /* as many float32 as a Vector has numbers */

template <class A> using VectorOf = std::conditional_t<std::is_same_v<A, double>, Vector, FloatVector>;
template <class A> constexpr int PER_VECTOR = VECTOR_BYTES / sizeof(A);

/* Load n values as they are, at any address: as many as fit or fewer, the others are 0. */
SYNCBN_ALWAYS_INLINE inline Vector load_whole(const double *p, int n)
{
    Vector v = {0};
    if (n == PER_VECTOR<double>)
        std::memcpy(&v, p, sizeof v);
    else
#if defined(__AVX512VL__)
        v = (Vector)_mm512_maskz_loadu_pd((__mmask8)((1 << n) - 1), p);
#else
        v[0] = *p;
#endif
    return v;
}

SYNCBN_ALWAYS_INLINE inline FloatVector load_whole(const float *p, int n)
{
    FloatVector v = {0};
    if (n == PER_VECTOR<float>)
        std::memcpy(&v, p, sizeof v);
    else
#if defined(__AVX512VL__)
        v = (FloatVector)_mm512_maskz_loadu_ps((__mmask16)((1 << n) - 1), p);
#else
        v[0] = *p;
#endif
    return v;
}

SYNCBN_ALWAYS_INLINE inline HalfVector load_half(const float *p, int n)
{
    HalfVector v = {0};
    if (n == PER_VECTOR<double>)
#if defined(__x86_64__) && !defined(__AVX__)
        v = (HalfVector)_mm_loadl_epi64((const __m128i *)p);
#else
        std::memcpy(&v, p, sizeof v);
#endif
    else
#if defined(__AVX512VL__)
        v = (HalfVector)_mm256_maskz_loadu_ps((__mmask8)((1 << n) - 1), p);
#else
        v[0] = *p;
#endif
    return v;
}

/* Store n values at any address. */
SYNCBN_ALWAYS_INLINE inline void store_whole(double *p, Vector v, int n)
{
    if (n == PER_VECTOR<double>)
        std::memcpy(p, &v, sizeof v);
    else
#if defined(__AVX512VL__)
        _mm512_mask_storeu_pd(p, (__mmask8)((1 << n) - 1), (__m512d)v);
#else
        *p = v[0];
#endif
}

SYNCBN_ALWAYS_INLINE inline void store_whole(float *p, FloatVector v, int n)
{
    if (n == PER_VECTOR<float>)
        std::memcpy(p, &v, sizeof v);
    else
#if defined(__AVX512VL__)
        _mm512_mask_storeu_ps(p, (__mmask16)((1 << n) - 1), (__m512)v);
#else
        *p = v[0];
#endif
}

SYNCBN_ALWAYS_INLINE inline void store_half(float *p, HalfVector v, int n)
{
    if (n == PER_VECTOR<double>)
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
SYNCBN_ALWAYS_INLINE inline Vector widen(HalfVector v)
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

/* Round to float32. */
SYNCBN_ALWAYS_INLINE inline HalfVector narrow(Vector v)
{
#if defined(__AVX512VL__)
    return (HalfVector)_mm512_maskz_cvtpd_ps(0xff, (__m512d)v);
#elif defined(__AVX__)
    return (HalfVector)_mm256_cvtpd_ps((__m256d)v);
#elif defined(__x86_64__)
    return (HalfVector)_mm_cvtpd_ps((__m128d)v);
#else
    return __builtin_convertvector(v, HalfVector);
#endif
}

/* Replace negative numbers and -0 by +0. NaN stays. */
template <class V> SYNCBN_ALWAYS_INLINE inline V rectify(V v)
{
    auto replaced = v <= 0;
    return (V)((decltype(replaced))v & ~replaced);
}

/* Whether all numbers are finite; of float64, which holds all results, this is not asked. */
SYNCBN_ALWAYS_INLINE inline bool all_finite(Vector)
{
    return true;
}

SYNCBN_ALWAYS_INLINE inline bool all_finite(FloatVector v)
{
    FloatVector zero = v - v; /* NaN where v is not finite */
#if defined(__AVX512VL__)
    return __builtin_expect(_mm512_cmp_ps_mask((__m512)zero, (__m512)zero, _CMP_UNORD_Q) == 0, 1);
#elif defined(__AVX__)
    return __builtin_expect(_mm256_testz_si256((__m256i)zero, (__m256i)zero), 1);
#elif defined(__x86_64__)
    return __builtin_expect(_mm_movemask_ps(_mm_cmpunord_ps((__m128)zero, (__m128)zero)) == 0, 1);
#else
    bool finite = true;
    for (int i = 0; i < PER_VECTOR<float>; i++)
        finite &= zero[i] == 0;
    return __builtin_expect(finite, 1);
#endif
}

/* Load n values as numbers of type A. */
template <class A, class T> SYNCBN_ALWAYS_INLINE inline VectorOf<A> load(const T *p, int n)
{
    if constexpr (std::is_same_v<A, T>)
        return load_whole(p, n);
    else
        return widen(load_half(p, n));
}

/* Store n numbers of type A, rounded to T. */
template <class A, class T> SYNCBN_ALWAYS_INLINE inline void store(T *p, VectorOf<A> v, int n)
{
    if constexpr (std::is_same_v<A, T>)
        store_whole(p, v, n);
    else
        store_half(p, narrow(v), n);
}

/* Store a whole register around the caches, at the address of one; see result.h. */
SYNCBN_ALWAYS_INLINE inline void store_around_caches(double *p, Vector v)
{
#if defined(__AVX512VL__)
    _mm512_stream_pd(p, (__m512d)v);
#elif defined(__AVX__)
    _mm256_stream_pd(p, (__m256d)v);
#elif defined(__x86_64__)
    _mm_stream_pd(p, (__m128d)v);
#else
    std::memcpy(p, &v, sizeof v);
#endif
}

SYNCBN_ALWAYS_INLINE inline void store_around_caches(float *p, FloatVector v)
{
#if defined(__AVX512VL__)
    _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX__)
    _mm256_stream_ps(p, (__m256)v);
#elif defined(__x86_64__)
    _mm_stream_ps(p, (__m128)v);
#else
    std::memcpy(p, &v, sizeof v);
#endif
}

inline void finish_stores_around_caches()
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

/* Call body(i, n) for all i from 0 to count, n of them at a time: as many as fit a register, and the remainder in
   fewer. */
template <class A, class Body> SYNCBN_ALWAYS_INLINE inline void for_each_vector(ptrdiff_t count, Body body)
{
    ptrdiff_t i = 0;
#pragma GCC unroll 4
    for (; i + PER_VECTOR<A> <= count; i += PER_VECTOR<A>)
        body(i, PER_VECTOR<A>);
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
