/* The 16 lanes that a row is summed in, as registers of float64 or float32: the same result on each instruction set.
   Loops that keep sums in an array are compiled to loads and stores instead, at half the speed, and vectors wider than
   a register are converted element by element, at a tenth. */
#ifndef SYNCBN_LANES_H
#define SYNCBN_LANES_H

#include "vector.h"

namespace syncbn {

enum { LANES = 16 };

/* N neighbouring lanes: two halves, down to one register. */
template <class A, int N = LANES, bool is_register = N == PER_VECTOR<A>> struct Lanes {
    Lanes<A, N / 2> lower, upper;
};

template <class A, int N> struct Lanes<A, N, true> {
    VectorOf<A> vector;
};

template <class A, int N = LANES> SYNCBN_ALWAYS_INLINE inline Lanes<A, N> broadcast(A value)
{
    if constexpr (N == PER_VECTOR<A>)
        return {VectorOf<A>{} + value};
    else
        return {broadcast<A, N / 2>(value), broadcast<A, N / 2>(value)};
}

template <class A, int N = LANES, class T> SYNCBN_ALWAYS_INLINE inline Lanes<A, N> load_lanes(const T *p)
{
    if constexpr (N == PER_VECTOR<A>)
        return {load<A>(p, PER_VECTOR<A>)};
    else
        return {load_lanes<A, N / 2>(p), load_lanes<A, N / 2>(p + N / 2)};
}

template <class A, int N, class T> SYNCBN_ALWAYS_INLINE inline void store_lanes(T *p, Lanes<A, N> a)
{
    if constexpr (N == PER_VECTOR<A>) {
        store<A>(p, a.vector, N);
    } else {
        store_lanes(p, a.lower);
        store_lanes(p + N / 2, a.upper);
    }
}

template <class A, int N> SYNCBN_ALWAYS_INLINE inline bool all_finite(Lanes<A, N> a)
{
    if constexpr (N == PER_VECTOR<A>)
        return all_finite(a.vector);
    else
        return all_finite(a.lower) && all_finite(a.upper);
}

template <class A, int N> SYNCBN_ALWAYS_INLINE inline Lanes<A, N> operator+(Lanes<A, N> a, Lanes<A, N> b)
{
    if constexpr (N == PER_VECTOR<A>)
        return {a.vector + b.vector};
    else
        return {a.lower + b.lower, a.upper + b.upper};
}

template <class A, int N> SYNCBN_ALWAYS_INLINE inline Lanes<A, N> operator-(Lanes<A, N> a, Lanes<A, N> b)
{
    if constexpr (N == PER_VECTOR<A>)
        return {a.vector - b.vector};
    else
        return {a.lower - b.lower, a.upper - b.upper};
}

template <class A, int N> SYNCBN_ALWAYS_INLINE inline Lanes<A, N> operator*(Lanes<A, N> a, Lanes<A, N> b)
{
    if constexpr (N == PER_VECTOR<A>)
        return {a.vector * b.vector};
    else
        return {a.lower * b.lower, a.upper * b.upper};
}

/* Keep the first `count` lanes and clear the others. */
template <class A, int N> SYNCBN_ALWAYS_INLINE inline Lanes<A, N> first_lanes(Lanes<A, N> a, ptrdiff_t count)
{
    if constexpr (N == PER_VECTOR<A>) {
        auto lane = a.vector < a.vector; /* integers of the size of the numbers */
        for (int j = 0; j < N; j++)
            lane[j] = j;
        return {(VectorOf<A>)((decltype(lane))a.vector & (lane < (int)count))};
    } else {
        return {first_lanes(a.lower, count), first_lanes(a.upper, count - N / 2)};
    }
}

/* Sum the numbers of a register: number j and j + half of them, down to two. */
SYNCBN_ALWAYS_INLINE inline double sum_register(Vector v)
{
#if defined(__AVX512VL__)
    /* with _mm512_castpd512_pd256, or without masks, GCC 12 warns about its own header */
    __m256d four = _mm512_maskz_extractf64x4_pd(0xf, (__m512d)v, 0);
    four += _mm512_maskz_extractf64x4_pd(0xf, (__m512d)v, 1);
    __m128d two = _mm256_castpd256_pd128(four) + _mm256_extractf128_pd(four, 1);
#elif defined(__AVX__)
    __m128d two = _mm256_castpd256_pd128((__m256d)v) + _mm256_extractf128_pd((__m256d)v, 1);
#else
    Vector two = v;
#endif
    return two[0] + two[1];
}

SYNCBN_ALWAYS_INLINE inline float sum_register(FloatVector v)
{
#if defined(__AVX512VL__)
    __m256 eight = (__m256)_mm512_maskz_extractf64x4_pd(0xf, (__m512d)v, 0);
    eight += (__m256)_mm512_maskz_extractf64x4_pd(0xf, (__m512d)v, 1);
    __m128 four = _mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1);
#elif defined(__AVX__)
    __m128 four = _mm256_castps256_ps128((__m256)v) + _mm256_extractf128_ps((__m256)v, 1);
#else
    FloatVector four = v;
#endif
    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* Sum by the fixed tree: lane j takes lane j + 8, then j + 4, then j + 2, then j + 1. */
template <class A, int N> SYNCBN_ALWAYS_INLINE inline A sum_lanes(Lanes<A, N> a)
{
    if constexpr (N == PER_VECTOR<A>)
        return sum_register(a.vector);
    else
        return sum_lanes(a.lower + a.upper);
}

} // namespace syncbn

#endif
