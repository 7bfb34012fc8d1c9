/* Layer and root-mean-square normalization: statistics of a row of features, each with a weight of its own. */
#ifndef SYNCBN_LAYER_NORM_H
#define SYNCBN_LAYER_NORM_H

#include "input_gradient.h"
#include "inverse_std.h"
#include "normalize.h"
#include "row_sums.h"

namespace syncbn {

/* Whether all values are equal to `value`. */
template <class T> inline bool is_constant_row(const T *x, ptrdiff_t features, T value)
{
    return std::all_of(x, x + features, [=](T other) { return other == value; });
}

/* moments_2r: the mean that is subtracted (0 unless centered), and 1 / sqrt(mean of (x - mean)^2 + eps). */
template <class T>
void layer_norm_forward(
    ptrdiff_t rows, ptrdiff_t features, const T *x, const double *weight, const double *bias, double eps,
    bool centered, double *moments_2r, T *y, int threads)
{
    const T *end = x + rows * features;
    parallel_for(rows, threads, [=](ptrdiff_t r) {
        const T *row = x + r * features;
        double x0 = 0, sum, square, mean = 0, var;
        if (centered) {
            sum_moments<T>(row, end, nullptr, features, {&x0, &sum, &square}, 0, nullptr);
            double shift = sum / features;
            mean = x0 + shift;
            var = square / features - shift * shift;
            var = var > 0 || var != var ? var : 0;
        } else {
            sum_gradients<T>(row, end, row, end, features, 0, {&sum, &square}, nullptr);
            var = square / features;
        }
        double scale = inverse_std(var + eps, [&] { return is_constant_row(row, features, centered ? row[0] : 0); });
        moments_2r[r] = mean;
        moments_2r[rows + r] = scale;
        normalize_features(row, features, mean, scale, weight, bias, y + r * features);
    });
}

/* partial_2pd: the gradients of weight and bias, summed over the rows of each of P parts; gradients_2d: their sums over
   the parts, in their order. */
template <class T>
void layer_norm_backward(
    ptrdiff_t rows, ptrdiff_t features, const T *x, const T *dy, const double *weight, bool centered,
    const double *moments_2r, ptrdiff_t parts, double *partial_2pd, double *gradients_2d, T *dx, int threads)
{
    const T *x_end = x + rows * features, *dy_end = dy + rows * features;
    parallel_for(parts, threads, [=](ptrdiff_t part) {
        double *dweight = partial_2pd + part * features, *dbias = partial_2pd + (parts + part) * features;
        std::fill_n(dweight, features, 0);
        std::fill_n(dbias, features, 0);
        for (ptrdiff_t r = part * rows / parts; r < (part + 1) * rows / parts; r++) {
            ptrdiff_t at = r * features;
            double mean = moments_2r[r], scale = moments_2r[rows + r], sum, product;
            WeightedGradientTerms<T> terms = {x + at, x_end, dy + at, dy_end, weight, weight + features};
            sum_row<WeightedGradientTerms<T>, T>(terms, features, mean, &sum, &product, nullptr);
            add_feature_gradients(x + at, dy + at, features, mean, scale, dweight, dbias);
            double b = centered ? scale * sum / features : 0;
            double c = scale * (scale * (scale * product)) / features; /* the cube might overflow */
            input_gradient_features(x + at, dy + at, features, mean, scale, weight, b, c, dx + at);
        }
    });
    for (int k = 0; k < 2; k++) {
        const double *partial = partial_2pd + k * parts * features;
        double *total = gradients_2d + k * features;
        std::copy_n(partial, features, total);
        for (ptrdiff_t part = 1; part < parts; part++)
            for (ptrdiff_t d = 0; d < features; d++)
                total[d] += partial[part * features + d];
    }
}

} // namespace syncbn

#endif
