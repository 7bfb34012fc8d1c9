"""Group and instance normalization: statistics of each sample's groups of neighbouring channels."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from numpy cimport ndarray
from arrays cimport doubles, is_float32, length, memory
from backward cimport input_gradient_tile
from forward cimport normalize_tile
from inverse cimport is_rare, rare_inverse
from loops cimport input_gradient_row, normalize_row
from rows cimport band_of, gradient_row, gradient_rows_of_band, moment_row, moment_rows_of_band
from shape cimport Shape, shape_of, tile_of, tiles_of

cdef extern from "parallel.h":
    pass


cdef struct Groups:
    Py_ssize_t count  # groups of a sample
    Py_ssize_t width  # channels of a group
    const double *weight
    const double *bias
    double *rows[3]
    double *moments[3]
    double *factors[4]


cdef Groups groups_of(
    Shape shape, ndarray weight_c, ndarray bias_c, ndarray rows_3nc, ndarray moments_3ng, ndarray factors_4nc
) noexcept:
    cdef Groups groups
    cdef Py_ssize_t k, rows = shape.samples * shape.channels
    groups.count = length(moments_3ng, 2)
    groups.width = shape.channels // groups.count
    groups.weight = doubles(weight_c)
    groups.bias = doubles(bias_c)
    for k in range(3):
        groups.rows[k] = doubles(rows_3nc) + k * rows
        groups.moments[k] = doubles(moments_3ng) + k * shape.samples * groups.count
    for k in range(4):
        groups.factors[k] = NULL if factors_4nc is None else doubles(factors_4nc) + k * rows
    return groups


def group_forward(
    ndarray x,             # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    bint channels_last,    # IN
    ndarray weight_c,      # IN   float64, as all others
    ndarray bias_c,        # IN
    double eps,            # IN
    ndarray rows_3nc,      # OUT  of each row: μ, and scale and bias of y
    ndarray moments_3ng,   # OUT  of each group: μ, var (biased), 1/√(var + eps)
    ndarray y,             # OUT  as x: (x − μ)·scale + bias
    int threads,           # IN
):
    cdef Shape shape = shape_of(x, channels_last, False)
    cdef Groups groups = groups_of(shape, weight_c, bias_c, rows_3nc, moments_3ng, None)
    if is_float32(x):
        forward_all(<const float *>memory(x), shape, groups, eps, <float *>memory(y), threads)
    else:
        forward_all(<const double *>memory(x), shape, groups, eps, <double *>memory(y), threads)


cdef void forward_all(
    const floating *x, Shape shape, Groups groups, double eps, floating *y, int threads
) noexcept:
    cdef Py_ssize_t part, n, c, row, at, tiles, band, parts
    if not shape.channels_last:
        for part in prange(shape.samples * groups.count, nogil=True, num_threads=threads, schedule="static"):
            rows_of_group(x, shape, groups, part * groups.width, y)
            moments_of_group(x, shape, groups, part, eps)
            normalize_group(x, shape, groups, part * groups.width, y)
        return
    band = band_of(shape.samples, shape.channels, threads)
    parts = (shape.channels + band - 1) // band
    for part in prange(shape.samples * parts, nogil=True, num_threads=threads, schedule="static"):
        n = part // parts
        c = part % parts * band
        row = n * shape.channels + c
        moment_rows_of_band(x + n * shape.sample_stride + c, shape.channels, NULL, shape.size,
                            min(band, shape.channels - c), shape.far, groups.rows[0] + row, groups.rows[1] + row,
                            groups.rows[2] + row)
    for part in prange(shape.samples * groups.count, nogil=True, num_threads=threads, schedule="static"):
        moments_of_group(x, shape, groups, part, eps)
    tiles = tiles_of(shape.size, shape.channels)
    for part in prange(shape.samples * tiles, nogil=True, num_threads=threads, schedule="static"):
        row = part // tiles * shape.channels
        at = part // tiles * shape.sample_stride
        normalize_tile(x + at, tile_of(shape.size, shape.channels, part % tiles), shape.channels, groups.rows[0] + row,
                       groups.rows[1] + row, groups.rows[2] + row, <const floating *>NULL, False, y + at)


cdef void rows_of_group(
    const floating *x, Shape shape, Groups groups, Py_ssize_t start, const floating *y
) noexcept nogil:
    """Sum the rows of a group of channels-first memory, the first of which is ``start``."""
    cdef const floating *end = x + shape.samples * shape.sample_stride
    cdef Py_ssize_t row
    for row in range(start, start + groups.width):
        moment_row(x + row * shape.size, end, NULL, shape.size, groups.rows[0] + row, groups.rows[1] + row,
                   groups.rows[2] + row, y + row * shape.size)


cdef void moments_of_group(
    const floating *x, Shape shape, Groups groups, Py_ssize_t group, double eps
) noexcept nogil:
    """Combine the rows of a group, shifted by its first value; then write the factors of y in their place."""
    cdef Py_ssize_t c, width = groups.width, channel = group % groups.count * width
    cdef double *first = groups.rows[0] + group * width
    cdef double *deviation = groups.rows[1] + group * width
    cdef double *square = groups.rows[2] + group * width
    cdef double origin = first[0], count = <double>(width * shape.size), centre = 0, m2 = 0, offset, var, invstd
    for c in range(width):
        centre += shape.size * (first[c] - origin) + deviation[c]
    centre = centre / count
    for c in range(width):
        offset = (first[c] - origin) - centre
        m2 += square[c] + 2 * offset * deviation[c] + shape.size * offset * offset
    var = (m2 if m2 > 0 or m2 != m2 else 0) / count
    if is_rare(var + eps):
        invstd = rare_inverse(var + eps, is_constant(x, shape, group // groups.count, channel, width))
    else:
        invstd = 1 / sqrt(var + eps)
    groups.moments[0][group] = origin + centre
    groups.moments[1][group] = var
    groups.moments[2][group] = invstd
    for c in range(width):
        first[c] = origin + centre
        deviation[c] = invstd * groups.weight[channel + c]
        square[c] = groups.bias[channel + c]


cdef bint is_constant(
    const floating *x, Shape shape, Py_ssize_t n, Py_ssize_t start, Py_ssize_t width
) noexcept nogil:
    """Tell whether a group has one value alone."""
    cdef Py_ssize_t c, s
    cdef Py_ssize_t c_stride = 1 if shape.channels_last else shape.size
    cdef Py_ssize_t s_stride = shape.channels if shape.channels_last else 1
    cdef const floating *values = x + n * shape.sample_stride + start * c_stride
    for c in range(width):
        for s in range(shape.size):
            if values[c * c_stride + s * s_stride] != values[0]:
                return False
    return True


cdef void normalize_group(
    const floating *x, Shape shape, Groups groups, Py_ssize_t start, floating *y
) noexcept nogil:
    cdef Py_ssize_t row, at
    for row in range(start, start + groups.width):
        at = row * shape.size
        normalize_row(x + at, shape.size, groups.rows[0][row], groups.rows[1][row], groups.rows[2][row], NULL, False,
                      y + at, x + at + groups.width * shape.size)


def group_backward(
    ndarray x,              # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    ndarray dy,             # IN   as x
    bint channels_last,     # IN
    ndarray weight_c,       # IN   float64, as all others
    ndarray rows_3nc,       # IN   of the forward
    ndarray moments_3ng,    # IN   of the forward
    ndarray factors_4nc,    # OUT  of each row: Σ dy, Σ dy·(x − μ), and shift and slope of dx
    ndarray gradients_2c,   # OUT  of weight and bias
    ndarray dx,             # OUT  as x: scale·dy − [shift + slope·(x − μ)]
    int threads,            # IN
):
    cdef Shape shape = shape_of(x, channels_last, False)
    cdef Groups groups = groups_of(shape, weight_c, None, rows_3nc, moments_3ng, factors_4nc)
    if is_float32(x):
        backward_all(<const float *>memory(x), <const float *>memory(dy), shape, groups, <float *>memory(dx), threads)
    else:
        backward_all(<const double *>memory(x), <const double *>memory(dy), shape, groups, <double *>memory(dx),
                     threads)
    parameter_gradients(shape, groups, doubles(gradients_2c), doubles(gradients_2c) + shape.channels)


cdef void backward_all(
    const floating *x, const floating *dy, Shape shape, Groups groups, floating *dx, int threads
) noexcept:
    cdef Py_ssize_t part, n, c, row, at, tiles, band, parts
    if not shape.channels_last:
        for part in prange(shape.samples * groups.count, nogil=True, num_threads=threads, schedule="static"):
            gradient_rows_of_group(x, dy, shape, groups, part * groups.width, dx)
            factors_of_group(shape, groups, part)
            gradient_of_group(x, dy, shape, groups, part * groups.width, dx)
        return
    band = band_of(shape.samples, shape.channels, threads)
    parts = (shape.channels + band - 1) // band
    for part in prange(shape.samples * parts, nogil=True, num_threads=threads, schedule="static"):
        n = part // parts
        c = part % parts * band
        row = n * shape.channels + c
        at = n * shape.sample_stride + c
        gradient_rows_of_band(x + at, dy + at, shape.channels, shape.size, min(band, shape.channels - c), shape.far,
                              groups.rows[0] + row, groups.factors[0] + row, groups.factors[1] + row)
    for part in prange(shape.samples * groups.count, nogil=True, num_threads=threads, schedule="static"):
        factors_of_group(shape, groups, part)
    tiles = tiles_of(shape.size, shape.channels)
    for part in prange(shape.samples * tiles, nogil=True, num_threads=threads, schedule="static"):
        row = part // tiles * shape.channels
        at = part // tiles * shape.sample_stride
        input_gradient_tile(x + at, dy + at, NULL, tile_of(shape.size, shape.channels, part % tiles), shape.channels,
                            groups.rows[0] + row, groups.rows[1] + row, groups.factors[2] + row,
                            groups.factors[3] + row, dx + at)


cdef void gradient_rows_of_group(
    const floating *x, const floating *dy, Shape shape, Groups groups, Py_ssize_t start, const floating *dx
) noexcept nogil:
    cdef Py_ssize_t row, at, values = shape.samples * shape.sample_stride
    for row in range(start, start + groups.width):
        at = row * shape.size
        gradient_row(x + at, x + values, dy + at, dy + values, shape.size, groups.rows[0][row],
                     groups.factors[0] + row, groups.factors[1] + row, dx + at)


cdef void factors_of_group(Shape shape, Groups groups, Py_ssize_t group) noexcept nogil:
    cdef Py_ssize_t c, width = groups.width, row = group * width
    cdef const double *weight = groups.weight + group % groups.count * width
    cdef double invstd = groups.moments[2][group], count = <double>(width * shape.size), total = 0, product = 0
    for c in range(width):
        total += groups.factors[0][row + c] * weight[c]
        product += groups.factors[1][row + c] * weight[c]
    total = invstd * total / count
    product = invstd * (invstd * (invstd * product)) / count  # the cube might overflow
    for c in range(width):
        groups.factors[2][row + c] = total
        groups.factors[3][row + c] = product


cdef void gradient_of_group(
    const floating *x, const floating *dy, Shape shape, Groups groups, Py_ssize_t start, floating *dx
) noexcept nogil:
    cdef Py_ssize_t row, at
    for row in range(start, start + groups.width):
        at = row * shape.size
        input_gradient_row(x + at, dy + at, NULL, shape.size, groups.rows[0][row], groups.rows[1][row],
                           groups.factors[2][row], groups.factors[3][row], dx + at, groups.width * shape.size)


cdef void parameter_gradients(Shape shape, Groups groups, double *dweight, double *dbias) noexcept nogil:
    """Sum over samples, in their order."""
    cdef Py_ssize_t group, c, at
    cdef double invstd
    for c in range(shape.channels):
        dweight[c] = dbias[c] = 0
    for group in range(shape.samples * groups.count):
        at = group % groups.count * groups.width
        invstd = groups.moments[2][group]
        for c in range(groups.width):
            dweight[at + c] += groups.factors[1][group * groups.width + c] * invstd
            dbias[at + c] += groups.factors[0][group * groups.width + c]
