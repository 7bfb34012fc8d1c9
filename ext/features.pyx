"""Layer and root-mean-square normalization: statistics of a row of features, each with a weight of its own."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from inverse cimport is_rare, rare_inverse
from lanes cimport lanes, lanes_add, lanes_all, lanes_first, lanes_load_f64, lanes_multiply, lanes_subtract, lanes_sum
from loops cimport add_feature_gradients, gradient_of_features, normalize_features
from rows cimport LANES, gradient_row, load, load_part, moment_row


def feature_forward(
    const floating[:, ::1] x_rd,    # IN
    const double[::1] weight_d,     # IN
    const double[::1] bias_d,       # IN
    double eps,                     # IN
    bint centred,                   # IN   whether μ is subtracted, or 0
    double[:, ::1] moments_2r,      # OUT  μ (or 0), and 1/√(mean of (x − μ)² + eps)
    floating[:, ::1] y_rd,          # OUT  (x − μ)·scale·weight + bias
    int threads,                    # IN
):
    cdef Py_ssize_t r
    cdef const floating *end = &x_rd[0, 0] + x_rd.shape[0] * x_rd.shape[1]
    for r in prange(x_rd.shape[0], nogil=True, num_threads=threads, schedule="static"):
        forward_row(&x_rd[r, 0], end, x_rd.shape[1], &weight_d[0], &bias_d[0], eps, centred,
                    &moments_2r[0, r], &moments_2r[1, r], &y_rd[r, 0])


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
    const floating[:, ::1] x_rd,     # IN
    const floating[:, ::1] dy_rd,    # IN
    const double[::1] weight_d,      # IN
    bint centred,                    # IN
    const double[:, ::1] moments_2r,  # IN
    double[:, :, ::1] parts_2pd,     # OUT  Σ dy·(x − μ)·scale and Σ dy over the rows of each of P parts
    double[:, ::1] gradients_2d,     # OUT  of weight and bias: the sums over parts, in their order
    floating[:, ::1] dx_rd,          # OUT  scale·weight·dy − [shift + slope·(x − μ)]
    int threads,                     # IN
):
    cdef Py_ssize_t k, d, part, parts = parts_2pd.shape[1]
    for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
        backward_part(x_rd, dy_rd, &weight_d[0], centred, moments_2r, part * x_rd.shape[0] // parts,
                      (part + 1) * x_rd.shape[0] // parts, &parts_2pd[0, part, 0], &parts_2pd[1, part, 0], dx_rd)
    with nogil:
        for k in range(2):
            for d in range(x_rd.shape[1]):
                gradients_2d[k, d] = parts_2pd[k, 0, d]
            for part in range(1, parts):
                for d in range(x_rd.shape[1]):
                    gradients_2d[k, d] += parts_2pd[k, part, d]


cdef void backward_part(
    const floating[:, ::1] x_rd, const floating[:, ::1] dy_rd, const double *weight, bint centred,
    const double[:, ::1] moments_2r, Py_ssize_t start, Py_ssize_t stop, double *dweight, double *dbias,
    floating[:, ::1] dx_rd,
) noexcept nogil:
    cdef Py_ssize_t r, d, features = x_rd.shape[1], size = x_rd.shape[0] * features
    cdef const floating *x_end = &x_rd[0, 0] + size
    cdef const floating *dy_end = &dy_rd[0, 0] + size
    cdef double mean, scale, total, product, shift, slope
    for d in range(features):
        dweight[d] = dbias[d] = 0
    for r in range(start, stop):
        mean = moments_2r[0, r]
        scale = moments_2r[1, r]
        weighted_row(&x_rd[r, 0], x_end, &dy_rd[r, 0], dy_end, weight, features, mean, &total, &product)
        add_feature_gradients(&x_rd[r, 0], &dy_rd[r, 0], features, mean, scale, dweight, dbias)
        shift = scale * total / features if centred else 0
        slope = scale * (scale * (scale * product)) / features  # the cube might overflow
        gradient_of_features(&x_rd[r, 0], &dy_rd[r, 0], features, mean, scale, weight, shift, slope, &dx_rd[r, 0])


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
