"""Gradients of normalized values with respect to x, and of rows with a weight per feature."""

from cython cimport floating


def input_gradient_ncs(
    const floating[:, :, ::1] x_ncs,       # IN
    const floating[:, :, ::1] dy_ncs,      # IN
    const unsigned char[:, ::1] mask_ns,   # IN   (0, 0): all values count
    const double[:, ::1] mean_nc,          # IN   (1 or N, C), as the next three
    const double[:, ::1] direct_nc,        # IN   factor of dy
    const double[:, ::1] shift_nc,         # IN   gradient through the mean
    const double[:, ::1] slope_nc,         # IN   gradient through the variance, factor of x − μ
    floating[:, :, ::1] dx_ncs,            # OUT  direct·dy − mask·[shift + slope·(x − μ)]
):
    cdef Py_ssize_t n, m, c, s, count = x_ncs.shape[2]
    cdef bint per_sample = mean_nc.shape[0] > 1
    cdef bint masked = mask_ns.shape[0] > 0
    cdef double mean, direct, shift, slope
    cdef const floating *x
    cdef const floating *dy
    cdef floating *dx
    with nogil:
        for n in range(x_ncs.shape[0]):
            m = n if per_sample else 0
            for c in range(x_ncs.shape[1]):
                x = &x_ncs[n, c, 0]
                dy = &dy_ncs[n, c, 0]
                dx = &dx_ncs[n, c, 0]
                mean = mean_nc[m, c]
                direct = direct_nc[m, c]
                shift = shift_nc[m, c]
                slope = slope_nc[m, c]
                if masked:
                    for s in range(count):
                        if mask_ns[n, s]:
                            dx[s] = <floating>(direct * dy[s] - (shift + slope * (x[s] - mean)))
                        else:
                            dx[s] = <floating>(direct * dy[s])
                else:
                    for s in range(count):
                        dx[s] = <floating>(direct * dy[s] - (shift + slope * (x[s] - mean)))


def input_gradient_nsc(
    const floating[:, :, ::1] x_nsc,       # IN
    const floating[:, :, ::1] dy_nsc,      # IN
    const unsigned char[:, ::1] mask_ns,   # IN   (0, 0): all values count
    const double[:, ::1] mean_nc,          # IN   (1 or N, C), as the next three
    const double[:, ::1] direct_nc,        # IN
    const double[:, ::1] shift_nc,         # IN
    const double[:, ::1] slope_nc,         # IN
    floating[:, :, ::1] dx_nsc,            # OUT
):
    cdef Py_ssize_t n, m, s, c, channels = x_nsc.shape[2]
    cdef bint per_sample = mean_nc.shape[0] > 1
    cdef bint masked = mask_ns.shape[0] > 0
    cdef const double *mean
    cdef const double *direct
    cdef const double *shift
    cdef const double *slope
    cdef const floating *x
    cdef const floating *dy
    cdef floating *dx
    with nogil:
        for n in range(x_nsc.shape[0]):
            m = n if per_sample else 0
            mean = &mean_nc[m, 0]
            direct = &direct_nc[m, 0]
            shift = &shift_nc[m, 0]
            slope = &slope_nc[m, 0]
            for s in range(x_nsc.shape[1]):
                x = &x_nsc[n, s, 0]
                dy = &dy_nsc[n, s, 0]
                dx = &dx_nsc[n, s, 0]
                if masked and not mask_ns[n, s]:
                    for c in range(channels):
                        dx[c] = <floating>(direct[c] * dy[c])
                else:
                    for c in range(channels):
                        dx[c] = <floating>(direct[c] * dy[c] - (shift[c] + slope[c] * (x[c] - mean[c])))


def gradient_sums_rows(
    const floating[:, ::1] x_rd,     # IN
    const floating[:, ::1] dy_rd,    # IN
    const double[::1] mean_r,        # IN
    const double[::1] scale_r,       # IN
    const double[::1] weight_d,      # IN
    double[::1] sum_r,               # OUT  Σ dy·weight over a row
    double[::1] product_r,           # OUT  Σ dy·weight·(x − μ) over a row
    double[::1] dweight_d,           # OUT  Σ dy·(x − μ)·scale over rows
    double[::1] dbias_d,             # OUT  Σ dy over rows
):
    cdef Py_ssize_t r, d, features = x_rd.shape[1]
    cdef double mean, scale, deviation, weighted, total, product
    cdef double *dweight = &dweight_d[0]
    cdef double *dbias = &dbias_d[0]
    cdef const double *weight = &weight_d[0]
    cdef const floating *x
    cdef const floating *dy
    with nogil:
        for d in range(features):
            dweight[d] = 0
            dbias[d] = 0
        for r in range(x_rd.shape[0]):
            x = &x_rd[r, 0]
            dy = &dy_rd[r, 0]
            mean = mean_r[r]
            scale = scale_r[r]
            total = 0
            product = 0
            for d in range(features):
                deviation = x[d] - mean
                weighted = dy[d] * weight[d]
                total += weighted
                product += weighted * deviation
                dweight[d] += dy[d] * deviation * scale
                dbias[d] += dy[d]
            sum_r[r] = total
            product_r[r] = product


def input_gradient_rows(
    const floating[:, ::1] x_rd,     # IN
    const floating[:, ::1] dy_rd,    # IN
    const double[::1] mean_r,        # IN
    const double[::1] scale_r,       # IN
    const double[::1] weight_d,      # IN
    const double[::1] shift_r,       # IN
    const double[::1] slope_r,       # IN
    floating[:, ::1] dx_rd,          # OUT  scale·weight·dy − [shift + slope·(x − μ)]
):
    cdef Py_ssize_t r, d, features = x_rd.shape[1]
    cdef double mean, scale, shift, slope
    cdef const double *weight = &weight_d[0]
    cdef const floating *x
    cdef const floating *dy
    cdef floating *dx
    with nogil:
        for r in range(x_rd.shape[0]):
            x = &x_rd[r, 0]
            dy = &dy_rd[r, 0]
            dx = &dx_rd[r, 0]
            mean = mean_r[r]
            scale = scale_r[r]
            shift = shift_r[r]
            slope = slope_r[r]
            for d in range(features):
                dx[d] = <floating>(scale * weight[d] * dy[d] - (shift + slope * (x[d] - mean)))
