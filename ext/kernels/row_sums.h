/* Sums over rows, for the kernels that stop at them and for those that continue while x is in cache.

   A row is summed in 16 lanes (value s in lane s mod 16) that a fixed tree combines, so its sums depend on its values
   and S alone: not on the memory order, the instruction set or the neighbours. */
#ifndef SYNCBN_ROW_SUMS_H
#define SYNCBN_ROW_SUMS_H

#include "lanes.h"
#include "layout.h"
#include "row_terms.h"

namespace syncbn {

/* What is known of each row in the forward: x0, sum of x - x0 and sum of (x - x0)^2. x0 is the row's first value, or
   close to its mean. */
template <class Number> struct RowMomentsOf {
    Number *x0, *sum, *square;

    RowMomentsOf at(ptrdiff_t row) const
    {
        return {x0 + row, sum + row, square + row};
    }
};

typedef RowMomentsOf<double> RowMoments;

/* And in the backward: sum of dy and sum of dy * (x - mean). */
struct RowGradients {
    double *sum, *product;

    RowGradients at(ptrdiff_t row) const
    {
        return {sum + row, product + row};
    }
};

template <class A> struct WholeLanes {
    static constexpr ptrdiff_t size()
    {
        return LANES;
    }

    template <class T> SYNCBN_ALWAYS_INLINE Lanes<A> load(const T *p, const T *) const
    {
        return load_lanes<A>(p);
    }

    SYNCBN_ALWAYS_INLINE Lanes<A> keep(Lanes<A> terms) const
    {
        return terms;
    }

    template <class T> SYNCBN_ALWAYS_INLINE void store(T *p, Lanes<A> values) const
    {
        store_lanes(p, values);
    }
};

/* The first `count` < 16 lanes. */
template <class A> struct PartialLanes {
    ptrdiff_t count;

    ptrdiff_t size() const
    {
        return count;
    }

    template <class T> SYNCBN_ALWAYS_INLINE Lanes<A> load(const T *p, const T *end) const
    {
        if (end - p >= LANES)
            return load_lanes<A>(p);
        T buffer[LANES];
        for (ptrdiff_t j = 0; j < LANES; j++)
            buffer[j] = j < count ? p[j] : 0;
        return load_lanes<A>(buffer);
    }

    SYNCBN_ALWAYS_INLINE Lanes<A> keep(Lanes<A> terms) const
    {
        return first_lanes(terms, count);
    }

    template <class T> SYNCBN_ALWAYS_INLINE void store(T *p, Lanes<A> values) const
    {
        T buffer[LANES];
        store_lanes(buffer, values);
        std::copy_n(buffer, count, p);
    }
};

/* Call body(i, loader) for 16 of `count` values after the other, and for the remainder. */
template <class A, class Body> SYNCBN_ALWAYS_INLINE inline void for_all_lanes(ptrdiff_t count, Body body)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES)
        body(i, WholeLanes<A>());
    if (i < count)
        body(i, PartialLanes<A>{count - i});
}

/* Sum both terms of the values from `start` to `end`, in lanes of A. Meanwhile fetch the memory of `result` (unless
   null), which is written next. */
template <class A, class Terms, class T>
SYNCBN_ALWAYS_INLINE inline void sum_values(
    Terms terms, ptrdiff_t start, ptrdiff_t end, A center_value, A *sum, A *product, const T *result)
{
    Lanes<A> center = broadcast(center_value), sums = broadcast<A>(0), products = broadcast<A>(0), first, second;
    for_all_lanes<A>(end - start, [&](ptrdiff_t i, auto loader) SYNCBN_ALWAYS_INLINE {
        if (result)
            for (ptrdiff_t k = 0; k < LANES && loader.size() == LANES; k += CACHE_LINE / (ptrdiff_t)sizeof(T))
                prefetch_for_writing(result + start + i + k);
        terms.get(start + i, loader, center, first, second);
        sums = sums + first;
        products = products + second;
    });
    *sum = sum_lanes(sums);
    *product = sum_lanes(products);
}

/* Sum x - x0 and (x - x0)^2 over the selected values of a row, which lie `stride` apart. */
template <class T>
__attribute__((noinline)) void sum_selected(
    const T *x, ptrdiff_t stride, const unsigned char *mask, ptrdiff_t count, const RowMoments &rows, ptrdiff_t row)
{
    double sums[LANES] = {0}, squares[LANES] = {0};
    for (ptrdiff_t s = 0; s < count; s++)
        if (!mask || mask[s]) {
            double d = x[s * stride] - rows.x0[row];
            sums[s % LANES] += d;
            squares[s % LANES] += d * d;
        }
    rows.sum[row] = sum_lanes(load_lanes<double>(sums));
    rows.square[row] = sum_lanes(load_lanes<double>(squares));
}

