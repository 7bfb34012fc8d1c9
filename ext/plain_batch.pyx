"""Batch normalization of plain arrays (see plain.pxd) by one process: from a caller's arrays to a kernel and back.

The methods return None for what isn't plain, bad input included: that goes the general way, in Python, which converts
what it can and says what is wrong with the rest.
"""

from numpy cimport import_array, ndarray
from plain cimport (
    Layout, are_vectors, constant, doubles_of_2, doubles_of_3, empty_like, find_layout, gradients_of, is_eps, is_like,
    is_reduction, is_vector, lengthen_rows, row, view, widened,
)

import_array()


cdef class Batch:
    """Calls of the kernels of one process.

    Parameters
    ----------
    kernels : namespace
    threads_for : callable
        From bytes that are read to a number of threads.
    most_rows : int
        Samples for which exact sums have room.
    """

    cdef object kernels
    cdef object threads_for
    cdef Py_ssize_t most_rows

    def __init__(self, kernels, threads_for, most_rows):
        self.kernels = kernels
        self.threads_for = threads_for
        self.most_rows = most_rows

    def forward(self, x, weight, bias, eps, channel_axis, reduction, channels, general):
        """Return y, values per channel, μ, var and the backward.

        ``channels`` is what x must have, or None. ``general`` makes the backward that takes any dy from its forward's
        arguments, the count and the moments.
        """
        cdef Layout layout
        cdef bint exact
        cdef Py_ssize_t count
        cdef ndarray y, moments, counts, values
        cdef BatchBackward backward
        if not find_layout(x, channel_axis, &layout) or not is_reduction(reduction) or not is_eps(eps):
            return None
        exact = reduction == "exact"
        count = layout.samples * layout.size
        if count < 2 or (exact and layout.samples > self.most_rows):
            return None
        if channels is not None and layout.channels != channels or not are_vectors(weight, bias, layout.channels):
            return None
        if not exact:
            lengthen_rows(&layout)
        y = empty_like(x)
        moments = doubles_of_2(5, layout.channels)
        values = view(x, 3, layout.shape)
        counts = None if layout.size == 1 else constant(layout.samples, layout.size)
        self.kernels.batch_forward(
            values, layout.channels_last, None, counts, count, widened(weight), widened(bias), eps, exact, None, False,
            0, None if layout.size == 1 else doubles_of_3(3, layout.samples, layout.channels), moments,
            view(y, 3, layout.shape), self.threads_for(2 * layout.bytes),
        )
        backward = backward_of(self, x, values, layout, weight, bias, count, exact, moments)
        backward.general, backward.arguments = general, (x, weight, bias, eps, channel_axis, reduction)
        return y, count, row(moments, 0, layout.channels), row(moments, 1, layout.channels), backward

    def inference(self, x, running_mean, running_var, weight, bias, eps, channel_axis, general):
        """Return y and the backward."""
        cdef Layout layout
        cdef ndarray y, moments, values
        cdef BatchBackward backward
        if not find_layout(x, channel_axis, &layout) or not is_eps(eps):
            return None
        if not (is_vector(running_mean, layout.channels) and is_vector(running_var, layout.channels)):
            return None
        if not are_vectors(weight, bias, layout.channels):
            return None
        lengthen_rows(&layout)
        y = empty_like(x)
        moments = doubles_of_2(5, layout.channels)
        values = view(x, 3, layout.shape)
        self.kernels.batch_inference(
            values, layout.channels_last, widened(running_mean), widened(running_var), widened(weight), widened(bias),
            eps, None, False, moments, view(y, 3, layout.shape), self.threads_for(2 * layout.bytes),
        )
        backward = backward_of(self, x, values, layout, weight, bias, 0, False, moments)
        backward.general, backward.arguments = general, (x, weight, bias, eps, channel_axis, "float64")
        return y, backward


cdef BatchBackward backward_of(
    Batch calls, ndarray x, ndarray values, Layout layout, weight, bias, Py_ssize_t count, bint exact, ndarray moments
):
    cdef BatchBackward backward = BatchBackward.__new__(BatchBackward)
    backward.calls, backward.x, backward.values, backward.layout = calls, x, values, layout
    backward.weight, backward.bias = weight, bias
    backward.count, backward.exact, backward.moments = count, exact, moments
    return backward


cdef class BatchBackward:
    """``dx, dweight, dbias = backward(dy)``."""

    cdef Batch calls
    cdef ndarray x
    cdef ndarray values  # x as kernels see it
    cdef Layout layout
    cdef object weight
    cdef object bias
    cdef Py_ssize_t count
    cdef bint exact
    cdef ndarray moments
    cdef object general
    cdef tuple arguments

    cdef object __weakref__

    def __deepcopy__(self, memo):
        """Return itself, as functions do."""
        return self

    def __call__(self, dy, *, total=False, out=None):
        """Return the gradients; ``total`` changes nothing in one process, ``out`` is memory for dx."""
        cdef Layout layout = self.layout
        cdef ndarray dx, gradients
        if out is not None or not is_like(dy, self.x):
            return self.general(*self.arguments, self.count, self.moments)(dy, out=out)
        dx = empty_like(self.x)
        gradients = doubles_of_2(4, layout.channels)
        self.calls.kernels.batch_backward(
            self.values, view(dy, 3, layout.shape), layout.channels_last, None, self.count, self.moments, self.exact,
            None, 0, None if layout.size == 1 and self.exact else doubles_of_3(2, layout.samples, layout.channels),
            gradients, None, view(dx, 3, layout.shape), self.calls.threads_for(3 * layout.bytes),
        )
        return gradients_of(dx, gradients, layout.channels, self.weight, self.bias)
