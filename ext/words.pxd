# Words of exact sums, (W, C): pairs of low and high words of each channel. And the range that they are scaled by,
# (1 + 2C,): the largest count of a row; of each channel the largest value; of each channel the largest negative.
from libc.stdint cimport int64_t
from fixed_point cimport carry

cdef enum:
    BLOCK = 4096  # values that fixed_point.h lets float64 add up before they become integers
    WIDTH = 128  # channels that are summed together: their partial sums stay in the first-level cache
    MOMENT_WORDS = 4


cdef inline Py_ssize_t parts_of(Py_ssize_t channels) noexcept nogil:
    return (channels + WIDTH - 1) // WIDTH


cdef inline Py_ssize_t width_of(Py_ssize_t start, Py_ssize_t channels) noexcept nogil:
    return WIDTH if channels - start > WIDTH else channels - start


cdef inline void clear(int64_t *words, Py_ssize_t apart, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t w, c
    for w in range(MOMENT_WORDS):
        for c in range(width):
            words[w * apart + c] = 0


cdef inline void carry_all(int64_t *words, Py_ssize_t apart, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t w, c
    for w in range(0, MOMENT_WORDS, 2):
        for c in range(width):
            carry(words + w * apart + c, words + (w + 1) * apart + c)
