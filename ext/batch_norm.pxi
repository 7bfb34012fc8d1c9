# Batch normalization of one process alone.
from libc.stdint cimport int64_t
from numpy cimport ndarray
from arrays cimport Layout, Memory, is_float32, layout_of, memory

cdef extern from "kernels/batch_norm.h" nogil:
    void batch_norm_forward "dispatch<batch_norm_forward<float>, batch_norm_forward<double>>"(
        bint is_float32, Layout, Memory x, Memory mask, Memory counts, double count, Memory weight, Memory bias, double
        eps, bint exact, Memory residual, bint relu, Py_ssize_t block, Memory rows, Memory moments, Memory y, int
        threads)
    void batch_norm_inference "dispatch<batch_norm_inference<float>, batch_norm_inference<double>>"(
        bint is_float32, Layout, Memory x, Memory mean, Memory var, Memory weight, Memory bias, double eps, Memory
        residual, bint relu, Memory moments, Memory y, int threads)
    void batch_norm_backward "dispatch<batch_norm_backward<float>, batch_norm_backward<double>>"(
        bint is_float32, Layout, Memory x, Memory dy, Memory mask, double count, Memory moments, bint exact, Memory y,
        Py_ssize_t block, Memory rows, Memory gradients, Memory g, Memory dx, int threads)


def batch_forward(
    ndarray x,               # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    bint channels_last,      # IN
    ndarray mask_ns,         # IN   uint8, or None: all values are selected
    ndarray count_n,         # IN   float64 (as all without a dtype here): selected values in each row of sample n
    int64_t count,           # IN   values per channel, at least 1
    ndarray weight_c,        # IN   None: 1
    ndarray bias_c,          # IN   None: 0
    double eps,              # IN
    bint exact,              # IN   exact sums, else float64
    ndarray residual,        # IN   as x: added to the result, or None
    bint relu,               # IN   whether negative values then become 0
    Py_ssize_t block,        # IN   channels of channels-first memory that go together, up to 256; 0: as fit the cache
    ndarray rows_3nc,        # OUT  x₀, Σ(x − x₀) and Σ(x − x₀)² of rows; None for columns: dense, exact
    ndarray moments_5c,      # OUT  μ, var (biased), 1/√(var + eps), and the factors of y: scale and bias
    ndarray y,               # OUT  as x: (x − μ)·scale + bias
    int threads,             # IN
):
    with nogil:
        batch_norm_forward(
            is_float32(x), layout_of(x, channels_last), memory(x), memory(mask_ns), memory(count_n), <double>count,
            memory(weight_c), memory(bias_c), eps, exact, memory(residual), relu, block, memory(rows_3nc),
            memory(moments_5c), memory(y), threads)


def batch_inference(
    ndarray x,               # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    bint channels_last,      # IN
    ndarray mean_c,          # IN
    ndarray var_c,           # IN
    ndarray weight_c,        # IN   None: 1
    ndarray bias_c,          # IN   None: 0
    double eps,              # IN
    ndarray residual,        # IN   as x: added to the result, or None
    bint relu,               # IN   whether negative values then become 0
    ndarray moments_5c,      # OUT  μ, var, 1/√(var + eps), scale and bias
    ndarray y,               # OUT  as x: (x − μ)·scale + bias
    int threads,             # IN
):
    with nogil:
        batch_norm_inference(
            is_float32(x), layout_of(x, channels_last), memory(x), memory(mean_c), memory(var_c), memory(weight_c),
            memory(bias_c), eps, memory(residual), relu, memory(moments_5c), memory(y), threads)


def batch_backward(
    ndarray x,               # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    ndarray dy,              # IN   as x
    bint channels_last,      # IN
    ndarray mask_ns,         # IN   uint8, or None: all values are selected
    int64_t count,           # IN   values per channel; 0: μ and var are constants
    ndarray moments_5c,      # IN   of the forward
    bint exact,              # IN   exact sums, else float64
    ndarray y,               # IN   as x: result of a forward with relu, or None
    Py_ssize_t block,        # IN   channels of channels-first memory that go together, up to 256; 0: as fit the cache
    ndarray rows_2nc,        # OUT  Σg and Σg·(x − μ) of rows; None for columns
    ndarray gradients_4c,    # OUT  of weight and bias, and the factors b and c of dx = scale·g − (b + c·(x − μ))
    ndarray g,               # OUT  as x: with relu dy where y > 0, else 0; or None
    ndarray dx,              # OUT  as x
    int threads,             # IN
):
    with nogil:
        batch_norm_backward(
            is_float32(x), layout_of(x, channels_last), memory(x), memory(dy), memory(mask_ns), <double>count,
            memory(moments_5c), exact, memory(y), block, memory(rows_2nc), memory(gradients_4c), memory(g), memory(dx),
            threads)
