/* Included by loops.h for each type `real`.

   A row is one sample's run of values in one channel, with one mean and scale. A place is one position of one sample,
   with a value in each of some neighbouring channels. Computed in float64, rounded once. */

#define LINE ((ptrdiff_t)(64 / sizeof(real))) /* values in a cache line */
#define EACH(count) for (ptrdiff_t i = 0; i < (count); i++)

/* Add x - origin and its square to sums: of `rounds` values of each channel, which lie `apart`. */
ALWAYS_INLINE void of_type(add_moments)(
    const real *restrict x, ptrdiff_t apart, int rounds, const double *restrict origin, double *restrict sum,
    double *restrict square, ptrdiff_t width)
{
    EACH(width) {
        double total = sum[i], squares = square[i];
        for (int k = 0; k < rounds; k++) {
            double d = x[k * apart + i] - origin[i];
            total += d;
            squares += d * d;
        }
        sum[i] = total;
        square[i] = squares;
    }
}

/* Add dy and dy * (x - mean). */
ALWAYS_INLINE void of_type(add_gradients)(
    const real *restrict x, const real *restrict dy, ptrdiff_t apart, int rounds, const double *restrict mean,
    double *restrict sum, double *restrict product, ptrdiff_t width)
{
    EACH(width) {
        double total = sum[i], products = product[i];
        for (int k = 0; k < rounds; k++) {
            double g = dy[k * apart + i];
            total += g;
            products += g * (x[k * apart + i] - mean[i]);
        }
        sum[i] = total;
        product[i] = products;
    }
}

/* The same of all channels; meanwhile the values that lie `next` come into the second-level cache. */
ALWAYS_INLINE void of_type(moments_of_rounds)(
    const real *restrict x, ptrdiff_t apart, int rounds, ptrdiff_t next, const double *restrict origin,
    double *restrict sum, double *restrict square, ptrdiff_t width)
{
    ptrdiff_t at = 0;
    for (; at + LINE <= width; at += LINE) {
        for (int k = 0; k < rounds; k++)
            PREFETCH_FOR_READING(x + k * apart + next + at);
        of_type(add_moments)(x + at, apart, rounds, origin + at, sum + at, square + at, LINE);
    }
    of_type(add_moments)(x + at, apart, rounds, origin + at, sum + at, square + at, width - at);
}

ALWAYS_INLINE void of_type(gradients_of_rounds)(
    const real *restrict x, const real *restrict dy, ptrdiff_t apart, int rounds, ptrdiff_t next,
    const double *restrict mean, double *restrict sum, double *restrict product, ptrdiff_t width)
{
    ptrdiff_t at = 0;
    for (; at + LINE <= width; at += LINE) {
        for (int k = 0; k < rounds; k++) {
            PREFETCH_FOR_READING(x + k * apart + next + at);
            PREFETCH_FOR_READING(dy + k * apart + next + at);
        }
        of_type(add_gradients)(x + at, dy + at, apart, rounds, mean + at, sum + at, product + at, LINE);
    }
    of_type(add_gradients)(x + at, dy + at, apart, rounds, mean + at, sum + at, product + at, width - at);
}

/* Of one to four places of one lane, so that the sums are loaded and stored once: each number is a loop of its own. */
static inline void of_type(moment_places)(
    const real *x, ptrdiff_t apart, int rounds, ptrdiff_t next, const double *origin, double *sum, double *square,
    ptrdiff_t width)
{
    switch (rounds) {
    case 1: of_type(moments_of_rounds)(x, apart, 1, next, origin, sum, square, width); break;
    case 2: of_type(moments_of_rounds)(x, apart, 2, next, origin, sum, square, width); break;
    case 3: of_type(moments_of_rounds)(x, apart, 3, next, origin, sum, square, width); break;
    case 4: of_type(moments_of_rounds)(x, apart, 4, next, origin, sum, square, width); break;
    }
}

