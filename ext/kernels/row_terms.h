/* The terms that a row is summed of, at value i: one for each of its two sums. A loader has load(p, end), which loads a
   register or lanes from an array that ends at `end`, and keep(terms), which clears the terms of values that are not
   part of the row. */
#ifndef SYNCBN_ROW_TERMS_H
#define SYNCBN_ROW_TERMS_H

#include "lanes.h"

namespace syncbn {

/* x - center and its square: moments. */
template <class T> struct MomentTerms {
    const T *x, *x_end;

    template <class Loader, class Numbers>
    SYNCBN_ALWAYS_INLINE void get(ptrdiff_t i, Loader loader, Numbers center, Numbers &first, Numbers &second) const
    {
        first = loader.keep(loader.load(x + i, x_end) - center);
        second = first * first;
    }

    SYNCBN_ALWAYS_INLINE void prefetch(ptrdiff_t i) const
    {
        prefetch_for_reading(x + i);
    }
};

/* Copy the selected of `count` <= 16 values; the others of 16 become x0. Not inlined: a loop of its own is compiled to
   vectors, one of a fixed length within others is not. */
template <class T>
__attribute__((noinline)) void select_values(
    const T *x, const unsigned char *mask, ptrdiff_t count, T x0, T *__restrict selected)
{
    if (count == LANES) {
        for (ptrdiff_t j = 0; j < LANES; j++) {
            T value = x[j];
            selected[j] = mask[j] ? value : x0;
        }
        return;
    }
    for (ptrdiff_t j = 0; j < LANES; j++)
        selected[j] = j < count && mask[j] ? x[j] : x0;
}

/* Those of the selected values: the others are taken as x0, which is the center, so their terms are 0. Only for float64
   lanes. */
template <class T> struct SelectedMomentTerms {
    const T *x;
    const unsigned char *mask;
    T x0;

    template <class Loader, class Numbers>
    SYNCBN_ALWAYS_INLINE void get(ptrdiff_t i, Loader loader, Numbers center, Numbers &first, Numbers &second) const
    {
        T selected[LANES];
        select_values(x + i, mask + i, loader.size(), x0, selected);
        first = load_lanes<double>(selected) - center;
        second = first * first;
    }
};

/* dy and dy * (x - center): gradients of the mean and of the variance. */
template <class T> struct GradientTerms {
    static constexpr bool weighted = false;
    const T *x, *x_end, *dy, *dy_end;

    template <class Loader, class Numbers>
    SYNCBN_ALWAYS_INLINE void get(ptrdiff_t i, Loader loader, Numbers center, Numbers &first, Numbers &second) const
    {
        Numbers g = loader.load(dy + i, dy_end);
        first = loader.keep(g);
        second = loader.keep(g * (loader.load(x + i, x_end) - center));
    }

    SYNCBN_ALWAYS_INLINE void prefetch(ptrdiff_t i) const
    {
        prefetch_for_reading(x + i);
        prefetch_for_reading(dy + i);
    }
};

/* The same, of dy * weight: each feature has a weight of its own. */
template <class T> struct WeightedGradientTerms {
    static constexpr bool weighted = true;
    const T *x, *x_end, *dy, *dy_end;
    const T *weight, *weight_end;

    template <class Loader, class Numbers>
    SYNCBN_ALWAYS_INLINE void get(ptrdiff_t i, Loader loader, Numbers center, Numbers &first, Numbers &second) const
    {
        Numbers g = loader.load(dy + i, dy_end) * loader.load(weight + i, weight_end);
        first = loader.keep(g);
        second = loader.keep(g * (loader.load(x + i, x_end) - center));
    }
};

} // namespace syncbn

#endif
