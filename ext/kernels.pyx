"""The compiled kernels, for one instruction set. Each has a reference implementation in syncbn.reference.

A kernel fills the arrays that are given to it, and allocates and checks nothing. The loops are C++ templates on the
type of the values, in ext/kernels.
"""

cdef extern from *:
    """
    namespace syncbn {}
    using namespace syncbn;
    """

include "batch_norm.pxi"
include "distributed.pxi"
include "exact_sum.pxi"
include "group_norm.pxi"
include "layer_norm.pxi"
