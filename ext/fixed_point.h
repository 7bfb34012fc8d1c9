/* Sums without rounding: values are cut to a grid of spacing 2^unit and added as integers.

   The grid of a channel comes from the largest exponent over all rows of all ranks, so a cut value
   depends on the row and on that maximum alone, and integer sums on no order at all. */
#ifndef SYNCBN_FIXED_POINT_H
#define SYNCBN_FIXED_POINT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef __int128 int128_t;
typedef unsigned __int128 uint128_t;

enum { NO_EXPONENT = -32768, NOT_FINITE = 32767 };

/* e with 2^(e-1) <= |value| < 2^e; NO_EXPONENT for 0, NOT_FINITE for infinities and NaN. */
static inline int exponent_of(double value)
{
    int e;
    if (value == 0)
        return NO_EXPONENT;
    if (!isfinite(value))
        return NOT_FINITE;
    frexp(value, &e);
    return e;
}

/* value = sign * mantissa * 2^shift * 2^unit */
static inline uint64_t split_double(double value, int unit, int *shift, int *negative)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    int e = (int)(bits >> 52 & 0x7ff);
    *negative = (int)(bits >> 63);
    *shift = (e ? e : 1) - 1075 - unit; /* e = 0: subnormal */
    return (bits & 0xfffffffffffffULL) | (uint64_t)(e != 0) << 52;
}

static inline uint64_t shift_right_64(uint64_t mantissa, int bits)
{
    return bits < 64 ? mantissa >> bits : 0;
}

/* value / 2^unit, cut towards zero; |value| < 2^(unit + 126). */
static inline int128_t to_fixed(double value, int unit)
{
    int shift, negative;
    uint64_t mantissa = split_double(value, unit, &shift, &negative);
    int128_t magnitude = shift >= 0 ? (int128_t)mantissa << shift : (int128_t)shift_right_64(mantissa, -shift);
    return negative ? -magnitude : magnitude;
}

/* A sum of up to 190 bits: high * 2^LOW_BITS + low. */
enum { LOW_BITS = 65 };
typedef struct { int128_t high, low; } wide_t;

/* Add value / 2^unit, cut towards zero; |value| < 2^(unit + LOW_BITS + 126). */
static inline void wide_add(wide_t *sum, double value, int unit)
{
    int shift, negative;
    uint64_t mantissa = split_double(value, unit, &shift, &negative);
    int128_t high = 0, low;
    if (shift >= LOW_BITS) {
        high = (int128_t)mantissa << (shift - LOW_BITS);
        low = 0;
    } else if (shift >= 0) {
        uint128_t both = (uint128_t)mantissa << shift;
        high = (int128_t)(both >> LOW_BITS);
        low = (int128_t)(both & (((uint128_t)1 << LOW_BITS) - 1));
    } else {
        low = (int128_t)shift_right_64(mantissa, -shift);
    }
    sum->high += negative ? -high : high;
    sum->low += negative ? -low : low;
}

/* Add the exact product a * b / 2^unit, cut. */
static inline void wide_add_product(wide_t *sum, double a, double b, int unit)
{
    double product = a * b;
    wide_add(sum, product, unit);
    wide_add(sum, fma(a, b, -product), unit);
}

/* Words for the wire: 48 bits each, unsigned, the last takes the rest with the sign. Sums of the words
   over up to 32,767 ranks fit in int64. */
enum { WORD_BITS = 48 };
#define WORD_MASK (((int128_t)1 << WORD_BITS) - 1)

static inline void words_from_int128(int128_t value, int64_t *words)
{
    words[0] = (int64_t)(value & WORD_MASK);
    words[1] = (int64_t)(value >> WORD_BITS);
}

static inline int128_t int128_from_words(const int64_t *words)
{
    return ((int128_t)words[1] << WORD_BITS) + words[0];
}

