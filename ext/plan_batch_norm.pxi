# Batch normalization with statistics of one process, of all ranks of a communicator, or given by the caller.

cdef object INT64 = PyArray_DescrFromType(NPY_INT64)
cdef object FLOAT64 = PyArray_DescrFromType(NPY_FLOAT64)

cdef Py_ssize_t MAX_ROWS = checks.MAX_ROWS

cdef enum:
    AS_FITS_CACHE = 0  # block size in channels: 0 means that the kernel chooses blocks that fit the cache


def batch_norm(
    x, weight, bias, eps, channel_axis, mask, reduction, residual, relu, out, channels, protocol, layer,
):
    """Normalize with the statistics of a batch; return y, the moments and the backward.

    Collective if ``protocol`` is not None.

    Parameters
    ----------
    x, weight, bias, eps, channel_axis, mask, reduction, residual, relu, out
        As in `syncbn.functional.batch_norm`.
    channels : int or None
        Required size of x's channel axis, from a layer; None means any size.
    protocol : Protocol or None
        Protocol of the communicator; None means this process only.
    layer : str
        Identity of the layer or function, compared across ranks.
    """
    cdef BatchNormPlan plan = BatchNormPlan.__new__(BatchNormPlan)
    plan.protocol = protocol
    if protocol is None:
        plan.prepare(x, weight, bias, eps, channel_axis, mask, reduction, residual, relu, out, channels)
        plan.normalize_local()
    else:
        known = type(layer) is str
        with protocol.collective_errors(protocol.unknown_signature("forward", layer if known else "")):
            layer = layer if known else checks.check_name(layer)
            plan.prepare(x, weight, bias, eps, channel_axis, mask, reduction, residual, relu, out, channels)
            plan.prepare_distributed(layer, reduction)
        plan.normalize_distributed()
    y = plan.result(out)
    plan.remember(x, residual, y if plan.relu else None)
    return y, plan.statistics(), plan


def batch_norm_inference(x, running_mean, running_var, weight, bias, eps, channel_axis, residual, relu, out, channels):
    """Normalize with given statistics, as `syncbn.functional.batch_norm_inference`; return y and the backward."""
    cdef BatchNormPlan plan = BatchNormPlan.__new__(BatchNormPlan)
    plan.prepare(x, weight, bias, eps, channel_axis, None, "float64", residual, relu, out, channels)
    plan.normalize_with(
        statistic64(running_mean, "running_mean", plan.layout.channels),
        variance64(running_var, plan.layout.channels),
    )
    y = plan.result(out)
    plan.remember(x, residual, y if plan.relu else None)
    return y, plan


def batch_norm_gradient(x, weight, bias, eps, channel_axis, reduction, state, protocol, layer):
    """Return the backward of an earlier forward without mask, residual and relu, from its `BatchNormPlan.state`.

    The arguments are those of that forward; ``reduction`` is "float64" for `batch_norm_inference`.
    """
    cdef BatchNormPlan plan = BatchNormPlan.__new__(BatchNormPlan)
    plan.protocol = protocol
    plan.read(x, channel_axis, None, reduction)
    plan.weight, plan.bias, plan.eps = weight, bias, eps
    if not plan.exact:
        lengthen_rows(&plan.layout)
    plan.select(None, channel_axis)
    plan.moments, plan.count, plan.sequence_number = state
    if protocol is not None:
        plan.describe(layer, reduction)
    return plan


cdef ndarray statistic64(object array, str name, Py_ssize_t length):
    if array is None:
        raise TypeError(f"{name} must be an array of shape ({length},), got None")
    return parameter64(array, name, length)


cdef ndarray variance64(object array, Py_ssize_t length):
    """Return a running variance in float64. Infinity becomes NaN, since with it y would be the bias for every x."""
    cdef ndarray var = statistic64(array, "running_var", length)
    cdef double *values = <double *>PyArray_DATA(var)
    cdef Py_ssize_t i
    for i in range(length):
        if values[i] < 0:
            checks.check_variances(var)
        if values[i] == INFINITY:
            values[i] = NAN
    return var


