# Group normalization, and instance normalization: one channel per group.

def group_norm(x, num_groups, weight, bias, eps, channel_axis, channels):
    """Normalize groups of channels of each sample; return y, mean, var, size and the backward.

    Parameters
    ----------
    x, num_groups, weight, bias, eps, channel_axis
        As in `syncbn.functional.group_norm`.
    channels : int or None
        Required size of x's channel axis, from a layer; None means any size.

    Returns
    -------
    y : ndarray
    mean, var : ndarray of float64, shape (N, G)
        Mean and biased variance of each group.
    size : int
        Values in each group.
    backward : GroupNormPlan
    """
    cdef GroupNormPlan plan = GroupNormPlan.__new__(GroupNormPlan)
    plan.prepare(x, weight, bias, eps, channel_axis, channels)
    if type(num_groups) is not int or num_groups < 1 or plan.layout.channels % num_groups:
        num_groups = checks.check_groups(num_groups, plan.layout.channels, shape_of(plan.x))
    return plan.normalize(min(num_groups, plan.layout.channels))


def instance_norm(x, weight, bias, eps, channel_axis, channels):
    """Normalize each channel of each sample; return the same tuple as `group_norm`, with one channel per group."""
    cdef GroupNormPlan plan = GroupNormPlan.__new__(GroupNormPlan)
    plan.prepare(x, weight, bias, eps, channel_axis, channels)
    if plan.layout.size == 1:
        checks.check_instances(shape_of(plan.x), channel_axis)
    return plan.normalize(plan.layout.channels)


cdef class GroupNormPlan(Plan):
    """One call of group normalization. Calling it is the backward: ``dx, dweight, dbias = plan(dy)``."""

    cdef Layout layout
    cdef ndarray weight64
    cdef ndarray bias64
    cdef double eps
    cdef ndarray rows  # (3, N, C): μ, scale and bias of each row
    cdef ndarray moments  # (3, N, G): μ, var (biased) and 1/√(var + eps) of each group

    cdef int prepare(self, x, weight, bias, eps, channel_axis, channels) except -1:
        """Check and convert the arguments of a forward, except the number of groups."""
        cdef Layout *layout = &self.layout
        cdef bint behaved = is_working(x) and find_layout(x, channel_axis, layout)
        if not behaved:
            x, channel_axis = checks.check_input(x, channel_axis)
            find_layout(x, channel_axis, layout)  # sizes, which are checked before x is copied
        if channels is not None and layout.channels != channels:
            checks.check_channels(shape_of(x), channel_axis, channels)
        self.remember(x)
        self.x, self.edge = (x, None) if behaved else converted(x, channel_axis, layout)
        self.weight, self.bias = weight, bias
        self.weight64 = parameter64(weight, "weight", layout.channels, 1)
        self.bias64 = parameter64(bias, "bias", layout.channels, 0)
        self.eps = eps if is_eps(eps) else checks.check_eps(eps)
        return 0

    cdef tuple normalize(self, Py_ssize_t groups):
        """Run the forward kernel, and return the result of `group_norm`."""
        cdef Layout *layout = &self.layout
        cdef ndarray y = empty_like(self.x)
        self.rows = doubles(3, 3, layout.samples, layout.channels)
        self.moments = doubles(3, 3, layout.samples, groups)
        if layout.bytes:
            kernels.group_forward(
                view(self.x, 3, layout.shape), layout.channels_last, self.weight64, self.bias64, self.eps, self.rows,
                self.moments, view(y, 3, layout.shape), threads_for(2 * layout.bytes),
            )
        size = layout.channels // max(groups, 1) * layout.size
        return self.restored(y), self.moments[0], self.moments[1], size, self

    def __call__(self, dy):
        """Return dx, dweight and dbias."""
        cdef Layout *layout = &self.layout
        cdef ndarray gradient, dx = empty_like(self.x), sums = doubles(2, 2, layout.channels)
        self.check_unchanged()
        gradient = self.as_x(dy, "dy")
        if layout.bytes:
            kernels.group_backward(
                view(self.x, 3, layout.shape), view(gradient, 3, layout.shape), layout.channels_last, self.weight64,
                self.rows, self.moments, doubles(3, 4, layout.samples, layout.channels), sums,
                view(dx, 3, layout.shape), threads_for(3 * layout.bytes),
            )
        else:
            sums.fill(0)
        return self.gradients(self.restored(dx), sums, layout.channels)
