/* What a rounded operation has lost, as a float64 of its own. */
#ifndef SYNCBN_ERROR_FREE_H
#define SYNCBN_ERROR_FREE_H

#include <math.h>

/* What rounding a * b to product has lost: an exact product is product + product_error. */
static inline double product_error(double a, double b, double product)
{
#if defined(__FMA__) || defined(__aarch64__)
    return fma(a, b, -product);
#else /* Dekker 1971, with Veltkamp's splitting: the same value, of 17 operations */
    double spread_a = 134217729.0 * a, spread_b = 134217729.0 * b; /* 2^27 + 1 */
    double a_high = spread_a - (spread_a - a), b_high = spread_b - (spread_b - b);
    double a_low = a - a_high, b_low = b - b_high;
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
#endif
}

/* What rounding a + b to total has lost (Knuth). */
static inline double sum_error(double a, double b, double total)
{
    double part = total - a;
    return (a - (total - part)) + (b - part);
}

/* The rest of value / divisor after a quotient that is right to a few roundings, such as high * inverse, for
   value = high + low and inverse = 1 / divisor: to divide takes as long as ten other steps. */
static inline double quotient_rest(double high, double low, double divisor, double inverse, double quotient)
{
    double product = quotient * divisor;
    return ((high - product) - product_error(quotient, divisor, product) + low) * inverse;
}

#endif
