/* Application of the forward: y = (x - mean) * scale + bias, in the type of the values; in float64, rounded once, where
   that type does not hold the factors. */
#ifndef SYNCBN_NORMALIZE_H
#define SYNCBN_NORMALIZE_H

#include "range.h"
#include "result.h"
#include <cmath>

namespace syncbn {

/* Factors of y, one for each channel. */
template <class A> struct NormalizeFactorsOf {
    const A *mean, *scale, *bias;

    NormalizeFactorsOf at(ptrdiff_t c) const
    {
        return {mean + c, scale + c, bias + c};
    }

    template <class T> SYNCBN_ALWAYS_INLINE T normalize(T value, ptrdiff_t c) const
    {
        return (T)((value - mean[c]) * scale[c] + bias[c]);
    }
};

typedef NormalizeFactorsOf<double> NormalizeFactors;

enum { FACTOR_BLOCK = 2048 }; /* channels whose rounded factors are made together: with values they fit a cache */

/* Call body(start, count) for blocks of the `count` factors from `start`. */
template <class Body> inline void for_factor_blocks(ptrdiff_t start, ptrdiff_t count, Body body)
{
    for (ptrdiff_t at = 0; at < count; at += FACTOR_BLOCK)
        body(start + at, std::min<ptrdiff_t>(FACTOR_BLOCK, count - at));
}

/* Whether float32 holds a factor: it is 0 or within 2^-exponent and 2^exponent, so that products lose no digits. */
SYNCBN_ALWAYS_INLINE inline bool float32_holds(double factor, int exponent = 100)
{
    double magnitude = std::fabs(factor), largest = power_of_two(EXPONENT_BIAS + exponent);
    return (1 / largest < magnitude && magnitude < largest) || magnitude == 0;
}

/* The factors of up to 2048 channels in the type of the values. With the mean as float32, x - mean is exact where it
   cancels; the bias takes what the mean loses. */
template <class T> struct RoundedNormalizeFactors;

template <> struct RoundedNormalizeFactors<double> : NormalizeFactors {
    static constexpr bool some_lost = false;

    RoundedNormalizeFactors(NormalizeFactors exact, ptrdiff_t) : NormalizeFactors(exact)
    {
    }

    bool lost(ptrdiff_t) const
    {
        return false;
    }
};

template <> struct RoundedNormalizeFactors<float> : NormalizeFactorsOf<float> {
    float values[3][FACTOR_BLOCK];
    NormalizeFactors exact;
    bool some_lost = false; /* float32 does not hold the factors of some channel */

    RoundedNormalizeFactors(const RoundedNormalizeFactors &) = delete; /* it has pointers to its own values */
    RoundedNormalizeFactors(NormalizeFactors exact, ptrdiff_t width)
        : NormalizeFactorsOf{values[0], values[1], values[2]}, exact(exact)
    {
        for (ptrdiff_t c = 0; c < width; c++) {
            values[0][c] = (float)exact.mean[c];
            values[1][c] = (float)exact.scale[c];
            values[2][c] = (float)shifted_bias(c);
        }
        int64_t count = 0;
        for (ptrdiff_t c = 0; c < width; c++)
            count += lost(c);
        some_lost = count != 0;
    }

    bool lost(ptrdiff_t c) const
    {
        return !(std::fabs(exact.mean[c]) < 0x1p100 && std::fabs(shifted_bias(c)) < 0x1p100
                 && float32_holds(exact.scale[c]));
    }

  private:
    double shifted_bias(ptrdiff_t c) const
    {
        return exact.bias[c] - (exact.mean[c] - (float)exact.mean[c]) * exact.scale[c];
    }
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

/* Store n results from value i on, with the residual at residual + i. */
template <bool has_residual, bool relu, class T>
SYNCBN_ALWAYS_INLINE inline void store_result(VectorOf<T> result, const T *residual, Result<T> y, ptrdiff_t i, int n)
{
    if (has_residual)
        result += load<T>(residual + i, n);
    if (relu)
        result = rectify(result);
    y.store(i, result, n);
}

/* Normalize values whose factors float32 does not hold, and their neighbours: value i is of channel channel_of(i). */
template <class T, class ChannelOf>
__attribute__((noinline)) void normalize_one_by_one(
    const T *x, ptrdiff_t count, const RoundedNormalizeFactors<T> &factors, ChannelOf channel_of, Epilogue<T> epilogue,
    T *y)
{
    if constexpr (std::is_same_v<T, float>)
        for (ptrdiff_t i = 0; i < count; i++) {
            ptrdiff_t c = channel_of(i);
            T result = factors.lost(c) ? factors.exact.normalize(x[i], c) : factors.normalize(x[i], c);
            if (epilogue.residual)
                result += epilogue.residual[i];
            y[i] = epilogue.relu && result <= 0 ? 0 : result;
        }
}

/* Normalize a row of `count` values of channel c. Meanwhile fetch the values at x + prefetch_distance (0: none). */
template <class T>
inline void normalize_row(
    const T *x, ptrdiff_t count, const RoundedNormalizeFactors<T> &factors, ptrdiff_t c, Epilogue<T> epilogue,
    Result<T> y, ptrdiff_t prefetch_distance)
{
    if (factors.some_lost && factors.lost(c))
        return normalize_one_by_one(x, count, factors, [=](ptrdiff_t) { return c; }, epilogue, y.data);
    T mean = factors.mean[c], scale = factors.scale[c], bias = factors.bias[c];
    specialize(epilogue, [=](auto has_residual, auto relu) {
        auto normalize = [&](ptrdiff_t start, ptrdiff_t values) SYNCBN_ALWAYS_INLINE {
            for_each_vector<T>(values, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
                VectorOf<T> result = (load<T>(x + start + i, n) - mean) * scale + bias;
                store_result<has_residual(), relu()>(result, epilogue.residual, y, start + i, n);
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
    });
    y.finish();
}

/* Normalize neighbouring positions of channels-last memory, which share the factors of `channels` channels. */
template <class T>
inline void normalize_positions(
    const T *x, ptrdiff_t positions, ptrdiff_t channels, NormalizeFactors exact, Epilogue<T> epilogue,
    Result<T> y)
{
    for (ptrdiff_t start = 0; start < channels; start += FACTOR_BLOCK) {
        ptrdiff_t width = std::min<ptrdiff_t>(FACTOR_BLOCK, channels - start);
        RoundedNormalizeFactors<T> factors(exact.at(start), width);
        for (ptrdiff_t p = 0; factors.some_lost && p < positions; p++) {
            ptrdiff_t at = p * channels + start;
            normalize_one_by_one(x + at, width, factors, [](ptrdiff_t i) { return i; }, epilogue.at(at), y.data + at);
        }
        if (factors.some_lost)
            continue;
        specialize(epilogue, [=, &factors](auto has_residual, auto relu) {
            const T *mean = factors.mean, *scale = factors.scale, *bias = factors.bias;
            for (ptrdiff_t at = start; at < positions * channels; at += channels)
                for_each_vector<T>(width, [&](ptrdiff_t c, int n) SYNCBN_ALWAYS_INLINE {
                    VectorOf<T> result = load<T>(x + at + c, n) - load<T>(mean + c, n);
                    result = result * load<T>(scale + c, n) + load<T>(bias + c, n);
                    store_result<has_residual(), relu()>(result, epilogue.residual, y, at + c, n);
                });
        });
    }
    y.finish();
}

} // namespace syncbn

#endif
