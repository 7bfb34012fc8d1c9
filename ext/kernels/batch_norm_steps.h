/* Steps of batch normalization, which one process makes in one call, and ranks in several with messages in between. */
#ifndef SYNCBN_BATCH_NORM_STEPS_H
#define SYNCBN_BATCH_NORM_STEPS_H

#include "channel_sums.h"
#include "column_sums.h"
#include "exact_moments.h"
#include "exact_totals.h"
#include "float64_sums.h"
#include "input_gradient.h"
#include "normalize.h"

namespace syncbn {

/* moments_5c: mean, var (biased), 1 / sqrt(var + eps), and the factors of y. */
struct ChannelMoments {
    double *mean, *var, *invstd, *scale, *bias;

    ChannelMoments(double *moments, ptrdiff_t channels)
        : mean(moments), var(moments + channels), invstd(moments + 2 * channels), scale(moments + 3 * channels),
          bias(moments + 4 * channels)
    {
    }

    /* Make the factors of y; weight is 1 and bias 0 where they are null. */
    void make_factors(const double *weight, const double *bias_values, ptrdiff_t start, ptrdiff_t width) const
    {
        for (ptrdiff_t c = start; c < start + width; c++) {
            scale[c] = weight ? weight[c] * invstd[c] : invstd[c];
            bias[c] = bias_values ? bias_values[c] : 0;
        }
    }

    NormalizeFactors factors() const
    {
        return {mean, scale, bias};
    }
};

/* Row sums and moments of a forward. Without rows (dense layers, exact) sums come straight from the columns. */
template <class T> struct Moments {
    Layout layout;
    const T *x;
    const unsigned char *mask; /* (N, S), or null: all values are selected */
    const double *counts;      /* selected values of each sample's rows; null if all are */
    RowMoments rows;           /* (3, N, C), or null */

    Moments(Layout layout, const T *x, const unsigned char *mask, const double *counts, double *rows_3nc)
        : layout(layout), x(x), mask(mask), counts(counts),
          rows{rows_3nc, offset(rows_3nc, layout.samples * layout.channels),
               offset(rows_3nc, 2 * layout.samples * layout.channels)}
    {
    }

    bool is_dense() const
    {
        return !rows.x0;
    }

    Rows block_rows(ptrdiff_t start) const
    {
        RowMoments block = rows.at(start);
        return {{block.x0, block.sum, block.square}, layout.channels, counts, layout.samples};
    }

    ptrdiff_t selected_in_row(ptrdiff_t n) const
    {
        return counts ? (ptrdiff_t)counts[n] : layout.size;
    }

    double max_row_count() const
    {
        return is_dense() ? 1 : max_count(counts, layout.samples);
    }

    /* Sum row n * C + c of channels-first memory. Meanwhile fetch the memory of its result (unless null). */
    void sum_row(ptrdiff_t row, const T *result) const
    {
        ptrdiff_t n = row / layout.channels;
        sum_moments(
            x + row * layout.size, x + layout.values(), offset(mask, n * layout.size), layout.size,
            selected_in_row(n), rows, row, result);
    }

    void sum_all_rows(int threads) const
    {
        if (!layout.channels_last) {
            parallel_for(layout.samples * layout.channels, threads, [*this](ptrdiff_t row) {
                sum_row(row, nullptr);
            });
            return;
        }
        ptrdiff_t channels = layout.channels, block = row_channel_block(layout.samples, channels, threads);
        parallel_blocks(layout.samples, channels, block, threads, [=](ptrdiff_t n, ptrdiff_t c, ptrdiff_t width) {
            sum_channel_moments(
                x + n * layout.sample_values() + c, channels, offset(mask, n * layout.size), layout.size,
                selected_in_row(n), width, is_streaming<T>(layout), rows.at(n * channels + c));
        });
    }

    void find_range(ptrdiff_t start, ptrdiff_t width, Range range) const
    {
        if (is_dense())
            find_column_range(x + start, layout.channels, mask, layout.samples, width, range);
        else
            find_row_range(block_rows(start), width, range);
    }

    void sum_exactly(ptrdiff_t start, ptrdiff_t width, double max_count, ConstRange range, Limbs limbs) const
    {
        if (!is_dense())
            sum_row_moments(block_rows(start), max_count, width, range, limbs);
        else if (max_count <= 1)
            sum_column_moments(x + start, layout.channels, mask, layout.samples, width, range, limbs);
        else
            sum_columns_among_rows(
                x + start, layout.channels, mask, layout.samples, max_count, width, range, limbs);
    }
};

/* Normalize all values. */
template <class T>
inline void normalize(
    const Layout &layout, const T *x, NormalizeFactors factors, Epilogue<T> epilogue, T *y, int threads)
{
    if (layout.channels_last) {
        ptrdiff_t channels = layout.channels, block = position_block(channels);
        parallel_blocks(layout.positions(), block, threads, [=](ptrdiff_t start, ptrdiff_t count) {
            ptrdiff_t at = start * channels;
            normalize_positions(x + at, count, channels, factors, epilogue.at(at), y + at);
        });
    } else {
        parallel_for(layout.samples * layout.channels, threads, [=](ptrdiff_t row) {
            ptrdiff_t c = row % layout.channels, at = row * layout.size;
            normalize_row(
                x + at, layout.size, factors.mean[c], factors.scale[c], factors.bias[c], epilogue.at(at), y + at, 0);
        });
    }
}

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
        sum_gradients(x + at, x + end, dy + at, dy + end, layout.size, row_mean, rows.at(row), result);
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
    parallel_blocks(layout.values(), POSITION_BLOCK, threads, [=](ptrdiff_t start, ptrdiff_t count) {
        relu_gradient(y + start, dy + start, count, g + start);
    });
}

/* Find all of dx; `mask` (N, S) selects the values that gradients of mean and variance flow to. */
template <class T>
inline void input_gradient(
    const Layout &layout, const T *x, const T *dy, const unsigned char *mask, GradientFactors factors, T *dx,
    int threads)
{
    if (layout.channels_last) {
        ptrdiff_t channels = layout.channels, block = position_block(channels);
        parallel_blocks(layout.positions(), block, threads, [=](ptrdiff_t start, ptrdiff_t count) {
            ptrdiff_t at = start * channels;
            input_gradient_positions(x + at, dy + at, offset(mask, start), count, channels, factors, dx + at);
        });
    } else {
        parallel_for(layout.samples * layout.channels, threads, [=](ptrdiff_t row) {
            ptrdiff_t n = row / layout.channels, c = row % layout.channels, at = row * layout.size;
            input_gradient_row(
                x + at, dy + at, offset(mask, n * layout.size), layout.size, factors.mean[c], factors.a[c],
                factors.b[c], factors.c[c], dx + at, 0);
        });
    }
}

} // namespace syncbn

#endif
