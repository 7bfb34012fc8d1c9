/* The loops over every value, for float and double: in C, for vectors. */
#ifndef SYNCBN_LOOPS_H
#define SYNCBN_LOOPS_H

#include "fixed_point.h"
#include "vector.h"
#include <math.h>

/* Into the second-level cache. */
#define PREFETCH_FOR_READING(p) __builtin_prefetch(p, 0, 2)
#define PREFETCH_FOR_WRITING(p) __builtin_prefetch(p, 1, 2)

enum { FEW_CHANNELS = 1024 };

/* Sums of 16 lanes of each channel, which lie `apart`, added up as by lanes_sum. */
static inline void combine_lanes(const double *lanes, ptrdiff_t apart, double *total, ptrdiff_t width)
{
#define LANE(j) load_f64(lanes + (j) * apart + i, n)
#define PAIR(j) (LANE(j) + LANE(j + 8))
#define FOUR(j) (PAIR(j) + PAIR(j + 4))
    STRIPS(width, store_f64(total + i, (FOUR(0) + FOUR(2)) + (FOUR(1) + FOUR(3)), n));
#undef FOUR
#undef PAIR
#undef LANE
}

#define real float
#define of_type(name) name##_f32
#include "loops_of_type.h"
#include "columns_of_type.h"
#undef real
#undef of_type

#define real double
#define of_type(name) name##_f64
#include "loops_of_type.h"
#include "columns_of_type.h"
#undef real
#undef of_type

#endif
