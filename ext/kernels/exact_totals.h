/* Exact sums of one number for each row, such as a row's sum of dy, of neighbouring channels: the largest magnitude
   (combined over ranks by MAX), the sums of what is scaled by it (combined by SUM), and the totals.

   The number of sample n lies `stride` after that of sample n - 1. */
#ifndef SYNCBN_EXACT_TOTALS_H
#define SYNCBN_EXACT_TOTALS_H

#include "fixed_point.h"
#include "layout.h"
#include "range.h"

namespace syncbn {

/* Find the largest magnitude of each channel; infinite where a number is not finite. */
inline void find_row_absmax(const double *values, ptrdiff_t stride, ptrdiff_t samples, ptrdiff_t width, double *absmax)
{
    for (ptrdiff_t c = 0; c < width; c++)
        absmax[c] = 0;
    for (ptrdiff_t n = 0; n < samples; n++)
        for (ptrdiff_t c = 0; c < width; c++) {
            double value = std::fabs(values[n * stride + c]);
            if (!(value <= absmax[c]))
                absmax[c] = value < INFINITY ? value : INFINITY;
        }
}

/* Sum the numbers of each channel, scaled by the largest: sum k of the limbs. */
inline void sum_row_values(
    const double *values, ptrdiff_t stride, ptrdiff_t samples, ptrdiff_t width, const double *absmax, Limbs limbs,
    int k)
{
    double scale[CHANNEL_BLOCK], hi[CHANNEL_BLOCK], lo[CHANNEL_BLOCK];
    int64_t *lower = limbs.lower(k), *upper = limbs.upper(k);
    for (ptrdiff_t c = 0; c < width; c++) {
        scale[c] = inverse_scale_of(absmax[c]);
        lower[c] = upper[c] = 0;
    }
    for (ptrdiff_t block = 0; block < samples; block += BLOCK_TERMS) {
        for (ptrdiff_t c = 0; c < width; c++)
            hi[c] = lo[c] = 0;
        for (ptrdiff_t n = block; n < std::min<ptrdiff_t>(block + BLOCK_TERMS, samples); n++)
            for (ptrdiff_t c = 0; c < width; c++)
                add_split(values[n * stride + c] * scale[c], 0, &hi[c], &lo[c]);
        for (ptrdiff_t c = 0; c < width; c++)
            if (scale[c] != 0)
                flush(hi[c], lo[c], lower + c, upper + c);
    }
    for (ptrdiff_t c = 0; c < width; c++)
        carry(lower + c, upper + c);
}

/* Make the totals from sum k of all ranks' limbs; NaN where a number is not finite. */
inline void totals_from_limbs(ConstLimbs limbs, int k, ptrdiff_t width, const double *absmax, double *totals)
{
    for (ptrdiff_t c = 0; c < width; c++) {
        double scale = absmax[c] > 0 ? scale_of(absmax[c]) : 0, lo;
        totals[c] = limbs_to_double(limbs.lower(k)[c], limbs.upper(k)[c], &lo) * (absmax[c] < TOO_LARGE ? scale : NAN);
    }
}

} // namespace syncbn

#endif
