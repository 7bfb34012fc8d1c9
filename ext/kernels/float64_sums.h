/* Sums of the rows of neighbouring channels in float64, and the moments made of them.

   The sums of x and x^2 are sent as two float64 each: the upper 26 bits, whose sums over ranks of like magnitude are
   exact, and the remainder. The difference of the sum of x^2 and (sum of x)^2 / M is then right to 2^-79 of the
   former. */
#ifndef SYNCBN_FLOAT64_SUMS_H
#define SYNCBN_FLOAT64_SUMS_H

#include "error_free.h"
#include "exact_moments.h"

namespace syncbn {

/* Return the upper 26 bits (Veltkamp 1968). */
inline double upper_bits(double value)
{
    double spread = value * 134217729.0; /* 2^27 + 1 */
    return spread - (spread - value);
}

/* Return (hi + lo)^2 / count, rounded, and its error. */
inline double square_over(double hi, double lo, double count, double inverse, double *err)
{
    double square = hi * hi, tail = two_prod(hi, hi, square) + 2 * hi * lo, quotient = square * inverse;
    *err = div_err(square, tail, count, inverse, quotient);
    return quotient;
}

/* Sum x and x^2 of rows: sum k of channel c as sums[2 * k * stride + c] + sums[(2 * k + 1) * stride + c]. */
inline void sum_rows_float64(Rows rows, ptrdiff_t width, double *sums, ptrdiff_t stride)
{
    double total[CHANNEL_BLOCK] = {0}, m2[CHANNEL_BLOCK] = {0}, count = 0;
    double *sum_hi = sums, *sum_lo = sums + stride, *square_hi = sums + 2 * stride, *square_lo = sums + 3 * stride;
    ptrdiff_t first = 0;
    while (first < rows.samples && rows.counts[first] == 0)
        first++;
    if (first == rows.samples) {
        for (ptrdiff_t c = 0; c < width; c++)
            sum_hi[c] = sum_lo[c] = square_hi[c] = square_lo[c] = 0;
        return;
    }
    const double *origin = rows.moments.at(first * rows.stride).x0;
    for (ptrdiff_t n = first; n < rows.samples; n++) {
        if (!(rows.counts[n] > 0))
            continue;
        count += rows.counts[n];
        RowMomentsOf<const double> row = rows.moments.at(n * rows.stride);
        for (ptrdiff_t c = 0; c < width; c++)
            total[c] += rows.counts[n] * (row.x0[c] - origin[c]) + row.sum[c];
    }
    double inverse = 1 / count;
    for (ptrdiff_t n = first; n < rows.samples; n++) {
        if (!(rows.counts[n] > 0))
            continue;
        RowMomentsOf<const double> row = rows.moments.at(n * rows.stride);
        for (ptrdiff_t c = 0; c < width; c++) {
            double distance = (row.x0[c] - origin[c]) - total[c] * inverse;
            m2[c] += row.square[c] + 2 * distance * row.sum[c] + rows.counts[n] * distance * distance;
        }
    }
    for (ptrdiff_t c = 0; c < width; c++) {
        double start = count * origin[c], sum = start + total[c];
        double err = two_prod(count, origin[c], start) + two_sum(start, total[c], sum);
        sum_hi[c] = upper_bits(sum);
        sum_lo[c] = (sum - sum_hi[c]) + err;
        double square = square_over(sum, err, count, inverse, &err), squares = square + m2[c];
        err = err + two_sum(square, m2[c], squares);
        square_hi[c] = upper_bits(squares);
        square_lo[c] = (squares - square_hi[c]) + err;
    }
}

/* Make the moments of `count` values, and 1 / sqrt(var + eps), from the sums over all ranks. */
inline void moments_from_float64(
    const double *sums, ptrdiff_t stride, ptrdiff_t width, double count, double eps, double *mean, double *var,
    double *invstd)
{
    constexpr double smallest_squares = 0x1p-950; /* those below are not whole in float64 */
    constexpr double noise = 0x1p-75;             /* differences below this share of the squares are rounding */
    const double *sum_hi = sums, *sum_lo = sums + stride, *square_hi = sums + 2 * stride;
    const double *square_lo = sums + 3 * stride;
    double inverse = 1 / count;
    for (ptrdiff_t c = 0; c < width; c++) {
        double hi = sum_hi[c] + sum_lo[c], lo = two_sum(sum_hi[c], sum_lo[c], hi), err;
        double squares = square_hi[c] + square_lo[c], squares_err = two_sum(square_hi[c], square_lo[c], squares);
        double square = square_over(hi, lo, count, inverse, &err);
        double difference = (squares - square) + (squares_err - err);
        if (difference <= noise * squares)
            difference = 0;
        mean[c] = hi * inverse + div_err(hi, lo, count, inverse, hi * inverse);
        var[c] = difference / count;
        if (eps == 0 && squares < smallest_squares && (squares > 0 || hi != 0))
            invstd[c] = NAN; /* squares have lost their digits */
        else
            invstd[c] = var[c] + eps == 0 ? 0 : 1 / std::sqrt(var[c] + eps);
    }
}

/* Sum one number for each row, in the order of samples. */
inline void add_rows(const double *values, ptrdiff_t stride, ptrdiff_t samples, ptrdiff_t width, double *total)
{
    for (ptrdiff_t c = 0; c < width; c++)
        total[c] = 0;
    for (ptrdiff_t n = 0; n < samples; n++)
        for (ptrdiff_t c = 0; c < width; c++)
            total[c] += values[n * stride + c];
}

} // namespace syncbn

#endif
