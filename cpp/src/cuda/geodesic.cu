// One thread per pair of orientations; all threads of a warp read the same operator at a time.
#include "launch.cuh"

#include <microinfer/geodesic_math.hpp>

namespace microinfer::cuda {
namespace {

template <typename T>
__global__ void geodesic_kernel(OrientationPairs<T> pairs, T* angle, std::int64_t* index) {
    const std::int64_t i = thread_index();
    if (i >= pairs.batch_size) {
        return;
    }
    const Matrix3<T> m = multiply(load(pairs.label + 9 * i), transposed(load(pairs.predicted + 9 * i)));
    std::int64_t nearest = 0;
    SineCosine<T> least = sine_cosine(load(pairs.operators), m);
    T rank = angle_rank(least);
    for (std::int64_t g = 1; g < pairs.operator_count; ++g) {
        const SineCosine<T> candidate = sine_cosine(load(pairs.operators + 9 * g), m);
        const T candidate_rank = angle_rank(candidate);
        if (candidate_rank < rank) {
            nearest = g;
            least = candidate;
            rank = candidate_rank;
        }
    }
    angle[i] = std::atan2(least.sine, least.cosine);
    index[i] = nearest;
}

template <typename T>
__global__ void geodesic_backward_kernel(OrientationPairs<T> pairs, const std::int64_t* index,
                                         const T* upstream, T* predicted_gradient, T* label_gradient) {
    const std::int64_t i = thread_index();
    if (i >= pairs.batch_size) {
        return;
    }
    const GeodesicGradient<T> gradient =
        geodesic_gradient(load(pairs.predicted + 9 * i), load(pairs.label + 9 * i),
                          load(pairs.operators + 9 * index[i]), upstream[i]);
    store(gradient.predicted, predicted_gradient + 9 * i);
    store(gradient.label, label_gradient + 9 * i);
}

}  // namespace

template <typename T>
void symmetry_min_geodesic(const OrientationPairs<T>& pairs, T* angle, std::int64_t* index,
                           const Stream& stream) {
    launch(geodesic_kernel<T>, pairs.batch_size, stream, pairs, angle, index);
}

template <typename T>
void symmetry_min_geodesic_backward(const OrientationPairs<T>& pairs, const std::int64_t* index,
                                    const T* upstream, T* predicted_gradient, T* label_gradient,
                                    const Stream& stream) {
    launch(geodesic_backward_kernel<T>, pairs.batch_size, stream, pairs, index, upstream, predicted_gradient,
           label_gradient);
}

template void symmetry_min_geodesic(const OrientationPairs<float>&, float*, std::int64_t*, const Stream&);
template void symmetry_min_geodesic(const OrientationPairs<double>&, double*, std::int64_t*, const Stream&);
template void symmetry_min_geodesic_backward(const OrientationPairs<float>&, const std::int64_t*,
                                             const float*, float*, float*, const Stream&);
template void symmetry_min_geodesic_backward(const OrientationPairs<double>&, const std::int64_t*,
                                             const double*, double*, double*, const Stream&);

}  // namespace microinfer::cuda
