# Declares lanes.h. Cython takes a vector for a double, so that + - * on vectors are written as on numbers.
cdef extern from "lanes.h" nogil:
    ctypedef double lanes "lanes_t"
    lanes lanes_all(double value)
    lanes lanes_load_f32(const float *p)
    lanes lanes_load_f64(const double *p)
    void lanes_store(double *p, lanes v)
    double lanes_sum(lanes v)
