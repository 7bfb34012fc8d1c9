"""Layer and root-mean-square normalization of plain arrays (see plain.pxd) in C order: to a kernel and back.

As in plain_batch.pyx, None is for what goes the general way.
"""

from numpy cimport (
    NPY_ARRAY_C_CONTIGUOUS, NPY_FLOAT32, PyArray_CHKFLAGS, PyArray_DIMS, PyArray_NBYTES, PyArray_NDIM, PyArray_SIZE,
    PyArray_TYPE, import_array, ndarray,
)
from plain cimport (
    doubles_of_2, doubles_of_3, empty_like, filled, gradients_of, is_eps, is_floating, is_like, npy_intp, view,
)

import_array()


cdef class Features:
    """Calls of the kernels over features.

    Parameters
    ----------
    kernels : namespace
    threads_for : callable
        From bytes that are read to a number of threads.
    parts : int
        How many parts of the rows sum their gradients of the weights apart, at most.
    """

    cdef object kernels
    cdef object threads_for
    cdef Py_ssize_t parts

    def __init__(self, kernels, threads_for, parts):
        self.kernels = kernels
        self.threads_for = threads_for
        self.parts = parts

    def forward(self, x, normalized_shape, weight, bias, eps, centred, general):
        """Return y and the backward, which gives dx, dweight and dbias.

        ``eps`` is None for that of x's dtype. ``general`` makes the backward that takes any dy from x,
        normalized_shape, weight, bias, weight in float64 and the moments.
        """
        cdef npy_intp shape[2]
        cdef ndarray y
        cdef FeaturesBackward backward
        if not is_floating(x) or not PyArray_CHKFLAGS(x, NPY_ARRAY_C_CONTIGUOUS) or PyArray_SIZE(x) == 0:
            return None
        shape[1] = trailing(x, normalized_shape)
        if shape[1] == 0 or not is_parameter(weight, x, normalized_shape):
            return None
        if not is_parameter(bias, x, normalized_shape):
            return None
        if eps is None:
            eps = 2.0**-23 if PyArray_TYPE(x) == NPY_FLOAT32 else 2.0**-52
        elif not is_eps(eps):
            return None
        shape[0] = PyArray_SIZE(x) // shape[1]
        y = empty_like(x)
        backward = FeaturesBackward.__new__(FeaturesBackward)
        backward.calls, backward.x, backward.centred = self, x, centred
        backward.shape[0], backward.shape[1] = shape[0], shape[1]
        backward.values = view(x, 2, shape)
        backward.normalized_shape, backward.weight, backward.bias = normalized_shape, weight, bias
        backward.weight64 = filled(weight, shape[1], 1)
        backward.moments = doubles_of_2(2, shape[0])
        backward.general = general
        self.kernels.feature_forward(
            backward.values, backward.weight64, filled(bias, shape[1], 0), eps, centred, backward.moments,
            view(y, 2, shape), self.threads_for(2 * PyArray_NBYTES(x)),
        )
        return y, backward


cdef Py_ssize_t trailing(ndarray x, normalized_shape):
    """Return the values of x's trailing axes, or 0 where they aren't ``normalized_shape``."""
    cdef Py_ssize_t i, size, axes, features = 1
    if type(normalized_shape) is int:
        size = PyArray_DIMS(x)[PyArray_NDIM(x) - 1] if PyArray_NDIM(x) else 0
        return size if normalized_shape == size else 0
    if type(normalized_shape) is not tuple or not 0 < len(normalized_shape) <= PyArray_NDIM(x):
        return 0
    axes = len(normalized_shape)
    for i in range(axes):
        size = PyArray_DIMS(x)[PyArray_NDIM(x) - axes + i]
        if type(normalized_shape[i]) is not int or normalized_shape[i] != size:
            return 0
        features *= size
    return features


cdef bint is_parameter(parameter, ndarray x, normalized_shape):
    """Tell whether there is none, or a plain array of x's trailing axes."""
    cdef int i, axes = 1 if type(normalized_shape) is int else len(normalized_shape)
    if parameter is None:
        return True
    if not is_floating(parameter) or not PyArray_CHKFLAGS(parameter, NPY_ARRAY_C_CONTIGUOUS):
        return False
    if PyArray_NDIM(parameter) != axes:
        return False
    for i in range(axes):
        if PyArray_DIMS(parameter)[i] != PyArray_DIMS(x)[PyArray_NDIM(x) - axes + i]:
            return False
    return True


cdef class FeaturesBackward:
    """``dx, dweight, dbias = backward(dy)``."""

    cdef Features calls
    cdef ndarray x
    cdef ndarray values  # x as kernels see it
    cdef npy_intp shape[2]
    cdef bint centred
    cdef object normalized_shape
    cdef object weight
    cdef object bias
    cdef ndarray weight64
    cdef ndarray moments
    cdef object general

    cdef object __weakref__

    def __deepcopy__(self, memo):
        """Return itself, as functions do."""
        return self

    def __call__(self, dy):
        """Return the gradients."""
        cdef Py_ssize_t rows = self.shape[0], features = self.shape[1]
        cdef ndarray dx, gradients
        if not is_like(dy, self.x):
            return self.general(
                self.x, self.normalized_shape, self.weight, self.bias, self.centred, self.weight64, self.moments
            )(dy)
        dx = empty_like(self.x)
        gradients = doubles_of_2(2, features)
        self.calls.kernels.feature_backward(
            self.values, view(dy, 2, self.shape), self.weight64, self.centred, self.moments,
            doubles_of_3(2, min(self.calls.parts, rows), features), gradients, view(dx, 2, self.shape),
            self.calls.threads_for(3 * PyArray_NBYTES(self.x)),
        )
        return gradients_of(dx, gradients, features, self.weight, self.bias)
