"""Group and instance normalization: statistics of each sample's groups of neighbouring channels."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from inverse cimport is_rare, rare_inverse
from loops cimport input_gradient_place, input_gradient_row, normalize_place, normalize_row
from rows cimport PLACE, gradient_row, gradient_rows_of_place, moment_row, moment_rows_of_place


def group_forward(
    const floating[:, :, ::1] x,     # IN   (N, C, S), or (N, S, C) where channels_last, as all of its kind
    bint channels_last,              # IN
    const double[::1] weight_c,      # IN
    const double[::1] bias_c,        # IN
    double eps,                      # IN
    double[:, :, ::1] rows_3nc,      # OUT  of each row: μ, and scale and bias of y
    double[:, :, ::1] moments_3ng,   # OUT  of each group: μ, var (biased), 1/√(var + eps)
    floating[:, :, ::1] y,           # OUT  (x − μ)·scale + bias
    int threads,                     # IN
):
    cdef Py_ssize_t samples = x.shape[0], channels = rows_3nc.shape[2], groups = moments_3ng.shape[2]
    cdef Py_ssize_t size = x.shape[1] if channels_last else x.shape[2], width = channels // groups
    cdef Py_ssize_t part, n, c, at, parts = (channels + PLACE - 1) // PLACE
    cdef const floating *values = &x[0, 0, 0]
    cdef floating *out = &y[0, 0, 0]
    if not channels_last:
        for part in prange(samples * groups, nogil=True, num_threads=threads, schedule="static"):
            n = part // groups
            c = part % groups
            rows_of_group(values, values + samples * channels * size, size, n, c * width, width, rows_3nc, out)
            moments_of_group(values, channels_last, size, n, c, &weight_c[0], &bias_c[0], eps, rows_3nc, moments_3ng)
            normalize_group(values, size, n, c * width, width, rows_3nc, out)
        return
    for part in prange(samples * parts, nogil=True, num_threads=threads, schedule="static"):
        n = part // parts
        c = part % parts * PLACE
        moment_rows_of_place(values + n * size * channels + c, channels, NULL, size, min(PLACE, channels - c),
                             &rows_3nc[0, n, c], &rows_3nc[1, n, c], &rows_3nc[2, n, c])
    for part in prange(samples * groups, nogil=True, num_threads=threads, schedule="static"):
        moments_of_group(values, channels_last, size, part // groups, part % groups, &weight_c[0], &bias_c[0], eps,
                         rows_3nc, moments_3ng)
    for part in prange(samples * size, nogil=True, num_threads=threads, schedule="static"):
        n = part // size
        at = part * channels
        normalize_place(values + at, channels, &rows_3nc[0, n, 0], &rows_3nc[1, n, 0], &rows_3nc[2, n, 0], NULL, False,
                        out + at)


cdef void rows_of_group(
    const floating *x, const floating *end, Py_ssize_t size, Py_ssize_t n, Py_ssize_t start, Py_ssize_t width,
    double[:, :, ::1] rows_3nc, const floating *y,
) noexcept nogil:
    cdef Py_ssize_t c, at
    for c in range(start, start + width):
        at = (n * rows_3nc.shape[2] + c) * size
        moment_row(x + at, end, NULL, size, &rows_3nc[0, n, c], &rows_3nc[1, n, c], &rows_3nc[2, n, c], y + at)


cdef void moments_of_group(
    const floating *x, bint channels_last, Py_ssize_t size, Py_ssize_t n, Py_ssize_t group, const double *weight,
    const double *bias, double eps, double[:, :, ::1] rows_3nc, double[:, :, ::1] moments_3ng,
) noexcept nogil:
    """Combine the rows of a group, shifted by its first value; then write the factors of y in their place."""
    cdef Py_ssize_t channels = rows_3nc.shape[2], width = channels // moments_3ng.shape[2]
    cdef Py_ssize_t c, start = group * width
    cdef double *first = &rows_3nc[0, n, start]
    cdef double *deviation = &rows_3nc[1, n, start]
    cdef double *square = &rows_3nc[2, n, start]
    cdef double origin = first[0], count = <double>(width * size), centre = 0, m2 = 0, offset, var, invstd
    for c in range(width):
        centre += size * (first[c] - origin) + deviation[c]
    centre = centre / count
    for c in range(width):
        offset = (first[c] - origin) - centre
        m2 += square[c] + 2 * offset * deviation[c] + size * offset * offset
    var = (m2 if m2 > 0 or m2 != m2 else 0) / count
    if is_rare(var + eps):
        invstd = rare_inverse(var + eps, is_constant(x, channels_last, channels, size, n, start, width))
    else:
        invstd = 1 / sqrt(var + eps)
    moments_3ng[0, n, group] = origin + centre
    moments_3ng[1, n, group] = var
    moments_3ng[2, n, group] = invstd
    for c in range(width):
        first[c] = origin + centre
        deviation[c] = invstd * weight[start + c]
        square[c] = bias[start + c]


cdef bint is_constant(
    const floating *x, bint channels_last, Py_ssize_t channels, Py_ssize_t size, Py_ssize_t n, Py_ssize_t start,
    Py_ssize_t width,
) noexcept nogil:
    """Tell whether a group has one value alone."""
    cdef Py_ssize_t c, s, sample = n * channels * size
    cdef Py_ssize_t first = sample + start if channels_last else sample + start * size
    for c in range(start, start + width):
        for s in range(size):
            if x[sample + s * channels + c if channels_last else sample + c * size + s] != x[first]:
                return False
    return True


cdef void normalize_group(
    const floating *x, Py_ssize_t size, Py_ssize_t n, Py_ssize_t start, Py_ssize_t width, double[:, :, ::1] rows_3nc,
    floating *y,
) noexcept nogil:
    cdef Py_ssize_t c, at
    for c in range(start, start + width):
        at = (n * rows_3nc.shape[2] + c) * size
        normalize_row(x + at, size, rows_3nc[0, n, c], rows_3nc[1, n, c], rows_3nc[2, n, c], NULL, False, y + at,
                      x + at + width * size)


def group_backward(
    const floating[:, :, ::1] x,           # IN   (N, C, S), or (N, S, C) where channels_last, as all of its kind
    const floating[:, :, ::1] dy,          # IN
    bint channels_last,                    # IN
    const double[::1] weight_c,            # IN
    const double[:, :, ::1] rows_3nc,      # IN   of the forward
    const double[:, :, ::1] moments_3ng,   # IN   of the forward
    double[:, :, ::1] factors_4nc,         # OUT  of each row: Σ dy, Σ dy·(x − μ), and shift and slope of dx
    double[:, ::1] gradients_2c,           # OUT  of weight and bias
    floating[:, :, ::1] dx,                # OUT  scale·dy − [shift + slope·(x − μ)]
    int threads,                           # IN
):
    cdef Py_ssize_t samples = x.shape[0], channels = rows_3nc.shape[2], groups = moments_3ng.shape[2]
    cdef Py_ssize_t size = x.shape[1] if channels_last else x.shape[2], width = channels // groups
    cdef Py_ssize_t part, n, c, at, parts = (channels + PLACE - 1) // PLACE
    cdef const floating *values = &x[0, 0, 0]
    cdef const floating *gradient = &dy[0, 0, 0]
    cdef floating *out = &dx[0, 0, 0]
    if not channels_last:
        for part in prange(samples * groups, nogil=True, num_threads=threads, schedule="static"):
            n = part // groups
            c = part % groups
            gradient_rows_of_group(values, gradient, samples * channels * size, size, n, c * width, width, rows_3nc,
                                   factors_4nc, out)
            factors_of_group(size, n, c, &weight_c[0], moments_3ng, factors_4nc)
            gradient_of_group(values, gradient, size, n, c * width, width, rows_3nc, factors_4nc, out)
    else:
        for part in prange(samples * parts, nogil=True, num_threads=threads, schedule="static"):
            n = part // parts
            c = part % parts * PLACE
            at = n * size * channels + c
            gradient_rows_of_place(values + at, gradient + at, channels, size, min(PLACE, channels - c),
                                   &rows_3nc[0, n, c], &factors_4nc[0, n, c], &factors_4nc[1, n, c])
        for part in prange(samples * groups, nogil=True, num_threads=threads, schedule="static"):
            factors_of_group(size, part // groups, part % groups, &weight_c[0], moments_3ng, factors_4nc)
        for part in prange(samples * size, nogil=True, num_threads=threads, schedule="static"):
            n = part // size
            at = part * channels
            input_gradient_place(values + at, gradient + at, True, channels, &rows_3nc[0, n, 0], &rows_3nc[1, n, 0],
                                 &factors_4nc[2, n, 0], &factors_4nc[3, n, 0], out + at)
    with nogil:
        parameter_gradients(moments_3ng, factors_4nc, gradients_2c)


cdef void gradient_rows_of_group(
    const floating *x, const floating *dy, Py_ssize_t values, Py_ssize_t size, Py_ssize_t n, Py_ssize_t start,
    Py_ssize_t width, const double[:, :, ::1] rows_3nc, double[:, :, ::1] factors_4nc, const floating *dx,
) noexcept nogil:
    cdef Py_ssize_t c, at
    for c in range(start, start + width):
        at = (n * rows_3nc.shape[2] + c) * size
        gradient_row(x + at, x + values, dy + at, dy + values, size, rows_3nc[0, n, c],
                     &factors_4nc[0, n, c], &factors_4nc[1, n, c], dx + at)


cdef void factors_of_group(
    Py_ssize_t size, Py_ssize_t n, Py_ssize_t group, const double *weight, const double[:, :, ::1] moments_3ng,
    double[:, :, ::1] factors_4nc,
) noexcept nogil:
    cdef Py_ssize_t width = factors_4nc.shape[2] // moments_3ng.shape[2]
    cdef Py_ssize_t c, start = group * width
    cdef double invstd = moments_3ng[2, n, group], count = <double>(width * size), total = 0, product = 0
    for c in range(start, start + width):
        total += factors_4nc[0, n, c] * weight[c]
        product += factors_4nc[1, n, c] * weight[c]
    total = invstd * total / count
    product = invstd * (invstd * (invstd * product)) / count  # the cube might overflow
    for c in range(start, start + width):
        factors_4nc[2, n, c] = total
        factors_4nc[3, n, c] = product


cdef void gradient_of_group(
    const floating *x, const floating *dy, Py_ssize_t size, Py_ssize_t n, Py_ssize_t start, Py_ssize_t width,
    const double[:, :, ::1] rows_3nc, const double[:, :, ::1] factors_4nc, floating *dx,
) noexcept nogil:
    cdef Py_ssize_t c, at
    for c in range(start, start + width):
        at = (n * rows_3nc.shape[2] + c) * size
        input_gradient_row(x + at, dy + at, NULL, size, rows_3nc[0, n, c], rows_3nc[1, n, c], factors_4nc[2, n, c],
                           factors_4nc[3, n, c], dx + at, width * size)


cdef void parameter_gradients(
    const double[:, :, ::1] moments_3ng, const double[:, :, ::1] factors_4nc, double[:, ::1] gradients_2c
) noexcept nogil:
    """Sum over samples, in their order."""
    cdef Py_ssize_t n, group, c, channels = gradients_2c.shape[1], groups = moments_3ng.shape[2]
    cdef Py_ssize_t width = channels // groups
    cdef double invstd
    for c in range(channels):
        gradients_2c[0, c] = gradients_2c[1, c] = 0
    for n in range(moments_3ng.shape[1]):
        for group in range(groups):
            invstd = moments_3ng[2, n, group]
            for c in range(group * width, (group + 1) * width):
                gradients_2c[0, c] += factors_4nc[1, n, c] * invstd
                gradients_2c[1, c] += factors_4nc[0, n, c]
