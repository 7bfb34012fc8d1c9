"""Plans: the arguments of a call, checked and converted for the kernels, and kept from the forward to the backward.

A behaved argument (see plan.pxd) is passed to the kernels unchanged; any other is converted once, by
`syncbn._core.conversion`. `syncbn._core.checks` is called only if a fast test of an argument fails: it raises the
error, or returns the argument in a standard form. The kernels are the compiled ones or those of `syncbn.reference`.

A plan is the backward of its forward: calling it returns the gradients.
"""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from numpy cimport (
    NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_BOOL, NPY_FLOAT16, NPY_FLOAT32, NPY_FLOAT64, NPY_INT64, NPY_UINT8,
    PyArray_CHKFLAGS, PyArray_CopyInto, PyArray_DATA, PyArray_DIMS, PyArray_DescrFromType, PyArray_EMPTY,
    PyArray_NBYTES, PyArray_NDIM, PyArray_SIZE, PyArray_TYPE, import_array, ndarray, npy_intp,
)
from plan cimport (
    Layout, doubles, empty_like, filled, find_layout, has_memory_of, has_type, is_eps, is_like, is_vector, is_working,
    lengthen_rows, narrowed_to_half, new_like, overlaps, part, row, view, widened_half,
)

from syncbn._core import checks, conversion, debug, threads
from syncbn._core.kernels import kernels
from syncbn.moments import Moments

import_array()

cdef object HALF = conversion.HALF
cdef bint DEBUG = debug.ENABLED


cdef class Plan:
    """Base class of the plans of all normalizers."""

    cdef ndarray x  # behaved, of the caller's shape
    cdef object edge  # converts results to the caller's dtype and memory order; None: no conversion
    cdef object weight  # as the caller passed it, like bias; each gradient has the dtype of its parameter
    cdef object bias
    cdef public object check  # set by layers: raises if parameters have changed; None: no check
    cdef object checksums  # debug.Checksums of arrays that must not change; None without SYNCBN_DEBUG=1

    cdef object __weakref__

    def __deepcopy__(self, memo):
        """Return the plan itself, as `copy.deepcopy` does for functions."""
        return self

    cdef int remember(self, object x, object residual=None, object y=None) except -1:
        """Keep checksums of the caller's arrays if SYNCBN_DEBUG=1."""
        if DEBUG:
            self.checksums = debug.Checksums(x=x, residual=residual, y=y)
        return 0

    cdef int check_unchanged(self) except -1:
        """Raise RuntimeError if parameters or (with SYNCBN_DEBUG=1) arrays have changed since the forward."""
        if self.check is not None:
            self.check()
        if self.checksums is not None:
            self.checksums.check()
        return 0

    cdef object dtype(self):
        """Return the caller's dtype of x, in native byte order."""
        return self.x.dtype if self.edge is None else self.edge.dtype

    cdef ndarray as_x(self, object array, str name, object dtype=None):
        """Return an array of x's shape converted as x was; ``dtype`` is its required dtype (None: any)."""
        if (dtype is None or self.edge is None) and is_like(array, self.x):
            return array
        if self.edge is HALF and has_type(array, NPY_FLOAT16) and has_memory_of(array, self.x):
            return widened_half(array)
        return conversion.like(self.x, array, name, dtype)

    cdef ndarray memory_for(self, object out, object one, object two):
        """Return ``out`` if kernels can write to it, or else new memory. Raise if an input overlaps ``out``."""
        if out is not None:
            if (
                self.edge is None and is_like(out, self.x) and PyArray_CHKFLAGS(out, NPY_ARRAY_WRITEABLE)
                and self.is_apart(out, self.x) and self.is_apart(out, one) and self.is_apart(out, two)
            ):
                return out
            checks.check_out(out, shape_of(self.x), self.dtype(), self.x, one, two)
        return empty_like(self.x)

    cdef bint is_apart(self, ndarray out, object other):
        """Return whether ``other`` certainly does not overlap ``out``."""
        return other is None or (is_like(other, self.x) and not overlaps(out, other))

    cdef object restored(self, ndarray result, object out=None):
        """Return a result in ``out``, or in the dtype and memory order of the caller's x."""
        if self.edge is None and (out is None or result is out):
            return result
        if self.edge is HALF and out is None:
            return narrowed_to_half(result)
        if self.edge is not None:
            return self.edge.restore(result, out)
        PyArray_CopyInto(out, result)
        return out

    cdef tuple gradients(self, object dx, ndarray sums, Py_ssize_t length):
        """Return dx, dweight and dbias; dweight and dbias are the first two rows of ``sums``."""
        cdef const double *values = <const double *>PyArray_DATA(sums)
        return dx, gradient_of(self.weight, values, sums, 0), gradient_of(self.bias, values + length, sums, 1)


cdef tuple shape_of(ndarray x):
    """Return the shape as a tuple (NumPy's declarations for Cython make ``x.shape`` a pointer)."""
    return (<object>x).shape


cdef object gradient_of(object parameter, const double *values, ndarray sums, int index):
    """Return a gradient in the shape and dtype of its parameter; None if the parameter is None."""
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
    """Return a behaved copy of x and the conversion of results (``edge``), and set the layout."""
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
    """Return the number of threads for kernels that read or write ``size`` bytes."""
    return 1 if size < <Py_ssize_t>threads.LEAST_BYTES else threads.thread_limit()


def update_average(average, value, double momentum, double factor=1):
    """Update a moving average in place: average ← (1 − momentum)·average + momentum·factor·value.

    It is computed in float64 and rounded once to the dtype of ``average`` (Ioffe & Szegedy 2015, Algorithm 2).

    Parameters
    ----------
    average : ndarray of floats
    value : ndarray of float64, of the same shape
    momentum, factor : float
        The weight of the new value, and what it is multiplied by.
    """
    cdef Py_ssize_t length = PyArray_SIZE(average) if type(average) is ndarray else 0
    cdef bint plain = is_vector(average, length) and PyArray_CHKFLAGS(average, NPY_ARRAY_WRITEABLE)
    cdef const double *new
    if not (plain and has_type(value, NPY_FLOAT64) and is_vector(value, length)):
        conversion.update_average(average, value, momentum, factor)
        return
    new = <const double *>PyArray_DATA(value)
    if PyArray_TYPE(average) == NPY_FLOAT32:
        update_values(<float *>PyArray_DATA(average), new, length, momentum, factor)
    else:
        update_values(<double *>PyArray_DATA(average), new, length, momentum, factor)


ctypedef fused floating:
    float
    double


cdef void update_values(
    floating *average, const double *new, Py_ssize_t length, double momentum, double factor,
) noexcept:
    cdef Py_ssize_t i
    for i in range(length):
        average[i] = <floating>((1 - momentum) * average[i] + momentum * (factor * new[i]))


def conversion_if_needed(function, convert):
    """Return ``function``, which calls ``convert(arguments, options)`` instead if an argument must be converted.

    Every functional call enters here, so it is compiled.
    """
    def call(*arguments, **options):
        for value in arguments:
            if not is_plain(value):
                return convert(arguments, options)
        for name, value in options.items():
            if not (is_plain(value) or name == "comm"):
                return convert(arguments, options)
        return function(*arguments, **options)

    return call


cdef inline bint is_plain(object value):
    return (
        type(value) is ndarray or value is None or type(value) is float or type(value) is int or type(value) is bool
        or type(value) is str or type(value) is tuple
    )


include "plan_batch_norm.pxi"
include "plan_group_norm.pxi"
include "plan_feature_norm.pxi"
