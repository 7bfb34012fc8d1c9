/* Included by loops.h for each type `real`.

   A row is one sample's run of values in one channel, with one mean and scale. A place is one position of one sample,
   with a value in each of some neighbouring channels. Computed in float64, rounded once. */

#define LINE ((ptrdiff_t)(64 / sizeof(real))) /* values in a cache line */
#define EACH(count) for (ptrdiff_t i = 0; i < (count); i++)

/* Add a place's x - origin and its square to the sums of its lane. */
static inline void of_type(moment_place)(
    const real *restrict x, const double *restrict origin, double *restrict sum, double *restrict square,
    ptrdiff_t width)
{
    EACH(width) {
        double d = x[i] - origin[i];
        sum[i] += d;
        square[i] += d * d;
    }
}

/* Add a place's dy and dy * (x - mean). */
static inline void of_type(gradient_place)(
    const real *restrict x, const real *restrict dy, const double *restrict mean, double *restrict sum,
    double *restrict product, ptrdiff_t width)
{
    EACH(width) {
        double g = dy[i];
        sum[i] += g;
        product[i] += g * (x[i] - mean[i]);
    }
}

/* The same of four places of one lane, which lie `apart`, so that the sums are loaded and stored once; meanwhile those
   that lie `next` come into the second-level cache. */
static inline void of_type(moment_places)(
    const real *restrict x, ptrdiff_t apart, ptrdiff_t next, const double *restrict origin, double *restrict sum,
    double *restrict square, ptrdiff_t width)
{
    for (ptrdiff_t at = 0; at < width; at += LINE) {
        for (int k = 0; k < 4; k++)
            PREFETCH_FOR_READING(x + k * apart + next + at);
        ptrdiff_t stop = width - at < LINE ? width : at + LINE;
        for (ptrdiff_t i = at; i < stop; i++) {
            double d0 = x[i] - origin[i], d1 = x[apart + i] - origin[i];
            double d2 = x[2 * apart + i] - origin[i], d3 = x[3 * apart + i] - origin[i];
            sum[i] = (((sum[i] + d0) + d1) + d2) + d3;
            square[i] = (((square[i] + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3;
        }
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

static inline void of_type(normalize_place)(
    const real *restrict x, ptrdiff_t width, const double *restrict mean, const double *restrict scale,
    const double *restrict bias, const real *restrict residual, int relu, real *restrict y)
{
    FINISHED(width, (x[i] - mean[i]) * scale[i] + bias[i])
}

#undef FINISHED

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

static inline void of_type(gradient_of_place)(
    const real *restrict x, const real *restrict dy, ptrdiff_t width, const double *restrict mean,
    const double *restrict direct, const double *restrict shift, const double *restrict slope, real *restrict dx)
{
    EACH(width) dx[i] = (real)(direct[i] * dy[i] - (shift[i] + slope[i] * (x[i] - mean[i])));
}

static inline void of_type(input_gradient_place)(
    const real *restrict x, const real *dy, int selected, ptrdiff_t width, const double *restrict mean,
    const double *restrict direct, const double *restrict shift, const double *restrict slope, real *dx)
{
    if (!selected)
        EACH(width) dx[i] = (real)(direct[i] * dy[i]);
    else if (dy == dx)
        EACH(width) dx[i] = (real)(direct[i] * dx[i] - (shift[i] + slope[i] * (x[i] - mean[i])));
    else
        of_type(gradient_of_place)(x, dy, width, mean, direct, shift, slope, dx);
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
