"""The messages of collective calls: see the readable twin, syncbn.reference.message."""
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
    TESTS = 20


cdef class FirstMessage:
    """A buffer for first messages, one after the other: written, combined over ranks, compared and read."""

    cdef readonly ndarray buffer
    cdef double *words
    cdef double[HEAD] written
    cdef dict rooms

    def __init__(self):
        cdef npy_intp length = WORDS
        self.buffer = PyArray_ZEROS(1, &length, NPY_FLOAT64, 0)
        self.words = <double *>PyArray_DATA(self.buffer)
        self.rooms = {}

    def room(self, words):
        """Return where so many maxima lie in the buffer: written there, they need not be copied. None: nowhere."""
        if words > WORDS - HEAD:
            return None
        if words not in self.rooms:
            self.rooms[words] = self.buffer[HEAD:HEAD + words]
        return self.rooms[words]

    def write(self, bytes digest, long long number, long long forward_number, bint failed, ndarray maxima not None):
        """Write a message; return whether the maxima fit."""
        cdef Py_ssize_t count = PyArray_SIZE(maxima)
        if PyArray_TYPE(maxima) != NPY_FLOAT64 or not PyArray_CHKFLAGS(maxima, NPY_ARRAY_CARRAY):
            raise TypeError(f"expected a writable contiguous float64 array, got {(<object>maxima).dtype}")
        self.written[0] = 0
        self.written[1], self.written[2] = number, -number
        self.written[3], self.written[4] = forward_number, -forward_number
        memcpy(self.written + 5, <const char *>digest, DIGEST * sizeof(double))
        memcpy(self.words, self.written, HEAD * sizeof(double))
        if failed:
            self.words[0] = 1
        if count > WORDS - HEAD:
            return False
        if PyArray_DATA(maxima) != self.words + HEAD:
            memcpy(self.words + HEAD, PyArray_DATA(maxima), count * sizeof(double))
        return True

    def agrees(self):
        """Tell from the combined words whether all ranks wrote the same header and none failed."""
        return memcmp(self.words, self.written, HEAD * sizeof(double)) == 0

    def read(self, ndarray maxima not None):
        """Replace maxima that fit by those of all ranks."""
        if PyArray_DATA(maxima) != self.words + HEAD:
            memcpy(PyArray_DATA(maxima), self.words + HEAD, PyArray_SIZE(maxima) * sizeof(double))


cdef class PlannedMessage:
    """Memory that is combined over ranks again and again, by a persistent request."""

    cdef readonly ndarray buffer
    cdef object comm
    cdef object in_place
    cdef object op
    cdef object request
    cdef object start
    cdef object test

    def __init__(self, ndarray buffer not None, comm, in_place, op):
        self.buffer = buffer
        self.comm = comm
        self.in_place = in_place
        self.op = op

    def send(self):
        """Begin to combine the buffer; return the request, or None where it came to its end at once. Collective."""
        if self.request is None:
            try:
                self.request = self.comm.Allreduce_init(self.in_place, self.buffer, self.op)
            except NotImplementedError:  # before MPI 4.0
                return self.comm.Iallreduce(self.in_place, self.buffer, self.op)
            self.start, self.test = self.request.Start, self.request.Test
        self.start()
        for _ in range(TESTS):
            if self.test():
                return None
        return self.request

    def free(self):
        """Give the request back; all ranks must be known to be here."""
        if self.request is not None:
            self.request.Free()
