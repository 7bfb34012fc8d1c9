/* Layer and root-mean-square normalization: statistics of a row of features, each with a weight of its own. */
#ifndef SYNCBN_LAYER_NORM_H
#define SYNCBN_LAYER_NORM_H

#include "input_gradient.h"
#include "inverse_std.h"
#include "normalize.h"
#include "row_sums.h"

namespace syncbn {

enum { ROW_BLOCK = 8 }; /* rows whose gradients of weight and bias are summed in registers */

/* Factors of a row, in numbers of type A: y = ((x - mean) * scale + shift) * weight + bias, where shift takes what the
   mean loses, and dx = scale * weight * dy - (b + c * (x - mean)). */
template <class A> struct FeatureFactors {
    A mean, scale, shift, b, c;
};

/* Round the factors of a row; the exact ones have no shift. */
template <class A> inline FeatureFactors<A> round_factors(const FeatureFactors<double> &exact)
{
    A mean = (A)exact.mean;
    double lost = mean - exact.mean;
    return {mean, (A)exact.scale, (A)(lost * exact.scale), (A)(exact.b + lost * exact.c), (A)exact.c};
}

/* Whether the type of the values holds the factors of a row. Products of its scale with a weight lose no digits. */
template <class T> inline bool are_held(const FeatureFactors<double> &exact)
{
    return std::is_same_v<T, double>
           || (std::fabs(exact.mean) < 0x1p100 && std::fabs(exact.b) < 0x1p100 && float32_holds(exact.scale, 76)
               && float32_holds(exact.c));
}

template <class T> inline bool are_held(const T *weight, ptrdiff_t features)
{
    return std::is_same_v<T, double>
           || std::all_of(weight, weight + features, [](T value) { return float32_holds(value, 50); });
}

/* Whether all values are equal to `value`. */
template <class T> inline bool is_constant_row(const T *x, ptrdiff_t features, T value)
{
    return std::all_of(x, x + features, [=](T other) { return other == value; });
}

/* Normalize a row. Return false after a result that is not finite: the product may overflow where y does not. */
template <class A, class T>
inline bool normalize_features(
    const T *x, ptrdiff_t features, FeatureFactors<A> factors, const T *weight, const T *bias, T *y)
{
    bool finite = true;
    for_each_vector<A>(features, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
        VectorOf<A> value = (load<A>(x + i, n) - factors.mean) * factors.scale + factors.shift;
        value = value * load<A>(weight + i, n) + load<A>(bias + i, n);
        finite &= all_finite(value);
        store<A>(y + i, value, n);
    });
    return finite;
}

/* moments_2r: the mean that is subtracted (0 unless centered), and 1 / sqrt(mean of (x - mean)^2 + eps). */
template <class T>
void layer_norm_forward(
    ptrdiff_t rows, ptrdiff_t features, const T *x, const T *weight, const T *bias, double eps, bool centered,
    double *moments_2r, T *y, int threads)
{
    const T *end = x + rows * features;
    bool weights_held = are_held(weight, features);
    parallel_for(rows, threads, [=](ptrdiff_t r) {
        const T *row = x + r * features;
        double x0 = 0, sum, square, mean = 0, var;
        if (centered) {
            sum_moments<T>(row, end, nullptr, features, features, {&x0, &sum, &square}, 0, nullptr);
            double shift = sum / features;
            mean = x0 + shift;
            var = square / features - shift * shift;
            var = var > 0 || var != var ? var : 0;
        } else {
            sum_values<double>(GradientTerms<T>{row, end, row, end}, 0, features, 0.0, &sum, &square, (T *)nullptr);
            var = square / features;
        }
        double scale = inverse_std(var + eps, [&] { return is_constant_row(row, features, centered ? row[0] : 0); });
        moments_2r[r] = mean;
        moments_2r[rows + r] = scale;
        T *result = y + r * features;
        FeatureFactors<double> exact = {mean, scale, 0, 0, 0};
        bool held = weights_held && are_held<T>(exact);
        if (!(held && normalize_features(row, features, round_factors<T>(exact), weight, bias, result)))
            normalize_features(row, features, exact, weight, bias, result);
    });
}

/* Rows whose backward is made together. */
template <class T> struct FeatureRows {
    const T *x, *x_end, *dy, *dy_end;
    ptrdiff_t rows, features;
    const T *weight;
    double *dweight, *dbias;
    T *dx;
};

