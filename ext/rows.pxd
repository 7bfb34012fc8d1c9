# Sums over rows, for the kernels that stop at them and for those that go on while x is in cache.
#
# A row is summed in 16 virtual lanes (value s goes to lane s mod 16) that a fixed tree combines, so its sums
# depend on its values and S alone: not on the memory order, the instruction set or the neighbours.
from cython cimport floating
from lanes cimport (
    lanes, lanes_add, lanes_all, lanes_first, lanes_load_f32, lanes_load_f64, lanes_multiply, lanes_subtract,
    lanes_sum,
)
from loops cimport combine_lanes, gradient_places, moment_places, prefetch_for_writing

cdef enum:
    LANES = 16
    ROUNDS = 4  # places of each lane whose values are added to the lane's sums together
    BAND = 256  # channels whose lanes are kept together: their two sums fit the second-level cache, and a small stack
    ROOM = BAND + 8  # so that two such sums do not lie a multiple of 4096 bytes apart, where they hinder each other


cdef inline lanes load(const floating *p) noexcept nogil:
    if floating is float:
        return lanes_load_f32(p)
    else:
        return lanes_load_f64(p)


cdef inline lanes load_part(const floating *p, const floating *end, Py_ssize_t left) noexcept nogil:
    """Load ``left`` < 16 values of an array that ends at ``end``; what the other lanes hold is no matter."""
    cdef floating buffer[LANES]
    cdef Py_ssize_t j
    if end - p >= LANES:
        return load(p)
    for j in range(LANES):
        buffer[j] = p[j] if j < left else 0
    return load(&buffer[0])


