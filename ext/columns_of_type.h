/* Included by loops.h for each type `real`: the loops of columns.pxd, over values of neighbouring channels (`width`) in
   samples that lie `stride` apart. Four samples at a time, so that what is kept of a channel is loaded and stored once. */

#define EACH(count) for (ptrdiff_t i = 0; i < (count); i++)
#define FOUR_AT_A_TIME(body, ...)                             \
    ptrdiff_t n = 0;                                          \
    for (; n + 4 <= samples; n += 4)                          \
        of_type(body)(x + n * stride, stride, 4, __VA_ARGS__); \
    for (; n < samples; n++)                                  \
        of_type(body)(x + n * stride, stride, 1, __VA_ARGS__)
#define FOUR_OF_BOTH_AT_A_TIME(body, ...)                                      \
    ptrdiff_t n = 0;                                                           \
    for (; n + 4 <= samples; n += 4)                                           \
        of_type(body)(x + n * stride, dy + n * stride, stride, 4, __VA_ARGS__); \
    for (; n < samples; n++)                                                   \
        of_type(body)(x + n * stride, dy + n * stride, stride, 1, __VA_ARGS__)

/* The largest and the least value; poison is not 0 once a value is not finite. */
ALWAYS_INLINE void of_type(range_of_samples)(
    const real *restrict x, ptrdiff_t stride, int samples, real *restrict most, real *restrict least,
    real *restrict poison, ptrdiff_t width)
{
    EACH(width) {
        real high = most[i], low = least[i], bad = poison[i];
        for (int k = 0; k < samples; k++) {
            real value = x[k * stride + i];
            high = value > high ? value : high;
            low = value < low ? value : low;
            bad += value * 0;
        }
        most[i] = high;
        least[i] = low;
        poison[i] = bad;
    }
}

static inline void of_type(column_range)(
    const real *x, ptrdiff_t stride, ptrdiff_t samples, real *most, real *least, real *poison, ptrdiff_t width)
{
    FOUR_AT_A_TIME(range_of_samples, most, least, poison, width);
}

/* m = (x - centre) * scale and m * m. A square is rounded to float64, relative to itself. Where one value lies far out, all
   others' squares may round alike, an error of N / 2 roundings: far below what float32 tells apart, but not float64. */
ALWAYS_INLINE void of_type(sums_of_samples)(
    const real *restrict x, ptrdiff_t stride, int samples, const double *restrict centre, const double *restrict scale,
    double *restrict leading, double *restrict following, double *restrict square_leading,
    double *restrict square_following, ptrdiff_t width)
{
    EACH(width) {
        double high = leading[i], low = following[i], square_high = square_leading[i], square_low = square_following[i];
        for (int k = 0; k < samples; k++) {
            double m = (x[k * stride + i] - centre[i]) * scale[i], square = m * m;
            extract(m, &high, &low);
            if (sizeof(real) == 8)
                extract_with_rest(square, product_error(m, m, square), &square_high, &square_low);
            else
                extract(square, &square_high, &square_low);
        }
        leading[i] = high;
        following[i] = low;
        square_leading[i] = square_high;
        square_following[i] = square_low;
    }
}

static inline void of_type(column_sums)(
    const real *x, ptrdiff_t stride, ptrdiff_t samples, const double *centre, const double *scale, double *leading,
    double *following, double *square_leading, double *square_following, ptrdiff_t width)
{
    FOUR_AT_A_TIME(
        sums_of_samples, centre, scale, leading, following, square_leading, square_following, width);
}

/* The largest |dy| and |dy * (x - mean)|. Their totals are not finite once a value is not, or is too large. */
ALWAYS_INLINE void of_type(gradient_range_of_samples)(
    const real *restrict x, const real *restrict dy, ptrdiff_t stride, int samples, const double *restrict mean,
    double *restrict largest, double *restrict largest_product, double *restrict total,
    double *restrict total_product, ptrdiff_t width)
{
    EACH(width) {
        double most = largest[i], most_product = largest_product[i], sum = total[i], sum_product = total_product[i];
        for (int k = 0; k < samples; k++) {
            double g = dy[k * stride + i], product = fabs(g * (x[k * stride + i] - mean[i]));
            g = fabs(g);
            most = g > most ? g : most;
            most_product = product > most_product ? product : most_product;
            sum += g;
            sum_product += product;
        }
        largest[i] = most;
        largest_product[i] = most_product;
        total[i] = sum;
        total_product[i] = sum_product;
    }
}

static inline void of_type(column_gradient_range)(
    const real *x, const real *dy, ptrdiff_t stride, ptrdiff_t samples, const double *mean, double *largest,
    double *largest_product, double *total, double *total_product, ptrdiff_t width)
{
    FOUR_OF_BOTH_AT_A_TIME(
        gradient_range_of_samples, mean, largest, largest_product, total, total_product, width);
}

/* dy and dy * (x - mean), scaled. */
ALWAYS_INLINE void of_type(gradient_sums_of_samples)(
    const real *restrict x, const real *restrict dy, ptrdiff_t stride, int samples, const double *restrict mean,
    const double *restrict scale, const double *restrict scale_product, double *restrict leading,
    double *restrict following, double *restrict product_leading, double *restrict product_following, ptrdiff_t width)
{
    EACH(width) {
        double high = leading[i], low = following[i], product_high = product_leading[i];
        double product_low = product_following[i];
        for (int k = 0; k < samples; k++) {
            double g = dy[k * stride + i];
            extract(g * scale[i], &high, &low);
            extract(g * (x[k * stride + i] - mean[i]) * scale_product[i], &product_high, &product_low);
        }
        leading[i] = high;
        following[i] = low;
        product_leading[i] = product_high;
        product_following[i] = product_low;
    }
}

static inline void of_type(column_gradient_sums)(
    const real *x, const real *dy, ptrdiff_t stride, ptrdiff_t samples, const double *mean, const double *scale,
    const double *scale_product, double *leading, double *following, double *product_leading,
    double *product_following, ptrdiff_t width)
{
    FOUR_OF_BOTH_AT_A_TIME(
        gradient_sums_of_samples, mean, scale, scale_product, leading, following, product_leading, product_following,
        width);
}

#undef FOUR_OF_BOTH_AT_A_TIME
#undef FOUR_AT_A_TIME
#undef EACH
