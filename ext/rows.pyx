"""Sums over rows: what one sample's run of S values in one channel gives to the statistics.

A row is summed in 16 virtual lanes (value s goes to lane s mod 16) that a fixed tree combines, so its
sums depend on its values and S alone: not on the memory order, the instruction set or the neighbours.
ncs is channels-first memory (N, C, S), nsc is channels-last memory (N, S, C).
"""

from cython cimport floating
from cython.parallel cimport prange
from lanes cimport lanes, lanes_all, lanes_load_f32, lanes_load_f64, lanes_store, lanes_sum

cdef enum:
    HALF = 8     # channels of one vector, and half the lanes of a row
    LANES = 16


cdef inline lanes load(const floating *p) noexcept nogil:
    if floating is float:
        return lanes_load_f32(p)
    else:
        return lanes_load_f64(p)


cdef inline lanes load_part(const floating *p, Py_ssize_t count, floating fill) noexcept nogil:
    """Load ``count`` < 8 values and fill the other lanes."""
    cdef floating buffer[HALF]
    cdef Py_ssize_t j
    for j in range(HALF):
        buffer[j] = p[j] if j < count else fill
    return load(&buffer[0])


cdef inline lanes load_some(const floating *p, Py_ssize_t left, floating fill) noexcept nogil:
    """Load up to 8 of the ``left`` values (which may be negative) at ``p``; missing ones are ``fill``."""
    if left >= HALF:
        return load(p)
    return load_part(p, left, fill)


cdef void one_row(
    const floating *x, Py_ssize_t count, double *first, double *deviation, double *square
) noexcept nogil:
    """Sum x − x₀ and (x − x₀)² over a row, shifted by its own first value x₀."""
    cdef lanes origin = lanes_all(x[0])
    cdef lanes d0, d1
    cdef lanes sum0 = lanes_all(0), sum1 = lanes_all(0), square0 = lanes_all(0), square1 = lanes_all(0)
    cdef Py_ssize_t s = 0
    while s < count:
        d0 = load_some(x + s, count - s, x[0]) - origin
        d1 = load_some(x + s + HALF, count - s - HALF, x[0]) - origin
        sum0 = sum0 + d0
        sum1 = sum1 + d1
        square0 = square0 + d0 * d0
        square1 = square1 + d1 * d1
        s += LANES
    first[0] = x[0]
    deviation[0] = lanes_sum(sum0 + sum1)
    square[0] = lanes_sum(square0 + square1)
    centre_row(x, 1, NULL, count, first, deviation, square)


cdef void one_masked_row(
    const floating *x, const unsigned char *mask, Py_ssize_t count, double *first, double *deviation, double *square
) noexcept nogil:
    """Do the same over the values with mask ≠ 0; the others add 0 to their lane."""
    cdef Py_ssize_t start = 0
    while start < count and not mask[start]:
        start += 1
    first[0] = x[start] if start < count else 0
    sum_from(x, 1, mask, count, first[0], deviation, square)
    centre_row(x, 1, mask, count, first, deviation, square)


cdef void sum_from(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, Py_ssize_t count, double origin,
    double *deviation, double *square,
) noexcept nogil:
    """Sum x − origin and (x − origin)² over the values that count; mask may be NULL."""
    cdef double sums[LANES]
    cdef double squares[LANES]
    cdef double d
    cdef Py_ssize_t s, j
    for j in range(LANES):
        sums[j] = 0
        squares[j] = 0
    for s in range(count):
        if mask is NULL or mask[s]:
            d = x[s * stride] - origin
            sums[s % LANES] += d
            squares[s % LANES] += d * d
    deviation[0] = lanes_sum(lanes_load_f64(&sums[0]) + lanes_load_f64(&sums[HALF]))
    square[0] = lanes_sum(lanes_load_f64(&squares[0]) + lanes_load_f64(&squares[HALF]))


