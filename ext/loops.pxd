# Declares loops.h, and gives each loop one name for both types.
from cython cimport floating

cdef extern from "loops.h" nogil:
    void prefetch_for_writing "PREFETCH_FOR_WRITING" (const void *p)
    void combine_lanes(const double *, Py_ssize_t, double *, Py_ssize_t)
    void moment_places_f32(
        const float *, Py_ssize_t, int, bint, Py_ssize_t, const double *, double *, double *, Py_ssize_t)
    void moment_places_f64(
        const double *, Py_ssize_t, int, bint, Py_ssize_t, const double *, double *, double *, Py_ssize_t)
    void gradient_places_f32(
        const float *, const float *, Py_ssize_t, int, bint, Py_ssize_t, const double *, double *, double *, Py_ssize_t)
    void gradient_places_f64(
        const double *, const double *, Py_ssize_t, int, bint, Py_ssize_t, const double *, double *, double *,
        Py_ssize_t)
    void normalize_row_f32(
        const float *, Py_ssize_t, double, double, double, const float *, bint, float *, const float *)
    void normalize_row_f64(
        const double *, Py_ssize_t, double, double, double, const double *, bint, double *, const double *)
    void normalize_places_f32(
        const float *, Py_ssize_t, Py_ssize_t, const double *, const double *, const double *, const float *, bint,
        float *)
    void normalize_places_f64(
        const double *, Py_ssize_t, Py_ssize_t, const double *, const double *, const double *, const double *, bint,
        double *)
    void relu_gradient_f32(const float *, const float *, Py_ssize_t, float *)
    void relu_gradient_f64(const double *, const double *, Py_ssize_t, double *)
    void input_gradient_row_f32(
        const float *, const float *, const unsigned char *, Py_ssize_t, double, double, double, double, float *,
        Py_ssize_t)
    void input_gradient_row_f64(
        const double *, const double *, const unsigned char *, Py_ssize_t, double, double, double, double, double *,
        Py_ssize_t)
    void input_gradient_places_f32(
        const float *, const float *, const unsigned char *, Py_ssize_t, Py_ssize_t, const double *, const double *,
        const double *, const double *, float *)
    void input_gradient_places_f64(
        const double *, const double *, const unsigned char *, Py_ssize_t, Py_ssize_t, const double *, const double *,
        const double *, const double *, double *)
    void normalize_features_f32(
        const float *, Py_ssize_t, double, double, const double *, const double *, float *)
    void normalize_features_f64(
        const double *, Py_ssize_t, double, double, const double *, const double *, double *)
    void add_feature_gradients_f32(
        const float *, const float *, Py_ssize_t, double, double, double *, double *)
    void add_feature_gradients_f64(
        const double *, const double *, Py_ssize_t, double, double, double *, double *)
    void gradient_of_features_f32(
        const float *, const float *, Py_ssize_t, double, double, const double *, double, double, float *)
    void gradient_of_features_f64(
        const double *, const double *, Py_ssize_t, double, double, const double *, double, double, double *)
    void column_range_f32(const float *, Py_ssize_t, Py_ssize_t, float *, float *, float *, Py_ssize_t)
    void column_range_f64(const double *, Py_ssize_t, Py_ssize_t, double *, double *, double *, Py_ssize_t)
    void column_sums_f32(
        const float *, Py_ssize_t, Py_ssize_t, const double *, const double *, double *, double *, double *, double *,
        Py_ssize_t)
    void column_sums_f64(
        const double *, Py_ssize_t, Py_ssize_t, const double *, const double *, double *, double *, double *, double *,
        Py_ssize_t)
    void column_gradient_range_f32(
        const float *, const float *, Py_ssize_t, Py_ssize_t, const double *, double *, double *, double *, double *,
        Py_ssize_t)
    void column_gradient_range_f64(
        const double *, const double *, Py_ssize_t, Py_ssize_t, const double *, double *, double *, double *, double *,
        Py_ssize_t)
    void column_gradient_sums_f32(
        const float *, const float *, Py_ssize_t, Py_ssize_t, const double *, const double *, const double *, double *,
        double *, double *, double *, Py_ssize_t)
    void column_gradient_sums_f64(
        const double *, const double *, Py_ssize_t, Py_ssize_t, const double *, const double *, const double *,
        double *, double *, double *, double *, Py_ssize_t)


cdef inline void moment_places(
    const floating *x, Py_ssize_t apart, int rounds, bint begin, Py_ssize_t next, const double *origin, double *sums,
    double *squares, Py_ssize_t width,
) noexcept nogil:
    if floating is float:
        moment_places_f32(x, apart, rounds, begin, next, origin, sums, squares, width)
    else:
        moment_places_f64(x, apart, rounds, begin, next, origin, sums, squares, width)


cdef inline void gradient_places(
    const floating *x, const floating *dy, Py_ssize_t apart, int rounds, bint begin, Py_ssize_t next,
    const double *mean, double *sums, double *products, Py_ssize_t width,
) noexcept nogil:
    if floating is float:
        gradient_places_f32(x, dy, apart, rounds, begin, next, mean, sums, products, width)
    else:
        gradient_places_f64(x, dy, apart, rounds, begin, next, mean, sums, products, width)


