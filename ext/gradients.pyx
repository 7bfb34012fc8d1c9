"""Gradients of normalized values with respect to x."""

from cython cimport floating
from cython.parallel cimport prange
from loops cimport input_gradient_place, input_gradient_row, relu_gradient


def input_gradient_ncs(
    const floating[:, :, ::1] x_ncs,       # IN
    const floating[:, :, ::1] dy_ncs,      # IN
    const unsigned char[:, ::1] mask_ns,   # IN   (0, 0): all values count
    const double[:, ::1] mean_nc,          # IN   (1 or N, C), as the next three
    const double[:, ::1] direct_nc,        # IN   factor of dy
    const double[:, ::1] shift_nc,         # IN   gradient through the mean
    const double[:, ::1] slope_nc,         # IN   gradient through the variance, factor of x − μ
    floating[:, :, ::1] dx_ncs,            # OUT  direct·dy − mask·[shift + slope·(x − μ)]
    int threads,                           # IN
):
    cdef Py_ssize_t row, n, c, m, channels = x_ncs.shape[1]
    cdef bint masked = mask_ns.shape[0] > 0
    for row in prange(x_ncs.shape[0] * channels, nogil=True, num_threads=threads, schedule="static"):
        n = row // channels
        c = row % channels
        m = n if mean_nc.shape[0] > 1 else 0
        input_gradient_row(&x_ncs[n, c, 0], &dy_ncs[n, c, 0], &mask_ns[n, 0] if masked else NULL, x_ncs.shape[2],
                           mean_nc[m, c], direct_nc[m, c], shift_nc[m, c], slope_nc[m, c], &dx_ncs[n, c, 0],
                           0)


def input_gradient_nsc(
    const floating[:, :, ::1] x_nsc,       # IN
    const floating[:, :, ::1] dy_nsc,      # IN
    const unsigned char[:, ::1] mask_ns,   # IN   (0, 0): all values count
    const double[:, ::1] mean_nc,          # IN   (1 or N, C), as the next three
    const double[:, ::1] direct_nc,        # IN
    const double[:, ::1] shift_nc,         # IN
    const double[:, ::1] slope_nc,         # IN
    floating[:, :, ::1] dx_nsc,            # OUT
    int threads,                           # IN
):
    cdef Py_ssize_t place, n, s, m, size = x_nsc.shape[1]
    cdef bint masked = mask_ns.shape[0] > 0
    for place in prange(x_nsc.shape[0] * size, nogil=True, num_threads=threads, schedule="static"):
        n = place // size
        s = place % size
        m = n if mean_nc.shape[0] > 1 else 0
        input_gradient_place(&x_nsc[n, s, 0], &dy_nsc[n, s, 0], not (masked and mask_ns[n, s] == 0), x_nsc.shape[2],
                             &mean_nc[m, 0], &direct_nc[m, 0], &shift_nc[m, 0], &slope_nc[m, 0], &dx_nsc[n, s, 0])


def relu_gradients(
    const floating[:, :, ::1] y,    # IN   result of relu
    const floating[:, :, ::1] dy,   # IN
    floating[:, :, ::1] g,          # OUT  dy where y > 0, else 0
    int threads,                    # IN
):
    cdef Py_ssize_t n, count = y.shape[1] * y.shape[2]
    for n in prange(y.shape[0], nogil=True, num_threads=threads, schedule="static"):
        relu_gradient(&y[n, 0, 0], &dy[n, 0, 0], count, &g[n, 0, 0])
