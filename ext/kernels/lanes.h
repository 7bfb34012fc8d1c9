/* The 16 float64 lanes that a row is summed in, as registers: the same result on each instruction set. Loops that keep
   sums in an array are compiled to loads and stores instead, at half the speed, and vectors wider than a register are
   converted element by element, at a tenth. */
#ifndef SYNCBN_LANES_H
#define SYNCBN_LANES_H

#include "vector.h"

namespace syncbn {

enum { LANES = 16 };

/* N neighbouring lanes: two halves, down to one register. */
template <int N> struct LaneGroup {
    LaneGroup<N / 2> lower, upper;
};

template <> struct LaneGroup<PER_VECTOR> {
    Vector vector;
};

typedef LaneGroup<LANES> Lanes;

template <int N = LANES> SYNCBN_ALWAYS_INLINE inline LaneGroup<N> broadcast(double value)
{
    if constexpr (N == PER_VECTOR)
        return {Vector{} + value};
    else
        return {broadcast<N / 2>(value), broadcast<N / 2>(value)};
}

template <int N = LANES, class T> SYNCBN_ALWAYS_INLINE inline LaneGroup<N> load_lanes(const T *p)
{
    if constexpr (N == PER_VECTOR)
        return {load(p, PER_VECTOR)};
    else
        return {load_lanes<N / 2>(p), load_lanes<N / 2>(p + N / 2)};
}

template <int N> SYNCBN_ALWAYS_INLINE inline LaneGroup<N> operator+(LaneGroup<N> a, LaneGroup<N> b)
{
    if constexpr (N == PER_VECTOR)
        return {a.vector + b.vector};
    else
        return {a.lower + b.lower, a.upper + b.upper};
}

template <int N> SYNCBN_ALWAYS_INLINE inline LaneGroup<N> operator-(LaneGroup<N> a, LaneGroup<N> b)
{
    if constexpr (N == PER_VECTOR)
        return {a.vector - b.vector};
    else
        return {a.lower - b.lower, a.upper - b.upper};
}

template <int N> SYNCBN_ALWAYS_INLINE inline LaneGroup<N> operator*(LaneGroup<N> a, LaneGroup<N> b)
{
    if constexpr (N == PER_VECTOR)
        return {a.vector * b.vector};
    else
        return {a.lower * b.lower, a.upper * b.upper};
}

/* Keep the first `count` lanes and clear the others. */
template <int N> SYNCBN_ALWAYS_INLINE inline LaneGroup<N> first_lanes(LaneGroup<N> a, ptrdiff_t count)
{
    if constexpr (N == PER_VECTOR) {
        VectorBits lane;
        for (int j = 0; j < PER_VECTOR; j++)
            lane[j] = j;
        return {(Vector)((VectorBits)a.vector & (VectorBits)(lane < (int64_t)count))};
    } else {
        return {first_lanes(a.lower, count), first_lanes(a.upper, count - N / 2)};
    }
}

/* Sum the numbers of a register: number j and j + 4, then j and j + 2, then j and j + 1. */
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

/* Sum by the fixed tree: lane j takes lane j + 8, then j + 4, then j + 2, then j + 1. */
template <int N> SYNCBN_ALWAYS_INLINE inline double sum_lanes(LaneGroup<N> a)
{
    if constexpr (N == PER_VECTOR)
        return sum_register(a.vector);
    else
        return sum_lanes(a.lower + a.upper);
}

} // namespace syncbn

#endif
