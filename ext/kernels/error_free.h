/* Error-free transformations: the rounding error of an operation, as a float64 of its own. */
#ifndef SYNCBN_ERROR_FREE_H
#define SYNCBN_ERROR_FREE_H

#include <cmath>

namespace syncbn {

/* Return the rounding error of product = a * b. */
inline double two_prod(double a, double b, double product)
{
#if defined(__FMA__) || defined(__aarch64__)
    return std::fma(a, b, -product);
#else /* Dekker 1971, with Veltkamp's splitting: the same value, in 17 operations */
    double spread_a = 134217729.0 * a, spread_b = 134217729.0 * b; /* 2^27 + 1 */
    double a_hi = spread_a - (spread_a - a), b_hi = spread_b - (spread_b - b);
    double a_lo = a - a_hi, b_lo = b - b_hi;
    return ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo;
#endif
}

/* Return the rounding error of sum = a + b (Knuth). */
inline double two_sum(double a, double b, double sum)
{
    double part = sum - a;
    return (a - (sum - part)) + (b - part);
}

/* Return what (hi + lo) / divisor exceeds `quotient` by, where the quotient is right to a few roundings, such as
   hi * inverse with inverse = 1 / divisor: a division takes as long as ten other operations. */
inline double div_err(double hi, double lo, double divisor, double inverse, double quotient)
{
    double product = quotient * divisor;
    return ((hi - product) - two_prod(quotient, divisor, product) + lo) * inverse;
}

} // namespace syncbn

#endif
