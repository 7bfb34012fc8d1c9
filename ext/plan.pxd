# Helpers of plans: memory layout of arrays, fast tests of arguments, conversion of float16, and allocation.
#
# An array is *behaved* (NumPy's word) if it is exactly an ndarray, float32 or float64 in native byte order, aligned,
# and contiguous in one of the two memory orders. Kernels accept only behaved arrays. The helpers are C code:
# after a kernel has filled the caches with its data, each step of the interpreter has cache misses.
from libc.math cimport INFINITY, signbit
from libc.stdint cimport uint16_t, uintptr_t
from numpy cimport (
    NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_FLOAT16, NPY_FLOAT32, NPY_FLOAT64,
    NPY_KEEPORDER, NPY_ORDER, NPY_UINT8, PyArray_CHKFLAGS, PyArray_CLEARFLAGS, PyArray_DATA,
    PyArray_DescrFromType, PyArray_DIMS, PyArray_EMPTY, PyArray_ISNOTSWAPPED, PyArray_ITEMSIZE, PyArray_NBYTES,
    PyArray_NDIM, PyArray_SIZE, PyArray_STRIDES, PyArray_SetBaseObject, PyArray_SimpleNewFromData, PyArray_TYPE,
    ndarray, npy_intp,
)
from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(
        PyTypeObject *kind, void *dtype, int dimensions, const npy_intp *shape, const npy_intp *strides, void *data,
        int flags, void *like,
    )
    object PyArray_NewLikeArray(ndarray prototype, NPY_ORDER order, void *dtype, bint subclass)

cdef extern from "half.h" nogil:
    void floats_of_halves "syncbn_floats_of_halves" (const uint16_t *halves, float *floats, Py_ssize_t count)
    void halves_of_floats "syncbn_halves_of_floats" (const float *floats, uint16_t *halves, Py_ssize_t count)


# ---- Memory layout

cdef struct Layout:
    Py_ssize_t samples
    Py_ssize_t channels
    Py_ssize_t size  # values of a row: one sample in one channel
    Py_ssize_t bytes
    bint channels_last
    npy_intp shape[3]  # (N, C, S), or (N, S, C) where channels_last


cdef inline bint has_type(object array, int type_number):
    """Return whether an object is exactly an ndarray of this type, aligned and in native byte order."""
    return (
        type(array) is ndarray and PyArray_TYPE(<ndarray>array) == type_number
        and PyArray_CHKFLAGS(<ndarray>array, NPY_ARRAY_ALIGNED) and PyArray_ISNOTSWAPPED(<ndarray>array)
    )


cdef inline bint is_working(object array):
    """Return whether an object is an array of a type that kernels compute in."""
    return has_type(array, NPY_FLOAT32) or has_type(array, NPY_FLOAT64)


cdef inline bint find_layout(ndarray x, object channel_axis, Layout *layout):
    """Find the layout of x; return False if x is contiguous in neither memory order, or has no such axis."""
    cdef int axis, i, dimensions = PyArray_NDIM(x)
    cdef bint first, last
    if type(channel_axis) is not int or dimensions < 2 or not -dimensions <= channel_axis < dimensions:
        return False
    axis = channel_axis
    axis = axis if axis >= 0 else axis + dimensions
    layout.samples = PyArray_DIMS(x)[0 if axis else 1]
    layout.channels = PyArray_DIMS(x)[axis]
    layout.size = 1
    for i in range(1 if axis else 2, dimensions):
        if i != axis:
            layout.size *= PyArray_DIMS(x)[i]
    layout.bytes = PyArray_NBYTES(x)
    if layout.bytes == 0:  # no rows on this rank; other ranks may have some
        layout.samples, layout.size, layout.channels_last = 0, 1, True
    else:
        first = is_contiguous(x, axis, False)
        last = (layout.size == 1 or not first) and is_contiguous(x, axis, True)
        if not (last if layout.size == 1 else first or last):
            return False
        layout.channels_last = last  # if rows have one value, only channels can be vectorized
    set_shape(layout)
    return True


