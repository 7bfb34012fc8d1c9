/* The 16 float64 lanes that a row is summed in, as GCC and Clang vector types of the width of this
   instruction set's registers: the same result in every lane on each of them. Loops that keep sums in a
   C array are compiled to loads and stores instead, at half the speed, and vectors wider than a register
   are converted element by element, at a tenth. */
#ifndef SYNCBN_LANES_H
#define SYNCBN_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define REGISTER_BYTES 64
#define EACH(F) F(a, 0) F(b, 1)
#elif defined(__AVX__)
#define REGISTER_BYTES 32
#define EACH(F) F(a, 0) F(b, 1) F(c, 2) F(d, 3)
#else
#define REGISTER_BYTES 16
#define EACH(F) F(a, 0) F(b, 1) F(c, 2) F(d, 3) F(e, 4) F(f, 5) F(g, 6) F(h, 7)
#endif

enum { LANES = 16, PER_REGISTER = REGISTER_BYTES / 8 };

typedef double register_t_ __attribute__((vector_size(REGISTER_BYTES)));
typedef int64_t register_i64_t_ __attribute__((vector_size(REGISTER_BYTES)));

#define MEMBER(m, i) register_t_ m;
typedef struct {
    EACH(MEMBER)
} lanes_t;
#undef MEMBER

static inline lanes_t lanes_all(double value)
{
    lanes_t v;
#define ALL(m, i) v.m = (register_t_){0} + value;
    EACH(ALL)
#undef ALL
    return v;
}

/* A register of float32 made float64. GCC 12 takes three instructions for __builtin_convertvector. */
static inline register_t_ widened(const float *p)
{
#if defined(__AVX512F__)
    return (register_t_)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(__AVX__)
    return (register_t_)_mm256_cvtps_pd(_mm_loadu_ps(p));
#elif defined(__x86_64__)
    return (register_t_)_mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)p)));
#else
    typedef float narrow_t __attribute__((vector_size(REGISTER_BYTES / 2)));
    narrow_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, register_t_);
#endif
}

/* Loads: the address need not be aligned. */
static inline lanes_t lanes_load_f32(const float *p)
{
    lanes_t v;
#define LOAD(m, i) v.m = widened(p + i * PER_REGISTER);
    EACH(LOAD)
#undef LOAD
    return v;
}

static inline lanes_t lanes_load_f64(const double *p)
{
    lanes_t v;
#define LOAD(m, i) memcpy(&v.m, p + i * PER_REGISTER, sizeof v.m);
    EACH(LOAD)
#undef LOAD
    return v;
}

#define OPERATION(name, operator)                           \
    static inline lanes_t name(lanes_t one, lanes_t other)  \
    {                                                       \
        EACH(operator)                                      \
        return one;                                         \
    }
#define ADD(m, i) one.m = one.m + other.m;
#define SUBTRACT(m, i) one.m = one.m - other.m;
#define MULTIPLY(m, i) one.m = one.m * other.m;
OPERATION(lanes_add, ADD)
OPERATION(lanes_subtract, SUBTRACT)
OPERATION(lanes_multiply, MULTIPLY)
#undef ADD
#undef SUBTRACT
#undef MULTIPLY
#undef OPERATION

/* The first `count` lanes of v; 0 in the others. */
static inline lanes_t lanes_first(lanes_t v, ptrdiff_t count)
{
    register_i64_t_ lane, bits;
    for (int j = 0; j < PER_REGISTER; j++)
        lane[j] = j;
#define FIRST(m, i)                                         \
    memcpy(&bits, &v.m, sizeof bits);                       \
    bits &= (lane + (int64_t)(i * PER_REGISTER)) < (int64_t)count; \
    memcpy(&v.m, &bits, sizeof bits);
    EACH(FIRST)
#undef FIRST
    return v;
}

#if REGISTER_BYTES > 16
typedef double quarter_t_ __attribute__((vector_size(32)));
typedef double pair_t_ __attribute__((vector_size(16)));

static inline double sum_of_4_(quarter_t_ q)
{
    pair_t_ p = __builtin_shufflevector(q, q, 0, 1) + __builtin_shufflevector(q, q, 2, 3);
    return p[0] + p[1];
}
#endif

/* The fixed tree: lane j takes lane j + 8, then j + 4, then j + 2, then j + 1. */
static inline double lanes_sum(lanes_t v)
{
#if REGISTER_BYTES == 64
    register_t_ e = v.a + v.b;
    return sum_of_4_(__builtin_shufflevector(e, e, 0, 1, 2, 3) + __builtin_shufflevector(e, e, 4, 5, 6, 7));
#elif REGISTER_BYTES == 32
    return sum_of_4_((v.a + v.c) + (v.b + v.d));
#else
    register_t_ p = ((v.a + v.e) + (v.c + v.g)) + ((v.b + v.f) + (v.d + v.h));
    return p[0] + p[1];
#endif
}

#undef EACH
#endif
