/* Steps of the backward of batch normalization: rows, totals, dx. */
#ifndef SYNCBN_GRADIENTS_H
#define SYNCBN_GRADIENTS_H

#include "channel_sums.h"
#include "column_sums.h"
#include "exact_totals.h"
#include "float64_sums.h"
#include "input_gradient.h"
#include "moments.h"

namespace syncbn {

/* gradients_4c: gradients of weight and bias, and the factors b and c of dx. */
struct ChannelGradients {
    ChannelMoments moments;
    double *dweight, *dbias, *b, *c;

    ChannelGradients(ChannelMoments moments, double *gradients, ptrdiff_t channels)
        : moments(moments), dweight(gradients), dbias(gradients + channels), b(gradients + 2 * channels),
          c(gradients + 3 * channels)
    {
    }

    /* Make the gradients of channel k from its sums of dy and dy * (x - mean). With a count of 0, mean and variance are
       constants, and nothing flows through them. */
    void make(ptrdiff_t k, double sum, double product, double count) const
    {
        double invstd = moments.invstd[k];
        dweight[k] = invstd * product;
        dbias[k] = sum;
        b[k] = count == 0 ? 0 : moments.scale[k] * (sum / count);
        c[k] = count == 0 ? 0 : moments.scale[k] * (invstd * (invstd * (product / count))); /* invstd^2 may overflow */
    }

    GradientFactors factors() const
    {
        return {moments.mean, moments.scale, b, c};
    }
};

/* Row sums and totals of a backward. Without rows (dense layers, exact) sums come straight from the columns. */
template <class T> struct Gradients {
    Layout layout;
    const T *x, *dy;
    const double *mean;
    ptrdiff_t mean_stride; /* from the means of one sample to those of the next: 0 where they share them */
    RowGradients rows;     /* (2, N, C), or null */

    Gradients(Layout layout, const T *x, const T *dy, const double *mean, ptrdiff_t mean_stride, double *rows_2nc)
        : layout(layout), x(x), dy(dy), mean(mean), mean_stride(mean_stride),
          rows{rows_2nc, offset(rows_2nc, layout.samples * layout.channels)}
    {
    }

    bool is_dense() const
    {
        return !rows.sum;
    }

    /* Sum row n * C + c of channels-first memory. Meanwhile fetch the memory of its result (unless null). */
    void sum_row(ptrdiff_t row, double row_mean, const T *result) const
    {
        ptrdiff_t at = row * layout.size, end = layout.values();
        GradientTerms<T> terms = {x + at, x + end, dy + at, dy + end};
        sum_gradients(terms, layout.size, row_mean, rows.at(row), result);
    }

    void sum_all_rows(int threads) const
    {
        if (!layout.channels_last) {
            parallel_for(layout.samples * layout.channels, threads, [*this](ptrdiff_t row) {
                sum_row(row, mean[mean_stride ? row : row % layout.channels], nullptr);
            });
            return;
        }
        ptrdiff_t channels = layout.channels, block = row_channel_block(layout.samples, channels, threads);
        parallel_blocks(layout.samples, channels, block, threads, [=](ptrdiff_t n, ptrdiff_t c, ptrdiff_t width) {
            ptrdiff_t at = n * layout.sample_values() + c;
            sum_channel_gradients(
                x + at, dy + at, channels, layout.size, width, is_streaming<T>(layout), mean + mean_stride * n + c,
                rows.at(n * channels + c));
        });
    }

    /* Find the largest magnitude of the terms of each channel's two sums. */
    void find_absmax(ptrdiff_t start, ptrdiff_t width, double *absmax, double *product_absmax) const
    {
        ptrdiff_t channels = layout.channels, samples = layout.samples;
        if (is_dense()) {
            find_column_absmax(x + start, dy + start, channels, samples, width, mean + start, absmax, product_absmax);
        } else {
            find_row_absmax(rows.sum + start, channels, samples, width, absmax);
            find_row_absmax(rows.product + start, channels, samples, width, product_absmax);
        }
    }

    void sum_exactly(
        ptrdiff_t start, ptrdiff_t width, const double *absmax, const double *product_absmax, Limbs limbs) const
    {
        ptrdiff_t channels = layout.channels, samples = layout.samples;
        if (is_dense()) {
            sum_column_gradients(
                x + start, dy + start, channels, samples, width, mean + start, absmax, product_absmax, limbs);
        } else {
            sum_row_values(rows.sum + start, channels, samples, width, absmax, limbs, 0);
            sum_row_values(rows.product + start, channels, samples, width, product_absmax, limbs, 1);
        }
    }

    void sum_float64(ptrdiff_t start, ptrdiff_t width, double *sum, double *product) const
    {
        add_rows(rows.sum + start, layout.channels, layout.samples, width, sum);
        add_rows(rows.product + start, layout.channels, layout.samples, width, product);
    }
};

/* Find the gradient of what relu was applied to, for all values. */
template <class T>
inline void relu_gradients(const Layout &layout, const T *y, const T *dy, T *g, int threads)
{
    parallel_blocks(layout.values(), VALUE_BLOCK, threads, [=](ptrdiff_t start, ptrdiff_t count) {
        relu_gradient(y + start, dy + start, count, g + start);
    });
}

/* Find all of dx; `mask` (N, S) selects the values that gradients of mean and variance flow to. */
template <class T>
inline void input_gradient(
    const Layout &layout, const T *x, const T *dy, const unsigned char *mask, GradientFactors factors, T *dx,
    int threads)
{
    Result<T> result(layout, dx);
    ptrdiff_t channels = layout.channels, size = layout.size;
    if (layout.channels_last) {
        ptrdiff_t block = shared_block(1, layout.positions(), threads);
        parallel_blocks(layout.positions(), block, threads, [=](ptrdiff_t start, ptrdiff_t count) {
            ptrdiff_t at = start * channels;
            input_gradient_positions(x + at, dy + at, offset(mask, start), count, channels, factors, result.at(at));
        });
    } else {
        parallel_channel_blocks(layout, threads, [=](ptrdiff_t c, ptrdiff_t width, ptrdiff_t start, ptrdiff_t samples) {
            RoundedGradientFactors<T> rounded(factors.at(c), width);
            for (ptrdiff_t n = start; n < start + samples; n++)
                for (ptrdiff_t i = 0; i < width; i++) {
                    ptrdiff_t at = (n * channels + c + i) * size;
                    input_gradient_row(x + at, dy + at, offset(mask, n * size), size, rounded, i, result.at(at), 0);
                }
        });
    }
}

} // namespace syncbn

#endif
