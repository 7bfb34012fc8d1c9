"""Layer and root-mean-square normalization: statistics of a row of features, each with a weight of its own."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from numpy cimport ndarray
from arrays cimport doubles, is_float32, length, memory
from inverse cimport is_rare, rare_inverse
from lanes cimport lanes, lanes_add, lanes_all, lanes_first, lanes_load_f64, lanes_multiply, lanes_subtract, lanes_sum
from loops cimport add_feature_gradients, gradient_of_features, normalize_features
from rows cimport LANES, gradient_row, load, load_part, moment_row

cdef extern from "parallel.h":
    pass


cdef struct Features:
    Py_ssize_t rows
    Py_ssize_t size  # features of a row
    bint centred
    const double *weight
    double *mean
    double *scale


cdef Features features_of(ndarray x_rd, ndarray weight_d, ndarray moments_2r, bint centred) noexcept:
    cdef Features features
    features.rows = length(x_rd, 0)
    features.size = length(x_rd, 1)
    features.centred = centred
    features.weight = doubles(weight_d)
    features.mean = doubles(moments_2r)
    features.scale = features.mean + features.rows
    return features


def feature_forward(
    ndarray x_rd,         # IN   float32 or float64, as all of its kind
    ndarray weight_d,     # IN   float64, as all others
    ndarray bias_d,       # IN
    double eps,           # IN
    bint centred,         # IN   whether μ is subtracted, or 0
    ndarray moments_2r,   # OUT  μ (or 0), and 1/√(mean of (x − μ)² + eps)
    ndarray y_rd,         # OUT  as x: (x − μ)·scale·weight + bias
    int threads,          # IN
):
    cdef Features features = features_of(x_rd, weight_d, moments_2r, centred)
    if is_float32(x_rd):
        forward_all(<const float *>memory(x_rd), features, doubles(bias_d), eps, <float *>memory(y_rd), threads)
    else:
        forward_all(<const double *>memory(x_rd), features, doubles(bias_d), eps, <double *>memory(y_rd), threads)


cdef void forward_all(
    const floating *x, Features features, const double *bias, double eps, floating *y, int threads
) noexcept:
    cdef Py_ssize_t r, at
    cdef const floating *end = x + features.rows * features.size
    for r in prange(features.rows, nogil=True, num_threads=threads, schedule="static"):
        at = r * features.size
        forward_row(x + at, end, features.size, features.weight, bias, eps, features.centred, features.mean + r,
                    features.scale + r, y + at)


cdef void forward_row(
    const floating *x, const floating *end, Py_ssize_t features, const double *weight, const double *bias, double eps,
    bint centred, double *mean, double *scale, floating *y,
) noexcept nogil:
    cdef double first, deviation, square, shift, total
    if centred:
        moment_row(x, end, NULL, features, &first, &deviation, &square, <const floating *>NULL)
        shift = deviation / features
        mean[0] = first + shift
        total = square / features - shift * shift
        total = (total if total > 0 or total != total else 0) + eps
    else:
        gradient_row(x, end, x, end, features, 0, &deviation, &square, <const floating *>NULL)
        mean[0] = 0
        total = square / features + eps
    scale[0] = rare_inverse(total, is_constant(x, features, centred)) if is_rare(total) else 1 / sqrt(total)
    normalize_features(x, features, mean[0], scale[0], weight, bias, y)


cdef bint is_constant(const floating *x, Py_ssize_t features, bint centred) noexcept nogil:
    """Tell whether all values are the first (or, where 0 is subtracted, 0)."""
    cdef Py_ssize_t d
    cdef floating value = x[0] if centred else 0
    for d in range(features):
        if x[d] != value:
            return False
    return True


def feature_backward(
    ndarray x_rd,           # IN   float32 or float64, as all of its kind
    ndarray dy_rd,          # IN   as x
    ndarray weight_d,       # IN   float64, as all others
    bint centred,           # IN
    ndarray moments_2r,     # IN   of the forward
    ndarray parts_2pd,      # OUT  Σ dy·(x − μ)·scale and Σ dy over the rows of each of P parts
    ndarray gradients_2d,   # OUT  of weight and bias: the sums over parts, in their order
    ndarray dx_rd,          # OUT  as x: scale·weight·dy − [shift + slope·(x − μ)]
    int threads,            # IN
):
    cdef Features features = features_of(x_rd, weight_d, moments_2r, centred)
    cdef Py_ssize_t parts = length(parts_2pd, 1)
    if is_float32(x_rd):
        backward_all(<const float *>memory(x_rd), <const float *>memory(dy_rd), features, parts, doubles(parts_2pd),
                     <float *>memory(dx_rd), threads)
    else:
        backward_all(<const double *>memory(x_rd), <const double *>memory(dy_rd), features, parts, doubles(parts_2pd),
                     <double *>memory(dx_rd), threads)
    add_parts(features.size, parts, doubles(parts_2pd), doubles(gradients_2d))
    add_parts(features.size, parts, doubles(parts_2pd) + parts * features.size, doubles(gradients_2d) + features.size)


cdef void backward_all(
    const floating *x, const floating *dy, Features features, Py_ssize_t parts, double *sums, floating *dx, int threads
) noexcept:
    cdef Py_ssize_t part, at
    for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
        at = part * features.size
        backward_part(x, dy, features, part * features.rows // parts, (part + 1) * features.rows // parts,
                      sums + at, sums + parts * features.size + at, dx)


cdef void add_parts(Py_ssize_t size, Py_ssize_t parts, const double *sums, double *total) noexcept nogil:
    cdef Py_ssize_t part, d
    for d in range(size):
        total[d] = sums[d]
    for part in range(1, parts):
        for d in range(size):
            total[d] += sums[part * size + d]


cdef void backward_part(
    const floating *x, const floating *dy, Features features, Py_ssize_t start, Py_ssize_t stop, double *dweight,
    double *dbias, floating *dx,
) noexcept nogil:
    cdef Py_ssize_t r, d, at, size = features.size
    cdef double mean, scale, total, product, shift, slope
    for d in range(size):
        dweight[d] = dbias[d] = 0
    for r in range(start, stop):
        at = r * size
        mean = features.mean[r]
        scale = features.scale[r]
        weighted_row(x + at, x + features.rows * size, dy + at, dy + features.rows * size, features.weight, size, mean,
                     &total, &product)
        add_feature_gradients(x + at, dy + at, size, mean, scale, dweight, dbias)
        shift = scale * total / size if features.centred else 0
        slope = scale * (scale * (scale * product)) / size  # the cube might overflow
        gradient_of_features(x + at, dy + at, size, mean, scale, features.weight, shift, slope, dx + at)


cdef void weighted_row(
    const floating *x, const floating *x_end, const floating *dy, const floating *dy_end, const double *weight,
    Py_ssize_t features, double mean_value, double *total, double *product,
) noexcept nogil:
    """Sum dy·weight and dy·weight·(x − μ) over a row."""
    cdef lanes mean = lanes_all(mean_value), g, sums = lanes_all(0), products = lanes_all(0)
    cdef Py_ssize_t d = 0
    while d + LANES <= features:
        g = lanes_multiply(load(dy + d), lanes_load_f64(weight + d))
        sums = lanes_add(sums, g)
        products = lanes_add(products, lanes_multiply(g, lanes_subtract(load(x + d), mean)))
        d += LANES
    if d < features:
        g = load_part(weight + d, weight + features, features - d)
        g = lanes_multiply(load_part(dy + d, dy_end, features - d), g)
        sums = lanes_add(sums, lanes_first(g, features - d))
        g = lanes_multiply(g, lanes_subtract(load_part(x + d, x_end, features - d), mean))
        products = lanes_add(products, lanes_first(g, features - d))
    total[0] = lanes_sum(sums)
    product[0] = lanes_sum(products)