cdef inline void set_shape(Layout *layout):
    layout.shape[0] = layout.samples
    layout.shape[1] = layout.size if layout.channels_last else layout.channels
    layout.shape[2] = layout.channels if layout.channels_last else layout.size


cdef inline void lengthen_rows(Layout *layout):
    """Treat each column of a dense layer as one row of N values, for float64 sums."""
    if layout.size == 1 and layout.bytes:
        layout.samples, layout.size = 1, layout.samples
        set_shape(layout)


cdef inline bint is_contiguous(ndarray x, int axis, bint last):
    """Return whether x's axes are contiguous with the channel axis last, or second after the samples."""
    cdef npy_intp expected = PyArray_ITEMSIZE(x)
    cdef int i, sample = 0 if axis else 1
    if last and not has_stride(x, axis, &expected):
        return False
    for i in range(PyArray_NDIM(x) - 1, -1, -1):
        if i != axis and i != sample and not has_stride(x, i, &expected):
            return False
    return (last or has_stride(x, axis, &expected)) and has_stride(x, sample, &expected)


cdef inline bint has_stride(ndarray x, int i, npy_intp *expected):
    """Return whether axis i has the stride ``expected``, and multiply ``expected`` by the size of the axis."""
    cdef npy_intp count = PyArray_DIMS(x)[i]
    if count != 1 and PyArray_STRIDES(x)[i] != expected[0]:
        return False
    expected[0] *= count
    return True


cdef inline bint has_memory_of(ndarray array, ndarray x):
    """Return whether an array has x's shape and, in units of elements, x's strides."""
    cdef int i
    if PyArray_NDIM(array) != PyArray_NDIM(x):
        return False
    for i in range(PyArray_NDIM(x)):
        if PyArray_DIMS(array)[i] != PyArray_DIMS(x)[i]:
            return False
        if PyArray_DIMS(x)[i] != 1 and (
            PyArray_STRIDES(array)[i] * PyArray_ITEMSIZE(x) != PyArray_STRIDES(x)[i] * PyArray_ITEMSIZE(array)
        ):
            return False
    return True


cdef inline bint is_like(object array, ndarray x):
    """Return whether an object is a behaved array of x's shape, type and memory order."""
    return has_type(array, PyArray_TYPE(x)) and has_memory_of(<ndarray>array, x)


cdef inline bint overlaps(ndarray array, object other):
    """Return whether two contiguous arrays share memory; False if ``other`` is None."""
    cdef uintptr_t start, other_start
    if other is None:
        return False
    start, other_start = <uintptr_t>PyArray_DATA(array), <uintptr_t>PyArray_DATA(<ndarray>other)
    return start < other_start + PyArray_NBYTES(<ndarray>other) and other_start < start + PyArray_NBYTES(array)


# ---- Other arguments: eps, weight and bias

cdef inline bint is_eps(object eps):
    return type(eps) is float and 0 <= <double>eps < INFINITY and not signbit(<double>eps)


cdef inline bint is_vector(object array, Py_ssize_t length):
    """Return whether an object is a behaved array of one axis."""
    return (
        is_working(array) and PyArray_NDIM(<ndarray>array) == 1 and PyArray_DIMS(<ndarray>array)[0] == length
        and PyArray_CHKFLAGS(<ndarray>array, NPY_ARRAY_C_CONTIGUOUS)
    )


# ---- float16

cdef inline ndarray widened_half(ndarray halves):
    """Return a float32 copy of contiguous float16 memory, in its order."""
    cdef ndarray floats = new_like(halves, NPY_FLOAT32)
    floats_of_halves(<const uint16_t *>PyArray_DATA(halves), <float *>PyArray_DATA(floats), PyArray_SIZE(halves))
    return floats


cdef inline ndarray narrowed_to_half(ndarray floats):
    """Return a float16 copy of contiguous float32 memory, in its order."""
    cdef ndarray halves = new_like(floats, NPY_FLOAT16)
    halves_of_floats(<const float *>PyArray_DATA(floats), <uint16_t *>PyArray_DATA(halves), PyArray_SIZE(floats))
    return halves