/* Find dx of up to 16 features from i, and add their gradients of weight and bias. Return false, with nothing added,
   after a number that is not finite. */
template <class A, class Loader, class T>
SYNCBN_ALWAYS_INLINE inline bool feature_gradients(
    const FeatureRows<T> &block, const FeatureFactors<A> *factors, ptrdiff_t i, Loader loader)
{
    Lanes<A> weight = loader.load(block.weight + i, block.weight + block.features);
    Lanes<A> products = broadcast<A>(0), sums = broadcast<A>(0);
    bool finite = true;
    for (ptrdiff_t r = 0; r < block.rows; r++) {
        ptrdiff_t at = r * block.features + i;
        Lanes<A> scale = broadcast(factors[r].scale), dy = loader.load(block.dy + at, block.dy_end);
        Lanes<A> deviation = loader.load(block.x + at, block.x_end) - broadcast(factors[r].mean);
        products = products + dy * (deviation * scale + broadcast(factors[r].shift));
        sums = sums + dy;
        Lanes<A> bracket = broadcast(factors[r].b) + broadcast(factors[r].c) * deviation;
        Lanes<A> dx = scale * weight * dy - bracket;
        finite &= all_finite(loader.keep(dx));
        loader.store(block.dx + at, dx);
    }
    if (!(finite && all_finite(loader.keep(products)) && all_finite(loader.keep(sums))))
        return false;
    A dweight[LANES], dbias[LANES];
    store_lanes(dweight, products);
    store_lanes(dbias, sums);
    for (ptrdiff_t j = 0; j < loader.size(); j++) {
        block.dweight[i + j] += dweight[j];
        block.dbias[i + j] += dbias[j];
    }
    return true;
}

/* The same for all features; in float64 where the type of the values does not hold the weights (`held` is false), the
   factors or a result. */
template <class T>
inline void feature_gradients(const FeatureRows<T> &block, const FeatureFactors<double> *exact, bool held)
{
    FeatureFactors<T> factors[ROW_BLOCK];
    for (ptrdiff_t r = 0; r < block.rows; r++) {
        factors[r] = round_factors<T>(exact[r]);
        held = held && are_held<T>(exact[r]);
    }
    for_all_lanes<T>(block.features, [&](ptrdiff_t i, auto loader) SYNCBN_ALWAYS_INLINE {
        if (!(held && feature_gradients(block, factors, i, loader)))
            feature_gradients(block, exact, i, PartialLanes<double>{std::min<ptrdiff_t>(LANES, block.features - i)});
    });
}

/* partial_2pd: the gradients of weight and bias, summed over the rows of each of P parts; gradients_2d: their sums over
   the parts, in their order. */
template <class T>
void layer_norm_backward(
    ptrdiff_t rows, ptrdiff_t features, const T *x, const T *dy, const T *weight, bool centered,
    const double *moments_2r, ptrdiff_t parts, double *partial_2pd, double *gradients_2d, T *dx, int threads)
{
    const T *x_end = x + rows * features, *dy_end = dy + rows * features;
    bool weights_held = are_held(weight, features);
    parallel_for(parts, threads, [=](ptrdiff_t part) {
        double *dweight = partial_2pd + part * features, *dbias = partial_2pd + (parts + part) * features;
        std::fill_n(dweight, features, 0);
        std::fill_n(dbias, features, 0);
        ptrdiff_t end = (part + 1) * rows / parts;
        for (ptrdiff_t start = part * rows / parts; start < end; start += ROW_BLOCK) {
            FeatureFactors<double> factors[ROW_BLOCK];
            ptrdiff_t count = std::min<ptrdiff_t>(ROW_BLOCK, end - start), first = start * features;
            for (ptrdiff_t r = 0; r < count; r++) {
                ptrdiff_t at = first + r * features;
                double mean = moments_2r[start + r], scale = moments_2r[rows + start + r], sum, product;
                WeightedGradientTerms<T> terms = {x + at, x_end, dy + at, dy_end, weight, weight + features};
                sum_gradients(terms, features, mean, {&sum, &product}, (const T *)nullptr);
                double b = centered ? scale * sum / features : 0;
                double c = scale * (scale * (scale * product)) / features; /* the cube might overflow */
                factors[r] = {mean, scale, 0, b, c};
            }
            feature_gradients<T>(
                {x + first, x_end, dy + first, dy_end, count, features, weight, dweight, dbias, dx + first}, factors,
                weights_held);
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
