# The memory of the arrays that a kernel is given.
#
# Arrays are contiguous, aligned, in native byte order, and of the dtype and shape in the comment after a kernel's
# parameter. Their callers ensure that, and nothing checks it here: to query each array through the buffer protocol
# takes longer than small kernels do.
from numpy cimport NPY_FLOAT32, PyArray_DATA, PyArray_DIMS, PyArray_TYPE, ndarray

cdef extern from "kernels/layout.h" namespace "syncbn" nogil:
    ctypedef struct Layout:
        Py_ssize_t samples
        Py_ssize_t channels
        Py_ssize_t size
        bint channels_last

    ctypedef struct Memory:
        void *data


cdef inline bint is_float32(ndarray array) noexcept nogil:
    """Return whether the dtype is float32, not float64."""
    return PyArray_TYPE(array) == NPY_FLOAT32


cdef inline Py_ssize_t length(ndarray array, int axis) noexcept nogil:
    return PyArray_DIMS(array)[axis]


cdef inline Memory memory(ndarray array) noexcept nogil:
    """Return the memory of an array; null for None."""
    cdef Memory result
    result.data = NULL if array is None else PyArray_DATA(array)
    return result


cdef inline Layout layout_of(ndarray x, bint channels_last) noexcept nogil:
    """Return the layout of an array of shape (N, C, S), or (N, S, C) where channels_last."""
    cdef Layout layout
    layout.samples = length(x, 0)
    layout.channels = length(x, 2 if channels_last else 1)
    layout.size = length(x, 1 if channels_last else 2)
    layout.channels_last = channels_last
    return layout
