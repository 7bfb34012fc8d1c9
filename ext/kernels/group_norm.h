/* Group and instance normalization: statistics of each sample's groups of neighbouring channels. */
#ifndef SYNCBN_GROUP_NORM_H
#define SYNCBN_GROUP_NORM_H

#include "gradients.h"
#include "inverse_std.h"
#include "moments.h"

namespace syncbn {

/* Arrays of a call. The rows of the forward are first x0, sum and square, and then the factors of y in their place. */
struct Groups {
    Layout layout;
    ptrdiff_t count; /* groups of a sample */
    ptrdiff_t width; /* channels of a group */
    const double *weight;
    double *mean, *scale, *bias;              /* rows_3nc: of each row, the factors of y */
    double *group_mean, *group_var, *invstd;  /* moments_3ng */

    Groups(Layout layout, ptrdiff_t count, const double *weight, double *rows_3nc, double *moments_3ng)
        : layout(layout), count(count), width(layout.channels / count), weight(weight), mean(rows_3nc),
          scale(rows_3nc + row_count()), bias(rows_3nc + 2 * row_count()), group_mean(moments_3ng),
          group_var(moments_3ng + layout.samples * count), invstd(moments_3ng + 2 * layout.samples * count)
    {
    }

    ptrdiff_t row_count() const
    {
        return layout.samples * layout.channels;
    }

    ptrdiff_t first_channel(ptrdiff_t group) const
    {
        return group % count * width;
    }

    double values() const
    {
        return (double)(width * layout.size);
    }

    RowMoments rows(ptrdiff_t row) const
    {
        return {mean + row, scale + row, bias + row};
    }
};

/* Whether all values of a group are equal. */
template <class T> inline bool is_constant_group(const Groups &groups, const T *x, ptrdiff_t group)
{
    const Layout &layout = groups.layout;
    ptrdiff_t c_stride = layout.channels_last ? 1 : layout.size, s_stride = layout.channels_last ? layout.channels : 1;
    const T *values = x + group / groups.count * layout.sample_values() + groups.first_channel(group) * c_stride;
    for (ptrdiff_t c = 0; c < groups.width; c++)
        for (ptrdiff_t s = 0; s < layout.size; s++)
            if (values[c * c_stride + s * s_stride] != values[0])
                return false;
    return true;
}

/* Combine the rows of a group, shifted by its first value; then write the factors of y in their place. */
template <class T>
inline void make_group_moments(const Groups &groups, const T *x, const double *bias, double eps, ptrdiff_t group)
{
    ptrdiff_t width = groups.width, size = groups.layout.size, channel = groups.first_channel(group);
    RowMoments rows = groups.rows(group * width);
    double origin = rows.x0[0], count = groups.values(), center = 0, m2 = 0;
    for (ptrdiff_t c = 0; c < width; c++)
        center += size * (rows.x0[c] - origin) + rows.sum[c];
    center = center / count;
    for (ptrdiff_t c = 0; c < width; c++) {
        double distance = (rows.x0[c] - origin) - center;
        m2 += rows.square[c] + 2 * distance * rows.sum[c] + size * distance * distance;
    }
    double var = (m2 > 0 || m2 != m2 ? m2 : 0) / count;
    double invstd = inverse_std(var + eps, [&] { return is_constant_group(groups, x, group); });
    groups.group_mean[group] = origin + center;
    groups.group_var[group] = var;
    groups.invstd[group] = invstd;
    for (ptrdiff_t c = 0; c < width; c++) {
        ptrdiff_t row = group * width + c;
        groups.mean[row] = origin + center;
        groups.scale[row] = invstd * groups.weight[channel + c];
        groups.bias[row] = bias[channel + c];
    }
}

template <class T>
void group_norm_forward(
    Layout layout, const T *x, ptrdiff_t count, const double *weight, const double *bias, double eps, double *rows_3nc,
    double *moments_3ng, T *y, int threads)
{
    Groups groups(layout, count, weight, rows_3nc, moments_3ng);
    Moments<T> rows(layout, x, nullptr, nullptr, rows_3nc);
    ptrdiff_t size = layout.size, channels = layout.channels, width = groups.width;
    if (!layout.channels_last) {
        parallel_for(layout.samples * count, threads, [=](ptrdiff_t group) {
            for (ptrdiff_t row = group * width; row < (group + 1) * width; row++)
                rows.sum_row(row, y + row * size);
            make_group_moments(groups, x, bias, eps, group);
            NormalizeFactors factors = {groups.mean, groups.scale, groups.bias};
            for_factor_blocks(group * width, width, [=](ptrdiff_t start, ptrdiff_t rows) {
                RoundedNormalizeFactors<T> rounded(factors.at(start), rows);
                for (ptrdiff_t i = 0; i < rows; i++) {
                    ptrdiff_t at = (start + i) * size;
                    normalize_row(x + at, size, rounded, i, Epilogue<T>{}, Result<T>(y + at), width * size);
                }
            });
        });
        return;
    }
    rows.sum_all_rows(threads);
    parallel_for(layout.samples * count, threads, [=](ptrdiff_t group) {
        make_group_moments(groups, x, bias, eps, group);
    });
    Result<T> result(layout, y);
    ptrdiff_t block = shared_block(layout.samples, size, threads);
    parallel_blocks(layout.samples, size, block, threads, [=](ptrdiff_t n, ptrdiff_t s, ptrdiff_t positions) {
        ptrdiff_t row = n * channels, at = (n * size + s) * channels;
        NormalizeFactors factors = {groups.mean + row, groups.scale + row, groups.bias + row};
        normalize_positions(x + at, positions, channels, factors, Epilogue<T>{}, result.at(at));
    });
}

/* factors_4nc: of each row the sums of dy and dy * (x - mean), and the factors b and c of dx. */
struct GroupGradients {
    double *sum, *product, *b, *c;

