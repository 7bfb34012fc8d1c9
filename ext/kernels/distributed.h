/* Batch normalization of the ranks of a communicator: the steps of each before, between and after their messages. */
#ifndef SYNCBN_DISTRIBUTED_H
#define SYNCBN_DISTRIBUTED_H

#include "gradients.h"
#include "moments.h"

namespace syncbn {

/* range_w: the largest count of a row, then the range of each channel; null in float64. */
template <class Number> inline RangeOf<Number> channel_range(Number *range_w, ptrdiff_t channels)
{
    return {offset(range_w, 1), offset(range_w, 1 + channels)};
}

template <class T>
void moment_ranges(
    Layout layout, const T *x, const unsigned char *mask, const double *counts, double *rows_3nc, double *range_w,
    int threads)
{
    Moments<T> rows(layout, x, mask, counts, rows_3nc);
    Range range = channel_range(range_w, layout.channels);
    if (!rows.is_dense())
        rows.sum_all_rows(threads);
    if (!range_w)
        return;
    range_w[0] = max_count(counts, layout.samples);
    ptrdiff_t block = channel_block(layout.channels, threads);
    parallel_blocks(layout.channels, block, threads, [=](ptrdiff_t start, ptrdiff_t width) {
        rows.find_range(start, width, range.channel(start));
    });
}

template <class T>
void moment_sums(
    Layout layout, const T *x, const unsigned char *mask, const double *counts, double *rows_3nc,
    const double *range_w, int64_t *limbs_4c, double *sums_4c, int threads)
{
    Moments<T> rows(layout, x, mask, counts, rows_3nc);
    ConstRange range = channel_range(range_w, layout.channels);
    Limbs limbs = {limbs_4c, layout.channels};
    ptrdiff_t block = channel_block(layout.channels, threads);
    parallel_blocks(layout.channels, block, threads, [=](ptrdiff_t start, ptrdiff_t width) {
        if (limbs_4c)
            rows.sum_exactly(start, width, range_w[0], range.channel(start), limbs.channel(start));
        else
            sum_rows_float64(rows.block_rows(start), width, sums_4c + start, layout.channels);
    });
}

template <class T>
void normalize_from_sums(
    Layout layout, const T *x, double count, const double *range_w, const int64_t *limbs_4c, const double *sums_4c,
    const double *weight, const double *bias, double eps, const T *residual, bool relu, double *moments_5c, T *y,
    int threads)
{
    ChannelMoments moments(moments_5c, layout.channels);
    ConstRange range = channel_range(range_w, layout.channels);
    ConstLimbs limbs = {limbs_4c, layout.channels};
    parallel_blocks(layout.channels, CHANNEL_BLOCK, 1, [=](ptrdiff_t start, ptrdiff_t width) {
        double *mean = moments.mean + start, *var = moments.var + start, *invstd = moments.invstd + start;
        if (limbs_4c)
            moments_from_limbs(
                limbs.channel(start), width, range.channel(start), range_w[0], count, eps, mean, var, invstd);
        else
            moments_from_float64(sums_4c + start, layout.channels, width, count, eps, mean, var, invstd);
    });
    moments.make_factors(weight, bias, 0, layout.channels);
    normalize(layout, x, moments.factors(), Epilogue<T>{residual, relu}, y, threads);
}

template <class T>
void gradient_ranges(
    Layout layout, const T *x, const T *dy, const double *moments_5c, const T *y, T *g, double *rows_2nc,
    double *absmax_2c, int threads)
{
    if (y)
        relu_gradients(layout, y, dy, g, threads);
    Gradients<T> rows(layout, x, y ? g : dy, moments_5c, 0, rows_2nc);
    if (!rows.is_dense())
        rows.sum_all_rows(threads);
    if (!absmax_2c)
        return;
    ptrdiff_t block = channel_block(layout.channels, threads);
    parallel_blocks(layout.channels, block, threads, [=](ptrdiff_t start, ptrdiff_t width) {
        rows.find_absmax(start, width, absmax_2c + start, absmax_2c + layout.channels + start);
    });
}

template <class T>
void gradient_sums(
    Layout layout, const T *x, const T *g, const double *moments_5c, double *rows_2nc, const double *absmax_2c,
    int64_t *limbs_4c, double *sums_2c, int threads)
{
    Gradients<T> rows(layout, x, g, moments_5c, 0, rows_2nc);
    Limbs limbs = {limbs_4c, layout.channels};
    ptrdiff_t block = channel_block(layout.channels, threads);
    parallel_blocks(layout.channels, block, threads, [=](ptrdiff_t start, ptrdiff_t width) {
        if (limbs_4c)
            rows.sum_exactly(
                start, width, absmax_2c + start, absmax_2c + layout.channels + start, limbs.channel(start));
        else
            rows.sum_float64(start, width, sums_2c + start, sums_2c + layout.channels + start);
    });
}

/* limbs_g4c and sums_g2c hold the sums over all ranks and then, unless `total`, those of this rank alone: its share of
   the gradients of weight and bias. */
template <class T>
void input_gradient_from_sums(
    Layout layout, const T *x, const T *g, const unsigned char *mask, double count, double *moments_5c,
    const double *absmax_2c, const int64_t *limbs_g4c, const double *sums_g2c, bool total, double *gradients_4c, T *dx,
    int threads)
{
    ptrdiff_t channels = layout.channels;
    ChannelGradients gradients(ChannelMoments(moments_5c, channels), gradients_4c, channels);
    parallel_blocks(channels, CHANNEL_BLOCK, 1, [=](ptrdiff_t start, ptrdiff_t width) {
        double totals[2][CHANNEL_BLOCK];
        auto find_totals = [&](int group) {
            for (int k = 0; k < 2; k++)
                if (limbs_g4c) {
                    ConstLimbs limbs = {limbs_g4c + group * LIMBS * channels + start, channels};
                    totals_from_limbs(limbs, k, width, absmax_2c + k * channels + start, totals[k]);
                } else {
                    std::copy_n(sums_g2c + (2 * group + k) * channels + start, width, totals[k]);
                }
        };
        find_totals(0);
        for (ptrdiff_t c = 0; c < width; c++)
            gradients.make(start + c, totals[0][c], totals[1][c], count);
        if (total)
            return;
        find_totals(1);
        for (ptrdiff_t c = 0; c < width; c++) {
            gradients.dweight[start + c] = gradients.moments.invstd[start + c] * totals[1][c];
            gradients.dbias[start + c] = totals[0][c];
        }
    });
    input_gradient(layout, x, g, mask, gradients.factors(), dx, threads);
}

} // namespace syncbn

#endif
