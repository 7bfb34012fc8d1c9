# Plain arrays: exactly ndarray, float32 or float64 in native byte order, aligned, with values, and contiguous in one of
# the two memory orders. What a call needs to know of them, and the memory that it needs, without a Python object in
# between: after a kernel has swept the caches, each step of the interpreter waits for memory.
from libc.math cimport INFINITY, signbit
from libc.stdint cimport uintptr_t
from numpy cimport (
    NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_FLOAT32, NPY_FLOAT64, NPY_KEEPORDER, NPY_ORDER,
    PyArray_CHKFLAGS, PyArray_CLEARFLAGS, PyArray_DATA, PyArray_DIMS, PyArray_EMPTY, PyArray_ISNOTSWAPPED,
    PyArray_ITEMSIZE, PyArray_NDIM, PyArray_SIZE, PyArray_STRIDES, PyArray_SetBaseObject, PyArray_SimpleNewFromData,
    PyArray_TYPE, ndarray, npy_intp,
)
from cpython.ref cimport Py_INCREF

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(ndarray prototype, NPY_ORDER order, void *dtype, bint subclass)


cdef struct Layout:
    Py_ssize_t samples
    Py_ssize_t channels
    Py_ssize_t size  # values of a row
    Py_ssize_t bytes
    bint channels_last
    npy_intp shape[3]  # (N, C, S), or (N, S, C)


cdef inline bint is_floating(object array):
    """Tell whether an object is an array of values as kernels take them, in any memory order."""
    if type(array) is not ndarray:
        return False
    return (
        (PyArray_TYPE(<ndarray>array) == NPY_FLOAT32 or PyArray_TYPE(<ndarray>array) == NPY_FLOAT64)
        and PyArray_CHKFLAGS(<ndarray>array, NPY_ARRAY_ALIGNED) and PyArray_ISNOTSWAPPED(<ndarray>array)
    )


cdef inline bint is_eps(object eps):
    return type(eps) is float and 0 <= <double>eps < INFINITY and not signbit(<double>eps)


cdef inline bint is_reduction(object reduction):
    return type(reduction) is str and (reduction == "exact" or reduction == "float64")


cdef inline bint is_vector(object array, Py_ssize_t length):
    """Tell whether an object is a plain array of one axis."""
    return (
        is_floating(array) and PyArray_NDIM(<ndarray>array) == 1 and PyArray_DIMS(<ndarray>array)[0] == length
        and PyArray_CHKFLAGS(<ndarray>array, NPY_ARRAY_C_CONTIGUOUS)
    )


cdef inline bint are_vectors(weight, bias, Py_ssize_t length):
    """Tell whether each is a plain array of one axis, or None."""
    return (weight is None or is_vector(weight, length)) and (bias is None or is_vector(bias, length))


cdef inline bint find_layout(object x, object channel_axis, Layout *layout):
    """Find how a plain array lies in memory; False for one that isn't plain."""
    cdef int axis, i, dimensions
    cdef bint first, last
    if type(channel_axis) is not int or not is_floating(x):
        return False
    dimensions = PyArray_NDIM(<ndarray>x)
    if dimensions < 2 or not -dimensions <= channel_axis < dimensions:
        return False
    axis = channel_axis
    axis = axis % dimensions if axis >= 0 else axis + dimensions
    layout.samples = PyArray_DIMS(<ndarray>x)[0 if axis else 1]
    layout.channels = PyArray_DIMS(<ndarray>x)[axis]
    layout.size = 1
    for i in range(1 if axis else 2, dimensions):
        if i != axis:
            layout.size *= PyArray_DIMS(<ndarray>x)[i]
    layout.bytes = layout.samples * layout.channels * layout.size * PyArray_ITEMSIZE(<ndarray>x)
    first = is_contiguous(<ndarray>x, axis, False)
    last = (layout.size == 1 or not first) and is_contiguous(<ndarray>x, axis, True)
    if layout.bytes == 0 or not (last if layout.size == 1 else first or last):
        return False
    # In rows of one value, channels are the only axis worth a vector.
    layout.channels_last = last
    set_shape(layout)
    return True


cdef inline void set_shape(Layout *layout):
    layout.shape[0] = layout.samples
    layout.shape[1] = layout.size if layout.channels_last else layout.channels
    layout.shape[2] = layout.channels if layout.channels_last else layout.size


cdef inline void lengthen_rows(Layout *layout):
    """In float64, a column of a dense layer is one long row."""
    if layout.size == 1:
        layout.samples, layout.size = 1, layout.samples
        set_shape(layout)


cdef inline bint is_contiguous(ndarray x, int axis, bint last):
    """Tell whether x's axes are contiguous with the channel axis last, or second after the samples."""
    cdef npy_intp expected = PyArray_ITEMSIZE(x)
    cdef int i, sample = 0 if axis else 1
    if last and not is_next(x, axis, &expected):
        return False
    for i in range(PyArray_NDIM(x) - 1, -1, -1):
        if i != axis and i != sample and not is_next(x, i, &expected):
            return False
    return (last or is_next(x, axis, &expected)) and is_next(x, sample, &expected)


cdef inline bint is_next(ndarray x, int i, npy_intp *expected):
    cdef npy_intp count = PyArray_DIMS(x)[i]
    if count != 1 and PyArray_STRIDES(x)[i] != expected[0]:
        return False
    expected[0] *= count
    return True


