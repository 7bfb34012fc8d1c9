/* Sums without rounding (error-free extraction: Rump, Ogita & Oishi 2008).

   Values are scaled to |v| <= 1 by a power of two that all ranks share. Adding and subtracting 1.5 * 2^12
   leaves v's bits down to 2^-40, and 1.5 * 2^-29 those of the rest down to 2^-81. Both parts are whole
   multiples of their last bit, so float64 adds up to 4096 of each without rounding, in any order; blocks
   and ranks are added as integers. What is below 2^-81 is rounded away value by value: the sum depends on
   the set of values alone. */
#ifndef SYNCBN_FIXED_POINT_H
#define SYNCBN_FIXED_POINT_H

#include "error_free.h"
#include <stdint.h>
#include <string.h>

#define LEADING (1.5 * 4096)          /* its last bit: 2^-40 */
#define FOLLOWING (1.5 / 536870912)   /* 1.5 * 2^-29; its last bit: 2^-81 */
#define TO_LEADING 1099511627776.0    /* 2^40 */
#define TO_FOLLOWING (TO_LEADING * 2199023255552.0) /* 2^81 */

static inline double bits_above(double value, double constant)
{
    return (value + constant) - constant;
}

/* Add |value| <= 1/2 to sums that began as LEADING and 0: up to 2048 values, so that the sum keeps LEADING's last bit.
   What the sum takes of a value is what it has grown by. A tie may go either way, by the sum's own last bit: then what
   is left is half of that, which the second sum takes whole. */
static inline void extract(double value, double *leading, double *following)
{
    double sum = *leading + value;
    double rest = value - (sum - *leading);
    *leading = sum;
    *following += bits_above(rest, FOLLOWING);
}

/* The same with a rest of the value, to which it does matter where a tie has gone. */
static inline void extract_with_rest(double value, double rest, double *leading, double *following)
{
    double high = bits_above(value, LEADING);
    *leading += high;
    *following += bits_above((value - high) + rest, FOLLOWING);
}

enum { EXTRACTED = 2048 };

/* Words for the wire: the sum in units of 2^-81 is high * 2^48 + low. 32,767 ranks' lows fit in int64, and so
   do the highs of 2^30 values, each of at most 2^32. */
enum { WORD_BITS = 48 };
#define WORD_MASK (((int64_t)1 << WORD_BITS) - 1)

/* Add one block's leading and following parts to a sum of words. */
static inline void add_block(double leading, double following, int64_t *low, int64_t *high)
{
    int64_t a = (int64_t)(leading * TO_LEADING); /* in units of 2^41 */
    int64_t b = (int64_t)(following * TO_FOLLOWING);
    b += (a & 127) << 41;
    *low += b & WORD_MASK;
    *high += (a >> 7) + (b >> WORD_BITS);
}

static inline void carry(int64_t *low, int64_t *high)
{
    *high += *low >> WORD_BITS;
    *low &= WORD_MASK;
}

/* An integer of magnitude up to 2^51 as a float64, by instructions that vectors of all instruction sets have. */
static inline double whole(int64_t value)
{
    int64_t bits = value + 0x4338000000000000; /* the bits of 1.5 * 2^52 */
    double number;
    memcpy(&number, &bits, sizeof number);
    return number - 6755399441055744.0;
}

/* A sum of words as high + low, in units of 1. The words have been carried. */
static inline double words_high(int64_t low_word, int64_t high_word, double *low)
{
    double top = whole(high_word >> 24) * 4722366482869645213696.0;  /* 2^72 */
    double middle = whole(high_word & 0xffffff) * 281474976710656.0; /* 2^48 */
    double total = top + middle;
    double rest = sum_error(top, middle, total) + whole(low_word);
    double high = total + rest;
    *low = sum_error(total, rest, high) / TO_FOLLOWING;
    return high / TO_FOLLOWING;
}

static inline double power_of_two(int biased_exponent)
{
    uint64_t bits = (uint64_t)biased_exponent << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum { BIAS = 1023, LARGEST_EXPONENT = 1000 };
#define TOO_LARGE 0x1p990

/* Of 2^k > 2 * reach, k >= -1000: k + 1023. */
static inline int unit_exponent_of(double reach)
{
    uint64_t bits;
    memcpy(&bits, &reach, sizeof bits);
    int e = (int)(bits >> 52 & 0x7ff) + 2;
    return e < BIAS - LARGEST_EXPONENT ? BIAS - LARGEST_EXPONENT : e > 2046 ? 2046 : e;
}

static inline double unit_of(double reach)
{
    return power_of_two(unit_exponent_of(reach));
}

/* The factor that scales a channel to |v| <= 1/2; 0 for one that is constant or not finite. */
static inline double inverse_unit_of(double reach)
{
    return reach > 0 && reach < TOO_LARGE ? power_of_two(2 * BIAS - unit_exponent_of(reach)) : 0;
}

static inline double larger(double a, double b)
{
    return b > a ? b : a;
}

/* The least power of two that is at least count >= 1. */
static inline double count_unit_of(double count)
{
    double unit = 1;
    while (unit < count)
        unit *= 2;
    return unit;
}

/* Of a range, given as the largest value and the largest negative: its centre, and how far it reaches. */
static inline double centre_of(double highest, double highest_negative)
{
    return highest / 2 - highest_negative / 2;
}

static inline double reach_of(double highest, double highest_negative)
{
    return highest / 2 + highest_negative / 2;
}

#endif