cdef inline void moment_row(
    const floating *x, const floating *end, const unsigned char *mask, Py_ssize_t count,
    double *first, double *deviation, double *square, const floating *result,
) noexcept nogil:
    """Sum x − x₀ and (x − x₀)² over the values that count (mask may be NULL), shifted by their first, x₀.

    Meanwhile the memory of ``result`` (unless NULL), which is written next, comes into the second-level cache.
    """
    cdef lanes origin, d, sums = lanes_all(0), squares = lanes_all(0)
    cdef Py_ssize_t s = 0
    if mask is not NULL:
        while s < count and not mask[s]:
            s += 1
        first[0] = x[s] if s < count else 0
        sum_from(x, 1, mask, count, first[0], deviation, square)
    else:
        origin = lanes_all(x[0])
        while s + LANES <= count:
            if result is not NULL:
                prefetch_for_writing(result + s)
                if floating is double:
                    prefetch_for_writing(result + s + LANES // 2)
            d = lanes_subtract(load(x + s), origin)
            sums = lanes_add(sums, d)
            squares = lanes_add(squares, lanes_multiply(d, d))
            s += LANES
        if s < count:
            d = lanes_first(lanes_subtract(load_part(x + s, end, count - s), origin), count - s)
            sums = lanes_add(sums, d)
            squares = lanes_add(squares, lanes_multiply(d, d))
        first[0] = x[0]
        deviation[0] = lanes_sum(sums)
        square[0] = lanes_sum(squares)
    centre_row(x, 1, mask, count, selected(mask, count), first, deviation, square)


cdef inline void moment_rows_of_band(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, Py_ssize_t count, Py_ssize_t width, bint far,
    double *first, double *deviation, double *square,
) noexcept nogil:
    """Do the same for the rows of up to 256 neighbouring channels, whose values lie ``stride`` apart.

    Memory is read in its order: channel by channel it would be torn into pieces that no prefetcher follows. What is
    ``far``, in memory, is fetched earlier than what is in a cache.
    """
    cdef double sums[LANES][ROOM]
    cdef double squares[LANES][ROOM]
    cdef Py_ssize_t s, j, start = 0, c, values = selected(mask, count)
    cdef Py_ssize_t round = LANES * stride  # from a place to the next of its lane
    cdef int rounds
    if mask is not NULL or count < LANES:  # else the first places of each lane are written, not added
        clear_lanes(sums, width)
        clear_lanes(squares, width)
    while mask is not NULL and start < count and not mask[start]:
        start += 1
    for c in range(width):
        first[c] = x[start * stride + c] if start < count else 0
    if mask is NULL:
        while start + LANES <= count:
            rounds = min(ROUNDS, (count - start) // LANES)
            for j in range(LANES):
                moment_places(x + (start + j) * stride, round, rounds, start == 0, rounds * round if far else stride,
                              first, sums[j], squares[j], width)
            start += rounds * LANES
    for s in range(start, count):
        if mask is NULL or mask[s]:
            moment_places(x + s * stride, round, 1, False, stride, first, sums[s % LANES], squares[s % LANES], width)
    combine_lanes(&sums[0][0], ROOM, deviation, width)
    combine_lanes(&squares[0][0], ROOM, square, width)
    for c in range(width):
        centre_row(x + c, stride, mask, count, values, first + c, deviation + c, square + c)


cdef inline void centre_row(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, Py_ssize_t count, Py_ssize_t values,
    double *first, double *deviation, double *square,
) noexcept nogil:
    """Sum a row again from its mean where x₀ is an outlier (some 4σ): D₂ − D₁²/n would lose up to log₂ n bits."""
    if deviation[0] * deviation[0] > 0.9375 * square[0] * values:
        first[0] = first[0] + deviation[0] / values
        sum_from(x, stride, mask, count, first[0], deviation, square)


cdef inline void sum_from(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, Py_ssize_t count, double origin,
    double *deviation, double *square,
) noexcept nogil:
    """Sum x − origin and (x − origin)² over the values that count."""
    cdef double sums[LANES]
    cdef double squares[LANES]
    cdef double d
    cdef Py_ssize_t s, j
    for j in range(LANES):
        sums[j] = squares[j] = 0
    for s in range(count):
        if mask is NULL or mask[s]:
            d = x[s * stride] - origin
            sums[s % LANES] += d
            squares[s % LANES] += d * d
    deviation[0] = lanes_sum(lanes_load_f64(&sums[0]))
    square[0] = lanes_sum(lanes_load_f64(&squares[0]))


cdef inline Py_ssize_t selected(const unsigned char *mask, Py_ssize_t count) noexcept nogil:
    """Count the values that count."""
    cdef Py_ssize_t s, values = 0
    if mask is NULL:
        return count
    for s in range(count):
        values += mask[s] != 0
    return values


cdef inline void gradient_row(
    const floating *x, const floating *x_end, const floating *dy, const floating *dy_end, Py_ssize_t count,
    double mean_value, double *total, double *product, const floating *result,
) noexcept nogil:
    """Sum dy and dy·(x − μ) over a row; ``result`` as in ``moment_row``."""
    cdef lanes mean = lanes_all(mean_value), g, sums = lanes_all(0), products = lanes_all(0)
    cdef Py_ssize_t s = 0
    while s + LANES <= count:
        if result is not NULL:
            prefetch_for_writing(result + s)
            if floating is double:
                prefetch_for_writing(result + s + LANES // 2)
        g = load(dy + s)
        sums = lanes_add(sums, g)
        products = lanes_add(products, lanes_multiply(g, lanes_subtract(load(x + s), mean)))
        s += LANES
    if s < count:
        g = load_part(dy + s, dy_end, count - s)
        sums = lanes_add(sums, lanes_first(g, count - s))
        g = lanes_multiply(g, lanes_subtract(load_part(x + s, x_end, count - s), mean))
        products = lanes_add(products, lanes_first(g, count - s))
    total[0] = lanes_sum(sums)
    product[0] = lanes_sum(products)


cdef inline void gradient_rows_of_band(
    const floating *x, const floating *dy, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t width, bint far,
    const double *mean, double *total, double *product,
) noexcept nogil:
    """Do the same for the rows of up to 256 neighbouring channels."""
    cdef double sums[LANES][ROOM]
    cdef double products[LANES][ROOM]
    cdef Py_ssize_t s, j, at, start = 0
    cdef Py_ssize_t round = LANES * stride
    cdef int rounds
    if count < LANES:
        clear_lanes(sums, width)
        clear_lanes(products, width)
    while start + LANES <= count:
        rounds = min(ROUNDS, (count - start) // LANES)
        for j in range(LANES):
            at = (start + j) * stride
            gradient_places(x + at, dy + at, round, rounds, start == 0, rounds * round if far else stride, mean,
                            sums[j], products[j], width)
        start += rounds * LANES
    for s in range(start, count):
        at = s * stride
        gradient_places(x + at, dy + at, round, 1, False, stride, mean, sums[s % LANES], products[s % LANES], width)
    combine_lanes(&sums[0][0], ROOM, total, width)
    combine_lanes(&products[0][0], ROOM, product, width)


cdef inline Py_ssize_t band_of(Py_ssize_t samples, Py_ssize_t channels, int threads) noexcept nogil:
    """Return the number of channels that are summed together, so that there is work for each thread."""
    cdef Py_ssize_t bands = max((channels + BAND - 1) // BAND, (threads + samples - 1) // samples)
    return max(LANES, ((channels + bands - 1) // bands + LANES - 1) // LANES * LANES)


cdef inline void clear_lanes(double (*parts)[ROOM], Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j, c
    for j in range(LANES):
        for c in range(width):
            parts[j][c] = 0
