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