/* Sum a row again, from its mean, where x0 is an outlier (some 4 sigma): square - sum^2 / n would lose up to log2(n)
   bits. */
template <class T>
inline void recenter_row(
    const T *x, ptrdiff_t stride, const unsigned char *mask, ptrdiff_t count, ptrdiff_t selected,
    const RowMoments &rows, ptrdiff_t row)
{
    double sum = rows.sum[row];
    if (sum * sum > 0.9375 * rows.square[row] * selected) {
        rows.x0[row] += sum / selected;
        sum_selected(x, stride, mask, count, rows, row);
    }
}

/* Find the moments of a row, of its `selected` values (mask may be null). `end` is the end of x's array. */
template <class T>
SYNCBN_ALWAYS_INLINE inline void sum_moments(
    const T *x, const T *end, const unsigned char *mask, ptrdiff_t count, ptrdiff_t selected, const RowMoments &rows,
    ptrdiff_t row, const T *result)
{
    if (mask) {
        ptrdiff_t s = 0;
        while (s < count && !mask[s])
            s++;
        T x0 = s < count ? x[s] : 0;
        rows.x0[row] = x0;
        sum_values<double>(
            SelectedMomentTerms<T>{x, mask, x0}, 0, count, x0, rows.sum + row, rows.square + row, result);
    } else {
        rows.x0[row] = x[0];
        sum_values<double>(MomentTerms<T>{x, end}, 0, count, x[0], rows.sum + row, rows.square + row, result);
    }
    recenter_row(x, 1, mask, count, selected, rows, row);
}

/* Sums of float32 values in float32 are added up in float64 block by block, so that rounding errors stay small. */
enum { FLOAT_BLOCK = 128 };

/* Whether a row's gradient sums may be made in float32: shorter rows would lose more than they gain. */
template <class T> constexpr bool is_summed_in_float32(ptrdiff_t count)
{
    return std::is_same_v<T, float> && count >= LANES;
}

/* Whether float32 held a sum: a smaller one might be of terms that underflowed. */
inline bool float32_held(double sum)
{
    double magnitude = std::fabs(sum);
    return 0x1p-90 < magnitude && magnitude < INFINITY;
}

/* Whether float32 held the gradient sums of a row, `product` from its rounded mean. Both are 0 where dy is; weighted
   terms may be 0 because they underflowed. */
inline bool held_by_float32(double sum, double product, bool weighted)
{
    return (float32_held(sum) && float32_held(product)) || (sum == 0 && product == 0 && !weighted);
}

/* Find the gradient sums of a row of float32 values in float32, if that holds them. dy * (x - mean) is summed as
   dy * (x - center) - (mean - center) * dy with the mean rounded to float32: x - center is exact where it cancels. */
template <class Terms>
SYNCBN_ALWAYS_INLINE inline bool sum_gradients_in_float32(
    Terms terms, ptrdiff_t count, double mean, RowGradients row, const float *result)
{
    float center = (float)mean, sum, product;
    double total = 0, product_total = 0;
    for (ptrdiff_t start = 0; start < count; start += FLOAT_BLOCK) {
        ptrdiff_t end = std::min<ptrdiff_t>(start + FLOAT_BLOCK, count);
        sum_values<float>(terms, start, end, center, &sum, &product, result);
        total += sum;
        product_total += product;
    }
    *row.sum = total;
    *row.product = product_total - (mean - center) * total;
    return held_by_float32(total, product_total, Terms::weighted);
}

template <class Terms, class T>
__attribute__((noinline)) void sum_gradients_in_float64(
    const Terms &terms, ptrdiff_t count, double mean, RowGradients row, const T *result)
{
    sum_values<double>(terms, 0, count, mean, row.sum, row.product, result);
}

/* Find the gradient sums of a row. */
template <class Terms, class T>
SYNCBN_ALWAYS_INLINE inline void sum_gradients(
    Terms terms, ptrdiff_t count, double mean, RowGradients row, const T *result)
{
    if constexpr (std::is_same_v<T, float>)
        if (is_summed_in_float32<T>(count) && sum_gradients_in_float32(terms, count, mean, row, result))
            return;
    sum_gradients_in_float64(terms, count, mean, row, result);
}

} // namespace syncbn

#endif
