# Exact sums of any numbers, correctly rounded.
from numpy cimport ndarray
from arrays cimport Memory, is_float32, length, memory

cdef extern from "kernels/exact_sum.h" nogil:
    void find_exponents "dispatch<find_exponents<float>, find_exponents<double>>"(
        bint is_float32, Py_ssize_t count, Memory values, Memory range)
    void sum_to_limbs "dispatch<sum_to_limbs<float>, sum_to_limbs<double>>"(
        bint is_float32, Py_ssize_t rows, Py_ssize_t count, Memory values, int lowest, Py_ssize_t width, Memory limbs)
    void round_rows(
        Py_ssize_t rows, Py_ssize_t width, Memory limbs, int lowest, int precision, Memory totals)


def exact_sum_range(
    ndarray values_rn,   # IN   float32 or float64
    # OUT  float64: e of the largest value m·2ᵉ, |m| < 2⁵³, and −e of the smallest; −∞ where all are 0 or not finite
    ndarray range_2,
):
    with nogil:
        find_exponents(
            is_float32(values_rn), length(values_rn, 0) * length(values_rn, 1), memory(values_rn), memory(range_2))


def exact_sum_limbs(
    ndarray values_rn,   # IN   float32 or float64
    int lowest,          # IN   the smallest exponent of all ranks
    # OUT  int64: the limbs of each row's sum in units of 2^lowest; last, a bit each where the row has NaN, ∞, −∞
    ndarray limbs_rl,
):
    with nogil:
        sum_to_limbs(
            is_float32(values_rn), length(values_rn, 0), length(values_rn, 1), memory(values_rn), lowest,
            length(limbs_rl, 1), memory(limbs_rl))


def exact_sum_round(
    ndarray limbs_rl,    # IN   int64: the sum over all ranks, overwritten
    int lowest,          # IN   the smallest exponent of all ranks
    int precision,       # IN   bits to which sums are rounded
    ndarray totals_r,    # OUT  float64: the sums; as in floating point where values are not finite
):
    with nogil:
        round_rows(
            length(limbs_rl, 0), length(limbs_rl, 1), memory(limbs_rl), lowest, precision, memory(totals_r))
