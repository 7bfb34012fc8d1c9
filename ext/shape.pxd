# How the values of a call lie in memory.
from numpy cimport ndarray
from arrays cimport length

cdef struct Shape:
    Py_ssize_t samples
    Py_ssize_t channels
    Py_ssize_t size  # values of a row
    Py_ssize_t sample_stride  # values of a sample
    bint channels_last
    bint columns  # exact sums straight from values: a row is one value


cdef inline Shape shape_of(ndarray x, bint channels_last, bint exact) noexcept:
    cdef Shape shape
    shape.samples = length(x, 0)
    shape.channels = length(x, 2 if channels_last else 1)
    shape.size = length(x, 1 if channels_last else 2)
    shape.sample_stride = shape.channels * shape.size
    shape.channels_last = channels_last
    shape.columns = exact and channels_last and shape.size == 1
    return shape
