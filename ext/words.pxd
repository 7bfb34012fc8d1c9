# Words of exact sums, (W, C): pairs of low and high words of each channel. And the range that they are scaled by,
# (1 + 2C,): the largest count of a row; of each channel the largest value; of each channel the largest negative.
from libc.stdint cimport int64_t
from fixed_point cimport carry

cdef enum:
    BLOCK = 4096  # values that fixed_point.h lets float64 add up before they become integers
    WIDTH = 256  # channels that are summed together: their partial sums stay in the first-level cache
    MOMENT_WORDS = 4


cdef inline Py_ssize_t share_of(Py_ssize_t channels, int threads) noexcept nogil:
    """Return the number of channels that are summed together, so that there is work for each thread."""
    return max(16, min(WIDTH, ((channels + threads - 1) // threads + 15) // 16 * 16))


cdef inline Py_ssize_t parts_of(Py_ssize_t channels, Py_ssize_t share) noexcept nogil:
    return (channels + share - 1) // share


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
