# How the values of a call lie in memory.
from numpy cimport PyArray_NBYTES, ndarray
from arrays cimport length

cdef enum:
    FAR_BYTES = 1 << 24


cdef struct Shape:
    Py_ssize_t samples
    Py_ssize_t channels
    Py_ssize_t size  # values of a row
    Py_ssize_t sample_stride  # values of a sample
    bint channels_last
    bint far  # more bytes than a cache holds: they come from memory
    bint columns  # exact sums straight from values: a row is one value


cdef inline Shape shape_of(ndarray x, bint channels_last, bint exact) noexcept:
    cdef Shape shape
    shape.samples = length(x, 0)
    shape.channels = length(x, 2 if channels_last else 1)
    shape.size = length(x, 1 if channels_last else 2)
    shape.sample_stride = shape.channels * shape.size
    shape.channels_last = channels_last
    shape.far = PyArray_NBYTES(x) > FAR_BYTES
    shape.columns = exact and channels_last and shape.size == 1
    return shape


cdef enum:
    TILE = 1 << 14  # values: few enough to share them among threads, and enough that a call does not matter


cdef struct Tile:
    Py_ssize_t start
    Py_ssize_t places


cdef inline Py_ssize_t tiles_of(Py_ssize_t places, Py_ssize_t channels) noexcept nogil:
    """Return the number of tiles of channels-last memory: some places after each other, with all their channels."""
    return (places + places_of_tile(channels) - 1) // places_of_tile(channels)


cdef inline Py_ssize_t places_of_tile(Py_ssize_t channels) noexcept nogil:
    return max(1, TILE // max(1, channels))


cdef inline Tile tile_of(Py_ssize_t places, Py_ssize_t channels, Py_ssize_t number) noexcept nogil:
    cdef Tile tile
    tile.start = number * places_of_tile(channels)
    tile.places = min(places_of_tile(channels), places - tile.start)
    return tile
