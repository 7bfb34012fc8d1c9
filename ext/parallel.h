/* A parallel region of one thread takes libgomp 300 ns, as long as a small kernel. The linker sends GCC's calls here
   (--wrap, see setup.py): where this thread is in no region of several yet, a region of one is a function call. */
#if defined(_OPENMP) && defined(SYNCBN_WRAPPED) && !defined(__clang__)

#include <omp.h>

void __real_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);

void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags)
{
    if (threads == 1 && omp_get_num_threads() == 1)
        body(data);
    else
        __real_GOMP_parallel(body, data, threads, flags);
}

#endif
