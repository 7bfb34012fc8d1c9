/* One place (a sample's value at s in each of some neighbouring channels) added to the sums of its lane.
   In C since Cython has no `restrict`, without which each call begins with checks whether arrays overlap. */
#ifndef SYNCBN_PLACES_H
#define SYNCBN_PLACES_H

#include <stddef.h>

#define PLACE_KERNELS(real, suffix)                                                                            \
    static inline void moment_place_##suffix(const real *restrict x, const double *restrict origin,           \
                                             double *restrict sum, double *restrict square, ptrdiff_t width)  \
    {                                                                                                          \
        for (ptrdiff_t c = 0; c < width; c++) {                                                                \
            double d = x[c] - origin[c];                                                                       \
            sum[c] += d;                                                                                       \
            square[c] += d * d;                                                                                \
        }                                                                                                      \
    }                                                                                                          \
    static inline void gradient_place_##suffix(const real *restrict x, const real *restrict dy,               \
                                               const double *restrict mean, double *restrict sum,             \
                                               double *restrict product, ptrdiff_t width)                     \
    {                                                                                                          \
        for (ptrdiff_t c = 0; c < width; c++) {                                                                \
            double g = dy[c];                                                                                  \
            sum[c] += g;                                                                                       \
            product[c] += g * (x[c] - mean[c]);                                                                \
        }                                                                                                      \
    }

PLACE_KERNELS(float, f32)
PLACE_KERNELS(double, f64)
#undef PLACE_KERNELS

#endif
