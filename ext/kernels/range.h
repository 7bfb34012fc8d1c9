/* The range of the values of each channel, which all ranks share, and the power of two that it is scaled by. */
#ifndef SYNCBN_RANGE_H
#define SYNCBN_RANGE_H

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace syncbn {

using std::ptrdiff_t;
using std::uint64_t;

/* The largest value of each channel, and the largest negative: both are combined over ranks by MAX. */
template <class Number> struct RangeOf {
    Number *max, *negative_max;

    RangeOf channel(ptrdiff_t c) const
    {
        return {max + c, negative_max + c};
    }

    /* The halves of equal subnormals are not exact. */
    double center(ptrdiff_t c) const
    {
        return max[c] == -negative_max[c] ? max[c] : max[c] / 2 - negative_max[c] / 2;
    }

    double radius(ptrdiff_t c) const
    {
        return max[c] / 2 + negative_max[c] / 2;
    }
};

typedef RangeOf<double> Range;
typedef RangeOf<const double> ConstRange;

enum { EXPONENT_BIAS = 1023, MIN_SCALE_EXPONENT = 1023 - 1000, MAX_EXPONENT = 2046 };
constexpr double TOO_LARGE = 0x1p990;

inline double power_of_two(int biased_exponent)
{
    uint64_t bits = (uint64_t)biased_exponent << 52;
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

/* Return k + 1023 of the power of two 2^k > 2 * radius, k >= -1000. */
inline int scale_exponent(double radius)
{
    uint64_t bits;
    std::memcpy(&bits, &radius, sizeof bits);
    int e = (int)(bits >> 52 & 0x7ff) + 2;
    return e < MIN_SCALE_EXPONENT ? MIN_SCALE_EXPONENT : e > MAX_EXPONENT ? MAX_EXPONENT : e;
}

inline double scale_of(double radius)
{
    return power_of_two(scale_exponent(radius));
}

/* Return the factor that scales a channel to |v| <= 1/2; 0 for a channel that is constant or not finite. */
inline double inverse_scale_of(double radius)
{
    return radius > 0 && radius < TOO_LARGE ? power_of_two(2 * EXPONENT_BIAS - scale_exponent(radius)) : 0;
}

/* Return the least power of two that is at least count, count >= 1. */
inline double count_scale_of(double count)
{
    double scale = 1;
    while (scale < count)
        scale *= 2;
    return scale;
}

} // namespace syncbn

#endif
