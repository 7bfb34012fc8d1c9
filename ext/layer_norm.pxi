# Layer and root-mean-square normalization.
from numpy cimport ndarray
from arrays cimport Memory, is_float32, length, memory

cdef extern from "kernels/layer_norm.h" nogil:
    void layer_norm_forward "dispatch<layer_norm_forward<float>, layer_norm_forward<double>>"(
        bint is_float32, Py_ssize_t rows, Py_ssize_t features, Memory x, Memory weight, Memory bias, double eps, bint
        centered, Memory moments, Memory y, int threads)
    void layer_norm_backward "dispatch<layer_norm_backward<float>, layer_norm_backward<double>>"(
        bint is_float32, Py_ssize_t rows, Py_ssize_t features, Memory x, Memory dy, Memory weight, bint centered, Memory
        moments, Py_ssize_t parts, Memory partial, Memory gradients, Memory dx, int threads)


def feature_forward(
    ndarray x_rd,         # IN   float32 or float64, as all of its kind
    ndarray weight_d,     # IN   as x
    ndarray bias_d,       # IN   as x
    double eps,           # IN
    bint centred,         # IN   whether μ is subtracted, or 0
    ndarray moments_2r,   # OUT  float64: μ (or 0), and 1/√(mean of (x − μ)² + eps)
    ndarray y_rd,         # OUT  as x: (x − μ)·scale·weight + bias
    int threads,          # IN
):
    with nogil:
        layer_norm_forward(
            is_float32(x_rd), length(x_rd, 0), length(x_rd, 1), memory(x_rd), memory(weight_d), memory(bias_d), eps,
            centred, memory(moments_2r), memory(y_rd), threads)


def feature_backward(
    ndarray x_rd,           # IN   float32 or float64, as all of its kind
    ndarray dy_rd,          # IN   as x
    ndarray weight_d,       # IN   as x
    bint centred,           # IN
    ndarray moments_2r,     # IN   float64, as all others: of the forward
    ndarray parts_2pd,      # OUT  Σ dy·(x − μ)·scale and Σ dy over the rows of each of P parts
    ndarray gradients_2d,   # OUT  of weight and bias: the sums over parts, in their order
    ndarray dx_rd,          # OUT  as x: scale·weight·dy − (b + c·(x − μ))
    int threads,            # IN
):
    with nogil:
        layer_norm_backward(
            is_float32(x_rd), length(x_rd, 0), length(x_rd, 1), memory(x_rd), memory(dy_rd), memory(weight_d), centred,
            memory(moments_2r), length(parts_2pd, 1), memory(parts_2pd), memory(gradients_2d), memory(dx_rd), threads)
