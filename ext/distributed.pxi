# Batch normalization of the ranks of a communicator: what each computes before, between and after their messages.
#
# 4c, 2c are limbs or sums times channels; w is a range: the largest count of a row; of each channel the largest value;
# of each channel the largest negative. In float64 there are no ranges, and sums take the place of limbs.
from libc.stdint cimport int64_t
from numpy cimport ndarray
from arrays cimport Layout, Memory, is_float32, layout_of, memory

cdef extern from "kernels/distributed.h" nogil:
    void moment_ranges "dispatch<moment_ranges<float>, moment_ranges<double>>"(
        bint is_float32, Layout, Memory x, Memory mask, Memory counts, Memory rows, Memory range, int threads)
    void moment_sums "dispatch<moment_sums<float>, moment_sums<double>>"(
        bint is_float32, Layout, Memory x, Memory mask, Memory counts, Memory rows, Memory range, Memory limbs, Memory
        sums, int threads)
    void normalize_from_sums "dispatch<normalize_from_sums<float>, normalize_from_sums<double>>"(
        bint is_float32, Layout, Memory x, double count, Memory range, Memory limbs, Memory sums, Memory weight, Memory
        bias, double eps, Memory residual, bint relu, Memory moments, Memory y, int threads)
    void gradient_ranges "dispatch<gradient_ranges<float>, gradient_ranges<double>>"(
        bint is_float32, Layout, Memory x, Memory dy, Memory moments, Memory y, Memory g, Memory rows, Memory absmax,
        int threads)
    void gradient_sums "dispatch<gradient_sums<float>, gradient_sums<double>>"(
        bint is_float32, Layout, Memory x, Memory g, Memory moments, Memory rows, Memory absmax, Memory limbs, Memory
        sums, int threads)
    void input_gradient_from_sums "dispatch<input_gradient_from_sums<float>, input_gradient_from_sums<double>>"(
        bint is_float32, Layout, Memory x, Memory g, Memory mask, double count, Memory moments, Memory absmax, Memory
        limbs, Memory sums, bint total, Memory gradients, Memory dx, int threads)


def rank_ranges(
    ndarray x,            # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    bint channels_last,   # IN
    ndarray mask_ns,      # IN   uint8, or None: all values are selected
    ndarray count_n,      # IN   float64 (as all without a dtype here): selected values in each row of sample n
    ndarray rows_3nc,     # OUT  x₀, Σ(x − x₀) and Σ(x − x₀)² of rows; None for columns: dense, exact
    ndarray range_w,      # OUT  of x₀ and μᵣ ± σᵣ over rows r, or of columns; None in float64
    int threads,          # IN
):
    with nogil:
        moment_ranges(
            is_float32(x), layout_of(x, channels_last), memory(x), memory(mask_ns), memory(count_n), memory(rows_3nc),
            memory(range_w), threads)


def rank_sums(
    ndarray x,            # IN   as in rank_ranges
    bint channels_last,   # IN
    ndarray mask_ns,      # IN   uint8, or None
    ndarray count_n,      # IN
    ndarray rows_3nc,     # IN
    ndarray range_w,      # IN   over all ranks; None in float64
    ndarray limbs_4c,     # OUT  int64: exact Σn·m and Σ[n·m² + M2], two limbs each; m = μᵣ − center, scaled
    ndarray sums_4c,      # OUT  in float64: Σx and Σx², as hi and lo; None where limbs are given
    int threads,          # IN
):
    with nogil:
        moment_sums(
            is_float32(x), layout_of(x, channels_last), memory(x), memory(mask_ns), memory(count_n), memory(rows_3nc),
            memory(range_w), memory(limbs_4c), memory(sums_4c), threads)


