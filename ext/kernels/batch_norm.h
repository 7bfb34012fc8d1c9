/* Batch normalization of one process alone, in one call for each pass.

   In channels-first memory, one block of channels after the other makes all steps while it is in cache; meanwhile the
   next block and the memory of the result are fetched. In channels-last memory a block of channels is strided, which
   costs more than it saves: each step goes through the whole array. */
#ifndef SYNCBN_BATCH_NORM_H
#define SYNCBN_BATCH_NORM_H

#include "gradients.h"
#include "moments.h"

namespace syncbn {

/* Bytes of x: with y (or dy and dx) and the next block they fit the second-level cache. */
enum { CACHE_BLOCK_BYTES = 1 << 17 };

/* Return the number of channels that share the cache, at least one block for each thread; `block` replaces it unless
   it is 0. */
template <class T> inline ptrdiff_t cache_block(const Layout &layout, ptrdiff_t block, int threads)
{
    if (block)
        return std::min<ptrdiff_t>(block, CHANNEL_BLOCK);
    ptrdiff_t bytes = std::max<ptrdiff_t>(1, layout.positions() * sizeof(T));
    ptrdiff_t fitting = std::min<ptrdiff_t>(CACHE_BLOCK_BYTES / bytes, CHANNEL_BLOCK);
    return std::max<ptrdiff_t>(1, std::min(fitting, divide_up(layout.channels, threads)));
}

/* What one process makes of its moments. */
struct MomentsSettings {
    double count, eps;
    bool exact;
    const double *weight, *bias; /* null: 1 and 0 */
};

/* Make the moments, and the factors of y, of up to 256 channels. */
template <class T>
inline void make_moments(
    const Moments<T> &rows, ptrdiff_t start, ptrdiff_t width, const MomentsSettings &settings, ChannelMoments moments)
{
    double *mean = moments.mean + start, *var = moments.var + start, *invstd = moments.invstd + start;
    if (settings.exact) {
        double max[CHANNEL_BLOCK], negative_max[CHANNEL_BLOCK], max_count = rows.max_row_count();
        int64_t limbs[LIMBS * CHANNEL_BLOCK];
        rows.find_range(start, width, {max, negative_max});
        rows.sum_exactly(start, width, max_count, {max, negative_max}, {limbs, CHANNEL_BLOCK});
        moments_from_limbs(
            {limbs, CHANNEL_BLOCK}, width, {max, negative_max}, max_count, settings.count, settings.eps, mean, var,
            invstd);
    } else {
        double sums[LIMBS * CHANNEL_BLOCK];
        sum_rows_float64(rows.block_rows(start), width, sums, CHANNEL_BLOCK);
        moments_from_float64(sums, CHANNEL_BLOCK, width, settings.count, settings.eps, mean, var, invstd);
    }
    moments.make_factors(settings.weight, settings.bias, start, width);
}

template <class T>
void batch_norm_forward(
    Layout layout, const T *x, const unsigned char *mask, const double *counts, double count, const double *weight,
    const double *bias, double eps, bool exact, const T *residual, bool relu, ptrdiff_t block, double *rows_3nc,
    double *moments_5c, T *y, int threads)
{
    bool dense = exact && layout.channels_last && layout.size == 1;
    Moments<T> rows(layout, x, mask, counts, dense ? nullptr : rows_3nc);
    MomentsSettings settings = {count, eps, exact, weight, bias};
    ChannelMoments moments(moments_5c, layout.channels);
    Epilogue<T> epilogue = {residual, relu};
    ptrdiff_t channels = layout.channels, size = layout.size;
    if (layout.channels_last) {
        if (!dense)
            rows.sum_all_rows(threads);
        parallel_blocks(channels, channel_block(channels, threads), threads, [=](ptrdiff_t start, ptrdiff_t width) {
            make_moments(rows, start, width, settings, moments);
        });
        normalize(layout, x, moments.factors(), epilogue, y, threads);
        return;
    }
    block = cache_block<T>(layout, block, threads);
    parallel_blocks(channels, block, threads, [=](ptrdiff_t start, ptrdiff_t width) {
        for (ptrdiff_t n = 0; n < layout.samples; n++)
            for (ptrdiff_t c = start; c < start + width; c++)
                rows.sum_row(n * channels + c, y + (n * channels + c) * size);
        make_moments(rows, start, width, settings, moments);
        RoundedNormalizeFactors<T> factors(moments.factors().at(start), width);
        for (ptrdiff_t n = 0; n < layout.samples; n++)
            for (ptrdiff_t i = 0; i < width; i++) {
                ptrdiff_t at = (n * channels + start + i) * size;
                normalize_row(x + at, size, factors, i, epilogue.at(at), Result<T>(y + at), width * size);
            }
    });
}

template <class T>
void batch_norm_inference(
    Layout layout, const T *x, const double *mean, const double *var, const double *weight, const double *bias,
    double eps, const T *residual, bool relu, double *moments_5c, T *y, int threads)
{
    ChannelMoments moments(moments_5c, layout.channels);
    for (ptrdiff_t c = 0; c < layout.channels; c++) {
        moments.mean[c] = mean[c];
        moments.var[c] = var[c];
        moments.invstd[c] = 1 / std::sqrt(var[c] + eps);
    }
    moments.make_factors(weight, bias, 0, layout.channels);
    normalize(layout, x, moments.factors(), Epilogue<T>{residual, relu}, y, threads);
}

/* Make the gradients of up to 256 channels. */
template <class T>
inline void make_gradients(
    const Gradients<T> &rows, ptrdiff_t start, ptrdiff_t width, double count, bool exact, ChannelGradients gradients)
{
    double totals[2][CHANNEL_BLOCK];
    if (exact) {
        double absmax[2][CHANNEL_BLOCK];
        int64_t limbs[LIMBS * CHANNEL_BLOCK];
        rows.find_absmax(start, width, absmax[0], absmax[1]);
        rows.sum_exactly(start, width, absmax[0], absmax[1], {limbs, CHANNEL_BLOCK});
        for (int k = 0; k < 2; k++)
            totals_from_limbs({limbs, CHANNEL_BLOCK}, k, width, absmax[k], totals[k]);
    } else {
        rows.sum_float64(start, width, totals[0], totals[1]);
    }
    for (ptrdiff_t c = 0; c < width; c++)
        gradients.make(start + c, totals[0][c], totals[1][c], count);
}

template <class T>
void batch_norm_backward(
    Layout layout, const T *x, const T *dy, const unsigned char *mask, double count, double *moments_5c, bool exact,
    const T *y, ptrdiff_t block, double *rows_2nc, double *gradients_4c, T *g, T *dx, int threads)
{
    bool dense = exact && layout.channels_last && layout.size == 1;
    ptrdiff_t channels = layout.channels, size = layout.size;
    ChannelGradients gradients(ChannelMoments(moments_5c, channels), gradients_4c, channels);
    GradientFactors factors = gradients.factors();
    g = g ? g : dx;
    Gradients<T> rows(layout, x, y ? g : dy, factors.mean, 0, dense ? nullptr : rows_2nc);
    if (layout.channels_last) {
        if (y)
            relu_gradients(layout, y, dy, g, threads);
        if (!dense)
            rows.sum_all_rows(threads);
        parallel_blocks(channels, channel_block(channels, threads), threads, [=](ptrdiff_t start, ptrdiff_t width) {
            make_gradients(rows, start, width, count, exact, gradients);
        });
        input_gradient(layout, x, rows.dy, mask, factors, dx, threads);
        return;
    }
    block = cache_block<T>(layout, block, threads);
    parallel_blocks(channels, block, threads, [=](ptrdiff_t start, ptrdiff_t width) {
        for (ptrdiff_t n = 0; y && n < layout.samples; n++) {
            ptrdiff_t at = (n * channels + start) * size;
            relu_gradient(y + at, dy + at, width * size, g + at);
        }
        for (ptrdiff_t n = 0; n < layout.samples; n++)
            for (ptrdiff_t c = start; c < start + width; c++)
                rows.sum_row(n * channels + c, factors.mean[c], dx + (n * channels + c) * size);
        make_gradients(rows, start, width, count, exact, gradients);
        RoundedGradientFactors<T> rounded(factors.at(start), width);
        for (ptrdiff_t n = 0; n < layout.samples; n++)
            for (ptrdiff_t i = 0; i < width; i++) {
                ptrdiff_t at = (n * channels + start + i) * size;
                input_gradient_row(
                    x + at, rows.dy + at, offset(mask, n * size), size, rounded, i, Result<T>(dx + at),
                    width * size);
            }
    });
}

} // namespace syncbn

#endif
