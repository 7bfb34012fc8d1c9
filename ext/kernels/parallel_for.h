/* Loops that are shared among threads. */
#ifndef SYNCBN_PARALLEL_FOR_H
#define SYNCBN_PARALLEL_FOR_H

#include <algorithm>
#include <cstddef>
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace syncbn {

using std::ptrdiff_t;

/* This is compiled once for both calls in parallel_for. With a copy of the body, which should capture by value, the
   compiler knows that nothing else writes to what it has captured. */
template <class Body> __attribute__((noinline)) void plain_loop(ptrdiff_t start, ptrdiff_t end, Body body)
{
    for (ptrdiff_t i = start; i < end; i++)
        body(i);
}

/* Call body(i) for all i from 0 to n. With one thread this is a plain loop: a parallel region of one thread takes as
   long as a small kernel. */
template <class Body> void parallel_for(ptrdiff_t n, int threads, Body body)
{
#if defined(_OPENMP)
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            ptrdiff_t thread = omp_get_thread_num(), count = omp_get_num_threads();
            plain_loop(n * thread / count, n * (thread + 1) / count, body);
        }
        return;
    }
#else
    (void)threads;
#endif
    plain_loop(0, n, body);
}

inline ptrdiff_t divide_up(ptrdiff_t n, ptrdiff_t divisor)
{
    return (n + divisor - 1) / divisor;
}

/* Call body(start, count) for blocks of up to `block` of n items. */
template <class Body> void parallel_blocks(ptrdiff_t n, ptrdiff_t block, int threads, Body body)
{
    parallel_for(divide_up(n, block), threads, [=](ptrdiff_t i) { body(i * block, std::min(block, n - i * block)); });
}

/* Call body(sample, start, count) for the blocks of n items of each sample. */
template <class Body> void parallel_blocks(ptrdiff_t samples, ptrdiff_t n, ptrdiff_t block, int threads, Body body)
{
    ptrdiff_t blocks = divide_up(n, block);
    parallel_for(samples * blocks, threads, [=](ptrdiff_t i) {
        ptrdiff_t start = i % blocks * block;
        body(i / blocks, start, std::min(block, n - start));
    });
}

} // namespace syncbn

#endif