cdef inline void normalize_row(
    const floating *x, Py_ssize_t count, double mean, double scale, double bias, const floating *residual, bint relu,
    floating *y, const floating *ahead,
) noexcept nogil:
    if floating is float:
        normalize_row_f32(x, count, mean, scale, bias, residual, relu, y, ahead)
    else:
        normalize_row_f64(x, count, mean, scale, bias, residual, relu, y, ahead)


cdef inline void normalize_places(
    const floating *x, Py_ssize_t places, Py_ssize_t width, const double *mean, const double *scale,
    const double *bias, const floating *residual, bint relu, floating *y,
) noexcept nogil:
    if floating is float:
        normalize_places_f32(x, places, width, mean, scale, bias, residual, relu, y)
    else:
        normalize_places_f64(x, places, width, mean, scale, bias, residual, relu, y)


cdef inline void relu_gradient(const floating *y, const floating *dy, Py_ssize_t count, floating *g) noexcept nogil:
    if floating is float:
        relu_gradient_f32(y, dy, count, g)
    else:
        relu_gradient_f64(y, dy, count, g)


cdef inline void input_gradient_row(
    const floating *x, const floating *dy, const unsigned char *mask, Py_ssize_t count, double mean, double direct,
    double shift, double slope, floating *dx, Py_ssize_t ahead,
) noexcept nogil:
    if floating is float:
        input_gradient_row_f32(x, dy, mask, count, mean, direct, shift, slope, dx, ahead)
    else:
        input_gradient_row_f64(x, dy, mask, count, mean, direct, shift, slope, dx, ahead)


cdef inline void input_gradient_places(
    const floating *x, const floating *dy, const unsigned char *mask, Py_ssize_t places, Py_ssize_t width,
    const double *mean, const double *direct, const double *shift, const double *slope, floating *dx,
) noexcept nogil:
    if floating is float:
        input_gradient_places_f32(x, dy, mask, places, width, mean, direct, shift, slope, dx)
    else:
        input_gradient_places_f64(x, dy, mask, places, width, mean, direct, shift, slope, dx)


cdef inline void normalize_features(
    const floating *x, Py_ssize_t features, double mean, double scale, const double *weight, const double *bias,
    floating *y,
) noexcept nogil:
    if floating is float:
        normalize_features_f32(x, features, mean, scale, weight, bias, y)
    else:
        normalize_features_f64(x, features, mean, scale, weight, bias, y)


cdef inline void add_feature_gradients(
    const floating *x, const floating *dy, Py_ssize_t features, double mean, double scale, double *dweight,
    double *dbias,
) noexcept nogil:
    if floating is float:
        add_feature_gradients_f32(x, dy, features, mean, scale, dweight, dbias)
    else:
        add_feature_gradients_f64(x, dy, features, mean, scale, dweight, dbias)


cdef inline void gradient_of_features(
    const floating *x, const floating *dy, Py_ssize_t features, double mean, double scale, const double *weight,
    double shift, double slope, floating *dx,
) noexcept nogil:
    if floating is float:
        gradient_of_features_f32(x, dy, features, mean, scale, weight, shift, slope, dx)
    else:
        gradient_of_features_f64(x, dy, features, mean, scale, weight, shift, slope, dx)


cdef inline void column_range(
    const floating *x, Py_ssize_t stride, Py_ssize_t samples, floating *most, floating *least, floating *poison,
    Py_ssize_t width,
) noexcept nogil:
    if floating is float:
        column_range_f32(x, stride, samples, most, least, poison, width)
    else:
        column_range_f64(x, stride, samples, most, least, poison, width)


cdef inline void column_sums(
    const floating *x, Py_ssize_t stride, Py_ssize_t samples, const double *centre, const double *scale,
    double *leading, double *following, double *square_leading, double *square_following, Py_ssize_t width,
) noexcept nogil:
    if floating is float:
        column_sums_f32(
            x, stride, samples, centre, scale, leading, following, square_leading, square_following, width
        )
    else:
        column_sums_f64(
            x, stride, samples, centre, scale, leading, following, square_leading, square_following, width
        )


cdef inline void column_gradient_range(
    const floating *x, const floating *dy, Py_ssize_t stride, Py_ssize_t samples, const double *mean, double *largest,
    double *largest_product, double *total, double *total_product, Py_ssize_t width,
) noexcept nogil:
    if floating is float:
        column_gradient_range_f32(
            x, dy, stride, samples, mean, largest, largest_product, total, total_product, width
        )
    else:
        column_gradient_range_f64(
            x, dy, stride, samples, mean, largest, largest_product, total, total_product, width
        )


cdef inline void column_gradient_sums(
    const floating *x, const floating *dy, Py_ssize_t stride, Py_ssize_t samples, const double *mean,
    const double *scale, const double *scale_product, double *leading, double *following, double *product_leading,
    double *product_following, Py_ssize_t width,
) noexcept nogil:
    if floating is float:
        column_gradient_sums_f32(
            x, dy, stride, samples, mean, scale, scale_product, leading, following, product_leading,
            product_following, width,
        )
    else:
        column_gradient_sums_f64(
            x, dy, stride, samples, mean, scale, scale_product, leading, following, product_leading,
            product_following, width,
        )