static inline void words_from_wide(wide_t sum, int64_t *words)
{
    /* LOW_BITS = 48 + 17: the high part starts at bit 17 of the second word. */
    int128_t second = (sum.low >> WORD_BITS) + ((sum.high & (((int128_t)1 << 31) - 1)) << (LOW_BITS - WORD_BITS));
    words[0] = (int64_t)(sum.low & WORD_MASK);
    words[1] = (int64_t)(second & WORD_MASK);
    words[2] = (int64_t)((second >> WORD_BITS) + (sum.high >> 31));
}

/* value / divisor, rounded once from about 100 bits. */
static inline double divide_int128(int128_t value, double divisor)
{
    double high = (double)value;
    double low = (double)(value - (int128_t)high);
    double quotient = high / divisor;
    return quotient + (fma(-quotient, divisor, high) + low) / divisor;
}

/* Unsigned integers of 256 bits, four 64-bit digits, least first. */
typedef struct { uint64_t digit[4]; } uint256_t;

static inline uint256_t square_256(uint128_t a)
{
    uint64_t lo = (uint64_t)a, hi = (uint64_t)(a >> 64);
    uint128_t ll = (uint128_t)lo * lo, lh = (uint128_t)lo * hi, hh = (uint128_t)hi * hi;
    uint256_t r;
    uint128_t t = (ll >> 64) + ((lh << 1) & UINT64_MAX);
    r.digit[0] = (uint64_t)ll;
    r.digit[1] = (uint64_t)t;
    t = (t >> 64) + (lh >> 63) + (uint64_t)hh;
    r.digit[2] = (uint64_t)t;
    r.digit[3] = (uint64_t)((t >> 64) + (hh >> 64));
    return r;
}

/* (words summed over ranks, as a number) * factor; the sum is not negative. */
static inline uint256_t words_times(const int64_t *words, uint64_t factor)
{
    int128_t first = words[0];
    int128_t second = (int128_t)words[1] + (first >> WORD_BITS);
    int128_t third = (int128_t)words[2] + (second >> WORD_BITS);
    uint64_t w0 = (uint64_t)(first & WORD_MASK), w1 = (uint64_t)(second & WORD_MASK);
    uint128_t top = (uint128_t)third; /* starts at bit 96 */
    uint64_t digit[3];
    digit[0] = w0 | w1 << 48;
    digit[1] = (uint64_t)(w1 >> 16 | top << 32);
    digit[2] = (uint64_t)(top >> 32);
    uint256_t r;
    uint128_t carry = 0;
    for (int i = 0; i < 3; i++) {
        carry += (uint128_t)digit[i] * factor;
        r.digit[i] = (uint64_t)carry;
        carry >>= 64;
    }
    r.digit[3] = (uint64_t)carry;
    return r;
}

static inline uint256_t shift_right_256(uint256_t a, int bits)
{
    uint256_t r = {{0, 0, 0, 0}};
    if (bits >= 256)
        return r;
    int skip = bits / 64, rest = bits % 64;
    for (int i = 0; i + skip < 4; i++) {
        uint64_t above = i + skip + 1 < 4 ? a.digit[i + skip + 1] : 0;
        r.digit[i] = rest ? a.digit[i + skip] >> rest | above << (64 - rest) : a.digit[i + skip];
    }
    return r;
}

/* a - b rounded to double, or 0 where b is larger. */
static inline double difference_256(uint256_t a, uint256_t b)
{
    uint64_t d[4], borrow = 0;
    for (int i = 0; i < 4; i++) {
        uint128_t t = (uint128_t)a.digit[i] - b.digit[i] - borrow;
        d[i] = (uint64_t)t;
        borrow = (uint64_t)(t >> 64) & 1;
    }
    if (borrow)
        return 0;
    int top = 3;
    while (top > 0 && !d[top])
        top--;
    if (top == 0)
        return (double)d[0];
    uint128_t two = (uint128_t)d[top] << 64 | d[top - 1]; /* at least 65 bits: enough for one rounding */
    return ldexp((double)two, 64 * (top - 1));
}

#endif
