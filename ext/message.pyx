"""The first message of every collective call: see the readable twin, syncbn.reference.message."""
from libc.math cimport INFINITY, isnan
from libc.string cimport memcmp, memcpy
from numpy cimport (
    NPY_ARRAY_CARRAY, NPY_FLOAT64, PyArray_CHKFLAGS, PyArray_DATA, PyArray_SIZE, PyArray_TYPE, PyArray_ZEROS,
    import_array, ndarray, npy_intp,
)

import_array()

cdef enum:
    WORDS = 256
    DIGEST = 6
    HEAD = 5 + DIGEST


cdef int check_words(ndarray array) except -1:
    if PyArray_TYPE(array) != NPY_FLOAT64 or not PyArray_CHKFLAGS(array, NPY_ARRAY_CARRAY):
        raise TypeError(f"expected a writable contiguous float64 array, got {(<object>array).dtype}")
    return 0


cdef class FirstMessage:
    """A buffer for first messages, one after the other: written, combined over ranks, compared and read."""

    cdef readonly ndarray buffer
    cdef double *words
    cdef double[HEAD] written
    cdef Py_ssize_t rank
    cdef Py_ssize_t size

    def __init__(self, rank, size):
        cdef npy_intp length = WORDS
        self.buffer = PyArray_ZEROS(1, &length, NPY_FLOAT64, 0)
        self.words = <double *>PyArray_DATA(self.buffer)
        self.rank = rank
        self.size = size

    def room(self, Py_ssize_t words):
        """Return where so many maxima lie in the buffer: written there, they need not be copied. None: nowhere."""
        return self.buffer[HEAD:HEAD + words] if words <= WORDS - HEAD else None

    def write(
        self, bytes digest, long long number, long long forward_number, bint failed, ndarray maxima, ndarray summands
    ):
        """Write a message; return whether the maxima, or the summands of all ranks, fit."""
        cdef double *words = self.words + HEAD
        cdef const double *own
        cdef Py_ssize_t i, count
        self.written[0] = 0
        self.written[1], self.written[2] = number, -number
        self.written[3], self.written[4] = forward_number, -forward_number
        memcpy(self.written + 5, <const char *>digest, DIGEST * sizeof(double))
        check_words(maxima)
        if summands is not None:
            check_words(summands)
        memcpy(self.words, self.written, HEAD * sizeof(double))
        if failed:
            self.words[0] = 1
        if summands is None:
            count = PyArray_SIZE(maxima)
            if count > WORDS - HEAD:
                return False
            if PyArray_DATA(maxima) != words:
                memcpy(words, PyArray_DATA(maxima), count * sizeof(double))
            return True
        count = PyArray_SIZE(summands)
        if count * self.size > WORDS - HEAD:
            return False
        own = <const double *>PyArray_DATA(summands)
        for i in range(count * self.size):
            words[i] = -INFINITY
        words += self.rank * count
        for i in range(count):
            words[i] = INFINITY if isnan(own[i]) else own[i]  # what MAX makes of NaN is left open
        return True

    def agrees(self):
        """Tell from the combined words whether all ranks wrote the same header and none failed."""
        return memcmp(self.words, self.written, HEAD * sizeof(double)) == 0

    def read(self, ndarray maxima, ndarray summands):
        """Replace maxima that fit by those of all ranks, or summands by their sum over ranks, in the order of ranks."""
        cdef const double *words = self.words + HEAD
        cdef double *result
        cdef double total
        cdef Py_ssize_t i, rank, count
        if summands is None:
            if PyArray_DATA(maxima) != words:
                memcpy(PyArray_DATA(maxima), words, PyArray_SIZE(maxima) * sizeof(double))
            return
        count = PyArray_SIZE(summands)
        result = <double *>PyArray_DATA(summands)
        for i in range(count):
            total = words[i]
            for rank in range(1, self.size):
                total += words[rank * count + i]
            result[i] = total
