# Layer and root-mean-square normalization of rows of features. Each feature has its own weight.

cdef enum:
    MAX_PARTS = 8  # max number of separate sums of weight gradients; fixed, as bits depend on it


def feature_norm(x, normalized_shape, weight, bias, eps, bint centered):
    """Normalize over trailing axes; return y and the backward, which returns dx, dweight and dbias.

    Parameters
    ----------
    x, normalized_shape, weight, bias
        As in `syncbn.functional.layer_norm`.
    eps : float or None
        Constant added to the variance. None, allowed if not centered, means the machine epsilon of x's dtype (of
        float32 for float16).
    centered : bool
        Whether the mean is subtracted: True for layer normalization.
    """
    cdef FeatureNormPlan plan = FeatureNormPlan.__new__(FeatureNormPlan)
    cdef npy_intp *shape = plan.shape
    cdef ndarray y, bias_as_x
    source = x
    if not is_working(x) or not PyArray_CHKFLAGS(x, NPY_ARRAY_C_CONTIGUOUS):
        x, plan.edge = conversion.behaved_rows(x)
    plan.x = x
    shape[1] = trailing_size(plan.x, normalized_shape)
    if shape[1] == 0:
        normalized_shape = checks.check_trailing(shape_of(plan.x), normalized_shape)
        shape[1] = trailing_size(plan.x, normalized_shape)
    shape[0] = PyArray_SIZE(plan.x) // shape[1]
    plan.centered, plan.weight, plan.bias = centered, weight, bias
    plan.weight_as_x = feature_parameter(weight, "weight", plan.x, normalized_shape, shape[1], 1)
    bias_as_x = feature_parameter(bias, "bias", plan.x, normalized_shape, shape[1], 0)
    if eps is None and not centered:
        eps = 2.0**-23 if PyArray_TYPE(plan.x) == NPY_FLOAT32 else 2.0**-52
    elif not is_eps(eps):
        eps = checks.check_eps(eps)
    plan.moments = doubles(2, 2, shape[0])
    y = empty_like(plan.x)
    if shape[0]:
        kernels.feature_forward(
            view(plan.x, 2, shape), plan.weight_as_x, bias_as_x, eps, centered, plan.moments, view(y, 2, shape),
            threads_for(2 * PyArray_NBYTES(plan.x)),
        )
    plan.remember(source)
    return plan.restored(y), plan


cdef class FeatureNormPlan(Plan):
    """One call of layer or RMS normalization. Calling it is the backward: ``dx, dweight, dbias = plan(dy)``."""

    cdef npy_intp shape[2]  # rows and features
    cdef bint centered
    cdef ndarray weight_as_x  # a copy in x's type
    cdef ndarray moments  # (2, number of rows): μ (or 0) and 1/√(mean of (x − μ)² + eps) of each row

    def __call__(self, dy):
        """Return dx, dweight and dbias."""
        cdef Py_ssize_t rows = self.shape[0], features = self.shape[1]
        cdef ndarray gradient, dx = empty_like(self.x), sums = doubles(2, 2, features)
        self.check_unchanged()
        gradient = self.as_x(dy, "dy")
        if rows:
            kernels.feature_backward(
                view(self.x, 2, self.shape), view(gradient, 2, self.shape), self.weight_as_x, self.centered,
                self.moments, doubles(3, 2, min(MAX_PARTS, rows), features), sums, view(dx, 2, self.shape),
                threads_for(3 * PyArray_NBYTES(self.x)),
            )
        else:
            sums.fill(0)
        return self.gradients(self.restored(dx), sums, features)


cdef Py_ssize_t trailing_size(ndarray x, object normalized_shape):
    """Return the number of values in x's trailing axes; 0 if these are not ``normalized_shape``."""
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


cdef ndarray feature_parameter(
    object parameter, str name, ndarray x, object normalized_shape, Py_ssize_t size, double default
):
    """Return a copy of a weight or bias in x's type, flattened to (size,); for None, filled with ``default``."""
    cdef int i, axes = 1 if type(normalized_shape) is int else len(normalized_shape)
    cdef ndarray values
    cdef bint behaved = parameter is None or (
        is_working(parameter) and PyArray_CHKFLAGS(parameter, NPY_ARRAY_C_CONTIGUOUS)
        and PyArray_NDIM(<ndarray>parameter) == axes
    )
    if behaved and parameter is not None:
        for i in range(axes):
            behaved = behaved and PyArray_DIMS(<ndarray>parameter)[i] == PyArray_DIMS(x)[PyArray_NDIM(x) - axes + i]
    if behaved:
        values = filled(parameter, size, default)
    else:
        values = conversion.parameter64(parameter, name, shape_of(x)[PyArray_NDIM(x) - axes:])
    return values if PyArray_TYPE(x) == NPY_FLOAT64 else narrowed(values)


cdef ndarray narrowed(ndarray values):
    """Return a float32 copy of a float64 vector. NumPy's own conversion would report what overflows."""
    cdef ndarray result = new_like(values, NPY_FLOAT32)
    cdef Py_ssize_t i
    for i in range(PyArray_SIZE(values)):
        (<float *>PyArray_DATA(result))[i] = <float>(<double *>PyArray_DATA(values))[i]
    return result