static inline void of_type(gradient_places)(
    const real *x, const real *dy, ptrdiff_t apart, int rounds, ptrdiff_t next, const double *mean, double *sum,
    double *product, ptrdiff_t width)
{
    switch (rounds) {
    case 1: of_type(gradients_of_rounds)(x, dy, apart, 1, next, mean, sum, product, width); break;
    case 2: of_type(gradients_of_rounds)(x, dy, apart, 2, next, mean, sum, product, width); break;
    case 3: of_type(gradients_of_rounds)(x, dy, apart, 3, next, mean, sum, product, width); break;
    case 4: of_type(gradients_of_rounds)(x, dy, apart, 4, next, mean, sum, product, width); break;
    }
}

/* What follows normalization in the same sweep: a residual is added, negative values become 0. Each constant
   combination becomes a loop of its own. */
static inline real of_type(finish)(double value, real residual, int relu)
{
    real y = (real)value + residual;
    return relu && y < 0 ? 0 : y;
}

#define FINISHED(count, value)                                                       \
    if (residual && relu)                                                            \
        EACH(count) y[i] = of_type(finish)(value, residual[i], 1);                   \
    else if (residual)                                                               \
        EACH(count) y[i] = of_type(finish)(value, residual[i], 0);                   \
    else if (relu)                                                                   \
        EACH(count) y[i] = (real)(value) < 0 ? 0 : (real)(value);                    \
    else                                                                             \
        EACH(count) y[i] = (real)(value);

static inline void of_type(normalize_values)(
    const real *restrict x, ptrdiff_t count, double mean, double scale, double bias, const real *restrict residual,
    int relu, real *restrict y)
{
    FINISHED(count, (x[i] - mean) * scale + bias)
}

/* Meanwhile the values at `ahead`, which are next, come into the second-level cache. */
static inline void of_type(normalize_row)(
    const real *x, ptrdiff_t count, double mean, double scale, double bias, const real *residual, int relu, real *y,
    const real *ahead)
{
    ptrdiff_t at = 0;
    if (ahead)
        for (; at + LINE <= count; at += LINE) {
            PREFETCH_FOR_READING(ahead + at);
            of_type(normalize_values)(x + at, LINE, mean, scale, bias, residual ? residual + at : NULL, relu, y + at);
        }
    of_type(normalize_values)(
        x + at, count - at, mean, scale, bias, residual ? residual + at : NULL, relu, y + at);
}

ALWAYS_INLINE void of_type(normalize_place)(
    const real *restrict x, ptrdiff_t width, const double *restrict mean, const double *restrict scale,
    const double *restrict bias, const real *restrict residual, int relu, real *restrict y)
{
    FINISHED(width, (x[i] - mean[i]) * scale[i] + bias[i])
}

#undef FINISHED

/* Where the factors of all channels leave no room in the first-level cache, four places share them. */
static inline void of_type(normalize_places)(
    const real *x, ptrdiff_t places, ptrdiff_t width, const double *mean, const double *scale, const double *bias,
    const real *residual, int relu, real *y)
{
    ptrdiff_t at = 0, end = places * width;
    if (width > FEW_CHANNELS && width % LINE == 0 && !residual && !relu)
        for (; at + 4 * width <= end; at += 4 * width)
            for (ptrdiff_t c = at; c < at + width; c += LINE / 2)
                for (int k = 0; k < 4; k++)
                    of_type(normalize_place)(
                        x + c + k * width, LINE / 2, mean + c - at, scale + c - at, bias + c - at, NULL, 0,
                        y + c + k * width);
    for (; at < end; at += width)
        of_type(normalize_place)(x + at, width, mean, scale, bias, residual ? residual + at : NULL, relu, y + at);
}

/* dy where y > 0, else 0: the gradient of what went into relu. */
static inline void of_type(relu_gradient)(
    const real *restrict y, const real *restrict dy, ptrdiff_t count, real *restrict g)
{
    EACH(count) g[i] = y[i] > 0 ? dy[i] : 0;
}

/* dx = direct * dy - [shift + slope * (x - mean)]; without the bracket where mask is 0. dy may be dx. Meanwhile the
   values of x and dy that lie `ahead` (0: none do) come into the second-level cache. */
static inline void of_type(gradient_of_row)(
    const real *restrict x, const real *restrict dy, ptrdiff_t count, double mean, double direct, double shift,
    double slope, real *restrict dx)
{
    EACH(count) dx[i] = (real)(direct * dy[i] - (shift + slope * (x[i] - mean)));
}

