/* Exact sums of any numbers, correctly rounded. The sums of normalizers (fixed_point.h) keep 81 bits below the largest
   value; here all bits of all values are kept.

   A finite value is an integer of at most 53 bits in units of 2^e. With the smallest e of all values, `lowest`, the sum
   is an integer in units of 2^lowest. It is held in as many limbs of LIMB_BITS as the largest e needs, least significant
   first, and one more for the carry of up to 2^59 values. Ranks add their limbs, up to 32,767 of them. Values that are not finite
   are counted in the fields of one further integer. */
#ifndef SYNCBN_EXACT_SUM_H
#define SYNCBN_EXACT_SUM_H

#include "fixed_point.h"
#include <algorithm>
#include <cmath>

namespace syncbn {

constexpr uint64_t MAGNITUDE_BITS = ~((uint64_t)1 << 63);
constexpr uint64_t INFINITY_BITS = (uint64_t)0x7ff << 52;
constexpr uint64_t FRACTION_BITS = ((uint64_t)1 << 52) - 1;
constexpr int64_t COUNTED_NAN = 1, COUNTED_INFINITY = 1 << 20, COUNTED_NEGATIVE_INFINITY = (int64_t)1 << 40;

enum {
    EXACT_TERMS = 1 << 10, /* terms of up to 2^52 that a limb takes before a carry */
};

/* Return e of a finite magnitude. */
inline int exponent_of(uint64_t magnitude)
{
    return std::max((int)(magnitude >> 52), 1) - 1075;
}

/* Find the largest e, and the negative of the smallest, of all values that are finite and not 0. */
template <class T> void find_exponents(ptrdiff_t count, const T *values, double *range)
{
    uint64_t largest = 0, smallest = INFINITY_BITS;
    for (ptrdiff_t i = 0; i < count; i++) {
        uint64_t magnitude = bits_of((double)values[i]) & MAGNITUDE_BITS;
        if (magnitude == 0 || magnitude >= INFINITY_BITS)
            continue;
        largest = std::max(largest, magnitude);
        smallest = std::min(smallest, magnitude);
    }
    range[0] = largest ? exponent_of(largest) : -INFINITY;
    range[1] = largest ? -exponent_of(smallest) : -INFINITY;
}

inline void carry_limbs(int64_t *limbs, ptrdiff_t count)
{
    for (ptrdiff_t k = 0; k + 1 < count; k++)
        carry(limbs + k, limbs + k + 1);
}

/* Sum each row of `count` values in `width` integers: limbs, and the counts of what is not finite. */
template <class T>
void sum_to_limbs(ptrdiff_t rows, ptrdiff_t count, const T *values, int lowest, ptrdiff_t width, int64_t *limbs)
{
    for (ptrdiff_t r = 0; r < rows; r++, values += count, limbs += width) {
        int64_t not_finite = 0;
        std::fill_n(limbs, width, 0);
        for (ptrdiff_t block = 0; block < count; block += EXACT_TERMS) {
            for (ptrdiff_t i = block; i < std::min<ptrdiff_t>(block + EXACT_TERMS, count); i++) {
                double value = values[i];
                uint64_t bits = bits_of(value), magnitude = bits & MAGNITUDE_BITS;
                if (magnitude >= INFINITY_BITS) {
                    not_finite |= value > 0 ? COUNTED_INFINITY : value < 0 ? COUNTED_NEGATIVE_INFINITY : COUNTED_NAN;
                    continue;
                }
                if (magnitude == 0)
                    continue;
                int64_t integer = (magnitude & FRACTION_BITS) | (uint64_t)(magnitude > FRACTION_BITS) << 52;
                int position = exponent_of(magnitude) - lowest;
                __int128 term = (__int128)(bits == magnitude ? integer : -integer)
                                * ((int64_t)1 << (position % LIMB_BITS));
                int64_t *limb = limbs + position / LIMB_BITS;
                limb[0] += (int64_t)term & LIMB_MASK;
                limb[1] += (int64_t)(term >> LIMB_BITS);
            }
            carry_limbs(limbs, width - 1);
        }
        limbs[width - 1] = not_finite;
    }
}

/* Round the integer in `count` limbs, which become its magnitude, to `precision` bits: the nearest number, ties to
   even. Return it in units of 2^lowest, an infinite number where it is too large. */
inline double round_limbs(int64_t *limbs, ptrdiff_t count, int lowest, int precision)
{
    carry_limbs(limbs, count);
    bool negative = limbs[count - 1] < 0;
    if (negative) {
        for (ptrdiff_t k = 0; k < count; k++)
            limbs[k] = -limbs[k];
        carry_limbs(limbs, count);
    }
    ptrdiff_t top = count - 1;
    while (top > 0 && limbs[top] == 0)
        top--;
    if (limbs[top] == 0)
        return 0;
    ptrdiff_t bits = top * LIMB_BITS + 64 - __builtin_clzll((uint64_t)limbs[top]);
    ptrdiff_t dropped = std::max<ptrdiff_t>(bits - precision, 0);
    auto bits_from = [=](ptrdiff_t position) { /* as many as fit in 64 */
        ptrdiff_t k = std::min(position / LIMB_BITS, top); /* the last limb may have more bits */
        unsigned __int128 found = (uint64_t)limbs[k];
        for (int next = 1; next <= 2 && k + next <= top; next++)
            found |= (unsigned __int128)(uint64_t)limbs[k + next] << (next * LIMB_BITS);
        return (uint64_t)(found >> (position - k * LIMB_BITS));
    };
    uint64_t integer = bits_from(dropped);
    if (dropped > 0 && (bits_from(dropped - 1) & 1)) {
        ptrdiff_t half = dropped - 1, k = std::min(half / LIMB_BITS, top);
        bool rest = limbs[k] & (((int64_t)1 << (half - k * LIMB_BITS)) - 1);
        while (!rest && k > 0)
            rest = limbs[--k] != 0;
        integer += rest || (integer & 1);
    }
    double rounded = std::ldexp((double)integer, (int)dropped + lowest);
    return negative ? -rounded : rounded;
}

/* Make each row's sum, correctly rounded, from the limbs of all ranks, which are overwritten. */
inline void round_rows(ptrdiff_t rows, ptrdiff_t width, int64_t *limbs, int lowest, int precision, double *totals)
{
    for (ptrdiff_t r = 0; r < rows; r++, limbs += width) {
        int64_t not_finite = limbs[width - 1];
        bool positive = not_finite / COUNTED_INFINITY % COUNTED_INFINITY;
        bool negative = not_finite >= COUNTED_NEGATIVE_INFINITY, nan = not_finite % COUNTED_INFINITY;
        if (nan || (positive && negative))
            totals[r] = NAN;
        else if (positive || negative)
            totals[r] = positive ? INFINITY : -INFINITY;
        else
            totals[r] = round_limbs(limbs, width - 1, lowest, precision);
    }
}

} // namespace syncbn

#endif
