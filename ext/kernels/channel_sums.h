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
template <class A> using LaneSums = A[LANES][LANE_CAPACITY];

template <class A> struct RegisterLoader {
    int n;

    template <class T> SYNCBN_ALWAYS_INLINE VectorOf<A> load(const T *p, const T *) const
    {
        return syncbn::load<A>(p, n);
    }

    SYNCBN_ALWAYS_INLINE VectorOf<A> keep(VectorOf<A> terms) const
    {
        return terms;
    }
};

/* What is added for each lane, in numbers of type A: its positions lie `lane_stride` apart, and values at
   `prefetch_distance` are fetched meanwhile. */
template <class A, class Terms> struct ChannelTerms {
    Terms terms;
    ptrdiff_t lane_stride, prefetch_distance, width;
    const A *center;
};

/* Add the terms of `unroll` positions, the first at value `start`, to the sums of one lane; `initialize` overwrites
   these. Only `width` channels from c are added. */
template <int unroll, bool initialize, class A, class Terms>
SYNCBN_ALWAYS_INLINE inline void add_channels(
    ChannelTerms<A, Terms> block, ptrdiff_t start, ptrdiff_t c, ptrdiff_t width, A *sum, A *product)
{
    for_each_vector<A>(width, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
        ptrdiff_t channel = c + i;
        VectorOf<A> sums{}, products{}, center = load<A>(block.center + channel, n), first, second;
        if (!initialize) {
            sums = load<A>(sum + channel, n);
            products = load<A>(product + channel, n);
        }
        for (int k = 0; k < unroll; k++) {
            block.terms.get(start + k * block.lane_stride + channel, RegisterLoader<A>{n}, center, first, second);
            sums += first;
            products += second;
        }
        store<A>(sum + channel, sums, n);
        store<A>(product + channel, products, n);
    });
}

/* Add the terms of all channels, a cache line of values at a time. */
template <int unroll, bool initialize, class T, class A, class Terms>
SYNCBN_ALWAYS_INLINE inline void add_positions(ChannelTerms<A, Terms> block, ptrdiff_t start, A *sum, A *product)
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
template <bool initialize, class T, class A, class Terms>
SYNCBN_ALWAYS_INLINE inline void add_up_to_four(
    ChannelTerms<A, Terms> block, ptrdiff_t start, int unroll, A *sum, A *product)
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
template <class T, class A, class Terms>
__attribute__((noinline)) void initialize_lane(
    const ChannelTerms<A, Terms> &block, ptrdiff_t start, int unroll, A *sum, A *product)
{
    add_up_to_four<true, T>(block, start, unroll, sum, product);
}

template <class A> inline void clear_lanes(LaneSums<A> &sums, ptrdiff_t width)
{
    for (int j = 0; j < LANES; j++)
        std::fill_n(sums[j], width, 0);
}

/* Add the lanes of each channel, combined by the tree of sum_lanes. */
template <class A> inline void combine_lanes(const LaneSums<A> &sums, double *total, ptrdiff_t width)
{
    A combined[CHANNEL_BLOCK];
    for_each_vector<A>(width, [&](ptrdiff_t i, int n) SYNCBN_ALWAYS_INLINE {
        auto lane = [&](int j) SYNCBN_ALWAYS_INLINE { return load<A>(sums[j] + i, n); };
        auto pair = [&](int j) SYNCBN_ALWAYS_INLINE { return lane(j) + lane(j + 8); };
        auto four = [&](int j) SYNCBN_ALWAYS_INLINE { return pair(j) + pair(j + 4); };
        store<A>(combined + i, (four(0) + four(2)) + (four(1) + four(3)), n);
    });
    for (ptrdiff_t c = 0; c < width; c++)
        total[c] += combined[c];
}

/* Sum both terms over the rows of up to 256 channels, of the selected positions (mask may be null), in lanes of A. These
   are added up in float64 after each `block_size` positions. What is `streaming`, from memory, is fetched earlier than
   what is in a cache. */
template <class T, class A, class Terms>
inline void sum_channels(
    Terms terms, ptrdiff_t stride, const unsigned char *mask, ptrdiff_t count, ptrdiff_t block_size, ptrdiff_t width,
    bool streaming, const A *center, double *total, double *total_product)
{
    LaneSums<A> sums, products;
    ChannelTerms<A, Terms> block = {terms, LANES * stride, stride, width, center};
    std::fill_n(total, width, 0);
    std::fill_n(total_product, width, 0);
    for (ptrdiff_t start = 0; start < count; start += block_size) {
        ptrdiff_t end = std::min(start + block_size, count), s = start;
        if (mask || end - start < LANES) {
            clear_lanes(sums, width);
            clear_lanes(products, width);
        }
        while (!mask && s + LANES <= end) {
            int unroll = (int)std::min<ptrdiff_t>(UNROLL, (end - s) / LANES);
            block.prefetch_distance = streaming ? unroll * block.lane_stride : stride;
            for (ptrdiff_t j = 0; j < LANES; j++)
                if (s == start)
                    initialize_lane<T>(block, (s + j) * stride, unroll, sums[j], products[j]);
                else
                    add_up_to_four<false, T>(block, (s + j) * stride, unroll, sums[j], products[j]);
            s += unroll * LANES;
        }
        block.prefetch_distance = stride;
        for (ptrdiff_t j = 0; s < end; s++, j = (j + 1) % LANES)
            if (!mask || mask[s])
                add_positions<1, false, T>(block, s * stride, sums[j], products[j]);
        combine_lanes(sums, total, width);
        combine_lanes(products, total_product, width);
    }
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
    MomentTerms<T> terms = {x, x};
    sum_channels<T>(terms, stride, mask, count, count, width, streaming, rows.x0, rows.sum, rows.square);
    for (ptrdiff_t c = 0; c < width; c++)
        recenter_row(x + c, stride, mask, count, selected, rows, c);
}

/* Find the gradient sums of the rows of up to 256 channels. */
template <class T>
inline void sum_channel_gradients(
    const T *x, const T *dy, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t width, bool streaming, const double *mean,
    RowGradients rows)
{
    auto sum_in_float64 = [&](ptrdiff_t c, ptrdiff_t channels) {
        GradientTerms<T> terms = {x + c, x + c, dy + c, dy + c};
        sum_channels<T>(
            terms, stride, nullptr, count, count, channels, streaming, mean + c, rows.sum + c, rows.product + c);
    };
    if constexpr (std::is_same_v<T, float>)
        if (is_summed_in_float32<T>(count)) {
            float center[CHANNEL_BLOCK] = {};
            std::copy_n(mean, width, center);
            GradientTerms<T> terms = {x, x, dy, dy};
            sum_channels<T>(
                terms, stride, nullptr, count, FLOAT_BLOCK, width, streaming, center, rows.sum, rows.product);
            for (ptrdiff_t c = 0; c < width; c++)
                if (held_by_float32(rows.sum[c], rows.product[c], false))
                    rows.product[c] -= (mean[c] - center[c]) * rows.sum[c];
                else
                    sum_in_float64(c, 1);
            return;
        }
    sum_in_float64(0, width);
}

/* Return the number of channels whose rows are summed together, so that there is work for each thread. */
inline ptrdiff_t row_channel_block(ptrdiff_t samples, ptrdiff_t channels, int threads)
{
    samples = std::max<ptrdiff_t>(1, samples);
    ptrdiff_t blocks = std::max(divide_up(channels, CHANNEL_BLOCK), divide_up(threads, samples));
    return std::max<ptrdiff_t>(LANES, divide_up(divide_up(channels, blocks), LANES) * LANES);
}

} // namespace syncbn

#endif
