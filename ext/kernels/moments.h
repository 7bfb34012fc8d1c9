/* Steps of the forward of batch normalization: rows, moments, y. One process makes them in one call, ranks in several
   calls with messages in between. */
#ifndef SYNCBN_MOMENTS_H
#define SYNCBN_MOMENTS_H

#include "channel_sums.h"
#include "column_sums.h"
#include "exact_moments.h"
#include "float64_sums.h"
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
                selected_in_row(n), width,
                is_streaming<T>(layout), rows.at(n * channels + c));
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
    Result<T> result(layout, y);
    ptrdiff_t channels = layout.channels, size = layout.size;
    if (layout.channels_last) {
        ptrdiff_t block = shared_block(1, layout.positions(), threads);
        parallel_blocks(layout.positions(), block, threads, [=](ptrdiff_t start, ptrdiff_t count) {
            ptrdiff_t at = start * channels;
            normalize_positions(x + at, count, channels, factors, epilogue.at(at), result.at(at));
        });
    } else {
        parallel_channel_blocks(layout, threads, [=](ptrdiff_t c, ptrdiff_t width, ptrdiff_t start, ptrdiff_t samples) {
            RoundedNormalizeFactors<T> rounded(factors.at(c), width);
            for (ptrdiff_t n = start; n < start + samples; n++)
                for (ptrdiff_t i = 0; i < width; i++) {
                    ptrdiff_t at = (n * channels + c + i) * size;
                    normalize_row(x + at, size, rounded, i, epilogue.at(at), result.at(at), 0);
                }
        });
    }
}

} // namespace syncbn

#endif
