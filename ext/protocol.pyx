"""The part of the protocol that every collective call runs through: the handshake, the sum and the wait.

A handshake is one buffer of float64 values, combined over ranks by MAX::

    [0]                1 where a rank raised an error instead of making the call
    [1 : HEAD]         the sequence number, that of the forward, and the digest of the signature: integers h and −h
    [HEAD : SIZE]      max_buffer, where it fits

Its size is the same for all calls, so handshakes always match handshakes. Ranks agree where max(h) = h and
max(−h) = −h, that is min(h) = h, for each integer. Where one differs between ranks, one of the two comparisons fails on
every rank, so all ranks take the same branch.
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy
from numpy cimport (
    NPY_FLOAT64, PyArray_DATA, PyArray_DESCR, PyArray_DescrFromType, PyArray_EMPTY, PyArray_ISCARRAY, PyArray_NBYTES,
    PyArray_SIZE, PyArray_TYPE, PyArray_ZEROS, PyDataType_ELSIZE, dtype as Descr, import_array, ndarray, npy_intp,
)
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, nanosleep, timespec

import numpy as np

cdef extern from "<sched.h>" nogil:
    int sched_yield()

import_array()

cdef enum:
    SIZE = 256  # 2 KiB: the size up to which MPICH's allreduce stays on its low-latency algorithm
    DIGEST = 6
    HEAD = 5 + DIGEST
    MAX_VALUES = SIZE - HEAD
    TESTS = 20  # of an operation that was just started: a few microseconds, in which a rank keeps its core
    PERSISTENT_BYTES = 1 << 18  # largest message for which memory and a request are kept: the limbs of 8,191 channels
    IDLE_NANOSECONDS = 1_000_000  # pause between two tests of a rank that has waited for another one for long
    MAX_PERSISTENT = 64  # sizes for which they are kept, the first ones: at most 16 MiB

HANDSHAKE_BYTES = 8 * SIZE
CAPACITY = MAX_VALUES
"""Size of the largest max_buffer that a handshake carries."""


def never_free(pending):
    """Keep an object and what it refers to beyond the end of the interpreter."""
    Py_INCREF(pending)


cdef double monotonic() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <double>now.tv_sec + 1e-9 * <double>now.tv_nsec


cdef class PersistentAllreduce:
    """Memory that is combined over ranks again and again, and the request for that."""

    cdef ndarray buffer
    cdef object op
    cdef object start
    cdef object test
    cdef object release

    def __init__(self, ndarray buffer not None, op):
        self.buffer = buffer
        self.op = op

    cdef int initialize(self, transport) except -1:
        """Make the request. Collective: all ranks run their allreduces for the first time in the same order."""
        self.start, self.test, self.release = transport.persistent_allreduce(self.buffer, self.op)


cdef class ProtocolCore:
    """The compiled half of `syncbn.comm.protocol.Protocol`, which adds what is done after an error.

    Parameters
    ----------
    transport : Transport
    calls : ndarray of one int64
        The number of calls that this rank has entered, where other ranks can read it.
    poll_seconds : float
        How long a rank waits before it polls the liveness of others for the first time.
    """

    cdef readonly object transport
    cdef object ended  # returns why the transport can start no operation; "" while it can
    cdef readonly int rank
    cdef readonly int size
    cdef public object closed  # why there can't be a further call; "" while there can
    cdef public bint unfinished  # whether a call was entered and its last message has not been sent
    cdef public long long sequence_number  # of the latest call
    cdef public long long bytes_sent
    cdef public object signature  # of the latest call
    cdef public unsigned long thread  # that made the latest call
    cdef readonly ndarray calls
    cdef object seconds
    cdef double poll_seconds
    cdef double first_poll  # poll_seconds, or a shorter timeout
    cdef PersistentAllreduce header
    cdef double[HEAD] written
    cdef dict persistent
    cdef int initialized  # number of those whose request was made

    def __init__(self, transport, ndarray calls not None, double poll_seconds):
        cdef npy_intp size = SIZE
        self.transport = transport
        self.ended = transport.ended
        self.rank, self.size = transport.rank, transport.size
        self.closed = ""
        self.calls = calls
        self.poll_seconds = poll_seconds
        self.timeout = None
        self.header = PersistentAllreduce(PyArray_ZEROS(1, &size, NPY_FLOAT64, 0), "max")
        self.persistent = {}

    @property
    def timeout(self):
        """Seconds that a call may wait for other ranks, or None."""
        return self.seconds

    @timeout.setter
    def timeout(self, seconds):
        self.seconds = seconds
        self.first_poll = self.poll_seconds if seconds is None else min(self.poll_seconds, <double>seconds)

    def max_buffer(self, npy_intp size):
        """Return memory for the max_buffer of one handshake, combined without a copy where that helps."""
        self.check_usable()
        if size <= MAX_VALUES:
            return PyArray_EMPTY(1, &size, NPY_FLOAT64, 0)
        return self.buffer_for("max", size, PyArray_DescrFromType(NPY_FLOAT64))

    def sum_buffer(self, npy_intp size, dtype):
        """Return memory for the sum of one call, combined without a copy."""
        self.check_usable()
        return self.buffer_for("sum", size, np.dtype(dtype))

    def handshake(self, signature, ndarray max_buffer=None, long long forward=0, error=None):
        """Check that all ranks make the same call, and combine ``max_buffer`` over ranks by MAX, in place.

        Collective.

        Parameters
        ----------
        signature : CollectiveSignature
        max_buffer : ndarray of float64, contiguous, optional
            Of the same size on all ranks whose signatures agree.
        forward : int
            The sequence number of a backward's forward, which must agree too.
        error : Exception, optional
            What this rank raised instead of making the call: the other ranks raise `SyncMismatchError`.

        Returns
        -------
        int
            The sequence number of this call.
        """
        cdef double *values = <double *>PyArray_DATA(self.header.buffer)
        cdef bytes digest = signature.digest
        cdef long long number = self.sequence_number + 1
        cdef npy_intp size = 0
        if self.thread != <unsigned long>PyThread_get_thread_ident():
            self.enter_thread(PyThread_get_thread_ident())
        if self.unfinished and not self.closed:
            self.close_broken_off()
        self.check_not_closed()
        if max_buffer is not None:
            check_memory(max_buffer)
            if PyArray_TYPE(max_buffer) != NPY_FLOAT64:
                raise TypeError(f"max_buffer must be float64, got {(<object>max_buffer).dtype}")
            size = PyArray_SIZE(max_buffer)
        self.written[0] = 0
        self.written[1], self.written[2] = number, -number
        self.written[3], self.written[4] = forward, -forward
        memcpy(self.written + 5, <const char *>digest, DIGEST * sizeof(double))
        memcpy(values, self.written, HEAD * sizeof(double))
        if error is not None:
            values[0] = 1
        if 0 < size <= MAX_VALUES:
            memcpy(values + HEAD, PyArray_DATA(max_buffer), size * sizeof(double))
        self.sequence_number, self.signature, self.unfinished = number, signature, True
        (<int64_t *>PyArray_DATA(self.calls))[0] += 1
        self.bytes_sent += SIZE * sizeof(double)
        self.run_persistent(self.header)
        if memcmp(values, self.written, HEAD * sizeof(double)) != 0:
            self.explain_mismatch(forward, error)
            return number
        if size > MAX_VALUES:
            self.combine(max_buffer, "max")
        elif size:
            memcpy(PyArray_DATA(max_buffer), values + HEAD, size * sizeof(double))
        self.unfinished = signature.has_data
        return number

    def sum(self, ndarray buffer not None):
        """Sum ``buffer`` (contiguous) over ranks, in place: the last message of the call just agreed on. Collective."""
        self.check_not_closed()
        self.combine(buffer, "sum")
        self.unfinished = False

    cpdef combine(self, ndarray array, op):
        """Combine an array over ranks, in place, whose size and dtype all ranks have agreed on. Collective.

        Whether the allreduce is persistent depends only on these and on earlier calls, so all ranks choose alike.
        """
        cdef PersistentAllreduce persistent
        check_memory(array)
        self.bytes_sent += PyArray_NBYTES(array)
        if PyArray_NBYTES(array) > PERSISTENT_BYTES:
            self.run(self.transport.allreduce, array, op)
            return
        persistent = self.persistent_for(op, PyArray_SIZE(array), <Descr>PyArray_DESCR(array), self.initialized)
        if persistent is None or (persistent.start is None and self.initialized == MAX_PERSISTENT):
            self.run(self.transport.allreduce, array, op)
        elif PyArray_DATA(array) == PyArray_DATA(persistent.buffer):
            self.run_persistent(persistent)
        else:
            memcpy(PyArray_DATA(persistent.buffer), PyArray_DATA(array), PyArray_NBYTES(array))
            self.run_persistent(persistent)
            memcpy(PyArray_DATA(array), PyArray_DATA(persistent.buffer), PyArray_NBYTES(array))

    def collective_errors(self, signature, bint handshake=False):
        """Return a context in which an Exception of this rank becomes an error of all ranks.

        Collective where the block raises: it is raised as itself on this rank, and as `SyncMismatchError` with its text
        on the others, whatever they call. In the block nothing is sent, except by calls that make their own errors
        collective.

        Parameters
        ----------
        signature : CollectiveSignature
            The call that all ranks are about to make.
        handshake : bool
            Whether to make the handshake of that call at the end of the block where nothing was raised.
        """
        cdef CollectiveErrors block = CollectiveErrors.__new__(CollectiveErrors)
        block.protocol, block.signature, block.handshake = self, signature, handshake
        return block

    def run(self, start, *arguments):
        """Start an operation of the transport and wait until it has completed. Collective."""
        test = None
        try:
            test = start(*arguments)
            self.wait(test)
        except BaseException as error:  # KeyboardInterrupt too: what this rank has sent may be on its way
            self.break_off(error, (test, arguments))
            raise

    cdef int run_persistent(self, PersistentAllreduce persistent) except -1:
        try:
            if persistent.start is None:
                persistent.initialize(self.transport)
                self.initialized += persistent is not self.header
            persistent.start()
            self.wait(persistent.test, persistent is self.header)
        except BaseException as error:
            self.break_off(error, persistent)
            raise

    cdef int wait(self, test, bint for_ranks=False) except -1:
        """Wait until ``test`` returns true; yield the core after a few microseconds, since ranks may share cores.

        ``for_ranks``: the operation lasts no longer than the last rank needs to start it. If that takes long, the core
        is left to others: the pauses are 1 % of the wait at most, and other operations have none, since data of many
        parts would move one part after each pause.
        """
        cdef timespec pause
        cdef double start, now, next_poll
        cdef object watch = None
        for _ in range(TESTS):
            if test():
                return 0
        pause.tv_sec, pause.tv_nsec = 0, IDLE_NANOSECONDS
        start = monotonic()
        next_poll = start + self.first_poll
        try:
            while not test():
                PyErr_CheckSignals()
                now = monotonic()
                if now >= next_poll:
                    if watch is None:
                        watch = self.watch(start)
                    next_poll = watch.poll(now)
                with nogil:
                    if for_ranks and watch is not None:
                        nanosleep(&pause, NULL)
                    else:
                        sched_yield()
        finally:
            if watch is not None:
                watch.end()
        return 0

    cdef int check_not_closed(self) except -1:
        if not self.closed:
            self.closed = self.ended()
        if self.closed:
            raise ValueError(self.closed)
        return 0

    cdef int check_usable(self) except -1:
        self.check_not_closed()
        if self.is_used_elsewhere():
            self.enter_thread(PyThread_get_thread_ident())
        return 0

    cpdef bint is_used_elsewhere(self):
        """Return whether another thread is in a call."""
        return self.unfinished and self.thread != <unsigned long>PyThread_get_thread_ident()

    cdef ndarray buffer_for(self, op, npy_intp size, Descr descr):
        cdef PersistentAllreduce persistent = None
        if size * PyDataType_ELSIZE(descr) <= PERSISTENT_BYTES:
            persistent = self.persistent_for(op, size, descr, len(self.persistent))
        return np.empty(size, descr) if persistent is None else persistent.buffer

    cdef PersistentAllreduce persistent_for(self, op, npy_intp size, Descr descr, Py_ssize_t others):
        """Return what is kept for a size; None where nothing is, and there are enough others."""
        cdef tuple key = (op, size, descr.kind, PyDataType_ELSIZE(descr))
        cdef PersistentAllreduce persistent = self.persistent.get(key)
        if persistent is None and others < MAX_PERSISTENT:
            persistent = self.persistent[key] = PersistentAllreduce(np.empty(size, descr), op)
        return persistent

    def free_persistent(self):
        """Free all requests, with which all ranks must be done."""
        cdef PersistentAllreduce persistent
        for persistent in (self.header, *self.persistent.values()):
            if persistent.release is not None:
                persistent.release()
        self.persistent.clear()


cdef class CollectiveErrors:
    """The context of `ProtocolCore.collective_errors`."""

    cdef ProtocolCore protocol
    cdef object signature
    cdef bint handshake

    def __enter__(self):
        return None

    def __exit__(self, kind, error, traceback):
        if error is None:
            if self.handshake:
                self.protocol.handshake(self.signature)
        elif isinstance(error, Exception):
            self.protocol.share_error(self.signature, error)
        return False


cdef int check_memory(ndarray array) except -1:
    if not PyArray_ISCARRAY(array):
        raise ValueError("expected a contiguous, aligned, writable array in native byte order")
    return 0
