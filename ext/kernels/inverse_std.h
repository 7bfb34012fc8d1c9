/* 1 / sqrt(var + eps) of one process's own statistics, also where float64 can't hold the squares that a variance is
   made of. */
#ifndef SYNCBN_INVERSE_STD_H
#define SYNCBN_INVERSE_STD_H

#include <cmath>

namespace syncbn {

/* Return 1 / sqrt(total), total = var + eps; NaN where squares overflowed or underflowed, since wrong digits or zeros
   might pass for results. `is_constant()` is called in rare cases alone: constant values have no squares to lose, and
   with eps = 0, 0 makes their deviations from the mean 0. */
template <class IsConstant> inline double inverse_std(double total, IsConstant is_constant)
{
    constexpr double smallest = 0x1p-1000; /* smaller variances come from squares that have lost digits to underflow */
    if (smallest <= total && total < INFINITY)
        return 1 / std::sqrt(total);
    if (total == INFINITY || (total < smallest && !is_constant()))
        return NAN;
    return total == 0 ? 0 : 1 / std::sqrt(total);
}

} // namespace syncbn

#endif
