# The memory of the arrays that a kernel is given; NULL where there is none.
#
# Arrays are contiguous, aligned, in native byte order, and of the dtype and shape that stand beside a kernel's
# parameters. Their callers see to it and nothing checks it here: to ask each array through the buffer protocol takes
# longer than small kernels do.
from libc.stdint cimport int64_t
from numpy cimport NPY_FLOAT32, PyArray_DATA, PyArray_DIMS, PyArray_TYPE, ndarray


cdef inline bint is_float32(ndarray array) noexcept:
    """Tell float32 from float64."""
    return PyArray_TYPE(array) == NPY_FLOAT32


cdef inline Py_ssize_t length(ndarray array, int axis) noexcept:
    return PyArray_DIMS(array)[axis]


cdef inline void *memory(ndarray array) noexcept:
    return NULL if array is None else PyArray_DATA(array)


ctypedef fused element:
    unsigned char
    float
    double


cdef inline const element *after(const element *start, Py_ssize_t elements) noexcept nogil:
    """Return the memory after so many elements; NULL stays NULL."""
    if start is NULL:
        return start
    return start + elements


cdef inline double *doubles(ndarray array) noexcept:
    return <double *>memory(array)


cdef inline int64_t *integers(ndarray array) noexcept:
    return <int64_t *>memory(array)


cdef inline unsigned char *mask_of(ndarray array) noexcept:
    return <unsigned char *>memory(array)