cdef class BatchNormPlan(Plan):
    """One call of batch normalization. Calling it is the backward: ``dx, dweight, dbias = plan(dy)``."""

    cdef Layout layout
    cdef ndarray y  # output of the kernel, before conversion; kept if the backward needs it for relu
    cdef ndarray residual
    cdef bint adds  # whether a residual is added
    cdef bint relu
    cdef ndarray weight64
    cdef ndarray bias64
    cdef double eps
    cdef bint exact
    cdef ndarray mask  # (N, S) bytes; None: all values are selected
    cdef ndarray counts  # selected values in a row of each sample
    cdef int64_t count  # values per channel, over all ranks; 0 where the statistics are constants
    cdef ndarray rows  # sums of rows, between the steps of one pass
    cdef ndarray moments
    cdef object protocol
    cdef object signature
    cdef object sequence_number
    cdef ndarray max_buffer
    cdef ndarray sum_buffer

    cdef int prepare(
        self, x, weight, bias, eps, channel_axis, mask, reduction, residual, relu, out, channels
    ) except -1:
        """Check and convert the arguments of a forward."""
        cdef Layout *layout = &self.layout
        x, channel_axis = self.read(x, channel_axis, channels, reduction)
        self.weight, self.bias = weight, bias
        self.weight64 = parameter64(weight, "weight", layout.channels)
        self.bias64 = parameter64(bias, "bias", layout.channels)
        self.eps = eps if is_eps(eps) else checks.check_eps(eps)
        self.adds, self.relu = residual is not None, flag("relu", relu)
        if self.adds:
            self.residual = self.as_x(residual, "residual", self.dtype())
        self.y = self.memory_for(out, x, residual)
        if not self.exact:
            lengthen_rows(layout)
        self.select(mask, channel_axis)
        self.moments = doubles(2, 5, layout.channels)
        return 0

    cdef tuple read(self, object x, object channel_axis, object channels, object reduction):
        """Check and convert x; return the checked x and channel axis."""
        cdef Layout *layout = &self.layout
        cdef bint behaved = is_working(x) and find_layout(x, channel_axis, layout)
        if not behaved:
            x, channel_axis = checks.check_input(x, channel_axis)
            find_layout(x, channel_axis, layout)  # sizes, which are checked before x is copied
        if channels is not None and layout.channels != channels:
            checks.check_channels(shape_of(x), channel_axis, channels)
        self.exact = is_exact(reduction, layout.samples, self.ranks())
        self.x, self.edge = (x, None) if behaved else converted(x, channel_axis, layout)
        return x, channel_axis

    cdef object dtype_name(self):
        if self.edge is not None:
            return self.edge.dtype.name
        return "float32" if PyArray_TYPE(self.x) == NPY_FLOAT32 else "float64"

    cdef Py_ssize_t ranks(self):
        return 1 if self.protocol is None else self.protocol.size

    cdef int select(self, object mask, int axis) except -1:
        """Copy the mask and count the selected values."""
        cdef Py_ssize_t n, s, selected, samples = self.layout.samples, size = self.layout.size
        cdef npy_intp shape[2]
        cdef unsigned char *row_mask
        cdef double *counts
        self.counts = doubles(1, samples)
        counts = <double *>PyArray_DATA(self.counts)
        if mask is None:
            for n in range(samples):
                counts[n] = size
            self.count = samples * size
            return 0
        if not is_mask(mask, self.x, axis):
            mask = conversion.broadcast_mask(mask, shape_of(self.x), axis)
        shape[0], shape[1] = samples, size
        self.mask = PyArray_EMPTY(2, shape, NPY_UINT8, 0)
        memcpy(PyArray_DATA(self.mask), PyArray_DATA(<ndarray>mask), samples * size)
        for n in range(samples):
            row_mask = <unsigned char *>PyArray_DATA(self.mask) + n * size
            selected = 0
            for s in range(size):
                selected += row_mask[s]
            counts[n] = selected
            self.count += selected
        return 0

    cdef ndarray new_rows(self, Py_ssize_t sums):
        """Return memory for sums of rows; None if exact sums read rows of one value directly from x."""
        if self.exact and self.layout.size == 1:
            return None
        return doubles(3, sums, self.layout.samples, self.layout.channels)

    cdef ndarray seen(self, object array):
        """Return a 3-d view, with layout.shape, of an array in x's memory order; None for None."""
        return view(array, 3, self.layout.shape)

    # ---- Forward

    cdef int normalize_local(self) except -1:
        if self.count < 2:
            checks.check_count(self.count, shape_of(self.x))
            self.moments.fill(0)
            return 0
        kernels.batch_forward(
            self.seen(self.x), self.layout.channels_last, self.mask, self.counts, self.count, self.weight64,
            self.bias64, self.eps, self.exact, self.seen(self.residual), self.relu, AS_FITS_CACHE, self.new_rows(3),
            self.moments, self.seen(self.y), threads_for(2 * self.layout.bytes),
        )
        return 0

    cdef int normalize_with(self, ndarray mean, ndarray var) except -1:
        self.count = 0
        if self.layout.bytes:
            kernels.batch_inference(
                self.seen(self.x), self.layout.channels_last, mean, var, self.weight64, self.bias64, self.eps,
                self.seen(self.residual), self.relu, self.moments, self.seen(self.y),
                threads_for(2 * self.layout.bytes),
            )
        return 0

    cdef int prepare_distributed(self, str layer, object reduction) except -1:
        """Sum this rank's rows, and allocate the buffers of messages."""
        cdef Py_ssize_t channels = self.layout.channels
        self.describe(layer, reduction)
        self.max_buffer = self.protocol.max_buffer(1 + 2 * channels) if self.exact else None
        self.sum_buffer = self.protocol.sum_buffer(1 + 4 * channels, INT64 if self.exact else FLOAT64)
        if self.exact:
            (<int64_t *>PyArray_DATA(self.sum_buffer))[0] = self.count
        else:
            (<double *>PyArray_DATA(self.sum_buffer))[0] = <double>self.count
        self.rows = self.new_rows(3)
        kernels.rank_ranges(
            self.seen(self.x), self.layout.channels_last, self.mask, self.counts, self.rows, self.max_buffer,
            threads_for(self.layout.bytes),
        )
        return 0

    cdef int describe(self, str layer, object reduction) except -1:
        """Find the signature, which other ranks compare."""
        self.signature = self.protocol.layer_signature(
            layer, self.layout.channels, self.dtype_name(), reduction, self.eps, affine(self.weight, self.bias)
        )
        return 0

    cdef int normalize_distributed(self) except -1:
        """Exchange ranges and sums with the other ranks, and normalize. Collective."""
        cdef npy_intp shape[2]
        cdef ndarray sums, limbs, float64_sums
        shape[0], shape[1] = 4, self.layout.channels
        sums = part(
            self.sum_buffer, <int64_t *>PyArray_DATA(self.sum_buffer) + 1, PyArray_TYPE(self.sum_buffer), 2, shape
        )
        limbs, float64_sums = (sums, None) if self.exact else (None, sums)
        self.sequence_number = self.protocol.handshake(self.signature, self.max_buffer)
        kernels.rank_sums(
            self.seen(self.x), self.layout.channels_last, self.mask, self.counts, self.rows, self.max_buffer, limbs,
            float64_sums, threads_for(self.layout.bytes),
        )
        self.protocol.sum(self.sum_buffer)
        if self.exact:
            self.count = (<int64_t *>PyArray_DATA(self.sum_buffer))[0]
        else:
            self.count = <int64_t>(<double *>PyArray_DATA(self.sum_buffer))[0]
        if self.count < 2:
            checks.check_count(self.count, shape_of(self.x), self.protocol, self.signature)
            self.moments.fill(0)
        else:
            kernels.rank_normalize(
                self.seen(self.x), self.layout.channels_last, self.count, self.max_buffer, limbs, float64_sums,
                self.weight64, self.bias64, self.eps, self.seen(self.residual), self.relu, self.moments,
                self.seen(self.y), threads_for(2 * self.layout.bytes),
            )
        return 0

    cdef object result(self, object out):
        """Return y, and release what the backward does not need."""
        cdef ndarray y = self.y
        self.y = y if self.relu else None
        self.residual = self.rows = self.weight64 = self.bias64 = self.max_buffer = self.sum_buffer = None
        return self.restored(y, out)

    cdef object statistics(self):
        """Return the moments, read-only: the backward reads the same memory."""
        cdef Py_ssize_t channels = self.layout.channels
        return Moments(self.count, row(self.moments, 0, channels), row(self.moments, 1, channels))

    @property
    def state(self):
        """Arguments of `batch_norm_gradient`: the moments (μ, var, 1/√(var + eps), scale, bias), count and number."""
        return self.moments, self.count, self.sequence_number or 0

    # ---- Backward

    def __call__(self, dy=None, *, total=False, out=None, **unknown):
        """Return dx, dweight and dbias, with a residual also its gradient. Collective if the forward was.

        With ``total``, dweight and dbias are sums over all ranks. ``out`` is an array for dx. A missing dy and unknown
        keywords are accepted here, so that their errors are raised on all ranks.
        """
        cdef ndarray dx, selected, sums = doubles(2, 4, self.layout.channels)
        if self.protocol is None:
            check_keywords(unknown)
            flag("total", total)
            dx, selected = self.gradient_local(dy, out, sums)
        else:
            dx, selected = self.gradient_distributed(dy, total, out, sums, unknown)
        found = self.gradients(self.restored(dx, out), sums, self.layout.channels)
        if not self.adds:
            return found
        return *found, self.restored(selected) if self.relu else dy

    cdef tuple gradient_local(self, object dy, object out, ndarray sums):
        """Return dx, and with relu and a residual the latter's gradient; write sums of channels to ``sums``."""
        cdef ndarray gradient, dx, selected
        self.check_unchanged()
        gradient, dx = self.as_x(dy, "dy"), self.memory_for(out, dy, self.y)
        selected = empty_like(self.x) if self.relu and self.adds else None
        if self.layout.bytes:
            kernels.batch_backward(
                self.seen(self.x), self.seen(gradient), self.layout.channels_last, self.mask, self.count, self.moments,
                self.exact, self.seen(self.y), AS_FITS_CACHE, self.new_rows(2), sums, self.seen(selected),
                self.seen(dx), threads_for(3 * self.layout.bytes),
            )
        else:
            sums.fill(0)
        return dx, selected

    cdef tuple gradient_distributed(self, object dy, object total, object out, ndarray sums, dict unknown):
        """Return and write like `gradient_local`, with statistics and sums over all ranks. Collective."""
        cdef bint of_all_ranks = False
        cdef ndarray dx, selected, gradient, rows, max_buffer, max_2c, sum_buffer, limbs, own
        cdef int type_number = NPY_INT64 if self.exact else NPY_FLOAT64
        cdef npy_intp shape[3]
        cdef npy_intp shape_2c[2]
        cdef object signature = self.signature.backward, protocol = self.protocol
        shape[0], shape[1], shape[2] = 2, 4 if self.exact else 2, self.layout.channels
        shape_2c[0], shape_2c[1] = 2, self.layout.channels
        max_2c = None
        with protocol.collective_errors(signature):
            self.check_unchanged()
            check_keywords(unknown)
            of_all_ranks = flag("total", total)
            gradient, dx = self.as_x(dy, "dy"), self.memory_for(out, dy, self.y)
            selected = None if not self.relu else empty_like(self.x) if self.adds else dx
            rows = self.new_rows(2)
            limbs = PyArray_EMPTY(3, shape, type_number, 0)  # over all ranks, and of this rank alone
            own = part(limbs, <int64_t *>PyArray_DATA(limbs) + shape[1] * shape[2], type_number, 2, shape + 1)
            max_buffer = protocol.max_buffer(2 * shape[2]) if self.exact else None
            if self.exact:
                max_2c = view(max_buffer, 2, shape_2c)
            sum_buffer = protocol.sum_buffer(shape[1] * shape[2], INT64 if self.exact else FLOAT64)
            kernels.rank_gradient_ranges(
                self.seen(self.x), self.seen(gradient), self.layout.channels_last, self.moments, self.seen(self.y),
                self.seen(selected), rows, max_2c, threads_for(2 * self.layout.bytes),
            )
        gradient = selected if self.relu else gradient
        protocol.handshake(signature, max_buffer, self.sequence_number)
        kernels.rank_gradient_sums(
            self.seen(self.x), self.seen(gradient), self.layout.channels_last, self.moments, rows, max_2c,
            own if self.exact else None, None if self.exact else own, threads_for(2 * self.layout.bytes),
        )
        memcpy(PyArray_DATA(sum_buffer), PyArray_DATA(own), PyArray_NBYTES(own))
        protocol.sum(sum_buffer)
        memcpy(PyArray_DATA(limbs), PyArray_DATA(sum_buffer), PyArray_NBYTES(own))
        if self.count == 0:
            sums.fill(0)
        else:
            kernels.rank_input_gradient(
                self.seen(self.x), self.seen(gradient), self.layout.channels_last, self.mask, self.count, self.moments,
                max_2c, limbs if self.exact else None, None if self.exact else limbs, of_all_ranks, sums,
                self.seen(dx), threads_for(3 * self.layout.bytes),
            )
        return dx, selected