    GroupGradients(double *factors_4nc, ptrdiff_t rows)
        : sum(factors_4nc), product(factors_4nc + rows), b(factors_4nc + 2 * rows), c(factors_4nc + 3 * rows)
    {
    }
};

inline void make_group_factors(const Groups &groups, GroupGradients gradients, ptrdiff_t group)
{
    ptrdiff_t width = groups.width, row = group * width;
    const double *weight = groups.weight + groups.first_channel(group);
    double invstd = groups.invstd[group], count = groups.values(), sum = 0, product = 0;
    for (ptrdiff_t c = 0; c < width; c++) {
        sum += gradients.sum[row + c] * weight[c];
        product += gradients.product[row + c] * weight[c];
    }
    sum = invstd * sum / count;
    product = invstd * (invstd * (invstd * product)) / count; /* the cube might overflow */
    for (ptrdiff_t c = 0; c < width; c++) {
        gradients.b[row + c] = sum;
        gradients.c[row + c] = product;
    }
}

/* Sum the gradients of weight and bias over samples, in their order. */
inline void sum_group_parameters(const Groups &groups, GroupGradients gradients, double *dweight, double *dbias)
{
    for (ptrdiff_t c = 0; c < groups.layout.channels; c++)
        dweight[c] = dbias[c] = 0;
    for (ptrdiff_t group = 0; group < groups.layout.samples * groups.count; group++) {
        ptrdiff_t channel = groups.first_channel(group), row = group * groups.width;
        double invstd = groups.invstd[group];
        for (ptrdiff_t c = 0; c < groups.width; c++) {
            dweight[channel + c] += gradients.product[row + c] * invstd;
            dbias[channel + c] += gradients.sum[row + c];
        }
    }
}

template <class T>
void group_norm_backward(
    Layout layout, const T *x, const T *dy, ptrdiff_t count, const double *weight, double *rows_3nc,
    double *moments_3ng, double *factors_4nc, double *gradients_2c, T *dx, int threads)
{
    Groups groups(layout, count, weight, rows_3nc, moments_3ng);
    GroupGradients gradients(factors_4nc, groups.row_count());
    Gradients<T> rows(layout, x, dy, groups.mean, layout.channels, factors_4nc);
    ptrdiff_t size = layout.size, channels = layout.channels, width = groups.width;
    if (!layout.channels_last) {
        parallel_for(layout.samples * count, threads, [=](ptrdiff_t group) {
            for (ptrdiff_t row = group * width; row < (group + 1) * width; row++)
                rows.sum_row(row, groups.mean[row], dx + row * size);
            make_group_factors(groups, gradients, group);
            GradientFactors factors = {groups.mean, groups.scale, gradients.b, gradients.c};
            for_factor_blocks(group * width, width, [=](ptrdiff_t start, ptrdiff_t rows) {
                RoundedGradientFactors<T> rounded(factors.at(start), rows);
                for (ptrdiff_t i = 0; i < rows; i++) {
                    ptrdiff_t at = (start + i) * size;
                    input_gradient_row(x + at, dy + at, nullptr, size, rounded, i, Result<T>(dx + at), width * size);
                }
            });
        });
    } else {
        rows.sum_all_rows(threads);
        parallel_for(layout.samples * count, threads, [=](ptrdiff_t group) {
            make_group_factors(groups, gradients, group);
        });
        Result<T> result(layout, dx);
        ptrdiff_t block = shared_block(layout.samples, size, threads);
        parallel_blocks(layout.samples, size, block, threads, [=](ptrdiff_t n, ptrdiff_t s, ptrdiff_t positions) {
            ptrdiff_t row = n * channels, at = (n * size + s) * channels;
            GradientFactors factors = {groups.mean + row, groups.scale + row, gradients.b + row, gradients.c + row};
            input_gradient_positions(x + at, dy + at, nullptr, positions, channels, factors, result.at(at));
        });
    }
    sum_group_parameters(groups, gradients, gradients_2c, gradients_2c + channels);
}

} // namespace syncbn

#endif
