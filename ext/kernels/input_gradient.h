/* Application of the backward: dx = a * dy - (b + c * (x - mean)), computed in float64 and rounded once. */
#ifndef SYNCBN_INPUT_GRADIENT_H
#define SYNCBN_INPUT_GRADIENT_H

#include "normalize.h"

namespace syncbn {

/* Factors of dx, one for each channel. */
struct GradientFactors {
    const double *mean, *a, *b, *c;
};

/* Find the gradient of what relu was applied to: dy where y > 0, else 0. */
template <class T>
inline void relu_gradient(const T *__restrict y, const T *__restrict dy, ptrdiff_t count, T *__restrict g)
{
    for (ptrdiff_t i = 0; i < count; i++)
        g[i] = y[i] > 0 ? dy[i] : 0;
}

/* Find dx of a row of `count` values, without the bracket where the mask (unless null) is 0. Meanwhile fetch the values
   at x and dy + prefetch_distance (0: none). dy may be dx. */
template <class T>
inline void input_gradient_row(
    const T *x, const T *dy, const unsigned char *mask, ptrdiff_t count, double mean, double a, double b, double c,
    T *dx, ptrdiff_t prefetch_distance)
{
    ptrdiff_t at = 0;
    if (mask) {
        for (; at < count; at++)
            dx[at] = (T)(mask[at] ? a * dy[at] - (b + c * (x[at] - mean)) : a * dy[at]);
        return;
    }
    auto apply = [&](ptrdiff_t start, ptrdiff_t values) SYNCBN_ALWAYS_INLINE {
        for_each_vector(values, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
            Vector value = a * load(dy + start + i, n) - (b + c * (load(x + start + i, n) - mean));
            store_rounded(dx + start + i, value, n);
        });
    };
    constexpr ptrdiff_t line = CACHE_LINE / sizeof(T);
    if (prefetch_distance)
        for (; at + line <= count; at += line) {
            prefetch_for_reading(x + prefetch_distance + at);
            prefetch_for_reading(dy + prefetch_distance + at);
            apply(at, line);
        }
    apply(at, count - at);
}

/* Find dx of neighbouring positions of channels-last memory, without the bracket where their mask (unless null) is
   0. */
template <class T>
inline void input_gradient_positions(
    const T *x, const T *dy, const unsigned char *mask, ptrdiff_t positions, ptrdiff_t width, GradientFactors factors,
    T *dx)
{
    auto apply = [&](ptrdiff_t start, auto unroll) SYNCBN_ALWAYS_INLINE {
        for_each_vector(width, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
            Vector mean = load(factors.mean + i, n), a = load(factors.a + i, n);
            Vector b = load(factors.b + i, n), c = load(factors.c + i, n);
            for (ptrdiff_t k = start + i; k < start + unroll() * width; k += width)
                store_rounded(dx + k, a * load(dy + k, n) - (b + c * (load(x + k, n) - mean)), n);
        });
    };
    ptrdiff_t position = 0;
    if (width > MANY_CHANNELS && !mask)
        for (; position + 4 <= positions; position += 4)
            apply(position * width, std::integral_constant<int, 4>());
    for (; position < positions; position++) {
        ptrdiff_t at = position * width;
        if (!mask || mask[position])
            apply(at, std::integral_constant<int, 1>());
        else
            for_each_vector(width, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
                store_rounded(dx + at + i, load(factors.a + i, n) * load(dy + at + i, n), n);
            });
    }
}

/* Add a row's dy * (x - mean) * scale and dy to the gradients of weight and bias. */
template <class T>
inline void add_feature_gradients(
    const T *x, const T *dy, ptrdiff_t features, double mean, double scale, double *dweight, double *dbias)
{
    for_each_vector(features, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
        Vector g = load(dy + i, n);
        store(dweight + i, load(dweight + i, n) + g * (load(x + i, n) - mean) * scale, n);
        store(dbias + i, load(dbias + i, n) + g, n);
    });
}

/* Find dx of a row of features: scale * weight * dy - (b + c * (x - mean)). */
template <class T>
inline void input_gradient_features(
    const T *x, const T *dy, ptrdiff_t features, double mean, double scale, const double *weight, double b, double c,
    T *dx)
{
    for_each_vector(features, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
        Vector value = scale * load(weight + i, n) * load(dy + i, n) - (b + c * (load(x + i, n) - mean));
        store_rounded(dx + i, value, n);
    });
}

} // namespace syncbn

#endif
