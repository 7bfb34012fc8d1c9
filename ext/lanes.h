/* Eight float64 lanes, as GCC and Clang vector types: each instruction set splits them into its own
   registers, with the same result in every lane. Loops that keep sums in a C array are compiled to
   loads and stores instead, at half the speed. */
#ifndef SYNCBN_LANES_H
#define SYNCBN_LANES_H

#include <string.h>

typedef double lanes_t __attribute__((vector_size(64)));
typedef float lanes_f32_t __attribute__((vector_size(32)));

static inline lanes_t lanes_all(double value)
{
    return (lanes_t){value, value, value, value, value, value, value, value};
}

static inline lanes_t lanes_load_f32(const float *p)
{
    lanes_f32_t v;
    memcpy(&v, p, sizeof v); /* the address need not be aligned */
    return __builtin_convertvector(v, lanes_t);
}

static inline lanes_t lanes_load_f64(const double *p)
{
    lanes_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void lanes_store(double *p, lanes_t v)
{
    memcpy(p, &v, sizeof v);
}

/* The fixed tree: lane j takes lane j + 4, then j + 2, then j + 1. */
static inline double lanes_sum(lanes_t v)
{
    double a = v[0] + v[4], b = v[1] + v[5], c = v[2] + v[6], d = v[3] + v[7];
    return (a + c) + (b + d);
}

#endif
