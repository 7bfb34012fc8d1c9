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

struct WholeLanes {
    template <class T> SYNCBN_ALWAYS_INLINE Lanes load(const T *p, const T *) const
    {
        return load_lanes(p);
    }

    SYNCBN_ALWAYS_INLINE Lanes keep(Lanes terms) const
    {
        return terms;
    }
};

/* The first `count` < 16 lanes. */
struct PartialLanes {
    ptrdiff_t count;

    template <class T> SYNCBN_ALWAYS_INLINE Lanes load(const T *p, const T *end) const
    {
        if (end - p >= LANES)
            return load_lanes(p);
        T buffer[LANES];
        for (ptrdiff_t j = 0; j < LANES; j++)
            buffer[j] = j < count ? p[j] : 0;
        return load_lanes(buffer);
    }

    SYNCBN_ALWAYS_INLINE Lanes keep(Lanes terms) const
    {
        return first_lanes(terms, count);
    }
};

/* Sum both terms of a row of `count` values. Meanwhile fetch the memory of `result` (unless null), which is written
   next. */
template <class Terms, class T>
SYNCBN_ALWAYS_INLINE inline void sum_row(
    Terms terms, ptrdiff_t count, double center_value, double *sum, double *product, const T *result)
{
    Lanes center = broadcast(center_value), sums = broadcast(0), products = broadcast(0), first, second;
    ptrdiff_t s = 0;
    for (; s + LANES <= count; s += LANES) {
        if (result)
            for (ptrdiff_t i = 0; i < LANES; i += CACHE_LINE / (ptrdiff_t)sizeof(T))
                prefetch_for_writing(result + s + i);
        terms.get(s, WholeLanes(), center, first, second);
        sums = sums + first;
        products = products + second;
    }
    if (s < count) {
        terms.get(s, PartialLanes{count - s}, center, first, second);
        sums = sums + first;
        products = products + second;
    }
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
    rows.sum[row] = sum_lanes(load_lanes(sums));
    rows.square[row] = sum_lanes(load_lanes(squares));
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

/* Find the moments of a row, of its selected values (mask may be null). `end` is the end of x's array. */
template <class T>
SYNCBN_ALWAYS_INLINE inline void sum_moments(
    const T *x, const T *end, const unsigned char *mask, ptrdiff_t count, const RowMoments &rows, ptrdiff_t row,
    const T *result)
{
    if (mask) {
        ptrdiff_t s = 0;
        while (s < count && !mask[s])
            s++;
        rows.x0[row] = s < count ? x[s] : 0;
        sum_selected(x, 1, mask, count, rows, row);
    } else {
        rows.x0[row] = x[0];
        sum_row(MomentTerms<T>{x, end}, count, x[0], rows.sum + row, rows.square + row, result);
    }
    recenter_row(x, 1, mask, count, mask ? count_selected(mask, count) : count, rows, row);
}

/* Find the gradient sums of a row. */
template <class T>
SYNCBN_ALWAYS_INLINE inline void sum_gradients(
    const T *x, const T *x_end, const T *dy, const T *dy_end, ptrdiff_t count, double mean, RowGradients row,
    const T *result)
{
    sum_row(GradientTerms<T>{x, x_end, dy, dy_end}, count, mean, row.sum, row.product, result);
}

} // namespace syncbn

#endif
