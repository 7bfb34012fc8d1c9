/* Exact sums of the rows of neighbouring channels (see fixed_point.h) and the moments made of them.

   There are three steps, so that any number of ranks gives the same bits: the range of the rows of each channel
   (combined over ranks by MAX), the sums of what is scaled by that range (combined by SUM), and the moments from the
   sums. */
#ifndef SYNCBN_EXACT_MOMENTS_H
#define SYNCBN_EXACT_MOMENTS_H

#include "fixed_point.h"
#include "layout.h"
#include "range.h"
#include "row_sums.h"

namespace syncbn {

/* Rows of neighbouring channels: row n, of counts[n] values, lies `stride` after row n - 1. */
struct Rows {
    RowMomentsOf<const double> moments;
    ptrdiff_t stride;
    const double *counts;
    ptrdiff_t samples;

    Rows channel(ptrdiff_t c) const
    {
        return {moments.at(c), stride, counts, samples};
    }
};

inline double max_count(const double *counts, ptrdiff_t samples)
{
    double max = 0;
    for (ptrdiff_t n = 0; n < samples; n++)
        max = std::max(max, counts[n]);
    return max;
}

/* Find the largest of x0 and mean + sigma over rows, and the largest of -x0 and sigma - mean. */
inline void find_row_range(Rows rows, ptrdiff_t width, Range range)
{
    constexpr double ulp = 0x1p-52;
    double *max = range.max, *negative_max = range.negative_max;
    for (ptrdiff_t c = 0; c < width; c++)
        max[c] = negative_max[c] = -INFINITY;
    for (ptrdiff_t n = 0; n < rows.samples; n++) {
        double count = rows.counts[n];
        if (count == 0)
            continue;
        double inverse = 1 / count;
        RowMomentsOf<const double> row = rows.moments.at(n * rows.stride);
        for (ptrdiff_t c = 0; c < width; c++) {
            double x0 = row.x0[c], sum = row.sum[c], square = row.square[c], shift = sum * inverse;
            double sigma = std::sqrt(std::max(0.0, square - sum * shift) * inverse);
            if (square > 0)
                sigma = sigma + ulp * std::fabs(x0); /* so that the range of a row that varies is not empty */
            max[c] = std::max(max[c], std::max(x0, x0 + shift + sigma));
            negative_max[c] = std::max(negative_max[c], std::max(-x0, sigma - (x0 + shift)));
            if (!(std::fabs(sum) + square < INFINITY))
                max[c] = INFINITY;
        }
    }
}

/* Sum n * m and n * m^2 + M2 of rows of n <= max_count values, m = mean - center of the range, scaled by its radius. */
inline void sum_row_moments(Rows rows, double max_count, ptrdiff_t width, ConstRange range, Limbs limbs)
{
    double center[CHANNEL_BLOCK], scale[CHANNEL_BLOCK];
    double hi[CHANNEL_BLOCK], lo[CHANNEL_BLOCK], square_hi[CHANNEL_BLOCK], square_lo[CHANNEL_BLOCK];
    double inverse_count_scale = 1 / count_scale_of(max_count);
    for (ptrdiff_t c = 0; c < width; c++) {
        center[c] = range.center(c);
        scale[c] = inverse_scale_of(range.radius(c));
    }
    clear(limbs, 2, width);
    for (ptrdiff_t block = 0; block < rows.samples; block += BLOCK_TERMS) {
        for (ptrdiff_t c = 0; c < width; c++)
            hi[c] = lo[c] = square_hi[c] = square_lo[c] = 0;
        for (ptrdiff_t n = block; n < std::min<ptrdiff_t>(block + BLOCK_TERMS, rows.samples); n++) {
            double count = rows.counts[n];
            if (count == 0)
                continue;
            double inverse = 1 / count, weight = count * inverse_count_scale;
            RowMomentsOf<const double> row = rows.moments.at(n * rows.stride);
            for (ptrdiff_t c = 0; c < width; c++) {
                /* sum / n, and M2 = square - sum^2 / n, which may cancel; scaled first, so that no error of a product
                   underflows */
                double sum = row.sum[c] * scale[c], shift = sum * inverse;
                double shift_err = div_err(sum, 0, count, inverse, shift), product = sum * shift;
                double m2 = row.square[c] * scale[c] * scale[c] - product;
                m2 = m2 - (two_prod(sum, shift, product) + sum * shift_err);
                /* m = x0 - center + sum / n, as m + m_err */
                double distance = row.x0[c] - center[c], start = distance * scale[c], m = start + shift;
                double m_err = two_sum(row.x0[c], -center[c], distance) * scale[c];
                m_err = two_sum(start, shift, m) + m_err + shift_err;
                double value = weight * m;
                add_split(value, two_prod(weight, m, value) + weight * m_err, &hi[c], &lo[c]);
                double square = m * m, square_err = weight * (two_prod(m, m, square) + 2 * m * m_err);
                value = weight * square;
                square_err = square_err + two_prod(weight, square, value);
                m2 = std::max(0.0, m2) * inverse_count_scale;
                square = value + m2;
                add_split(square, square_err + two_sum(value, m2, square), &square_hi[c], &square_lo[c]);
            }
        }
        for (ptrdiff_t c = 0; c < width; c++)
            if (scale[c] != 0) {
                flush(hi[c], lo[c], limbs.lower(0) + c, limbs.upper(0) + c);
                flush(square_hi[c], square_lo[c], limbs.lower(1) + c, limbs.upper(1) + c);
            }
    }
    carry(limbs, 2, width);
}

/* Sum single values where other ranks have rows of up to max_count values, scaled as these are: rare, so one by one. */
template <class T>
inline void sum_columns_among_rows(
    const T *x, ptrdiff_t stride, const unsigned char *mask, ptrdiff_t samples, double max_count, ptrdiff_t width,
    ConstRange range, Limbs limbs)
{
    double x0[CHANNEL_BLOCK], zero[CHANNEL_BLOCK] = {0}, one = 1;
    int64_t terms[LIMBS * CHANNEL_BLOCK];
    Limbs row_limbs = {terms, CHANNEL_BLOCK};
    clear(limbs, 2, width);
    for (ptrdiff_t n = 0; n < samples; n++) {
        if (mask && !mask[n])
            continue;
        for (ptrdiff_t c = 0; c < width; c++)
            x0[c] = x[n * stride + c];
        sum_row_moments({{x0, zero, zero}, 0, &one, 1}, max_count, width, range, row_limbs);
        for (int k = 0; k < 2; k++)
            for (ptrdiff_t c = 0; c < width; c++) {
                limbs.lower(k)[c] += row_limbs.lower(k)[c];
                limbs.upper(k)[c] += row_limbs.upper(k)[c];
            }
        carry(limbs, 2, width);
    }
}

/* Return 1 / sqrt(var) where eps is 0, or where var is too large for float64; var = scaled * scale^2. */
inline double rare_invstd(double center, double scale, double scaled)
{
    constexpr double tiny = 0x1p-480; /* squares of smaller values may underflow in float64 */
    if (scaled > 0 && scale >= tiny)
        return 1 / std::sqrt(scaled) / scale;
    if ((0 < std::fabs(center) && std::fabs(center) < tiny) || (0 < scale && scale < tiny))
        return NAN; /* not known to be constant: squares may have been too small for float64 */
    return 0;
}

/* Make the moments of `count` values, and 1 / sqrt(var + eps), from the sums over all ranks. The first loop has no
   branches, so that it is compiled to vectors; the second one mends the rare channels. */
inline void moments_from_limbs(
    ConstLimbs limbs, ptrdiff_t width, ConstRange range, double max_count, double count, double eps, double *mean,
    double *var, double *invstd)
{
    double scales[CHANNEL_BLOCK], scaled[CHANNEL_BLOCK];
    double count_scale = count_scale_of(max_count), inverse = 1 / count;
    for (ptrdiff_t c = 0; c < width; c++) {
        double radius = range.radius(c), lo;
        scales[c] = radius > 0 ? scale_of(radius) : 0;
        /* the means of n * m and of n * m^2 + M2, both as hi + lo */
        double hi = limbs_to_double(limbs.lower(0)[c], limbs.upper(0)[c], &lo);
        double mean_hi = hi * inverse * count_scale;
        double mean_lo = div_err(hi, lo, count, inverse, hi * inverse) * count_scale;
        hi = limbs_to_double(limbs.lower(1)[c], limbs.upper(1)[c], &lo);
        double raw_hi = hi * inverse * count_scale;
        double raw_lo = div_err(hi, lo, count, inverse, hi * inverse) * count_scale;
        double square_hi = mean_hi * mean_hi;
        double square_lo = two_prod(mean_hi, mean_hi, square_hi) + 2 * mean_hi * mean_lo;
        /* the cancellation is bounded by twice the number of rows: a row lies at either end of the range */
        scaled[c] = std::max(0.0, (raw_hi - square_hi) + (raw_lo - square_lo));
        /* the center may cancel nearly all of the rest */
        double center = range.center(c), rest = scales[c] * mean_hi, sum = center + rest;
        mean[c] = sum + (two_sum(center, rest, sum) + scales[c] * mean_lo);
        var[c] = scaled[c] * scales[c] * scales[c];
        invstd[c] = 1 / std::sqrt(var[c] + eps);
    }
    for (ptrdiff_t c = 0; c < width; c++) {
        if (!(range.radius(c) < TOO_LARGE))
            mean[c] = var[c] = invstd[c] = NAN;
        else if (!(eps > 0 && var[c] + eps < INFINITY))
            invstd[c] = rare_invstd(range.center(c), scales[c], scaled[c]);
    }
}

} // namespace syncbn

#endif