# ---- Memory
#
# Large arrays are aligned to cache lines: a vector that spans two of them takes two accesses.

cdef enum:
    CACHE_LINE = 64
    SMALL = 1 << 12  # bytes of float64 memory up to which alignment does not matter
    SMALL_RESULT = 1 << 16  # bytes of a result up to which a second allocation takes longer than it saves


cdef inline ndarray new_like(ndarray x, int type_number):
    """Return new memory of x's shape and memory order."""
    cdef object dtype = PyArray_DescrFromType(type_number)
    Py_INCREF(dtype)  # NumPy steals a reference
    return <ndarray>PyArray_NewLikeArray(x, NPY_KEEPORDER, <void *>dtype, 0)


cdef inline ndarray empty_like(ndarray x):
    """Return memory for a result: x's shape, dtype and memory order, aligned to cache lines."""
    cdef npy_intp bytes = PyArray_NBYTES(x) + CACHE_LINE - 1
    cdef object dtype
    cdef ndarray memory, result
    if bytes <= SMALL_RESULT:
        return <ndarray>PyArray_NewLikeArray(x, NPY_KEEPORDER, NULL, 0)
    memory = <ndarray>PyArray_EMPTY(1, &bytes, NPY_UINT8, 0)
    dtype = PyArray_DescrFromType(PyArray_TYPE(x))
    Py_INCREF(dtype)  # NumPy steals references
    Py_INCREF(memory)
    result = <ndarray>PyArray_NewFromDescr(
        <PyTypeObject *>ndarray, <void *>dtype, PyArray_NDIM(x), PyArray_DIMS(x), PyArray_STRIDES(x), aligned(memory),
        NPY_ARRAY_WRITEABLE, NULL,
    )
    PyArray_SetBaseObject(result, memory)
    return result


cdef inline void *aligned(ndarray memory):
    """Return the first address in an array that begins a cache line."""
    return <void *>((<uintptr_t>PyArray_DATA(memory) + CACHE_LINE - 1) & ~<uintptr_t>(CACHE_LINE - 1))


cdef inline ndarray view(object array, int dimensions, npy_intp *shape):
    """Return a view of an array with the shape that kernels expect; None for None."""
    if array is None:
        return None
    return part(<ndarray>array, PyArray_DATA(<ndarray>array), PyArray_TYPE(<ndarray>array), dimensions, shape)


cdef inline ndarray part(ndarray array, void *data, int type_number, int dimensions, npy_intp *shape):
    """Return a view of some of an array's memory."""
    cdef ndarray result = <ndarray>PyArray_SimpleNewFromData(dimensions, shape, type_number, data)
    Py_INCREF(array)
    PyArray_SetBaseObject(result, array)
    return result


cdef inline ndarray row(ndarray array, Py_ssize_t i, npy_intp length):
    """Return row i of a float64 matrix whose rows have this length, read-only."""
    cdef ndarray result = part(array, <double *>PyArray_DATA(array) + i * length, NPY_FLOAT64, 1, &length)
    PyArray_CLEARFLAGS(result, NPY_ARRAY_WRITEABLE)
    return result


cdef inline ndarray doubles(int dimensions, Py_ssize_t a, Py_ssize_t b=1, Py_ssize_t c=1):
    """Allocate float64 memory, aligned to cache lines."""
    cdef npy_intp shape[3]
    cdef npy_intp bytes = 8 * a * b * c + CACHE_LINE - 1
    cdef ndarray memory
    shape[0], shape[1], shape[2] = a, b, c
    if bytes <= SMALL:
        return <ndarray>PyArray_EMPTY(dimensions, shape, NPY_FLOAT64, 0)
    memory = <ndarray>PyArray_EMPTY(1, &bytes, NPY_UINT8, 0)
    return part(memory, aligned(memory), NPY_FLOAT64, dimensions, shape)


cdef inline ndarray filled(object array, Py_ssize_t length, double default):
    """Return a float64 copy of a behaved array, or ``default`` everywhere for None."""
    cdef ndarray result = doubles(1, length)
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
