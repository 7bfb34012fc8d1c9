/* Fixed-point accumulators: sums without rounding (error-free extraction: Rump, Ogita & Oishi 2008).

   Values are scaled to |v| <= 1 by a power of two that all ranks share. Adding and subtracting HI_MAGIC leaves v's bits
   down to 2^-40, and LO_MAGIC those of the remainder down to 2^-81. Both parts are integer multiples of their last bit,
   so float64 adds up to 4096 of each without rounding, in any order; blocks and ranks are added as integers. What is
   below 2^-81 is rounded away value by value: the sum depends on the set of values alone. */
#ifndef SYNCBN_FIXED_POINT_H
#define SYNCBN_FIXED_POINT_H

#include "error_free.h"
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace syncbn {

using std::int64_t;
using std::ptrdiff_t;
using std::uint64_t;

constexpr double HI_MAGIC = 1.5 * 0x1p12;
constexpr double LO_MAGIC = 1.5 * 0x1p-29;
constexpr double INT_MAGIC = 1.5 * 0x1p1; /* its last bit: 2^-51 */
constexpr double HI_UNITS = 0x1p40; /* units of the last bit of hi in 1 */
constexpr double LO_UNITS = 0x1p81;

enum {
    BLOCK_TERMS = 4096, /* terms that float64 adds up before a flush to limbs */
    INT_TERMS = 2048,   /* terms of magnitude up to 1 that int64 adds up in units of 2^-51 */
    LIMB_BITS = 48,
    LIMBS = 4,          /* limbs of a channel: two for each of two sums */
};
constexpr int64_t LIMB_MASK = ((int64_t)1 << LIMB_BITS) - 1;

inline double round_to_magic(double value, double magic)
{
    return (value + magic) - magic;
}

/* Add value + err, |value| <= 1, to sums that began as 0: up to BLOCK_TERMS. */
inline void add_split(double value, double err, double *hi, double *lo)
{
    double top = round_to_magic(value, HI_MAGIC);
    *hi += top;
    *lo += round_to_magic((value - top) + err, LO_MAGIC);
}

inline uint64_t bits_of(double value)
{
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Add value, rounded to the last bit of `magic`, to a sum of bit patterns: n terms make n * bits_of(magic) more than
   their sum in units of that bit. Return the rounding error. */
inline double add_bits(double value, double magic, uint64_t *sum)
{
    double shifted = value + magic;
    *sum += bits_of(shifted);
    return value - (shifted - magic);
}

/* Sums of neighbouring channels as integers, in units of 2^-81: lower + upper * 2^48. 32,767 ranks' lower limbs fit in
   int64, and so do the upper limbs of 2^30 values, each of at most 2^32. Sum k of channel c has the lower limb
   data[2 * k * stride + c] and the upper limb data[(2 * k + 1) * stride + c]. */
template <class Integer> struct LimbsOf {
    Integer *data;
    ptrdiff_t stride;

    Integer *lower(int k) const
    {
        return data + 2 * k * stride;
    }

    Integer *upper(int k) const
    {
        return data + (2 * k + 1) * stride;
    }

    LimbsOf channel(ptrdiff_t c) const
    {
        return {data + c, stride};
    }
};

typedef LimbsOf<int64_t> Limbs;
typedef LimbsOf<const int64_t> ConstLimbs;

inline void carry(int64_t *lower, int64_t *upper)
{
    *upper += *lower >> LIMB_BITS;
    *lower &= LIMB_MASK;
}

inline void clear(Limbs limbs, int sums, ptrdiff_t width)
{
    for (int k = 0; k < sums; k++)
        for (ptrdiff_t c = 0; c < width; c++)
            limbs.lower(k)[c] = limbs.upper(k)[c] = 0;
}

inline void carry(Limbs limbs, int sums, ptrdiff_t width)
{
    for (int k = 0; k < sums; k++)
        for (ptrdiff_t c = 0; c < width; c++)
            carry(limbs.lower(k) + c, limbs.upper(k) + c);
}

/* Add one block's hi and lo to limbs. */
inline void flush(double hi, double lo, int64_t *lower, int64_t *upper)
{
    int64_t a = (int64_t)(hi * HI_UNITS); /* in units of 2^41 */
    int64_t b = (int64_t)(lo * LO_UNITS);
    b += (a & 127) << 41;
    *lower += b & LIMB_MASK;
    *upper += (a >> 7) + (b >> LIMB_BITS);
}

/* Add the sum of `terms` bit patterns to limbs; an integer in units of INT_MAGIC's last bit, one of LO_MAGIC's. */
inline void flush_bits(uint64_t hi, uint64_t lo, ptrdiff_t terms, int64_t *lower, int64_t *upper)
{
    __int128 total = (__int128)(int64_t)(hi - terms * bits_of(INT_MAGIC)) * (1 << 30);
    total += (int64_t)(lo - terms * bits_of(LO_MAGIC));
    *lower += (int64_t)total & LIMB_MASK;
    *upper += (int64_t)(total >> LIMB_BITS);
}

/* Convert an integer of magnitude up to 2^51, by instructions that vectors of all instruction sets have. */
inline double int_to_double(int64_t value)
{
    int64_t bits = value + 0x4338000000000000; /* the bits of 1.5 * 2^52 */
    double number;
    std::memcpy(&number, &bits, sizeof number);
    return number - 0x1.8p52;
}

/* Return a sum in units of 1, as hi + lo. */
inline double limbs_to_double(int64_t lower, int64_t upper, double *lo)
{
    carry(&lower, &upper);
    double top = int_to_double(upper >> 24) * 0x1p72;
    double middle = int_to_double(upper & 0xffffff) * 0x1p48;
    double total = top + middle;
    double rest = two_sum(top, middle, total) + int_to_double(lower);
    double hi = total + rest;
    *lo = two_sum(total, rest, hi) / LO_UNITS;
    return hi / LO_UNITS;
}

} // namespace syncbn

#endif
