/* Where a kernel writes y or dx. */
#ifndef SYNCBN_RESULT_H
#define SYNCBN_RESULT_H

#include "layout.h"
#include "vector.h"

namespace syncbn {

/* Memory of a result, or of a part of it. A step that goes through the whole array writes a result that no cache holds
   around the caches: its memory is not read before, and what is read next stays in them. A step of one block after the
   other writes through them, while the sums of the next block are computed. */
template <class T> struct Result {
    T *data;

    explicit Result(T *data) : Result(data, false)
    {
    }

    /* For a step that goes through the whole array, of this layout. */
    Result(const Layout &layout, T *data) : Result(data, is_streaming<T>(layout) && begins_lines(layout, data))
    {
    }

    Result at(ptrdiff_t i) const
    {
        return {data + i, streams};
    }

    /* Store n values from value i on. */
    SYNCBN_ALWAYS_INLINE void store(ptrdiff_t i, VectorOf<T> values, int n) const
    {
        if (streams)
            store_around_caches(data + i, values);
        else
            syncbn::store<T>(data + i, values, n);
    }

    /* Let other threads see what this one has stored. */
    void finish() const
    {
        if (streams)
            finish_stores_around_caches();
    }

  private:
    bool streams; /* then all rows begin and end with a cache line, so all registers are whole */

    Result(T *data, bool streams) : data(data), streams(streams)
    {
    }

    static bool begins_lines(const Layout &layout, const T *data)
    {
        ptrdiff_t row = (layout.channels_last ? layout.channels : layout.size) * (ptrdiff_t)sizeof(T);
        return row % CACHE_LINE == 0 && (std::uintptr_t)data % CACHE_LINE == 0;
    }
};

} // namespace syncbn

#endif
