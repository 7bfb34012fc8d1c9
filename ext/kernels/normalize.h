/* Application of the forward: y = (x - mean) * scale + bias, computed in float64 and rounded once. */
#ifndef SYNCBN_NORMALIZE_H
#define SYNCBN_NORMALIZE_H

#include "layout.h"
#include "vector.h"
#include <type_traits>

namespace syncbn {

enum { MANY_CHANNELS = 1024 }; /* with more than these, the factors of all channels do not fit the first-level cache */

/* Factors of y, one for each channel. */
struct NormalizeFactors {
    const double *mean, *scale, *bias;
};

/* Operations on the result in the same sweep: a residual is added (unless null), and negative values and -0 become
   +0. */
template <class T> struct Epilogue {
    const T *residual;
    bool relu;

    Epilogue at(ptrdiff_t i) const
    {
        return {offset(residual, i), relu};
    }
};

/* Call body(has_residual, relu) with constants, so that each combination becomes a loop of its own. */
template <class T, class Body> inline void specialize(Epilogue<T> epilogue, Body body)
{
    if (epilogue.residual && epilogue.relu)
        body(std::true_type(), std::true_type());
    else if (epilogue.residual)
        body(std::true_type(), std::false_type());
    else if (epilogue.relu)
        body(std::false_type(), std::true_type());
    else
        body(std::false_type(), std::false_type());
}

/* Store n results at y + i, with the residual at residual + i. */
template <bool has_residual, bool relu, class T>
SYNCBN_ALWAYS_INLINE inline void store_result(Vector value, const T *residual, T *y, ptrdiff_t i, int n)
{
    auto result = narrow(value, y);
    if (has_residual)
        result += load_unchanged(residual + i, n);
    if (relu)
        result = rectify(result);
    store(y + i, result, n);
}

template <bool has_residual, bool relu, class T>
inline void normalize_row_with(
    const T *x, ptrdiff_t count, double mean, double scale, double bias, const T *residual, T *y,
    ptrdiff_t prefetch_distance)
{
    auto normalize = [&](ptrdiff_t start, ptrdiff_t values) SYNCBN_ALWAYS_INLINE {
        for_each_vector(values, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
            Vector result = (load(x + start + i, n) - mean) * scale + bias;
            store_result<has_residual, relu>(result, residual, y, start + i, n);
        });
    };
    constexpr ptrdiff_t line = CACHE_LINE / sizeof(T);
    ptrdiff_t at = 0;
    if (prefetch_distance)
        for (; at + line <= count; at += line) {
            prefetch_for_reading(x + prefetch_distance + at);
            normalize(at, line);
        }
    normalize(at, count - at);
}

/* Normalize a row of `count` values. Meanwhile fetch the values at x + prefetch_distance (0: none). */
template <class T>
inline void normalize_row(
    const T *x, ptrdiff_t count, double mean, double scale, double bias, Epilogue<T> epilogue, T *y,
    ptrdiff_t prefetch_distance)
{
    specialize(epilogue, [=](auto has_residual, auto relu) {
        normalize_row_with<has_residual(), relu()>(
            x, count, mean, scale, bias, epilogue.residual, y, prefetch_distance);
    });
}

/* Normalize `positions` positions, four at a time where the factors leave no room in the first-level cache. */
template <bool has_residual, bool relu, class T>
inline void normalize_positions_with(
    const T *x, ptrdiff_t positions, ptrdiff_t width, NormalizeFactors factors, const T *residual, T *y)
{
    auto normalize = [&](ptrdiff_t start, auto unroll) SYNCBN_ALWAYS_INLINE {
        for_each_vector(width, [&](ptrdiff_t c, int n) SYNCBN_ALWAYS_INLINE {
            Vector mean = load(factors.mean + c, n), scale = load(factors.scale + c, n);
            Vector bias = load(factors.bias + c, n);
            for (ptrdiff_t k = start + c; k < start + unroll() * width; k += width)
                store_result<has_residual, relu>((load(x + k, n) - mean) * scale + bias, residual, y, k, n);
        });
    };
    ptrdiff_t at = 0, end = positions * width;
    if (width > MANY_CHANNELS)
        for (; at + 4 * width <= end; at += 4 * width)
            normalize(at, std::integral_constant<int, 4>());
    for (; at < end; at += width)
        normalize(at, std::integral_constant<int, 1>());
}

/* Normalize neighbouring positions of channels-last memory, which share the factors of `width` channels. */
template <class T>
inline void normalize_positions(
    const T *x, ptrdiff_t positions, ptrdiff_t width, NormalizeFactors factors, Epilogue<T> epilogue, T *y)
{
    specialize(epilogue, [=](auto has_residual, auto relu) {
        normalize_positions_with<has_residual(), relu()>(x, positions, width, factors, epilogue.residual, y);
    });
}

/* Normalize a row of features, each with a weight of its own: (x - mean) * scale * weight + bias. */
template <class T>
inline void normalize_features(
    const T *x, ptrdiff_t features, double mean, double scale, const double *weight, const double *bias, T *y)
{
    for_each_vector(features, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
        Vector value = (load(x + i, n) - mean) * scale * load(weight + i, n) + load(bias + i, n);
        store_rounded(y + i, value, n);
    });
}

} // namespace syncbn

#endif
