/* Sums over the rows of neighbouring channels of channels-last memory, with the bits of row_sums.h.

   Memory is read in its order: channel by channel, it would be strided, which no prefetcher follows. */
#ifndef SYNCBN_CHANNEL_SUMS_H
#define SYNCBN_CHANNEL_SUMS_H

#include "row_sums.h"

namespace syncbn {

enum {
    UNROLL = 4, /* positions of a lane that are added together: sums are loaded and stored once */
    LANE_CAPACITY = CHANNEL_BLOCK + 8, /* so that lanes do not lie a multiple of 4096 bytes apart: they would collide */
};

/* Sums of each lane, of up to 256 channels: two of these fit the second-level cache, and a small stack. */
typedef double LaneSums[LANES][LANE_CAPACITY];

struct RegisterLoader {
    int n;

    template <class T> SYNCBN_ALWAYS_INLINE Vector load(const T *p, const T *) const
    {
        return syncbn::load(p, n);
    }

    SYNCBN_ALWAYS_INLINE Vector keep(Vector terms) const
    {
        return terms;
    }
};

/* What is added for each lane: its positions lie `lane_stride` apart, and values at `prefetch_distance` are fetched
   meanwhile. */
template <class Terms> struct ChannelTerms {
    Terms terms;
    ptrdiff_t lane_stride, prefetch_distance, width;
    const double *center;
};

/* Add the terms of `unroll` positions, the first at value `start`, to the sums of one lane; `initialize` overwrites
   these. Only `width` channels from c are added. */
template <int unroll, bool initialize, class Terms>
SYNCBN_ALWAYS_INLINE inline void add_channels(
    ChannelTerms<Terms> block, ptrdiff_t start, ptrdiff_t c, ptrdiff_t width, double *sum, double *product)
{
    for_each_vector(width, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
        ptrdiff_t channel = c + i;
        Vector sums{}, products{}, center = load(block.center + channel, n), first, second;
        if (!initialize) {
            sums = load(sum + channel, n);
            products = load(product + channel, n);
        }
        for (int k = 0; k < unroll; k++) {
            block.terms.get(start + k * block.lane_stride + channel, RegisterLoader{n}, center, first, second);
            sums += first;
            products += second;
        }
        store(sum + channel, sums, n);
        store(product + channel, products, n);
    });
}

/* Add the terms of all channels, a cache line of values at a time. */
template <int unroll, bool initialize, class T, class Terms>
SYNCBN_ALWAYS_INLINE inline void add_positions(
    ChannelTerms<Terms> block, ptrdiff_t start, double *sum, double *product)
{
    constexpr ptrdiff_t line = CACHE_LINE / sizeof(T);
    ptrdiff_t c = 0;
    for (; c + line <= block.width; c += line) {
        for (int k = 0; k < unroll; k++)
            block.terms.prefetch(start + k * block.lane_stride + block.prefetch_distance + c);
        add_channels<unroll, initialize>(block, start, c, line, sum, product);
    }
    add_channels<unroll, initialize>(block, start, c, block.width - c, sum, product);
}

/* Add one to four positions, each number by a loop of its own. */
template <bool initialize, class T, class Terms>
SYNCBN_ALWAYS_INLINE inline void add_up_to_four(
    ChannelTerms<Terms> block, ptrdiff_t start, int unroll, double *sum, double *product)
{
    switch (unroll) {
    case 1:
        return add_positions<1, initialize, T>(block, start, sum, product);
    case 2:
        return add_positions<2, initialize, T>(block, start, sum, product);
    case 3:
        return add_positions<3, initialize, T>(block, start, sum, product);
    case 4:
        return add_positions<4, initialize, T>(block, start, sum, product);
    }
}

/* Initialize one lane. This is not inlined: the loop over all later positions stays small. */
template <class T, class Terms>
__attribute__((noinline)) void initialize_lane(
    const ChannelTerms<Terms> &block, ptrdiff_t start, int unroll, double *sum, double *product)
{
    add_up_to_four<true, T>(block, start, unroll, sum, product);
}

inline void clear_lanes(LaneSums sums, ptrdiff_t width)
{
    for (int j = 0; j < LANES; j++)
        for (ptrdiff_t c = 0; c < width; c++)
            sums[j][c] = 0;
}

