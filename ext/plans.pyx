"""Plans: one call's arguments as kernels take them, kept from the forward to the backward.

There is one path. An argument that is behaved (see plan.pxd) goes to the kernels as it is; any other is converted
once, by `syncbn._core.conversion`. `syncbn._core.checks` runs only to explain what is refused. The kernels are the
compiled ones or those of `syncbn.reference`.

A plan is the backward of its forward: calling it returns the gradients.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy
from numpy cimport (
    NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_BOOL, NPY_FLOAT16, NPY_FLOAT32, NPY_FLOAT64, NPY_INT64, NPY_UINT8,
    PyArray_CHKFLAGS, PyArray_CopyInto, PyArray_DATA, PyArray_DIMS, PyArray_DescrFromType, PyArray_EMPTY,
    PyArray_NBYTES, PyArray_NDIM, PyArray_SIZE, PyArray_TYPE, import_array, ndarray, npy_intp,
)
from plan cimport (
    Layout, doubles, empty_like, filled, find_layout, has_memory_of, has_type, is_eps, is_like, is_vector, is_working,
    lengthen_rows, narrowed_to_half, overlaps, part, row, view, widened_half,
)

from syncbn._core import checks, conversion, threads
from syncbn._core.kernels import kernels
from syncbn.moments import Moments

import_array()

cdef object HALF = conversion.HALF


cdef class Plan:
    """What the plans of all normalizers share."""

    cdef ndarray x  # behaved, of the caller's shape
    cdef object edge  # how results return to the caller's dtype and memory order; None: as they are
    cdef object weight  # the caller's, as bias: their gradients have their dtypes
    cdef object bias

    cdef object __weakref__

    def __deepcopy__(self, memo):
        """Return the plan itself, as functions do."""
        return self

    cdef object dtype(self):
        """Return the caller's dtype of x, in native byte order."""
        return self.x.dtype if self.edge is None else self.edge.dtype

    cdef ndarray as_x(self, object array, str name, object dtype=None):
        """Return an array of x's shape as kernels take it, in the memory order of x; ``dtype`` None: any."""
        if (dtype is None or self.edge is None) and is_like(array, self.x):
            return array
        if self.edge is HALF and has_type(array, NPY_FLOAT16) and has_memory_of(array, self.x):
            return widened_half(array)
        return conversion.like(self.x, array, name, dtype)

    cdef ndarray memory_for(self, object out, object one, object two):
        """Return memory for a result: that of ``out`` where kernels can write it. No input may overlap it."""
        if out is not None:
            if (
                self.edge is None and is_like(out, self.x) and PyArray_CHKFLAGS(out, NPY_ARRAY_WRITEABLE)
                and self.is_apart(out, self.x) and self.is_apart(out, one) and self.is_apart(out, two)
            ):
                return out
            checks.check_out(out, shape_of(self.x), self.dtype(), self.x, one, two)
        return empty_like(self.x)

    cdef bint is_apart(self, ndarray out, object other):
        return other is None or (is_like(other, self.x) and not overlaps(out, other))

    cdef object restored(self, ndarray result, object out=None):
        """Return a result as the caller expects it: in ``out``, or in x's own dtype and memory order."""
        if self.edge is None and (out is None or result is out):
            return result
        if self.edge is HALF and out is None:
            return narrowed_to_half(result)
        if self.edge is not None:
            return self.edge.restore(result, out)
        PyArray_CopyInto(out, result)
        return out

    cdef tuple gradients(self, object dx, ndarray sums, Py_ssize_t length):
        """Return dx, dweight and dbias; ``sums`` begins with the last two."""
        cdef const double *values = <const double *>PyArray_DATA(sums)
        return dx, gradient_of(self.weight, values, sums, 0), gradient_of(self.bias, values + length, sums, 1)


cdef tuple shape_of(ndarray x):
    """Return the shape as a tuple (NumPy's declarations for Cython make ``x.shape`` a pointer)."""
    return (<object>x).shape


cdef object gradient_of(object parameter, const double *values, ndarray sums, int index):
    """Return a gradient in the shape and dtype of its parameter; None where there is no parameter."""
    cdef ndarray gradient
    cdef Py_ssize_t i
    if parameter is None:
        return None
    if not is_working(parameter) or not PyArray_CHKFLAGS(parameter, NPY_ARRAY_C_CONTIGUOUS):
        return conversion.parameter_gradient(sums[index], parameter)
    gradient = empty_like(parameter)
    if PyArray_TYPE(gradient) == NPY_FLOAT32:
        for i in range(PyArray_SIZE(gradient)):
            (<float *>PyArray_DATA(gradient))[i] = <float>values[i]
    else:
        memcpy(PyArray_DATA(gradient), values, PyArray_NBYTES(gradient))
    return gradient


cdef tuple converted(ndarray x, int channel_axis, Layout *layout):
    """Return x as kernels take it and the edge, and find the layout."""
    if has_type(x, NPY_FLOAT16) and find_layout(x, channel_axis, layout):
        return widened_half(x), HALF
    x, edge = conversion.behaved(x, channel_axis)
    find_layout(x, channel_axis, layout)
    return x, edge


cdef ndarray parameter64(object array, str name, Py_ssize_t length, object default=None):
    """Return a weight or bias of shape (length,) in float64; for None, ``default`` everywhere or None."""
    if array is None:
        return None if default is None else filled(None, length, default)
    return filled(array, length, 0) if is_vector(array, length) else conversion.parameter64(array, name, (length,))


cdef int threads_for(Py_ssize_t size) except -1:
    """Return the number of threads for kernels that read so many bytes."""
    return 1 if size < <Py_ssize_t>threads.LEAST_BYTES else threads.thread_limit()


include "plan_batch_norm.pxi"
include "plan_group_norm.pxi"
include "plan_feature_norm.pxi"