def rank_normalize(
    ndarray x,            # IN   as in rank_ranges
    bint channels_last,   # IN
    int64_t count,        # IN   values per channel over all ranks, at least 1
    ndarray range_w,      # IN   over all ranks; None in float64
    ndarray limbs_4c,     # IN   int64: over all ranks; None in float64
    ndarray sums_4c,      # IN   over all ranks; None where sums are exact
    ndarray weight_c,     # IN   None: 1
    ndarray bias_c,       # IN   None: 0
    double eps,           # IN
    ndarray residual,     # IN   as x: added to the result, or None
    bint relu,            # IN   whether negative values then become 0
    ndarray moments_5c,   # OUT  μ, var (biased), 1/√(var + eps), and the factors of y: scale and bias
    ndarray y,            # OUT  as x: (x − μ)·scale + bias
    int threads,          # IN
):
    with nogil:
        normalize_from_sums(
            is_float32(x), layout_of(x, channels_last), memory(x), <double>count, memory(range_w), memory(limbs_4c),
            memory(sums_4c), memory(weight_c), memory(bias_c), eps, memory(residual), relu, memory(moments_5c),
            memory(y), threads)


def rank_gradient_ranges(
    ndarray x,            # IN   as in rank_ranges
    ndarray dy,           # IN   as x
    bint channels_last,   # IN
    ndarray moments_5c,   # IN   of the forward
    ndarray y,            # IN   as x: result of a forward with relu, or None
    ndarray g,            # OUT  as x: with relu dy where y > 0, else 0; None without
    ndarray rows_2nc,     # OUT  Σg and Σg·(x − μ) of rows; None for columns: dense, exact
    ndarray absmax_2c,    # OUT  of their magnitudes the largest; infinite where one is not finite; None in float64
    int threads,          # IN
):
    with nogil:
        gradient_ranges(
            is_float32(x), layout_of(x, channels_last), memory(x), memory(dy), memory(moments_5c), memory(y), memory(g),
            memory(rows_2nc), memory(absmax_2c), threads)


def rank_gradient_sums(
    ndarray x,            # IN   as in rank_ranges
    ndarray g,            # IN   as x: dy, or the gradient of what relu was applied to
    bint channels_last,   # IN
    ndarray moments_5c,   # IN
    ndarray rows_2nc,     # IN
    ndarray absmax_2c,    # IN   over all ranks; None in float64
    ndarray limbs_4c,     # OUT  int64: exact Σg and Σg·(x − μ), scaled, two limbs each
    ndarray sums_2c,      # OUT  in float64; None where limbs are given
    int threads,          # IN
):
    with nogil:
        gradient_sums(
            is_float32(x), layout_of(x, channels_last), memory(x), memory(g), memory(moments_5c), memory(rows_2nc),
            memory(absmax_2c), memory(limbs_4c), memory(sums_2c), threads)


def rank_input_gradient(
    ndarray x,              # IN   as in rank_ranges
    ndarray g,              # IN   as x: dy, or the gradient of what relu was applied to; may be dx
    bint channels_last,     # IN
    ndarray mask_ns,        # IN   uint8, or None: all values are selected
    int64_t count,          # IN   values per channel over all ranks
    ndarray moments_5c,     # IN   of the forward
    ndarray absmax_2c,      # IN   over all ranks; None in float64
    ndarray limbs_g4c,      # IN   int64: over all ranks, and of this one alone; None in float64
    ndarray sums_g2c,       # IN   over all ranks, and of this one alone; None where sums are exact
    bint total,             # IN   whether the gradients of weight and bias are those of all ranks
    ndarray gradients_4c,   # OUT  of weight and bias, and the factors b and c of dx = scale·g − (b + c·(x − μ))
    ndarray dx,             # OUT  as x
    int threads,            # IN
):
    with nogil:
        input_gradient_from_sums(
            is_float32(x), layout_of(x, channels_last), memory(x), memory(g), memory(mask_ns), <double>count,
            memory(moments_5c), memory(absmax_2c), memory(limbs_g4c), memory(sums_g2c), total, memory(gradients_4c),
            memory(dx), threads)
