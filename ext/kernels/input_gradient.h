/* Application of the backward: dx = a * dy - (b + c * (x - mean)), in the type of the values; in float64, rounded once,
   where that type holds neither the factors nor the result. */
#ifndef SYNCBN_INPUT_GRADIENT_H
#define SYNCBN_INPUT_GRADIENT_H

#include "normalize.h"

namespace syncbn {

/* Factors of dx, one for each channel. */
template <class A> struct GradientFactorsOf {
    const A *mean, *a, *b, *c;

    GradientFactorsOf at(ptrdiff_t i) const
    {
        return {mean + i, a + i, b + i, c + i};
    }

    /* `through` is false where no gradient flows through mean and variance. */
    template <class T> SYNCBN_ALWAYS_INLINE T input_gradient(T x, T dy, ptrdiff_t i, bool through) const
    {
        return (T)(through ? a[i] * dy - (b[i] + c[i] * (x - mean[i])) : a[i] * dy);
    }
};

typedef GradientFactorsOf<double> GradientFactors;

/* The factors of up to 2048 channels in the type of the values; b takes what the mean loses. */
template <class T> struct RoundedGradientFactors;

template <> struct RoundedGradientFactors<double> : GradientFactors {
    static constexpr bool some_lost = false;

    RoundedGradientFactors(GradientFactors exact, ptrdiff_t) : GradientFactors(exact)
    {
    }
};

template <> struct RoundedGradientFactors<float> : GradientFactorsOf<float> {
    float values[4][FACTOR_BLOCK];
    GradientFactors exact;
    bool some_lost = false; /* float32 does not hold the factors of some channel */

    RoundedGradientFactors(const RoundedGradientFactors &) = delete; /* it has pointers to its own values */
    RoundedGradientFactors(GradientFactors exact, ptrdiff_t width)
        : GradientFactorsOf{values[0], values[1], values[2], values[3]}, exact(exact)
    {
        for (ptrdiff_t i = 0; i < width; i++) {
            values[0][i] = (float)exact.mean[i];
            values[1][i] = (float)exact.a[i];
            values[2][i] = (float)shifted_b(i);
            values[3][i] = (float)exact.c[i];
        }
        int64_t count = 0;
        for (ptrdiff_t i = 0; i < width; i++)
            count += lost(i);
        some_lost = count != 0;
    }

    bool lost(ptrdiff_t i) const
    {
        return !(std::fabs(exact.mean[i]) < 0x1p100 && std::fabs(shifted_b(i)) < 0x1p100 && float32_holds(exact.a[i])
                 && float32_holds(exact.c[i]));
    }

  private:
    double shifted_b(ptrdiff_t i) const
    {
        return exact.b[i] - (exact.mean[i] - (float)exact.mean[i]) * exact.c[i];
    }
};

/* Find the gradient of what relu was applied to: dy where y > 0, else 0. */
template <class T>
inline void relu_gradient(const T *__restrict y, const T *__restrict dy, ptrdiff_t count, T *__restrict g)
{
    for (ptrdiff_t i = 0; i < count; i++)
        g[i] = y[i] > 0 ? dy[i] : 0;
}

/* Find dx one by one: value i is of channel channel_of(i). In float32, those that are not finite are found again in
   float64: a * dy may overflow where dx does not. */
template <class T, class ChannelOf>
__attribute__((noinline)) void input_gradient_one_by_one(
    const T *x, const T *dy, const unsigned char *mask, ptrdiff_t count, const RoundedGradientFactors<T> &factors,
    ChannelOf channel_of, T *dx)
{
    for (ptrdiff_t k = 0; k < count; k++) {
        ptrdiff_t i = channel_of(k);
        bool through = !mask || mask[k];
        T value = factors.input_gradient(x[k], dy[k], i, through);
        if constexpr (std::is_same_v<T, float>)
            if (factors.lost(i) || !std::isfinite(value))
                value = factors.exact.input_gradient(x[k], dy[k], i, through);
        dx[k] = value;
    }
}

/* Find dx of a row of `count` values of channel i, without the bracket where the mask (unless null) is 0. Meanwhile
   fetch the values at x and dy + prefetch_distance (0: none). dy may be dx. */
template <class T>
inline void input_gradient_row(
    const T *x, const T *dy, const unsigned char *mask, ptrdiff_t count, const RoundedGradientFactors<T> &factors,
    ptrdiff_t i, Result<T> dx, ptrdiff_t prefetch_distance)
{
    auto channel = [=](ptrdiff_t) { return i; };
    if (mask || factors.some_lost)
        return input_gradient_one_by_one(x, dy, mask, count, factors, channel, dx.data);
    T mean = factors.mean[i], a = factors.a[i], b = factors.b[i], c = factors.c[i];
    auto apply = [&](ptrdiff_t start, ptrdiff_t values) SYNCBN_ALWAYS_INLINE {
        for_each_vector<T>(values, [&](ptrdiff_t k, int n) SYNCBN_ALWAYS_INLINE {
            ptrdiff_t at = start + k;
            VectorOf<T> value = a * load<T>(dy + at, n) - (b + c * (load<T>(x + at, n) - mean));
            if (all_finite(value))
                dx.store(at, value, n);
            else
                input_gradient_one_by_one(x + at, dy + at, nullptr, n, factors, channel, dx.data + at);
        });
    };
    constexpr ptrdiff_t line = CACHE_LINE / sizeof(T);
    ptrdiff_t at = 0;
    if (prefetch_distance)
        for (; at + line <= count; at += line) {
            prefetch_for_reading(x + prefetch_distance + at);
            prefetch_for_reading(dy + prefetch_distance + at);
            apply(at, line);
        }
    apply(at, count - at);
    dx.finish();
}

/* Find dx of neighbouring positions of channels-last memory, without the bracket where their mask (unless null) is
   0. */
template <class T>
inline void input_gradient_positions(
    const T *x, const T *dy, const unsigned char *mask, ptrdiff_t positions, ptrdiff_t channels, GradientFactors exact,
    Result<T> dx)
{
    for (ptrdiff_t start = 0; start < channels; start += FACTOR_BLOCK) {
        ptrdiff_t width = std::min<ptrdiff_t>(FACTOR_BLOCK, channels - start);
        RoundedGradientFactors<T> factors(exact.at(start), width);
        for (ptrdiff_t position = 0; position < positions; position++) {
            ptrdiff_t first = position * channels + start;
            bool through = !mask || mask[position];
            auto one_by_one = [&](ptrdiff_t i, ptrdiff_t n) {
                auto channel = [=](ptrdiff_t k) { return i + k; };
                unsigned char selected[FACTOR_BLOCK];
                std::fill_n(selected, n, through);
                input_gradient_one_by_one(
                    x + first + i, dy + first + i, selected, n, factors, channel, dx.data + first + i);
            };
            if (factors.some_lost || !through) {
                one_by_one(0, width);
                continue;
            }
            for_each_vector<T>(width, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
                VectorOf<T> deviation = load<T>(x + first + i, n) - load<T>(factors.mean + i, n);
                VectorOf<T> bracket = load<T>(factors.b + i, n) + load<T>(factors.c + i, n) * deviation;
                VectorOf<T> value = load<T>(factors.a + i, n) * load<T>(dy + first + i, n) - bracket;
                if (all_finite(value))
                    dx.store(first + i, value, n);
                else
                    one_by_one(i, n);
            });
        }
    }
    dx.finish();
}

} // namespace syncbn

#endif
