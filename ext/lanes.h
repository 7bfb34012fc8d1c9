/* The 16 float64 lanes that a row is summed in, as vectors: the same result in every lane on each instruction set.
   Loops that keep sums in a C array are compiled to loads and stores instead, at half the speed, and vectors wider
   than a register are converted element by element, at a tenth. */
#ifndef SYNCBN_LANES_H
#define SYNCBN_LANES_H

#include "vector.h"

#if VECTOR_BYTES == 64
#define EACH(F) F(a, 0) F(b, 1)
#elif VECTOR_BYTES == 32
#define EACH(F) F(a, 0) F(b, 1) F(c, 2) F(d, 3)
#else
#define EACH(F) F(a, 0) F(b, 1) F(c, 2) F(d, 3) F(e, 4) F(f, 5) F(g, 6) F(h, 7)
#endif

enum { LANES = 16 };

#define MEMBER(m, i) vector_t m;
typedef struct {
    EACH(MEMBER)
} lanes_t;
#undef MEMBER

static inline lanes_t lanes_all(double value)
{
    lanes_t v;
#define ALL(m, i) v.m = (vector_t){0} + value;
    EACH(ALL)
#undef ALL
    return v;
}

/* Loads: the address need not be aligned. */
static inline lanes_t lanes_load_f32(const float *p)
{
    lanes_t v;
#define LOAD(m, i) v.m = widened_f32(load_f32(p + i * PER_VECTOR, PER_VECTOR));
    EACH(LOAD)
#undef LOAD
    return v;
}

static inline lanes_t lanes_load_f64(const double *p)
{
    lanes_t v;
#define LOAD(m, i) v.m = load_f64(p + i * PER_VECTOR, PER_VECTOR);
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
    vector_bits_f64 lane, bits;
    for (int j = 0; j < PER_VECTOR; j++)
        lane[j] = j;
#define FIRST(m, i)                                         \
    memcpy(&bits, &v.m, sizeof bits);                       \
    bits &= (lane + (int64_t)(i * PER_VECTOR)) < (int64_t)count; \
    memcpy(&v.m, &bits, sizeof bits);
    EACH(FIRST)
#undef FIRST
    return v;
}

#if VECTOR_BYTES > 16
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
#if VECTOR_BYTES == 64
    vector_t e = v.a + v.b;
    return sum_of_4_(__builtin_shufflevector(e, e, 0, 1, 2, 3) + __builtin_shufflevector(e, e, 4, 5, 6, 7));
#elif VECTOR_BYTES == 32
    return sum_of_4_((v.a + v.c) + (v.b + v.d));
#else
    vector_t p = ((v.a + v.e) + (v.c + v.g)) + ((v.b + v.f) + (v.d + v.h));
    return p[0] + p[1];
#endif
}

#undef EACH
#endif