/* Combine the lanes of each channel by the tree of sum_lanes. */
inline void combine_lanes(const LaneSums sums, double *total, ptrdiff_t width)
{
    for_each_vector(width, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
        auto lane = [&](int j) SYNCBN_ALWAYS_INLINE { return load(sums[j] + i, n); };
        auto pair = [&](int j) SYNCBN_ALWAYS_INLINE { return lane(j) + lane(j + 8); };
        auto four = [&](int j) SYNCBN_ALWAYS_INLINE { return pair(j) + pair(j + 4); };
        store(total + i, (four(0) + four(2)) + (four(1) + four(3)), n);
    });
}

/* Sum both terms over the rows of up to 256 channels, of the selected positions (mask may be null). What is
   `streaming`, from memory, is fetched earlier than what is in a cache. */
template <class T, class Terms>
inline void sum_channels(
    Terms terms, ptrdiff_t stride, const unsigned char *mask, ptrdiff_t count, ptrdiff_t width, bool streaming,
    const double *center, double *total, double *total_product)
{
    LaneSums sums, products;
    ChannelTerms<Terms> block = {terms, LANES * stride, stride, width, center};
    ptrdiff_t start = 0;
    if (mask || count < LANES) {
        clear_lanes(sums, width);
        clear_lanes(products, width);
    }
    while (!mask && start + LANES <= count) {
        int unroll = (int)std::min<ptrdiff_t>(UNROLL, (count - start) / LANES);
        block.prefetch_distance = streaming ? unroll * block.lane_stride : stride;
        for (ptrdiff_t j = 0; j < LANES; j++)
            if (start == 0)
                initialize_lane<T>(block, j * stride, unroll, sums[j], products[j]);
            else
                add_up_to_four<false, T>(block, (start + j) * stride, unroll, sums[j], products[j]);
        start += unroll * LANES;
    }
    block.prefetch_distance = stride;
    for (ptrdiff_t s = start; s < count; s++)
        if (!mask || mask[s])
            add_positions<1, false, T>(block, s * stride, sums[s % LANES], products[s % LANES]);
    combine_lanes(sums, total, width);
    combine_lanes(products, total_product, width);
}

/* Find the moments of the rows of up to 256 channels, of `selected` values in each row (mask may be null). */
template <class T>
inline void sum_channel_moments(
    const T *x, ptrdiff_t stride, const unsigned char *mask, ptrdiff_t count, ptrdiff_t selected, ptrdiff_t width,
    bool streaming, RowMoments rows)
{
    ptrdiff_t start = 0;
    while (mask && start < count && !mask[start])
        start++;
    for (ptrdiff_t c = 0; c < width; c++)
        rows.x0[c] = start < count ? x[start * stride + c] : 0;
    sum_channels<T>(MomentTerms<T>{x, x}, stride, mask, count, width, streaming, rows.x0, rows.sum, rows.square);
    for (ptrdiff_t c = 0; c < width; c++)
        recenter_row(x + c, stride, mask, count, selected, rows, c);
}

/* Find the gradient sums of the rows of up to 256 channels. */
template <class T>
inline void sum_channel_gradients(
    const T *x, const T *dy, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t width, bool streaming, const double *mean,
    RowGradients rows)
{
    GradientTerms<T> terms = {x, x, dy, dy};
    sum_channels<T>(terms, stride, nullptr, count, width, streaming, mean, rows.sum, rows.product);
}

/* Return the number of channels whose rows are summed together, so that there is work for each thread. */
inline ptrdiff_t row_channel_block(ptrdiff_t samples, ptrdiff_t channels, int threads)
{
    samples = std::max<ptrdiff_t>(1, samples);
    ptrdiff_t blocks = std::max(divide_up(channels, CHANNEL_BLOCK), divide_up(threads, samples));
    return std::max<ptrdiff_t>(LANES, divide_up(divide_up(channels, blocks), LANES) * LANES);
}

/* Whether an array has more bytes than a cache holds. */
template <class T> inline bool is_streaming(const Layout &layout)
{
    return layout.values() * (ptrdiff_t)sizeof(T) > 1 << 24;
}

} // namespace syncbn

#endif
