/* Included by loops.h for each type `real`.

   A row is one sample's run of values in one channel, with one mean and scale. A place is one position of one sample,
   with a value in each of some neighbouring channels. Computed in float64, rounded once. */

#define LINE ((ptrdiff_t)(64 / sizeof(real))) /* values in a cache line */
#define NUMBERS(p) of_type(widened)(of_type(load)((p), n))
#define FACTORS(p) load_f64((p), n)
#define SUMS(p) (begin ? (vector_t){0} : FACTORS(p))

/* Add x - origin and its square to sums (to 0 where they begin): of `rounds` values of each channel, which lie `apart`. */
ALWAYS_INLINE void of_type(add_moments)(
    const real *x, ptrdiff_t apart, int rounds, int begin, const double *origin, double *sum, double *square,
    ptrdiff_t width)
{
    STRIPS(width, {
        vector_t total = SUMS(sum + i), squares = SUMS(square + i), x0 = FACTORS(origin + i);
        for (int k = 0; k < rounds; k++) {
            vector_t d = NUMBERS(x + k * apart + i) - x0;
            total += d;
            squares += d * d;
        }
        store_f64(sum + i, total, n);
        store_f64(square + i, squares, n);
    });
}

/* Add dy and dy * (x - mean). */
ALWAYS_INLINE void of_type(add_gradients)(
    const real *x, const real *dy, ptrdiff_t apart, int rounds, int begin, const double *mean, double *sum,
    double *product, ptrdiff_t width)
{
    STRIPS(width, {
        vector_t total = SUMS(sum + i), products = SUMS(product + i), centre = FACTORS(mean + i);
        for (int k = 0; k < rounds; k++) {
            vector_t g = NUMBERS(dy + k * apart + i);
            total += g;
            products += g * (NUMBERS(x + k * apart + i) - centre);
        }
        store_f64(sum + i, total, n);
        store_f64(product + i, products, n);
    });
}

/* The same of all channels; meanwhile the values that lie `next` come into the second-level cache. */
ALWAYS_INLINE void of_type(moments_of_rounds)(
    const real *x, ptrdiff_t apart, int rounds, int begin, ptrdiff_t next, const double *origin, double *sum,
    double *square, ptrdiff_t width)
{
    ptrdiff_t at = 0;
    for (; at + LINE <= width; at += LINE) {
        for (int k = 0; k < rounds; k++)
            PREFETCH_FOR_READING(x + k * apart + next + at);
        of_type(add_moments)(x + at, apart, rounds, begin, origin + at, sum + at, square + at, LINE);
    }
    of_type(add_moments)(x + at, apart, rounds, begin, origin + at, sum + at, square + at, width - at);
}

ALWAYS_INLINE void of_type(gradients_of_rounds)(
    const real *x, const real *dy, ptrdiff_t apart, int rounds, int begin, ptrdiff_t next, const double *mean,
    double *sum, double *product, ptrdiff_t width)
{
    ptrdiff_t at = 0;
    for (; at + LINE <= width; at += LINE) {
        for (int k = 0; k < rounds; k++) {
            PREFETCH_FOR_READING(x + k * apart + next + at);
            PREFETCH_FOR_READING(dy + k * apart + next + at);
        }
        of_type(add_gradients)(x + at, dy + at, apart, rounds, begin, mean + at, sum + at, product + at, LINE);
    }
    of_type(add_gradients)(x + at, dy + at, apart, rounds, begin, mean + at, sum + at, product + at, width - at);
}

/* Of one to four places of one lane, so that the sums are loaded and stored once. Each number is a loop of its own. */
#define OF_ROUNDS(call, begin, x, ...)                         \
    switch (rounds) {                                          \
    case 1: of_type(call)(x, apart, 1, begin, __VA_ARGS__); break; \
    case 2: of_type(call)(x, apart, 2, begin, __VA_ARGS__); break; \
    case 3: of_type(call)(x, apart, 3, begin, __VA_ARGS__); break; \
    case 4: of_type(call)(x, apart, 4, begin, __VA_ARGS__); break; \
    }
#define BOTH x, dy

/* The first places are not inlined: the loop over all others stays small. */
static __attribute__((noinline)) void of_type(begin_moments)(
    const real *x, ptrdiff_t apart, int rounds, ptrdiff_t next, const double *origin, double *sum, double *square,
    ptrdiff_t width)
{
    OF_ROUNDS(moments_of_rounds, 1, x, next, origin, sum, square, width)
}

static inline void of_type(moment_places)(
    const real *x, ptrdiff_t apart, int rounds, int begin, ptrdiff_t next, const double *origin, double *sum,
    double *square, ptrdiff_t width)
{
    if (begin)
        of_type(begin_moments)(x, apart, rounds, next, origin, sum, square, width);
    else
        OF_ROUNDS(moments_of_rounds, 0, x, next, origin, sum, square, width)
}

