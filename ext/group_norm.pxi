# Group and instance normalization.
from numpy cimport ndarray
from arrays cimport Layout, Memory, is_float32, layout_of, length, memory

cdef extern from "kernels/group_norm.h" nogil:
    void group_norm_forward "dispatch<group_norm_forward<float>, group_norm_forward<double>>"(
        bint is_float32, Layout, Memory x, Py_ssize_t groups, Memory weight, Memory bias, double eps, Memory rows,
        Memory moments, Memory y, int threads)
    void group_norm_backward "dispatch<group_norm_backward<float>, group_norm_backward<double>>"(
        bint is_float32, Layout, Memory x, Memory dy, Py_ssize_t groups, Memory weight, Memory rows, Memory moments,
        Memory factors, Memory gradients, Memory dx, int threads)


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
    with nogil:
        group_norm_forward(
            is_float32(x), layout_of(x, channels_last), memory(x), length(moments_3ng, 2), memory(weight_c),
            memory(bias_c), eps, memory(rows_3nc), memory(moments_3ng), memory(y), threads)


def group_backward(
    ndarray x,              # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    ndarray dy,             # IN   as x
    bint channels_last,     # IN
    ndarray weight_c,       # IN   float64, as all others
    ndarray rows_3nc,       # IN   of the forward
    ndarray moments_3ng,    # IN   of the forward
    ndarray factors_4nc,    # OUT  of each row: Σ dy, Σ dy·(x − μ), and the factors b and c of dx
    ndarray gradients_2c,   # OUT  of weight and bias
    ndarray dx,             # OUT  as x: scale·dy − (b + c·(x − μ))
    int threads,            # IN
):
    with nogil:
        group_norm_backward(
            is_float32(x), layout_of(x, channels_last), memory(x), memory(dy), length(moments_3ng, 2), memory(weight_c),
            memory(rows_3nc), memory(moments_3ng), memory(factors_4nc), memory(gradients_2c), memory(dx), threads)
