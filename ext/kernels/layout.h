/* How the values of a call lie in memory. */
#ifndef SYNCBN_LAYOUT_H
#define SYNCBN_LAYOUT_H

#include "parallel_for.h"

namespace syncbn {

/* Shape and memory order: (N, C, S), or (N, S, C) where channels_last. A row is the run of S values of one sample in
   one channel; a position is one of its places, in all channels. */
struct Layout {
    ptrdiff_t samples, channels, size;
    bool channels_last;

    ptrdiff_t sample_values() const
    {
        return channels * size;
    }

    ptrdiff_t values() const
    {
        return samples * channels * size;
    }

    ptrdiff_t positions() const
    {
        return samples * size;
    }
};

/* Whether an array has more bytes than a cache holds. */
template <class T> inline bool is_streaming(const Layout &layout)
{
    return layout.values() * (ptrdiff_t)sizeof(T) > 1 << 24;
}

/* Memory of an array, which converts to a pointer to values of any type; null for None. */
struct Memory {
    void *data;

    template <class T> operator T *() const
    {
        return static_cast<T *>(data);
    }
};

/* Call a kernel's template for the type of the values. */
template <auto float_kernel, auto double_kernel, class... Arguments>
inline void dispatch(bool is_float32, Arguments... arguments)
{
    if (is_float32)
        float_kernel(arguments...);
    else
        double_kernel(arguments...);
}

/* Return p + i; null stays null. */
template <class T> inline T *offset(T *p, ptrdiff_t i)
{
    return p ? p + i : p;
}

__attribute__((noinline)) inline ptrdiff_t count_selected(const unsigned char *mask, ptrdiff_t count)
{
    ptrdiff_t selected = 0;
    for (ptrdiff_t s = 0; s < count; s++)
        selected += mask[s] != 0;
    return selected;
}

enum {
    CHANNEL_BLOCK = 256,      /* channels that are summed together: their sums stay in the first-level cache */
    VALUE_BLOCK = 1 << 14,    /* values: few enough to share them among threads, enough to hide the cost of a call */
};

/* Return the number of channels that are summed together, so that there is work for each thread. */
inline ptrdiff_t channel_block(ptrdiff_t channels, int threads)
{
    ptrdiff_t share = divide_up(divide_up(channels, threads), 16) * 16;
    return std::max<ptrdiff_t>(16, std::min<ptrdiff_t>(CHANNEL_BLOCK, share));
}

/* Return how many of `count` items in each of `groups` a thread computes together: as many as leave work for each
   thread, since the factors of all channels are made for each block. */
inline ptrdiff_t shared_block(ptrdiff_t groups, ptrdiff_t count, int threads)
{
    return std::max<ptrdiff_t>(1, divide_up(count, divide_up(threads, std::max<ptrdiff_t>(1, groups))));
}

/* Call body(channel, width, sample, count) for blocks of channels-first memory. */
template <class Body> inline void parallel_channel_blocks(const Layout &layout, int threads, Body body)
{
    ptrdiff_t channels = layout.channels, width = channel_block(channels, threads), blocks = divide_up(channels, width);
    ptrdiff_t block = shared_block(blocks, layout.samples, threads);
    parallel_blocks(blocks, layout.samples, block, threads, [=](ptrdiff_t i, ptrdiff_t sample, ptrdiff_t count) {
        body(i * width, std::min(width, channels - i * width), sample, count);
    });
}

} // namespace syncbn

#endif