cdef inline void centre_row(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, Py_ssize_t count,
    double *first, double *deviation, double *square,
) noexcept nogil:
    """Sum a row again from its mean where x₀ is an outlier (some 4σ): D₂ − D₁²/n would lose up to log₂ n bits."""
    cdef Py_ssize_t s, selected = count
    if mask is not NULL:
        selected = 0
        for s in range(count):
            selected += mask[s] != 0
    if deviation[0] * deviation[0] > 0.9375 * square[0] * selected:
        first[0] = first[0] + deviation[0] / selected
        sum_from(x, stride, mask, count, first[0], deviation, square)


def moment_rows_ncs(
    const floating[:, :, ::1] x_ncs,       # IN
    const unsigned char[:, ::1] mask_ns,   # IN   (0, 0): all values count
    double[:, ::1] first_nc,               # OUT  x₀, the row's first value that counts; its mean where that is far out
    double[:, ::1] deviation_nc,           # OUT  Σ(x − x₀)
    double[:, ::1] square_nc,              # OUT  Σ(x − x₀)²
    int threads,                           # IN
):
    cdef Py_ssize_t row, n, c, channels = x_ncs.shape[1], count = x_ncs.shape[2]
    cdef bint masked = mask_ns.shape[0] > 0
    for row in prange(x_ncs.shape[0] * channels, nogil=True, num_threads=threads, schedule="static"):
        n = row // channels
        c = row % channels
        if masked:
            one_masked_row(&x_ncs[n, c, 0], &mask_ns[n, 0], count,
                           &first_nc[n, c], &deviation_nc[n, c], &square_nc[n, c])
        else:
            one_row(&x_ncs[n, c, 0], count, &first_nc[n, c], &deviation_nc[n, c], &square_nc[n, c])


