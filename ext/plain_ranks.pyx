"""Batch normalization of plain arrays (see plain.pxd) by the ranks of a communicator: kernels, and messages in between.

What it sends is what the general way sends, so that each rank goes its own way. As in plain_batch.pyx, None is for what
goes the general way; it is told before anything is sent.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy
from numpy cimport NPY_INT64, PyArray_DATA, PyArray_DescrFromType, PyArray_EMPTY, PyArray_TYPE, import_array, ndarray
from plain cimport (
    Layout, NPY_FLOAT32, NPY_FLOAT64, are_vectors, constant, doubles_of_2, doubles_of_3, empty_like, find_layout,
    gradients_of, is_eps, is_like, is_reduction, lengthen_rows, npy_intp, part, row, view, widened,
)

import_array()

cdef object INT64 = PyArray_DescrFromType(NPY_INT64)
cdef object FLOAT64 = PyArray_DescrFromType(NPY_FLOAT64)


cdef class Ranks:
    """Calls of the kernels of each of several ranks.

    Parameters
    ----------
    kernels : namespace
    threads_for : callable
        From bytes that are read to a number of threads.
    most_rows : int
        Samples of all ranks for which exact sums have room.
    """

    cdef object kernels
    cdef object threads_for
    cdef Py_ssize_t most_rows

    def __init__(self, kernels, threads_for, most_rows):
        self.kernels = kernels
        self.threads_for = threads_for
        self.most_rows = most_rows

    def forward(
        self, x, weight, bias, eps, channel_axis, reduction, channels, communicator, name, check_count, general
    ):
        """Return y, values per channel over all ranks, μ, var and the backward. Collective, and so is that.

        ``channels`` is what x must have, or None. ``check_count`` raises for too few values. ``general`` makes the
        backward that takes any dy from its forward's arguments, the communicator, the name, the forward's number, the
        count and the moments.
        """
        cdef Layout layout
        cdef bint exact
        cdef npy_intp length
        cdef ndarray y, moments, counts, values, rows, words, bounds
        cdef object count, threads, number
        cdef object signature, protocol = communicator._protocol
        cdef RanksBackward backward
        if not find_layout(x, channel_axis, &layout) or not is_reduction(reduction) or not is_eps(eps):
            return None
        if type(name) is not str:
            return None
        exact = reduction == "exact"
        if exact and layout.samples > self.most_rows // <Py_ssize_t>communicator.size:
            return None
        if channels is not None and layout.channels != channels or not are_vectors(weight, bias, layout.channels):
            return None
        length = layout.channels
        signature = protocol.layer_signature(
            name, length, "float32" if PyArray_TYPE(x) == NPY_FLOAT32 else "float64", reduction, eps,
            affine(weight, bias),
        )
        if not exact:
            lengthen_rows(&layout)
        with protocol.collective_errors(signature):
            y = empty_like(x)
            values = view(x, 3, layout.shape)
            counts = constant(layout.samples, layout.size)
            rows = None if exact and layout.size == 1 else doubles_of_3(3, layout.samples, length)
            moments = doubles_of_2(5, length)
            bounds = protocol.max_buffer(1 + 2 * length) if exact else None
            words = protocol.sum_buffer(1 + 4 * length, INT64 if exact else FLOAT64)
            set_count(words, layout.samples * layout.size, exact)
            threads = self.threads_for(layout.bytes)
            self.kernels.rank_ranges(values, layout.channels_last, None, counts, rows, bounds, threads)
        number = protocol.handshake(signature, bounds)
        self.kernels.rank_sums(
            values, layout.channels_last, None, counts, rows, bounds,
            words_after_count(words, length) if exact else None, None if exact else words_after_count(words, length),
            threads,
        )
        protocol.sum(words)
        count = count_in(words, exact)
        if count < 2:
            check_count(count, x.shape, communicator)
        self.kernels.rank_normalize(
            values, layout.channels_last, count, bounds, words_after_count(words, length) if exact else None,
            None if exact else words_after_count(words, length), widened(weight), widened(bias), eps, None, False,
            moments, view(y, 3, layout.shape), self.threads_for(2 * layout.bytes),
        )
        backward = RanksBackward.__new__(RanksBackward)
        backward.ranks, backward.x, backward.values, backward.layout = self, x, values, layout
        backward.weight, backward.bias, backward.exact, backward.moments = weight, bias, exact, moments
        backward.count, backward.communicator, backward.number = count, communicator, number
        backward.signature, backward.general = signature, general
        backward.arguments = (x, weight, bias, eps, channel_axis, reduction)
        return y, count, row(moments, 0, length), row(moments, 1, length), backward


cdef object affine(weight, bias):
    if weight is None:
        return "none" if bias is None else "bias"
    return "weight" if bias is None else "weight+bias"


cdef void set_count(ndarray words, int64_t count, bint exact):
    if exact:
        (<int64_t *>PyArray_DATA(words))[0] = count
    else:
        (<double *>PyArray_DATA(words))[0] = <double>count


cdef int64_t count_in(ndarray words, bint exact):
    if exact:
        return (<int64_t *>PyArray_DATA(words))[0]
    return <int64_t>(<double *>PyArray_DATA(words))[0]


cdef ndarray words_after_count(ndarray words, npy_intp channels):
    cdef npy_intp shape[2]
    shape[0], shape[1] = 4, channels
    return part(words, <int64_t *>PyArray_DATA(words) + 1, PyArray_TYPE(words), 2, shape)


cdef class RanksBackward:
    """``dx, dweight, dbias = backward(dy)``. Collective."""

    cdef Ranks ranks
    cdef ndarray x
    cdef ndarray values  # x as kernels see it
    cdef Layout layout
    cdef object weight
    cdef object bias
    cdef bint exact
    cdef ndarray moments
    cdef object count
    cdef object communicator
    cdef object number
    cdef object signature  # of the forward
    cdef object general
    cdef tuple arguments

    cdef object __weakref__

    def __deepcopy__(self, memo):
        """Return itself, as functions do."""
        return self

    def __call__(self, dy, *, total=False, out=None):
        """Return the gradients. With ``total``, dweight and dbias are those of all ranks; ``out`` is memory for dx."""
        cdef Layout layout = self.layout
        cdef ndarray dx, gradients, gradient, rows, largest, words, own, sent
        cdef object signature, threads, protocol = self.communicator._protocol, kernels = self.ranks.kernels
        cdef npy_intp shape[3]
        if out is not None or not is_like(dy, self.x):
            return self.general(
                *self.arguments, self.communicator, self.signature.layer, self.number, self.count, self.moments
            )(dy, total=total, out=out)
        shape[0], shape[1], shape[2] = 2, 4 if self.exact else 2, layout.channels
        signature = self.signature.backward
        with protocol.collective_errors(signature):
            dx = empty_like(self.x)
            gradient = view(dy, 3, layout.shape)
            rows = None if self.exact and layout.size == 1 else doubles_of_3(2, layout.samples, layout.channels)
            gradients = doubles_of_2(4, layout.channels)
            words = <ndarray>PyArray_EMPTY(3, shape, NPY_INT64 if self.exact else NPY_FLOAT64, 0)
            own = part(words, <int64_t *>PyArray_DATA(words) + shape[1] * shape[2], PyArray_TYPE(words), 2, shape + 1)
            largest = protocol.max_buffer(2 * layout.channels) if self.exact else None
            sent = protocol.sum_buffer(shape[1] * shape[2], INT64 if self.exact else FLOAT64)
            threads = self.ranks.threads_for(2 * layout.bytes)
            kernels.rank_gradient_ranges(
                self.values, gradient, layout.channels_last, self.moments, None, None, rows, largest, threads
            )
        protocol.handshake(signature, largest, self.number)
        kernels.rank_gradient_sums(
            self.values, gradient, layout.channels_last, self.moments, rows, largest, own if self.exact else None,
            None if self.exact else own, threads,
        )
        memcpy(PyArray_DATA(sent), PyArray_DATA(own), 8 * shape[1] * shape[2])
        protocol.sum(sent)
        memcpy(PyArray_DATA(words), PyArray_DATA(sent), 8 * shape[1] * shape[2])
        kernels.rank_input_gradient(
            self.values, gradient, layout.channels_last, None, self.count, self.moments, largest,
            words if self.exact else None, None if self.exact else words, bool(total), gradients,
            view(dx, 3, layout.shape), self.ranks.threads_for(3 * layout.bytes),
        )
        return gradients_of(dx, gradients, layout.channels, self.weight, self.bias)
