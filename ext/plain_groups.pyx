"""Group and instance normalization of plain arrays (see plain.pxd): from a caller's arrays to a kernel and back.

As in plain_batch.pyx, None is for what goes the general way.
"""

from numpy cimport PyArray_DATA, import_array, ndarray
from plain cimport (
    Layout, NPY_FLOAT64, are_vectors, doubles_of_2, doubles_of_3, empty_like, filled, find_layout, gradients_of, is_eps,
    is_like, npy_intp, part, view,
)

import_array()


cdef class Groups:
    """Calls of the kernels over groups.

    Parameters
    ----------
    kernels : namespace
    threads_for : callable
        From bytes that are read to a number of threads.
    """

    cdef object kernels
    cdef object threads_for

    def __init__(self, kernels, threads_for):
        self.kernels = kernels
        self.threads_for = threads_for

    def forward(self, x, num_groups, weight, bias, eps, channel_axis, channels, general):
        """Return y, μ and var of the groups, the number of values in each, and the backward.

        ``num_groups`` is None for instances: channels of more than one value. ``channels`` is what x must have, or
        None. ``general`` makes the backward that takes
        any dy from x, channel_axis, weight, bias, weight in float64 and what the kernel has written.
        """
        cdef Layout layout
        cdef Py_ssize_t groups
        cdef npy_intp shape[2]
        cdef ndarray y
        cdef GroupsBackward backward
        if not find_layout(x, channel_axis, &layout) or not is_eps(eps):
            return None
        if num_groups is None:
            if layout.size < 2:
                return None
            groups = layout.channels
        elif type(num_groups) is int and 1 <= num_groups <= layout.channels:
            groups = num_groups
        else:
            return None
        if channels is not None and layout.channels != channels or layout.channels % groups:
            return None
        if not are_vectors(weight, bias, layout.channels):
            return None
        y = empty_like(x)
        backward = GroupsBackward.__new__(GroupsBackward)
        backward.calls, backward.x, backward.layout = self, x, layout
        backward.values = view(x, 3, layout.shape)
        backward.weight, backward.bias, backward.channel_axis = weight, bias, channel_axis
        backward.weight64 = filled(weight, layout.channels, 1)
        backward.rows = doubles_of_3(3, layout.samples, layout.channels)
        backward.moments = doubles_of_3(3, layout.samples, groups)
        backward.general = general
        self.kernels.group_forward(
            backward.values, layout.channels_last, backward.weight64, filled(bias, layout.channels, 0), eps,
            backward.rows, backward.moments, view(y, 3, layout.shape), self.threads_for(2 * layout.bytes),
        )
        shape[0], shape[1] = layout.samples, groups
        return (
            y, part(backward.moments, PyArray_DATA(backward.moments), NPY_FLOAT64, 2, shape),
            part(backward.moments, <double *>PyArray_DATA(backward.moments) + layout.samples * groups, NPY_FLOAT64, 2,
                 shape),
            layout.channels // groups * layout.size, backward,
        )


cdef class GroupsBackward:
    """``dx, dweight, dbias = backward(dy)``."""

    cdef Groups calls
    cdef ndarray x
    cdef ndarray values  # x as kernels see it
    cdef Layout layout
    cdef object weight
    cdef object bias
    cdef object channel_axis
    cdef ndarray weight64
    cdef ndarray rows
    cdef ndarray moments
    cdef object general

    cdef object __weakref__

    def __deepcopy__(self, memo):
        """Return itself, as functions do."""
        return self

    def __call__(self, dy):
        """Return the gradients."""
        cdef Layout layout = self.layout
        cdef ndarray dx, gradients
        if not is_like(dy, self.x):
            return self.general(
                self.x, self.channel_axis, self.weight, self.bias, self.weight64, self.rows, self.moments
            )(dy)
        dx = empty_like(self.x)
        gradients = doubles_of_2(2, layout.channels)
        self.calls.kernels.group_backward(
            self.values, view(dy, 3, layout.shape), layout.channels_last, self.weight64, self.rows, self.moments,
            doubles_of_3(4, layout.samples, layout.channels), gradients, view(dx, 3, layout.shape),
            self.calls.threads_for(3 * layout.bytes),
        )
        return gradients_of(dx, gradients, layout.channels, self.weight, self.bias)
