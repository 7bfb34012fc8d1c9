# Words of exact sums, (W, C): pairs of low and high words of each channel. And the range that they are scaled by,
# (1 + 2C,): the largest count of a row; of each channel the largest value; of each channel the largest negative.
from libc.stdint cimport int64_t
from fixed_point cimport carry, centre_of, reach_of

cdef enum:
    BLOCK = 4096  # values that fixed_point.h lets float64 add up before they become integers
    WIDTH = 128  # channels that are summed together: their partial sums stay in the first-level cache


cdef inline Py_ssize_t parts_of(Py_ssize_t channels) noexcept nogil:
    return (channels + WIDTH - 1) // WIDTH


cdef inline Py_ssize_t width_of(Py_ssize_t start, Py_ssize_t channels) noexcept nogil:
    return WIDTH if channels - start > WIDTH else channels - start


cdef inline void clear(int64_t[:, ::1] words_wc, Py_ssize_t start, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t w, c
    for w in range(words_wc.shape[0]):
        for c in range(start, start + width):
            words_wc[w, c] = 0


cdef inline void carry_all(int64_t[:, ::1] words_wc, Py_ssize_t start, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t w, c
    for w in range(0, words_wc.shape[0], 2):
        for c in range(start, start + width):
            carry(&words_wc[w, c], &words_wc[w + 1, c])


cdef inline double centre_in(const double[::1] range_w, Py_ssize_t c) noexcept nogil:
    return centre_of(range_w[1 + c], range_w[1 + range_w.shape[0] // 2 + c])


cdef inline double reach_in(const double[::1] range_w, Py_ssize_t c) noexcept nogil:
    return reach_of(range_w[1 + c], range_w[1 + range_w.shape[0] // 2 + c])
