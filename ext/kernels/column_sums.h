/* Sums over columns, for dense layers: a row is one value, a channel a column of (N, C). The same steps as for
   rows, straight from the values. Values of neighbouring samples lie `stride` apart. */
#ifndef SYNCBN_COLUMN_SUMS_H
#define SYNCBN_COLUMN_SUMS_H

#include "fixed_point.h"
#include "layout.h"
#include "range.h"
#include "vector.h"
#include <limits>
#include <type_traits>

namespace syncbn {

/* Sums of bit patterns of neighbouring columns (see add_bits). The terms of float32 values are rounded to 2^-51 of the
   range, at the precision of float64; those of float64 values have a second part. */
template <class T> struct BitSums {
    uint64_t hi[CHANNEL_BLOCK], lo[CHANNEL_BLOCK];

    void initialize(ptrdiff_t width)
    {
        std::fill_n(hi, width, 0);
        std::fill_n(lo, width, 0);
    }

    void flush_to(int64_t *lower, int64_t *upper, const double *scale, ptrdiff_t terms, ptrdiff_t width) const
    {
        uint64_t no_lo = terms * bits_of(LO_MAGIC);
        for (ptrdiff_t c = 0; c < width; c++)
            if (scale[c] != 0)
                flush_bits(hi[c], sizeof(T) == sizeof(double) ? lo[c] : no_lo, terms, lower + c, upper + c);
    }
};

/* Add value + err; of float32 values, the rounding to INT_MAGIC alone. */
template <class T> inline void add_term(double value, double err, uint64_t *hi, uint64_t *lo)
{
    double rest = add_bits(value, INT_MAGIC, hi);
    if (sizeof(T) == sizeof(double))
        add_bits(rest + err, LO_MAGIC, lo);
}

/* Call body(n, k) for k = 4 samples from n at a time, so that the sums of a channel are loaded and stored once, and for
   the remainder one by one. k is a constant. */
template <class Body> SYNCBN_ALWAYS_INLINE inline void four_at_a_time(ptrdiff_t samples, Body body)
{
    ptrdiff_t n = 0;
    for (; n + 4 <= samples; n += 4)
        body(n, std::integral_constant<int, 4>());
    for (; n < samples; n++)
        body(n, std::integral_constant<int, 1>());
}

/* Call body(n) for each run of selected samples (mask may be null): body(start, count). */
template <class Body> inline void for_selected(const unsigned char *mask, ptrdiff_t start, ptrdiff_t count, Body body)
{
    if (!mask)
        return body(start, count);
    for (ptrdiff_t n = start; n < start + count; n++)
        if (mask[n])
            body(n, 1);
}

/* The largest and the smallest value; `non_finite` is not 0 after a value that is not finite. */
template <int samples, class T>
SYNCBN_ALWAYS_INLINE inline void add_to_range(
    const T *__restrict x, ptrdiff_t stride, T *__restrict max, T *__restrict min, T *__restrict non_finite,
    ptrdiff_t width)
{
    for (ptrdiff_t i = 0; i < width; i++) {
        T high = max[i], low = min[i], bad = non_finite[i];
        for (int k = 0; k < samples; k++) {
            T value = x[k * stride + i];
            high = value > high ? value : high;
            low = value < low ? value : low;
            bad += value * 0;
        }
        max[i] = high;
        min[i] = low;
        non_finite[i] = bad;
    }
}

/* Find the largest x and the largest -x of the selected samples; infinite where a value is not finite. */
template <class T>
inline void find_column_range(
    const T *x, ptrdiff_t stride, const unsigned char *mask, ptrdiff_t samples, ptrdiff_t width, Range range)
{
    T max[CHANNEL_BLOCK], min[CHANNEL_BLOCK], non_finite[CHANNEL_BLOCK];
    for (ptrdiff_t c = 0; c < width; c++) {
        max[c] = -INFINITY;
        min[c] = INFINITY;
        non_finite[c] = 0;
    }
    for_selected(mask, 0, samples, [&](ptrdiff_t start, ptrdiff_t count) {
        four_at_a_time(count, [&](ptrdiff_t n, auto k) SYNCBN_ALWAYS_INLINE {
            add_to_range<k()>(x + (start + n) * stride, stride, max, min, non_finite, width);
        });
    });
    for (ptrdiff_t c = 0; c < width; c++) {
        range.max[c] = non_finite[c] == 0 ? max[c] : INFINITY;
        range.negative_max[c] = -min[c];
    }
}

/* Add m = (x - center) * scale and m * m. */
template <int samples, class T>
SYNCBN_ALWAYS_INLINE inline void add_moments(
    const T *__restrict x, ptrdiff_t stride, const double *__restrict center, const double *__restrict scale,
    uint64_t *__restrict hi, uint64_t *__restrict lo, uint64_t *__restrict square_hi, uint64_t *__restrict square_lo,
    ptrdiff_t width)
{
    for (ptrdiff_t i = 0; i < width; i++) {
        uint64_t h = hi[i], l = lo[i], sh = square_hi[i], sl = square_lo[i];
        for (int k = 0; k < samples; k++) {
            double m = (x[k * stride + i] - center[i]) * scale[i], square = m * m;
            add_term<T>(m, 0, &h, &l);
            add_term<T>(square, sizeof(T) == sizeof(double) ? two_prod(m, m, square) : 0, &sh, &sl);
        }
        hi[i] = h;
        lo[i] = l;
        square_hi[i] = sh;
        square_lo[i] = sl;
    }
}

/* Sum m and m^2 of the selected samples, m = x - center of the range, scaled by its radius. */
template <class T>
inline void sum_column_moments(
    const T *x, ptrdiff_t stride, const unsigned char *mask, ptrdiff_t samples, ptrdiff_t width, ConstRange range,
    Limbs limbs)
{
    double center[CHANNEL_BLOCK], scale[CHANNEL_BLOCK];
    BitSums<T> m, square;
    for (ptrdiff_t c = 0; c < width; c++) {
        center[c] = range.center(c);
        scale[c] = inverse_scale_of(range.radius(c));
    }
    clear(limbs, 2, width);
    for (ptrdiff_t block = 0; block < samples; block += INT_TERMS) {
        m.initialize(width);
        square.initialize(width);
        ptrdiff_t terms = std::min<ptrdiff_t>(INT_TERMS, samples - block);
        for_selected(mask, block, terms, [&](ptrdiff_t start, ptrdiff_t count) {
            four_at_a_time(count, [&](ptrdiff_t n, auto k) SYNCBN_ALWAYS_INLINE {
                const T *values = x + (start + n) * stride;
                add_moments<k()>(values, stride, center, scale, m.hi, m.lo, square.hi, square.lo, width);
            });
        });
        terms = mask ? count_selected(mask + block, terms) : terms;
        m.flush_to(limbs.lower(0), limbs.upper(0), scale, terms, width);
        square.flush_to(limbs.lower(1), limbs.upper(1), scale, terms, width);
    }
    carry(limbs, 2, width);
}

/* A bound of |x - mean|, at most three times as large: it takes the mean rounded to T, and what that loses. */
template <class T> struct Deviation {
    T center[CHANNEL_BLOCK], lost[CHANNEL_BLOCK];

    Deviation(const double *mean, ptrdiff_t width)
    {
        for (ptrdiff_t c = 0; c < width; c++) {
            center[c] = (T)mean[c];
            double error = std::fabs(mean[c] - center[c]);
            lost[c] = (T)error;
            if (lost[c] == 0 && error > 0)
                lost[c] = std::numeric_limits<T>::denorm_min();
        }
    }

    SYNCBN_ALWAYS_INLINE T bound(T x, ptrdiff_t c) const
    {
        return std::abs(x - center[c]) + lost[c];
    }
};

/* Whether T held a product: a smaller one might have underflowed. */
inline bool is_held(double)
{
    return true;
}

inline bool is_held(float product)
{
    return 0x1p-100f <= product && product < INFINITY;
}

/* The largest |dy| and the largest bound of |dy * (x - mean)|; the total is not finite after a value that is not. */
template <int samples, class T>
SYNCBN_ALWAYS_INLINE inline void add_to_absmax(
    const T *__restrict x, const T *__restrict dy, ptrdiff_t stride, const Deviation<T> &deviation,
    T *__restrict absmax, T *__restrict product_absmax, T *__restrict total, ptrdiff_t width)
{
    for (ptrdiff_t i = 0; i < width; i++) {
        T max = absmax[i], product_max = product_absmax[i], sum = total[i];
        for (int k = 0; k < samples; k++) {
            T g = std::abs(dy[k * stride + i]), product = g * deviation.bound(x[k * stride + i], i);
            max = g > max ? g : max;
            product_max = product > product_max ? product : product_max;
            sum += product;
        }
        absmax[i] = max;
        product_absmax[i] = product_max;
        total[i] = sum;
    }
}

/* Find those of channel c, with products in float64 where T does not hold them; infinite after a value that is not
   finite. */
template <class T>
__attribute__((noinline)) void find_absmax_in_float64(
    const T *x, const T *dy, ptrdiff_t stride, ptrdiff_t samples, const Deviation<T> &deviation, double mean,
    ptrdiff_t c, double *absmax, double *product_absmax)
{
    for (ptrdiff_t n = 0; n < samples; n++) {
        T value = x[n * stride + c], g = std::abs(dy[n * stride + c]), bound = g * deviation.bound(value, c);
        double product = is_held(bound) ? (double)bound : std::fabs(g * (value - mean));
        absmax[c] = g < INFINITY ? std::max<double>(absmax[c], g) : INFINITY;
        product_absmax[c] = product < INFINITY ? std::max(product_absmax[c], product) : INFINITY;
    }
}

/* Find the largest |dy| and the largest bound of |dy * (x - mean)|; infinite where one is not finite. The bound of a
   product depends on that product alone, so the result is the same for each split of the samples. */
template <class T>
inline void find_column_absmax(
    const T *x, const T *dy, ptrdiff_t stride, ptrdiff_t samples, ptrdiff_t width, const double *mean, double *absmax,
    double *product_absmax)
{
    Deviation<T> deviation(mean, width);
    T max[CHANNEL_BLOCK] = {0}, product_max[CHANNEL_BLOCK] = {0}, total[CHANNEL_BLOCK] = {0};
    four_at_a_time(samples, [&](ptrdiff_t n, auto k) SYNCBN_ALWAYS_INLINE {
        add_to_absmax<k()>(x + n * stride, dy + n * stride, stride, deviation, max, product_max, total, width);
    });
    for (ptrdiff_t c = 0; c < width; c++) {
        absmax[c] = max[c];
        product_absmax[c] = product_max[c];
        if (!(total[c] < INFINITY) || (max[c] > 0 && !is_held(product_max[c]))) {
            absmax[c] = product_absmax[c] = 0;
            find_absmax_in_float64(x, dy, stride, samples, deviation, mean[c], c, absmax, product_absmax);
        }
    }
}

/* Add dy and dy * (x - mean), scaled. */
template <int samples, class T>
SYNCBN_ALWAYS_INLINE inline void add_gradients(
    const T *__restrict x, const T *__restrict dy, ptrdiff_t stride, const double *__restrict mean,
    const double *__restrict scale, const double *__restrict product_scale, uint64_t *__restrict hi,
    uint64_t *__restrict lo, uint64_t *__restrict product_hi, uint64_t *__restrict product_lo, ptrdiff_t width)
{
    for (ptrdiff_t i = 0; i < width; i++) {
        uint64_t h = hi[i], l = lo[i], ph = product_hi[i], pl = product_lo[i];
        for (int k = 0; k < samples; k++) {
            double g = dy[k * stride + i];
            add_term<T>(g * scale[i], 0, &h, &l);
            add_term<T>(g * (x[k * stride + i] - mean[i]) * product_scale[i], 0, &ph, &pl);
        }
        hi[i] = h;
        lo[i] = l;
        product_hi[i] = ph;
        product_lo[i] = pl;
    }
}

/* Sum dy and dy * (x - mean), scaled by the largest. */
template <class T>
inline void sum_column_gradients(
    const T *x, const T *dy, ptrdiff_t stride, ptrdiff_t samples, ptrdiff_t width, const double *mean,
    const double *absmax, const double *product_absmax, Limbs limbs)
{
    double scale[CHANNEL_BLOCK], product_scale[CHANNEL_BLOCK];
    BitSums<T> sum, product;
    for (ptrdiff_t c = 0; c < width; c++) {
        scale[c] = inverse_scale_of(absmax[c]);
        product_scale[c] = inverse_scale_of(product_absmax[c]);
    }
    clear(limbs, 2, width);
    for (ptrdiff_t block = 0; block < samples; block += INT_TERMS) {
        sum.initialize(width);
        product.initialize(width);
        ptrdiff_t terms = std::min<ptrdiff_t>(INT_TERMS, samples - block);
        four_at_a_time(terms, [&](ptrdiff_t n, auto k) SYNCBN_ALWAYS_INLINE {
            const T *values = x + (block + n) * stride, *gradients = dy + (block + n) * stride;
            add_gradients<k()>(
                values, gradients, stride, mean, scale, product_scale, sum.hi, sum.lo, product.hi, product.lo, width);
        });
        sum.flush_to(limbs.lower(0), limbs.upper(0), scale, terms, width);
        product.flush_to(limbs.lower(1), limbs.upper(1), product_scale, terms, width);
    }
    carry(limbs, 2, width);
}

} // namespace syncbn

#endif