def moment_rows_nsc(
    const floating[:, :, ::1] x_nsc,       # IN
    const unsigned char[:, ::1] mask_ns,   # IN   (0, 0): all values count
    double[:, ::1] first_nc,               # OUT
    double[:, ::1] deviation_nc,           # OUT
    double[:, ::1] square_nc,              # OUT
    int threads,                           # IN
):
    cdef Py_ssize_t part, parts = (x_nsc.shape[2] + HALF - 1) // HALF
    for part in prange(x_nsc.shape[0] * parts, nogil=True, num_threads=threads, schedule="static"):
        eight_rows(x_nsc, mask_ns, first_nc, deviation_nc, square_nc, part // parts, part % parts * HALF)


cdef void eight_rows(
    const floating[:, :, ::1] x_nsc, const unsigned char[:, ::1] mask_ns, double[:, ::1] first_nc,
    double[:, ::1] deviation_nc, double[:, ::1] square_nc, Py_ssize_t n, Py_ssize_t c,
) noexcept nogil:
    """Sum the rows of sample n in channels c to c + 7."""
    cdef lanes sums[LANES]
    cdef lanes squares[LANES]
    cdef lanes origin = lanes_all(0), d
    cdef Py_ssize_t s, start = 0, j, count = x_nsc.shape[1], left = x_nsc.shape[2] - c
    cdef const unsigned char *mask = &mask_ns[n, 0] if mask_ns.shape[0] > 0 else NULL
    while mask is not NULL and start < count and not mask[start]:
        start += 1
    if start < count:
        origin = load_some(&x_nsc[n, start, c], left, 0)
    for j in range(LANES):
        sums[j] = lanes_all(0)
        squares[j] = lanes_all(0)
    for s in range(start, count):
        if mask is not NULL and not mask[s]:
            continue
        d = load_some(&x_nsc[n, s, c], left, 0) - origin
        j = s % LANES
        sums[j] = sums[j] + d
        squares[j] = squares[j] + d * d
    store_some(&first_nc[n, c], left, origin)
    store_some(&deviation_nc[n, c], left, across(&sums[0]))
    store_some(&square_nc[n, c], left, across(&squares[0]))
    for j in range(c, c + (left if left < HALF else HALF)):
        centre_row(&x_nsc[n, 0, j], x_nsc.shape[2], mask, count, &first_nc[n, j], &deviation_nc[n, j], &square_nc[n, j])


def gradient_rows_ncs(
    const floating[:, :, ::1] x_ncs,    # IN
    const floating[:, :, ::1] dy_ncs,   # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    double[:, ::1] sum_nc,              # OUT  Σ dy
    double[:, ::1] product_nc,          # OUT  Σ dy·(x − μ)
    int threads,                        # IN
):
    cdef Py_ssize_t row, n, c, channels = x_ncs.shape[1], count = x_ncs.shape[2]
    cdef bint per_sample = mean_nc.shape[0] > 1
    for row in prange(x_ncs.shape[0] * channels, nogil=True, num_threads=threads, schedule="static"):
        n = row // channels
        c = row % channels
        one_gradient_row(&x_ncs[n, c, 0], &dy_ncs[n, c, 0], count, mean_nc[n if per_sample else 0, c],
                         &sum_nc[n, c], &product_nc[n, c])


cdef void one_gradient_row(
    const floating *x, const floating *dy, Py_ssize_t count, double mean_value, double *total, double *product
) noexcept nogil:
    cdef lanes mean = lanes_all(mean_value), g0, g1
    cdef lanes sum0 = lanes_all(0), sum1 = lanes_all(0), product0 = lanes_all(0), product1 = lanes_all(0)
    cdef Py_ssize_t s = 0
    while s < count:
        g0 = load_some(dy + s, count - s, 0)
        g1 = load_some(dy + s + HALF, count - s - HALF, 0)
        sum0 = sum0 + g0
        sum1 = sum1 + g1
        product0 = product0 + g0 * (load_some(x + s, count - s, 0) - mean)
        product1 = product1 + g1 * (load_some(x + s + HALF, count - s - HALF, 0) - mean)
        s += LANES
    total[0] = lanes_sum(sum0 + sum1)
    product[0] = lanes_sum(product0 + product1)


def gradient_rows_nsc(
    const floating[:, :, ::1] x_nsc,    # IN
    const floating[:, :, ::1] dy_nsc,   # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    double[:, ::1] sum_nc,              # OUT
    double[:, ::1] product_nc,          # OUT
    int threads,                        # IN
):
    cdef Py_ssize_t part, parts = (x_nsc.shape[2] + HALF - 1) // HALF
    for part in prange(x_nsc.shape[0] * parts, nogil=True, num_threads=threads, schedule="static"):
        eight_gradient_rows(x_nsc, dy_nsc, mean_nc, sum_nc, product_nc, part // parts, part % parts * HALF)


cdef void eight_gradient_rows(
    const floating[:, :, ::1] x_nsc, const floating[:, :, ::1] dy_nsc, const double[:, ::1] mean_nc,
    double[:, ::1] sum_nc, double[:, ::1] product_nc, Py_ssize_t n, Py_ssize_t c,
) noexcept nogil:
    cdef lanes sums[LANES]
    cdef lanes products[LANES]
    cdef lanes mean, g
    cdef Py_ssize_t s, j, left = x_nsc.shape[2] - c
    mean = load_some(&mean_nc[n if mean_nc.shape[0] > 1 else 0, c], left, 0)
    for j in range(LANES):
        sums[j] = lanes_all(0)
        products[j] = lanes_all(0)
    for s in range(x_nsc.shape[1]):
        g = load_some(&dy_nsc[n, s, c], left, 0)
        j = s % LANES
        sums[j] = sums[j] + g
        products[j] = products[j] + g * (load_some(&x_nsc[n, s, c], left, 0) - mean)
    store_some(&sum_nc[n, c], left, across(&sums[0]))
    store_some(&product_nc[n, c], left, across(&products[0]))


cdef inline lanes across(lanes *parts) noexcept nogil:
    """Combine the 16 lanes of a row in the order of ``lanes_sum``, for 8 channels at once."""
    cdef Py_ssize_t j, width = HALF
    while width > 0:
        for j in range(width):
            parts[j] = parts[j] + parts[j + width]
        width = width // 2
    return parts[0]


cdef inline void store_some(double *p, Py_ssize_t left, lanes values) noexcept nogil:
    cdef double buffer[HALF]
    cdef Py_ssize_t j
    if left >= HALF:
        lanes_store(p, values)
        return
    lanes_store(&buffer[0], values)
    for j in range(left):
        p[j] = buffer[j]
