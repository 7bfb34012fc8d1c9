# How the values of a call lie in memory.
from cython cimport floating

cdef struct Shape:
    Py_ssize_t samples
    Py_ssize_t channels
    Py_ssize_t size  # values of a row
    Py_ssize_t sample_stride  # values of a sample
    bint columns  # exact sums straight from values: a row is one value


cdef inline Shape shape_of(const floating[:, :, ::1] x, bint channels_last, bint exact) noexcept nogil:
    cdef Shape shape
    shape.samples = x.shape[0]
    shape.channels = x.shape[2] if channels_last else x.shape[1]
    shape.size = x.shape[1] if channels_last else x.shape[2]
    shape.sample_stride = x.shape[1] * x.shape[2]
    shape.columns = exact and channels_last and shape.size == 1
    return shape