static __attribute__((noinline)) void of_type(begin_gradients)(
    const real *x, const real *dy, ptrdiff_t apart, int rounds, ptrdiff_t next, const double *mean, double *sum,
    double *product, ptrdiff_t width)
{
    OF_ROUNDS(gradients_of_rounds, 1, BOTH, next, mean, sum, product, width)
}

static inline void of_type(gradient_places)(
    const real *x, const real *dy, ptrdiff_t apart, int rounds, int begin, ptrdiff_t next, const double *mean,
    double *sum, double *product, ptrdiff_t width)
{
    if (begin)
        of_type(begin_gradients)(x, dy, apart, rounds, next, mean, sum, product, width);
    else
        OF_ROUNDS(gradients_of_rounds, 0, BOTH, next, mean, sum, product, width)
}

#undef BOTH
#undef OF_ROUNDS

/* Store what normalization gives, and in the same sweep add a residual (if added) and make negative values and -0 +0. */
ALWAYS_INLINE void of_type(finish)(vector_t value, int added, const real *residual, int relu, real *y, int n)
{
    of_type(vector) result = of_type(narrowed)(value);
    if (added)
        result += of_type(load)(residual, n);
    if (relu)
        result = (of_type(vector))((of_type(vector_bits))result & ~(result <= 0));
    of_type(store)(y, result, n);
}

/* Call with constant `added` and `relu`: each combination becomes a loop of its own. x stands for a residual that is
   not read. */
#define FINISHED(call, ...)          \
    if (residual && relu)            \
        of_type(call)(__VA_ARGS__, 1, residual, 1); \
    else if (residual)               \
        of_type(call)(__VA_ARGS__, 1, residual, 0); \
    else if (relu)                   \
        of_type(call)(__VA_ARGS__, 0, x, 1);        \
    else                             \
        of_type(call)(__VA_ARGS__, 0, x, 0)

ALWAYS_INLINE void of_type(normalize_values)(
    const real *x, ptrdiff_t count, double mean, double scale, double bias, real *y, int added, const real *residual,
    int relu)
{
    STRIPS(count,
           of_type(finish)((NUMBERS(x + i) - mean) * scale + bias, added, residual + i, relu, y + i, n));
}

ALWAYS_INLINE void of_type(normalize_and_fetch)(
    const real *x, ptrdiff_t count, double mean, double scale, double bias, real *y, const real *ahead, int added,
    const real *residual, int relu)
{
    ptrdiff_t at = 0;
    if (ahead)
        for (; at + LINE <= count; at += LINE) {
            PREFETCH_FOR_READING(ahead + at);
            of_type(normalize_values)(x + at, LINE, mean, scale, bias, y + at, added, residual + at, relu);
        }
    of_type(normalize_values)(x + at, count - at, mean, scale, bias, y + at, added, residual + at, relu);
}

/* Meanwhile the values at `ahead`, which are next, come into the second-level cache. */
static inline void of_type(normalize_row)(
    const real *x, ptrdiff_t count, double mean, double scale, double bias, const real *residual, int relu, real *y,
    const real *ahead)
{
    FINISHED(normalize_and_fetch, x, count, mean, scale, bias, y, ahead);
}

/* Of `places` neighbouring places, which share the factors. */
ALWAYS_INLINE void of_type(normalize_some_places)(
    const real *x, int places, ptrdiff_t width, const double *mean, const double *scale, const double *bias, real *y,
    int added, const real *residual, int relu)
{
    STRIPS(width, {
        vector_t centre = FACTORS(mean + i), factor = FACTORS(scale + i), shift = FACTORS(bias + i);
        for (ptrdiff_t k = i; k < places * width; k += width)
            of_type(finish)((NUMBERS(x + k) - centre) * factor + shift, added, residual + k, relu, y + k, n);
    });
}

/* Four at a time where the factors of all channels leave no room in the first-level cache. */
ALWAYS_INLINE void of_type(normalize_all_places)(
    const real *x, ptrdiff_t places, ptrdiff_t width, const double *mean, const double *scale, const double *bias,
    real *y, int added, const real *residual, int relu)
{
    ptrdiff_t at = 0, end = places * width;
    if (width > FEW_CHANNELS)
        for (; at + 4 * width <= end; at += 4 * width)
            of_type(normalize_some_places)(
                x + at, 4, width, mean, scale, bias, y + at, added, residual + at, relu);
    for (; at < end; at += width)
        of_type(normalize_some_places)(x + at, 1, width, mean, scale, bias, y + at, added, residual + at, relu);
}

static inline void of_type(normalize_places)(
    const real *x, ptrdiff_t places, ptrdiff_t width, const double *mean, const double *scale, const double *bias,
    const real *residual, int relu, real *y)
{
    FINISHED(normalize_all_places, x, places, width, mean, scale, bias, y);
}

#undef FINISHED

/* dy where y > 0, else 0: the gradient of what went into relu. */
static inline void of_type(relu_gradient)(
    const real *restrict y, const real *restrict dy, ptrdiff_t count, real *restrict g)
{
    for (ptrdiff_t i = 0; i < count; i++)
        g[i] = y[i] > 0 ? dy[i] : 0;
}