cdef bint flag(str name, object value) except -1:
    return value is True or (value is not False and checks.check_flag(name, value))


cdef int check_keywords(dict unknown) except -1:
    if unknown:
        raise TypeError(f"backward() got an unexpected keyword argument {next(iter(unknown))!r}")
    return 0


cdef bint is_exact(object reduction, Py_ssize_t samples, Py_ssize_t ranks) except -1:
    """Return whether sums are exact; raise if ``reduction`` is invalid or there are too many samples."""
    if type(reduction) is str and reduction == "float64":
        return False
    if type(reduction) is str and reduction == "exact" and samples <= MAX_ROWS // ranks:
        return True
    return checks.check_reduction(reduction, samples, ranks) == "exact"


cdef bint is_mask(object mask, ndarray x, int axis):
    """Return whether a mask is contiguous and has x's shape without the channel axis."""
    cdef int i, skipped
    if not has_type(mask, NPY_BOOL) or not PyArray_CHKFLAGS(mask, NPY_ARRAY_C_CONTIGUOUS):
        return False
    if PyArray_NDIM(<ndarray>mask) != PyArray_NDIM(x) - 1:
        return False
    axis = axis if axis >= 0 else axis + PyArray_NDIM(x)
    for i in range(PyArray_NDIM(<ndarray>mask)):
        skipped = i >= axis
        if PyArray_DIMS(<ndarray>mask)[i] != PyArray_DIMS(x)[i + skipped]:
            return False
    return True


cdef str affine(object weight, object bias):
    """Return which parameters are present, as text for the comparison between ranks."""
    if weight is None:
        return "none" if bias is None else "bias"
    return "weight" if bias is None else "weight+bias"