cdef inline bint is_like(object array, ndarray x):
    """Tell whether an object is an array of x's shape and dtype that lies in memory as x does."""
    cdef int i
    if not is_floating(array) or PyArray_TYPE(<ndarray>array) != PyArray_TYPE(x):
        return False
    if PyArray_NDIM(<ndarray>array) != PyArray_NDIM(x):
        return False
    for i in range(PyArray_NDIM(x)):
        if PyArray_DIMS(<ndarray>array)[i] != PyArray_DIMS(x)[i]:
            return False
        if PyArray_STRIDES(<ndarray>array)[i] != PyArray_STRIDES(x)[i] and PyArray_DIMS(x)[i] != 1:
            return False
    return True


cdef inline ndarray empty_like(ndarray x):
    """Return memory for a result: x's shape, dtype and memory order."""
    return <ndarray>PyArray_NewLikeArray(x, NPY_KEEPORDER, NULL, 0)


cdef inline ndarray view(ndarray array, int dimensions, npy_intp *shape):
    """Return an array as kernels see it."""
    return part(array, PyArray_DATA(array), PyArray_TYPE(array), dimensions, shape)


cdef inline ndarray part(ndarray array, void *data, int dtype, int dimensions, npy_intp *shape):
    cdef ndarray result = <ndarray>PyArray_SimpleNewFromData(dimensions, shape, dtype, data)
    Py_INCREF(array)
    PyArray_SetBaseObject(result, array)
    return result


cdef inline ndarray row(ndarray array, Py_ssize_t i, npy_intp length):
    """Return row i of a float64 matrix whose rows have this length, read-only."""
    cdef ndarray result = part(array, <double *>PyArray_DATA(array) + i * length, NPY_FLOAT64, 1, &length)
    PyArray_CLEARFLAGS(result, NPY_ARRAY_WRITEABLE)
    return result


cdef enum:
    SMALL = 512  # values that are read in no time, wherever they lie


cdef inline ndarray scratch(int dimensions, npy_intp *shape):
    """Return memory in float64, in full cache lines: each vector that lies in two of them is read twice."""
    cdef npy_intp size = 1
    cdef int i
    cdef uintptr_t start
    cdef ndarray memory
    for i in range(dimensions):
        size *= shape[i]
    if size <= SMALL:
        return <ndarray>PyArray_EMPTY(dimensions, shape, NPY_FLOAT64, 0)
    size += 7
    memory = <ndarray>PyArray_EMPTY(1, &size, NPY_FLOAT64, 0)
    start = (<uintptr_t>PyArray_DATA(memory) + 63) & ~<uintptr_t>63
    return part(memory, <void *>start, NPY_FLOAT64, dimensions, shape)


cdef inline ndarray doubles_of(Py_ssize_t one):
    cdef npy_intp shape = one
    return scratch(1, &shape)


cdef inline ndarray doubles_of_2(Py_ssize_t one, Py_ssize_t two):
    cdef npy_intp shape[2]
    shape[0], shape[1] = one, two
    return scratch(2, shape)


cdef inline ndarray doubles_of_3(Py_ssize_t one, Py_ssize_t two, Py_ssize_t three):
    cdef npy_intp shape[3]
    shape[0], shape[1], shape[2] = one, two, three
    return scratch(3, shape)


cdef inline ndarray constant(Py_ssize_t length, double value):
    return filled(None, length, value)


cdef inline ndarray widened(object array):
    """Return a copy in float64; None stays None."""
    if array is None:
        return None
    return filled(<ndarray>array, PyArray_SIZE(<ndarray>array), 0)


cdef inline ndarray filled(object array, Py_ssize_t length, double default):
    """Return a copy in float64, or ``default`` everywhere where there is no array."""
    cdef ndarray result = doubles_of(length)
    cdef double *values = <double *>PyArray_DATA(result)
    cdef Py_ssize_t i
    if array is None:
        for i in range(length):
            values[i] = default
    elif PyArray_TYPE(<ndarray>array) == NPY_FLOAT32:
        for i in range(length):
            values[i] = (<float *>PyArray_DATA(<ndarray>array))[i]
    else:
        for i in range(length):
            values[i] = (<double *>PyArray_DATA(<ndarray>array))[i]
    return result


cdef inline object narrowed(const double *values, object parameter):
    """Return a gradient in the shape and dtype of its parameter; None where there is none."""
    cdef ndarray result
    cdef Py_ssize_t i
    if parameter is None:
        return None
    result = empty_like(<ndarray>parameter)
    if PyArray_TYPE(result) == NPY_FLOAT32:
        for i in range(PyArray_SIZE(result)):
            (<float *>PyArray_DATA(result))[i] = <float>values[i]
    else:
        for i in range(PyArray_SIZE(result)):
            (<double *>PyArray_DATA(result))[i] = values[i]
    return result


cdef inline tuple gradients_of(ndarray dx, ndarray sums, Py_ssize_t length, object weight, object bias):
    """Return dx, dweight and dbias, of which ``sums`` begins with the last two."""
    cdef const double *values = <const double *>PyArray_DATA(sums)
    return dx, narrowed(values, weight), narrowed(values + length, bias)
