# Declares lanes.h.
cdef extern from "lanes.h" nogil:
    ctypedef struct lanes "lanes_t":
        pass
    lanes lanes_all(double value)
    lanes lanes_load_f32(const float *p)
    lanes lanes_load_f64(const double *p)
    lanes lanes_add(lanes one, lanes other)
    lanes lanes_subtract(lanes one, lanes other)
    lanes lanes_multiply(lanes one, lanes other)
    lanes lanes_first(lanes v, Py_ssize_t count)
    double lanes_sum(lanes v)