/* dx = direct * dy - [shift + slope * (x - mean)]. dy may be dx. */
ALWAYS_INLINE void of_type(gradient_of_row)(
    const real *x, const real *dy, ptrdiff_t count, double mean, double direct, double shift, double slope, real *dx)
{
    STRIPS(count, {
        vector_t value = direct * NUMBERS(dy + i) - (shift + slope * (NUMBERS(x + i) - mean));
        of_type(store)(dx + i, of_type(narrowed)(value), n);
    });
}

/* The same, without the bracket where mask is 0. Meanwhile the values of x and dy that lie `ahead` (0: none do) come
   into the second-level cache. */
static inline void of_type(input_gradient_row)(
    const real *x, const real *dy, const unsigned char *mask, ptrdiff_t count, double mean, double direct,
    double shift, double slope, real *dx, ptrdiff_t ahead)
{
    ptrdiff_t at = 0;
    if (mask) {
        for (; at < count; at++)
            dx[at] = (real)(mask[at] ? direct * dy[at] - (shift + slope * (x[at] - mean)) : direct * dy[at]);
        return;
    }
    if (ahead)
        for (; at + LINE <= count; at += LINE) {
            PREFETCH_FOR_READING(x + ahead + at);
            PREFETCH_FOR_READING(dy + ahead + at);
            of_type(gradient_of_row)(x + at, dy + at, LINE, mean, direct, shift, slope, dx + at);
        }
    of_type(gradient_of_row)(x + at, dy + at, count - at, mean, direct, shift, slope, dx + at);
}

/* Of `places` neighbouring places. */
ALWAYS_INLINE void of_type(gradient_of_places)(
    const real *x, const real *dy, int places, ptrdiff_t width, const double *mean, const double *direct,
    const double *shift, const double *slope, real *dx)
{
    STRIPS(width, {
        vector_t centre = FACTORS(mean + i), a = FACTORS(direct + i), b = FACTORS(shift + i), c = FACTORS(slope + i);
        for (ptrdiff_t k = i; k < places * width; k += width) {
            vector_t value = a * NUMBERS(dy + k) - (b + c * (NUMBERS(x + k) - centre));
            of_type(store)(dx + k, of_type(narrowed)(value), n);
        }
    });
}

/* Of places, without the bracket where their mask is 0. */
static inline void of_type(input_gradient_places)(
    const real *x, const real *dy, const unsigned char *mask, ptrdiff_t places, ptrdiff_t width, const double *mean,
    const double *direct, const double *shift, const double *slope, real *dx)
{
    ptrdiff_t place = 0, at = 0;
    if (width > FEW_CHANNELS && !mask)
        for (; place + 4 <= places; place += 4, at += 4 * width)
            of_type(gradient_of_places)(x + at, dy + at, 4, width, mean, direct, shift, slope, dx + at);
    for (; place < places; place++, at += width)
        if (mask && !mask[place])
            STRIPS(width, of_type(store)(
                dx + at + i, of_type(narrowed)(FACTORS(direct + i) * NUMBERS(dy + at + i)), n));
        else
            of_type(gradient_of_places)(x + at, dy + at, 1, width, mean, direct, shift, slope, dx + at);
}

/* Of a row of features, each with a weight of its own: (x - mean) * scale * weight + bias. */
static inline void of_type(normalize_features)(
    const real *x, ptrdiff_t features, double mean, double scale, const double *weight, const double *bias, real *y)
{
    STRIPS(features, {
        vector_t value = (NUMBERS(x + i) - mean) * scale * FACTORS(weight + i) + FACTORS(bias + i);
        of_type(store)(y + i, of_type(narrowed)(value), n);
    });
}

/* Add a row's dy * (x - mean) * scale and dy to the gradients of weight and bias. */
static inline void of_type(add_feature_gradients)(
    const real *x, const real *dy, ptrdiff_t features, double mean, double scale, double *dweight, double *dbias)
{
    STRIPS(features, {
        vector_t g = NUMBERS(dy + i);
        store_f64(dweight + i, FACTORS(dweight + i) + g * (NUMBERS(x + i) - mean) * scale, n);
        store_f64(dbias + i, FACTORS(dbias + i) + g, n);
    });
}

/* dx = scale * weight * dy - [shift + slope * (x - mean)]. */
static inline void of_type(gradient_of_features)(
    const real *x, const real *dy, ptrdiff_t features, double mean, double scale, const double *weight, double shift,
    double slope, real *dx)
{
    STRIPS(features, {
        vector_t value = scale * FACTORS(weight + i) * NUMBERS(dy + i) - (shift + slope * (NUMBERS(x + i) - mean));
        of_type(store)(dx + i, of_type(narrowed)(value), n);
    });
}

#undef SUMS
#undef FACTORS
#undef NUMBERS
#undef LINE