static inline void of_type(input_gradient_row)(
    const real *restrict x, const real *dy, const unsigned char *restrict mask, ptrdiff_t count, double mean,
    double direct, double shift, double slope, real *dx, ptrdiff_t ahead)
{
    ptrdiff_t at = 0;
    if (ahead && !mask && dy != dx) {
        for (; at + LINE <= count; at += LINE) {
            PREFETCH_FOR_READING(x + ahead + at);
            PREFETCH_FOR_READING(dy + ahead + at);
            of_type(gradient_of_row)(x + at, dy + at, LINE, mean, direct, shift, slope, dx + at);
        }
        of_type(gradient_of_row)(x + at, dy + at, count - at, mean, direct, shift, slope, dx + at);
    } else if (mask)
        EACH(count) dx[i] = (real)(mask[i] ? direct * dy[i] - (shift + slope * (x[i] - mean)) : direct * dy[i]);
    else if (dy == dx)
        EACH(count) dx[i] = (real)(direct * dx[i] - (shift + slope * (x[i] - mean)));
    else
        of_type(gradient_of_row)(x, dy, count, mean, direct, shift, slope, dx);
}

ALWAYS_INLINE void of_type(gradient_of_place)(
    const real *restrict x, const real *restrict dy, ptrdiff_t width, const double *restrict mean,
    const double *restrict direct, const double *restrict shift, const double *restrict slope, real *restrict dx)
{
    EACH(width) dx[i] = (real)(direct[i] * dy[i] - (shift[i] + slope[i] * (x[i] - mean[i])));
}

/* Of places, without the bracket where their mask is 0. */
static inline void of_type(input_gradient_places)(
    const real *restrict x, const real *dy, const unsigned char *mask, ptrdiff_t places, ptrdiff_t width,
    const double *restrict mean, const double *restrict direct, const double *restrict shift,
    const double *restrict slope, real *dx)
{
    ptrdiff_t place = 0;
    if (width > FEW_CHANNELS && width % LINE == 0 && !mask && dy != dx)
        for (; place + 4 <= places; place += 4)
            for (ptrdiff_t c = 0; c < width; c += LINE / 2)
                for (ptrdiff_t at = place * width + c; at < (place + 4) * width; at += width)
                    of_type(gradient_of_place)(
                        x + at, dy + at, LINE / 2, mean + c, direct + c, shift + c, slope + c, dx + at);
    for (ptrdiff_t at = place * width; place < places; place++, at += width)
        if (mask && !mask[place])
            EACH(width) dx[at + i] = (real)(direct[i] * dy[at + i]);
        else if (dy == dx)
            EACH(width) dx[at + i] =
                (real)(direct[i] * dx[at + i] - (shift[i] + slope[i] * (x[at + i] - mean[i])));
        else
            of_type(gradient_of_place)(x + at, dy + at, width, mean, direct, shift, slope, dx + at);
}

/* Of a row of features, each with a weight of its own: (x - mean) * scale * weight + bias. */
static inline void of_type(normalize_features)(
    const real *restrict x, ptrdiff_t features, double mean, double scale, const double *restrict weight,
    const double *restrict bias, real *restrict y)
{
    EACH(features) y[i] = (real)((x[i] - mean) * scale * weight[i] + bias[i]);
}

/* Add a row's dy * (x - mean) * scale and dy to the gradients of weight and bias. */
static inline void of_type(add_feature_gradients)(
    const real *restrict x, const real *restrict dy, ptrdiff_t features, double mean, double scale,
    double *restrict dweight, double *restrict dbias)
{
    EACH(features) {
        dweight[i] += dy[i] * (x[i] - mean) * scale;
        dbias[i] += dy[i];
    }
}

/* dx = scale * weight * dy - [shift + slope * (x - mean)]. */
static inline void of_type(gradient_of_features)(
    const real *restrict x, const real *restrict dy, ptrdiff_t features, double mean, double scale,
    const double *restrict weight, double shift, double slope, real *restrict dx)
{
    EACH(features) dx[i] = (real)(scale * weight[i] * dy[i] - (shift + slope * (x[i] - mean)));
}

#undef EACH
#undef LINE
